//! What is decided while the store cannot be asked: whatever the rule says, in time, and so that everybody can tell.
//!
//! A limiter that waits for its store makes every request of every service behind it wait. So a decision has a bound, after
//! which it is made without the store: `open` admits, `closed` refuses, `local` keeps the limit in this process, at worst so
//! many times the limit as there are servers. Behind it stands the breaker of `stores::Redis`: once a few in a row have
//! waited in vain, the next are told at once.
//!
//! A store that refuses (no memory, read-only, not its slot) is no better than one that is silent: what it says is not taken
//! for a decision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::{Ledger, Resource};
use tokio::time::Instant;

use crate::domain::{Charge, Decision, Error, FailureMode, Limit, Rule, Unfit};
use crate::ports::Limiter;

/// A store that has not failed for so long is well again: one that is only slow fails now and then, and the log is to have a
/// line when that begins and one when it ends.
const WELL_AGAIN: Duration = Duration::from_secs(1);

/// A limiter on a store, and one in memory for when it fails.
pub struct FailSafe<L, F> {
    limiter: L,
    fallback: F,
    /// When the store failed last, in milliseconds since `born`, and one more; 0 while all is well.
    failed_ms: AtomicU64,
    born: Instant,
    /// Decisions that were made without the store.
    degraded: Resource,
}

/// What is kept for one rule.
pub struct SafeBuckets<A, B> {
    buckets: A,
    fallback: B,
    mode: FailureMode,
    burst: u64,
}

impl<L: Limiter, F: Limiter> FailSafe<L, F> {
    /// `limiter` as long as it answers, and else what a rule says, with `fallback` for those that are kept locally.
    #[must_use]
    pub fn new(limiter: L, fallback: F, ledger: &Ledger) -> Self {
        Self {
            limiter,
            fallback,
            failed_ms: AtomicU64::new(0),
            born: Instant::now(),
            degraded: ledger.resource("degraded", "decisions", 1.0),
        }
    }

    /// Decides without the store.
    async fn degraded(
        &self,
        kept: &SafeBuckets<L::Buckets, F::Buckets>,
        charge: Charge<'_>,
    ) -> Result<Decision, Error> {
        self.degraded.enter().leave();
        let constant = |allowed, remaining| Decision {
            allowed,
            remaining,
            reset_after: Duration::ZERO,
            retry_after: (!allowed).then_some(Duration::from_secs(1)),
            degraded: None,
        };
        let decision = match kept.mode {
            FailureMode::Open => constant(true, kept.burst),
            FailureMode::Closed => constant(charge.cost == 0, 0),
            FailureMode::Local => self.fallback.take(&kept.fallback, charge).await?,
        };
        Ok(Decision {
            degraded: Some(kept.mode),
            ..decision
        })
    }

    fn failed(&self, cause: &dyn std::fmt::Display) {
        if self.failed_ms.swap(self.now_ms() + 1, Ordering::Relaxed) == 0 {
            tracing::warn!(%cause, "deciding without the store, as the rules say");
        }
    }

    fn answered(&self) {
        // Read first: the line stays shared between cores as long as all is well.
        let failed_ms = self.failed_ms.load(Ordering::Relaxed);
        let well_again = || u128::from(self.now_ms().saturating_sub(failed_ms)) >= WELL_AGAIN.as_millis();
        if failed_ms > 0 && well_again() {
            let ended = self
                .failed_ms
                .compare_exchange(failed_ms, 0, Ordering::Relaxed, Ordering::Relaxed);
            if ended.is_ok() {
                tracing::info!("the store decides again");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<L: Limiter, F: Limiter> Limiter for FailSafe<L, F> {
    type Buckets = SafeBuckets<L::Buckets, F::Buckets>;

    fn open(&self, rule: &Rule) -> Result<Self::Buckets, Unfit> {
        Ok(SafeBuckets {
            buckets: self.limiter.open(rule)?,
            fallback: self.fallback.open(rule)?,
            mode: rule.failure,
            burst: u64::from(rule.limit.burst),
        })
    }

    fn excess(&self, limit: &Limit) -> u64 {
        self.limiter.excess(limit)
    }

    async fn take(&self, kept: &Self::Buckets, charge: Charge<'_>) -> Result<Decision, Error> {
        // A little more than the store is given: its breaker has to see that it was silent.
        let bound = charge.within + charge.within / 10;
        match tokio::time::timeout(bound, self.limiter.take(&kept.buckets, charge)).await {
            Ok(Ok(decision)) => {
                self.answered();
                Ok(decision)
            }
            Ok(Err(Error::Unavailable(cause) | Error::Unknown(cause))) => {
                self.failed(&cause);
                self.degraded(kept, charge).await
            }
            Ok(Err(error)) => Err(error),
            Err(late) => {
                self.failed(&late);
                self.degraded(kept, charge).await
            }
        }
    }
}
