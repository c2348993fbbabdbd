//! Slowing a running server on purpose, resource by resource: what a load lab proves its verdicts with.
//!
//! Only a server started with `--lab` can be slowed, and only through its admin listener:
//!
//! ```text
//! POST /lab/slow?resource=sqlite_writer&factor=2     every hold takes twice as long
//! POST /lab/slow?resource=cpu&nanos=40000              every request works 40 us more
//! POST /lab/slow?resource=workers&nanos=40000          every request blocks its thread for 40 us, on average
//! POST /lab/slow?resource=cpu&nanos=0               as before
//! ```
//!
//! A resource that is held keeps still for longer ([`Ledger::slow`]); whoever holds one calls [`hold`], or [`pay`] after it
//! has entered. The CPU and the threads are not held by anybody, so they are slowed by an amount a request, which the lab
//! works out from what a request takes of them: the CPU by spinning, which is work; the threads by sleeping in one, which
//! is not. These sleeps are saved up to whole milliseconds as the ledger's are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use ledger::{Held, Ledger, NotSlowed, Resource};
use serde::Deserialize;

use crate::Problem;
use crate::extract::Query;

/// The CPU's name in the ledger.
pub(crate) const CPU: &str = "cpu";
/// The name of the threads that serve requests.
pub(crate) const WORKERS: &str = "workers";
/// No request is slowed by more than this.
const MOST_NANOS: u64 = 1_000_000_000;
/// A thread sleeps for this at the least.
const LEAST_SLEEP: u64 = 1_000_000;

/// Holds a resource, and keeps still first if it is slowed.
pub async fn hold(resource: &Resource) -> Held<'_> {
    let mut held = resource.enter();
    pay(&mut held).await;
    held
}

/// Keeps still for what a resource just entered owes because it is slowed: almost always nothing.
pub async fn pay(held: &mut Held<'_>) {
    if let Some(pause) = held.owes() {
        // In a box: a timer in each of these futures would be copied about with them although it is hardly ever there.
        Box::pin(tokio::time::sleep(pause)).await;
        held.paid();
    }
}

/// What each request has to do beside its work.
#[derive(Debug, Default)]
pub(crate) struct Drag {
    spin_ns: AtomicU64,
    block_ns: AtomicU64,
    /// Blocking that has not been done yet.
    debt_ns: AtomicU64,
}

impl Drag {
    /// One request does its part.
    pub(crate) fn pull(&self) {
        let spin = self.spin_ns.load(Ordering::Relaxed);
        if spin > 0 {
            spin_for(Duration::from_nanos(spin));
        }
        let block = self.block_ns.load(Ordering::Relaxed);
        if block > 0 {
            self.block(block);
        }
    }

    fn block(&self, nanos: u64) {
        let owed = self.debt_ns.fetch_add(nanos, Ordering::Relaxed) + nanos;
        if owed < LEAST_SLEEP {
            return;
        }
        // In one step: of two threads that see the debt, one takes it.
        let owed = self.debt_ns.swap(0, Ordering::Relaxed);
        let begun = Instant::now();
        std::thread::sleep(Duration::from_nanos(owed));
        // What it slept too long is taken off what the others owe.
        let over = u64::try_from(begun.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_sub(owed);
        let _ = self.debt_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |debt| {
            Some(debt.saturating_sub(over))
        });
    }

    fn set(&self, resource: &str, nanos: u64) {
        let which = if resource == CPU { &self.spin_ns } else { &self.block_ns };
        which.store(nanos, Ordering::Relaxed);
        self.debt_ns.store(0, Ordering::Relaxed);
    }
}

/// Works for so long. By the wall clock, which is read without a system call: one by the thread's own clock takes as long as
/// what is to be added to a quick request. Losing the core in these microseconds is rare.
fn spin_for(work: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < work {
        std::hint::spin_loop();
    }
}

/// The route of a server that may be slowed.
pub(crate) fn router(ledger: Ledger, drag: Arc<Drag>) -> Router {
    Router::new().route("/lab/slow", post(slow)).with_state((ledger, drag))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slow {
    resource: String,
    factor: Option<f64>,
    nanos: Option<u64>,
}

async fn slow(
    State((ledger, drag)): State<(Ledger, Arc<Drag>)>,
    Query(Slow {
        resource,
        factor,
        nanos,
    }): Query<Slow>,
) -> Result<StatusCode, Problem> {
    match (resource.as_str(), factor, nanos) {
        (CPU | WORKERS, None, Some(nanos)) if nanos <= MOST_NANOS => drag.set(&resource, nanos),
        (CPU | WORKERS, ..) => {
            let text = format!("{resource} is slowed by `nanos` a request, from 0 to {MOST_NANOS}");
            return Err(refused(StatusCode::UNPROCESSABLE_ENTITY, &text));
        }
        (_, Some(factor), None) => ledger.slow(&resource, factor).map_err(|error| match error {
            NotSlowed::Unknown => refused(
                StatusCode::NOT_FOUND,
                &format!("there is no resource `{resource}` that is held"),
            ),
            NotSlowed::Factor => refused(StatusCode::UNPROCESSABLE_ENTITY, "`factor` goes from 1 to 1000"),
        })?,
        _ => {
            let text = format!("{resource} is slowed by a `factor`, from 1 to 1000");
            return Err(refused(StatusCode::UNPROCESSABLE_ENTITY, &text));
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

fn refused(status: StatusCode, detail: &str) -> Problem {
    Problem::new(status, "not-slowed", "Nothing was slowed").detail(detail)
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn short_blocks_are_saved_up_and_kept_in_full() {
        let drag = Drag::default();
        drag.set(WORKERS, 100_000);
        let begun = Instant::now();
        for _ in 0..100 {
            drag.pull();
        }
        let kept = begun.elapsed();
        // 10 ms in all, less what may still be owed; a machine that is busy oversleeps, which is credited.
        assert!(kept >= Duration::from_millis(9), "{kept:?}");
        drag.set(WORKERS, 0);
        assert_eq!(drag.debt_ns.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn spinning_is_work_of_this_thread() {
        let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let drag = Drag::default();
        drag.set(CPU, 2_000_000);
        // On a busy machine a thread loses its core now and then.
        let most = (0..20).map(|_| {
            let before = used();
            drag.pull();
            used() - before
        });
        assert!(most.max().unwrap() >= Duration::from_micros(1_900));
    }
}
