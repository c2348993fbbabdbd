//! Who gets in: a bound on the requests worked on at once, a bounded queue before it, and a quick no beyond that.
//!
//! A server that takes in more than it can finish finishes less and less, because it works on answers nobody waits for any
//! more. So the number of requests under way is capped, a few more may wait for a moment, and all others hear 503 at once,
//! while it costs almost nothing to say so. Writes are shed first: they may take only three quarters of the places, so
//! that a flood of them leaves room for reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ledger::{Held, Ledger, Resource};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::slowing::{hold, pay};

/// How long a request waits for a place. Longer, and most of those who waited would be answered too late to matter.
const PATIENCE: Duration = Duration::from_millis(50);

/// The gate's name in the ledger.
pub(crate) const RESOURCE: &str = "admission";

pub(crate) struct Admission {
    all: Semaphore,
    writes: Semaphore,
    in_flight: usize,
    queued: AtomicUsize,
    most_queued: usize,
    ledger: Resource,
}

/// A place among the requests under way; dropping it gives it up.
pub(crate) struct Place<'a> {
    _permits: (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>),
    held: Held<'a>,
}

/// Why there was no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    QueueFull,
    WaitedTooLong,
}

impl Shed {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "the in-flight limit is reached and the queue is full",
            Self::WaitedTooLong => "no place came free in time",
        }
    }
}

impl Admission {
    pub(crate) fn new(in_flight: usize, most_queued: usize, ledger: &Ledger) -> Self {
        let in_flight = in_flight.min(Semaphore::MAX_PERMITS);
        let writes = in_flight.saturating_mul(3).div_ceil(4).max(1);
        Self {
            all: Semaphore::new(in_flight),
            writes: Semaphore::new(writes),
            in_flight,
            queued: AtomicUsize::new(0),
            most_queued,
            ledger: ledger.resource(RESOURCE, "requests", in_flight as f64),
        }
    }

    /// Takes a place, at once or after a short wait.
    pub(crate) async fn enter(&self, write: bool) -> Result<Place<'_>, Shed> {
        if let Some(permits) = self.try_permits(write) {
            return Ok(Place {
                _permits: permits,
                held: hold(&self.ledger).await,
            });
        }
        let _queued = self.queue()?;
        let waiting = self.ledger.wait();
        let permits = tokio::time::timeout(PATIENCE, self.permits(write)).await;
        match permits {
            Ok(Some(permits)) => {
                let mut held = waiting.enter();
                pay(&mut held).await;
                Ok(Place {
                    _permits: permits,
                    held,
                })
            }
            _ => Err(Shed::WaitedTooLong),
        }
    }

    /// How many requests are being worked on.
    pub(crate) fn under_way(&self) -> usize {
        self.in_flight.saturating_sub(self.all.available_permits())
    }

    fn try_permits(&self, write: bool) -> Option<(SemaphorePermit<'_>, Option<SemaphorePermit<'_>>)> {
        let writes = if write {
            Some(self.writes.try_acquire().ok()?)
        } else {
            None
        };
        Some((self.all.try_acquire().ok()?, writes))
    }

    async fn permits(&self, write: bool) -> Option<(SemaphorePermit<'_>, Option<SemaphorePermit<'_>>)> {
        let writes = if write {
            Some(self.writes.acquire().await.ok()?)
        } else {
            None
        };
        Some((self.all.acquire().await.ok()?, writes))
    }

    fn queue(&self) -> Result<Queued<'_>, Shed> {
        let joined = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                (queued < self.most_queued).then_some(queued + 1)
            });
        joined.map(|_| Queued(&self.queued)).map_err(|_| Shed::QueueFull)
    }
}

impl Place<'_> {
    /// Gives the place up and says how long it was held.
    pub(crate) fn leave(self) -> Duration {
        self.held.leave()
    }
}

/// A place in the queue, given up on drop: also when the client goes away while it waits.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_cap_one_waits_and_the_next_is_shed_at_once() {
        let gate = Admission::new(1, 1, &Ledger::new());
        let first = gate.enter(false).await.ok().unwrap();
        let (second, third) = tokio::join!(gate.enter(false), async {
            let third = gate.enter(false).await.map(drop);
            drop(first);
            third
        });
        assert!(second.is_ok());
        assert_eq!(third, Err(Shed::QueueFull));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_patience() {
        let gate = Admission::new(1, 8, &Ledger::new());
        let _first = gate.enter(false).await.ok().unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(gate.enter(false).await.map(drop), Err(Shed::WaitedTooLong));
        assert!(started.elapsed() <= PATIENCE + Duration::from_millis(1));
        assert_eq!(gate.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_writes_leaves_room_for_reads() {
        let gate = Admission::new(4, 0, &Ledger::new());
        let mut writes = Vec::new();
        while let Ok(place) = gate.enter(true).await {
            writes.push(place);
        }
        assert_eq!(writes.len(), 3);
        assert!(gate.enter(false).await.is_ok());
    }
}
