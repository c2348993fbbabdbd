//! Everything in memory: for tests, and to say in a few lines what the others do durably.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service::Clock;

use crate::domain::{Count, Error};
use crate::lease::{Lease, Leases};
use crate::ports::{Ids, NodeIds};

/// A number that is counted up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Ids for Counter {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        let count = u64::from(count.get());
        let first = self.0.fetch_add(count, Ordering::Relaxed) + 1;
        Ok((first..first + count).collect())
    }
}

/// Node ids lent from memory. Clones lend from the same.
#[derive(Clone, Debug)]
pub struct MemoryNodes<C> {
    leases: Arc<Mutex<Leases>>,
    lasts: Duration,
    clock: C,
}

impl<C: Clock> MemoryNodes<C> {
    /// So many node ids, lent for so long by this clock.
    pub fn new(nodes: u32, lasts: Duration, clock: C) -> Self {
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        Self {
            leases: Arc::new(Mutex::new(Leases::new(nodes, lasts_ms))),
            lasts,
            clock,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Leases) -> T) -> T {
        act(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C: Clock> NodeIds for MemoryNodes<C> {
    fn lasts(&self) -> Option<Duration> {
        Some(self.lasts)
    }

    async fn claim(&self, clock_ms: u64, reach_ms: u64) -> Result<Option<Lease>, Error> {
        Ok(self.with(|leases| leases.claim(self.clock.now_ms(), clock_ms, reach_ms)))
    }

    async fn renew(&self, lease: &Lease, until_ms: u64) -> Result<Option<Lease>, Error> {
        Ok(self.with(|leases| leases.renew(self.clock.now_ms(), lease, until_ms)))
    }

    async fn release(&self, lease: &Lease, until_ms: u64) -> Result<(), Error> {
        self.with(|leases| leases.release(lease, until_ms));
        Ok(())
    }
}
