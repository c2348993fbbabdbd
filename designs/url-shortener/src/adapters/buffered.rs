//! Clicks off the request path: counted in memory, written once in a while.
//!
//! A redirect must not wait for its own statistics: a hundred people on one link would queue for the lock on one row. So a
//! click is an addition to a map, and a background task writes the sums. A crash loses the clicks of the last interval; a
//! drain loses none. If the store is down the sums wait in memory, up to a bound.
//!
//! Writing them all at once would be a burst: on one core, redirects stand behind it, and it shows as their 99th percentile
//! while the processor looks half idle. So sums are written a few at a time with pauses, in the order in which their rows
//! stand in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::{Ledger, Resource};
use service::Lifecycle;

use crate::domain::{Error, Slug};
use crate::ports::Clicks;

/// How often the sums are written: what a crash may lose.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Parts of the buffer, each behind a lock of its own: two cores seldom meet at one.
const SHARDS: usize = 16;

/// Links with unwritten clicks that each part holds; beyond that, clicks on further links are dropped.
const MOST_LINKS: usize = 16_384;

/// Sums written in one transaction: holds the writer, and the core, for about a millisecond.
const BATCH: usize = 256;

/// Transactions that a flush is split into at most; their batches grow beyond that.
const MOST_BATCHES: usize = 128;

/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(5);

/// Clicks with a buffer in front. Clones share it.
#[derive(Debug)]
pub struct Buffered<C> {
    shared: Arc<Shared<C>>,
}

#[derive(Debug)]
struct Shared<C> {
    inner: C,
    shards: [Mutex<HashMap<Slug, u64>>; SHARDS],
    flushes: Resource,
}

impl<C: Clicks> Buffered<C> {
    /// Starts the task that writes. In the ledger: `click_buffer`, busy while sums are written.
    pub fn new(inner: C, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let shared = Arc::new(Shared {
            inner,
            shards: Default::default(),
            flushes: ledger.resource("click_buffer", "flushes", 1.0),
        });
        let buffer = Arc::clone(&shared);
        lifecycle.spawn("click flush", |stopping| async move {
            while stopping.pause(FLUSH_EVERY).await {
                buffer.flush().await;
            }
            // Requests are over by now: this is the last of them.
            buffer.flush().await;
        });
        Self { shared }
    }
}

impl<C> Shared<C> {
    fn shard(&self, slug: &Slug) -> MutexGuard<'_, HashMap<Slug, u64>> {
        // Which one hardly matters, as long as it is always the same: hot links are few and anywhere.
        let spread = match slug {
            Slug::Code(code) => code.number(),
            Slug::Alias(alias) => alias.as_str().bytes().map(u64::from).sum(),
        };
        let shard = usize::try_from(spread % SHARDS as u64).unwrap_or_default();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, slug: &Slug, clicks: u64) {
        let mut shard = self.shard(slug);
        if let Some(sum) = shard.get_mut(slug) {
            *sum += clicks;
        } else if shard.len() < MOST_LINKS {
            shard.insert(slug.clone(), clicks);
        }
    }
}

impl<C: Clicks> Shared<C> {
    async fn flush(&self) {
        let mut sums: Vec<(Slug, u64)> = Vec::new();
        for shard in &self.shards {
            sums.extend(std::mem::take(
                &mut *shard.lock().unwrap_or_else(PoisonError::into_inner),
            ));
        }
        sums.sort_by_cached_key(|(slug, _)| self.inner.position(slug));
        let batch = BATCH.max(sums.len().div_ceil(MOST_BATCHES));
        for batch in sums.chunks(batch) {
            self.write(batch).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(&self, batch: &[(Slug, u64)]) {
        let mut held = service::hold(&self.flushes).await;
        held.serves(batch.len() as u64);
        match self.inner.add(batch).await {
            Ok(()) => {}
            // Counting them again would count them twice if they were written after all: a click too few is within the
            // contract, one too many is not.
            Err(error @ Error::Unknown(_)) => {
                tracing::warn!(%error, links = batch.len(), "clicks are lost");
            }
            Err(error) => {
                tracing::warn!(%error, links = batch.len(), "clicks cannot be written for the moment");
                batch.iter().for_each(|(slug, clicks)| self.add(slug, *clicks));
            }
        }
    }
}

impl<C: Clicks> Clicks for Buffered<C> {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.shared.add(slug, 1);
        Ok(())
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        clicks.iter().for_each(|(slug, clicks)| self.shared.add(slug, *clicks));
        Ok(())
    }

    /// May lag behind by the clicks that are being written at this moment.
    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        let written = self.shared.inner.count(slug).await?;
        let unwritten = self.shared.shard(slug).get(slug).copied().unwrap_or_default();
        Ok(written + unwritten)
    }
}

impl<C> Clone for Buffered<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}
