//! Snowflake ids under a node id on loan: who takes numbers, who looks whether they may be told, and who renews the loan.
//!
//! The numbers are `snowflake.rs`; whether they may be told is `lease.rs`; here the two meet the store and the clock. A
//! request takes its numbers, sleeps until their tick has come, and looks at the lease last, before it answers. The keeper
//! renews in the background, three times in each span, so that two renewals may fail before anybody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::{Ledger, Sample};
use service::{Clock, Lifecycle, Stopping};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::domain::{Count, Error};
use crate::layout::Layout;
use crate::lease::Tenure;
use crate::ports::{Ids, NodeIds};
use crate::snowflake::{Refused, Snowflake, Taken};

/// A clock that is behind by no more than this is waited for within the request; NTP steps further only where something is
/// wrong.
const TOLERATED: Duration = Duration::from_millis(10);

/// How long a request waits in all, for its clock, its tick and its lease: longer than numbers may be reserved ahead, and
/// shorter than the usual deadline, so that it is answered that nothing was given, and not that nobody knows.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How much of that for a renewal that is due.
const RENEWAL_WAIT: Duration = Duration::from_millis(500);

/// How long a start waits for a clock that is behind: a server that was killed and comes back at once waits for the time
/// that it had reserved. For one that is further behind it does not wait at all: it starts, and says no to every request.
const START_WAIT: Duration = Duration::from_secs(5);

/// After a renewal that failed.
const RETRY: Duration = Duration::from_millis(200);

/// How many times a span is renewed before it ends.
const RENEWALS: u32 = 3;

/// What is taken off a lease for clocks that run at different speeds: a tenth of it.
const MARGIN: u32 = 10;

/// Ids from a node id on loan.
#[derive(Debug)]
pub struct Flake<N, C> {
    shared: Arc<Shared<N, C>>,
}

#[derive(Debug)]
struct Shared<N, C> {
    nodes: N,
    layout: Layout,
    /// How far ahead of the clock a loan reaches.
    reach: Duration,
    clock: C,
    held: watch::Sender<Option<Held>>,
    /// Somebody cannot tell his numbers before the loan is renewed.
    due: Notify,
    taken: Arc<AtomicU64>,
}

/// The node id in use.
#[derive(Clone, Debug)]
struct Held {
    snowflake: Arc<Snowflake>,
    tenure: Tenure<Instant>,
}

impl<N: NodeIds, C: Clock> Flake<N, C> {
    /// Claims a node id, for times up to `reach` ahead of the clock, and starts the task that renews it. In the ledger:
    /// `sequence`, of which a node has one, busy by the share of the layout's numbers that was taken.
    ///
    /// Waits for a clock that shows a time for which ids may have been made before, if it catches up within five seconds.
    ///
    /// # Errors
    /// All node ids are lent, one that was lent does not fit into the layout, or the store's.
    pub async fn start(
        nodes: N,
        layout: Layout,
        reach: Duration,
        clock: C,
        lifecycle: &Lifecycle,
        ledger: &Ledger,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            nodes,
            layout,
            reach,
            clock,
            held: watch::Sender::new(None),
            due: Notify::new(),
            taken: Arc::default(),
        });
        let held = shared.claim(0).await?;
        let behind = shared.behind(&held);
        shared.held.send_replace(Some(held));
        if !behind.is_zero() {
            tracing::warn!(
                ?behind,
                "the clock is behind ids that may have been made; they begin once it has caught up"
            );
            if behind <= START_WAIT {
                sleep(behind).await;
            }
        }
        shared.declare(ledger);
        let keeper = Arc::clone(&shared);
        lifecycle.spawn(
            "node id renewals",
            |stopping| async move { keeper.keep(&stopping).await },
        );
        Ok(Self { shared })
    }
}

impl<N: NodeIds, C: Clock> Ids for Flake<N, C> {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        let shared = &*self.shared;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let held = shared.held.borrow().clone().ok_or(Error::NoNode)?;
            let taken = match held.snowflake.take(count.get(), || shared.clock.now_ms()) {
                Ok(taken) => taken,
                Err(Refused::Behind(by)) if by <= TOLERATED && Instant::now() < give_up => {
                    sleep(by).await;
                    continue;
                }
                Err(Refused::Behind(by)) => return Err(Error::ClockBehind(by)),
                Err(Refused::Exhausted(wait)) => return Err(Error::SequenceExhausted(wait)),
                Err(Refused::Over) => return Err(Error::Over),
                Err(Refused::Closed) => return Err(Error::NoNode),
            };
            shared.taken.fetch_add(u64::from(count.get()), Ordering::Relaxed);
            shared.come(&taken, give_up).await?;
            if held.tenure.covers(Instant::now(), shared.time_ms(&taken))
                || shared.renewed(&held, &taken, give_up).await?
            {
                let mut ids = Vec::with_capacity(usize::try_from(count.get()).unwrap_or(0));
                ids.extend(taken.ids());
                return Ok(ids);
            }
            // The node id was lent to another meanwhile: these numbers are nobody's.
        }
    }
}

impl<N: NodeIds, C: Clock> Shared<N, C> {
    /// Waits until the clock shows the tick of the last number.
    async fn come(&self, taken: &Taken<'_>, give_up: Instant) -> Result<(), Error> {
        let mut wait = taken.wait();
        while !wait.is_zero() {
            if Instant::now() + wait > give_up {
                return Err(Error::ClockBehind(wait));
            }
            sleep(wait).await;
            wait = taken.wait_at(self.clock.now_ms());
        }
        Ok(())
    }

    /// Waits for a renewal under which the numbers may be told; says whether they still belong to this server.
    async fn renewed(&self, held: &Held, taken: &Taken<'_>, give_up: Instant) -> Result<bool, Error> {
        let mut changes = self.held.subscribe();
        self.due.notify_one();
        let time_ms = self.time_ms(taken);
        let settled = changes.wait_for(|now| match now {
            Some(now) if Arc::ptr_eq(&now.snowflake, &held.snowflake) => now.tenure.covers(Instant::now(), time_ms),
            _ => true,
        });
        match timeout_at(give_up.min(Instant::now() + RENEWAL_WAIT), settled).await {
            Ok(Ok(now)) => match &*now {
                Some(now) => Ok(Arc::ptr_eq(&now.snowflake, &held.snowflake)),
                None => Err(Error::NoNode),
            },
            _ => Err(Error::NoNode),
        }
    }

    /// The time that the last of the numbers carries.
    fn time_ms(&self, taken: &Taken<'_>) -> u64 {
        self.layout.time_ms(taken.last_tick())
    }

    /// Renews until told to stop, then gives the node id back.
    async fn keep(&self, stopping: &Stopping) {
        let span = self.nodes.lasts().map_or(self.reach, |lasts| lasts.min(self.reach));
        // No id of this server goes back behind another of it, also with the next node id.
        let mut reached = 0;
        loop {
            tokio::select! {
                () = stopping.requested() => break,
                () = sleep(span / RENEWALS) => {}
                () = self.due.notified() => {}
            }
            if let Err(error) = self.refresh(&mut reached).await {
                tracing::warn!(%error, "the node id could not be renewed; trying again");
                if !stopping.pause(RETRY.min(span / RENEWALS)).await {
                    break;
                }
            }
        }
        self.release().await;
    }

    /// Renews the loan, or claims another node id where it was lost. `reached` is the first tick without an id.
    async fn refresh(&self, reached: &mut u64) -> Result<(), Error> {
        let held = self.held.borrow().clone();
        if let Some(Held { snowflake, tenure }) = held {
            let asked = Instant::now();
            let until_ms = self.clock.now_ms().saturating_add(millis(self.reach));
            if let Some(lease) = self.nodes.renew(&tenure.lease, until_ms).await? {
                let ends = self.ends(asked);
                self.held.send_replace(Some(Held {
                    snowflake,
                    tenure: Tenure { lease, ends },
                }));
                return Ok(());
            }
            tracing::warn!(node = tenure.lease.node, "the node id was lent to another server");
            self.held.send_replace(None);
            *reached = snowflake.close();
        }
        let held = self.claim(*reached).await?;
        tracing::info!(node = held.tenure.lease.node, "another node id was claimed");
        self.held.send_replace(Some(held));
        Ok(())
    }

    async fn claim(&self, reached: u64) -> Result<Held, Error> {
        let asked = Instant::now();
        let lease = self.nodes.claim(self.clock.now_ms(), millis(self.reach)).await?;
        let lease = lease.ok_or(Error::NoNode)?;
        let from = self.layout.tick_from(lease.from_ms).max(reached);
        let snowflake = Snowflake::new(self.layout, lease.node, from).ok_or(Error::Over)?;
        let ends = self.ends(asked);
        Ok(Held {
            snowflake: Arc::new(snowflake),
            tenure: Tenure { lease, ends },
        })
    }

    /// When a loan ends that was asked for at this moment: the store cannot have begun to count earlier.
    fn ends(&self, asked: Instant) -> Option<Instant> {
        self.nodes.lasts().map(|lasts| asked + lasts - lasts / MARGIN)
    }

    /// How far the clock is behind the first id.
    fn behind(&self, held: &Held) -> Duration {
        let from_ms = self.layout.time_ms(held.snowflake.reached());
        Duration::from_millis(from_ms.saturating_sub(self.clock.now_ms()))
    }

    async fn release(&self) {
        let held = self.held.send_replace(None);
        let Some(Held { snowflake, tenure }) = held else {
            return;
        };
        // Also a request that is still under way takes none from here on.
        let until_ms = self.layout.time_ms(snowflake.close());
        if let Err(error) = self.nodes.release(&tenure.lease, until_ms).await {
            tracing::warn!(%error, "the node id is not given back; its lease will run out");
        }
    }

    fn declare(&self, ledger: &Ledger) {
        let taken = Arc::clone(&self.taken);
        let each = self.layout.tick_length().as_secs_f64() / self.layout.ids_a_tick() as f64;
        ledger.sampled("sequence", "nodes", move || {
            let operations = taken.load(Ordering::Relaxed);
            Sample {
                capacity: 1.0,
                operations,
                busy_seconds: operations as f64 * each,
            }
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
