//! Names or numbers claimed ahead: how a server hands out what no other server will ever hand out, without asking anybody.
//!
//! # The problem
//!
//! Every new thing needs a name that is free. Asking the store for each one ("is `x7Gk2pQ` taken?") costs a round trip, and
//! between the question and the insert another server may take it. Counting in the store makes every create wait for one
//! row. Counting in memory forgets the count in a crash and starts again from names that are in use.
//!
//! # The idea
//!
//! Take names in *blocks*. One atomic, durable statement moves a mark in the store past a thousand of them; from then on
//! they are this server's alone, and it hands them out from memory. Where they are numbers, this is the hi/lo algorithm
//! (the store counts the high part, the server the low); where they are keys drawn at random ahead of time, it is the key
//! generation service of the textbooks, shrunk to a statement. What lies in a block, and how it is claimed, is the affair
//! of whoever implements [`Blocks`]. How it is handed out is the same, and is this file.
//!
//! # Walk-through
//!
//! Blocks of 3, two servers, one crash:
//!
//! ```text
//! store's mark   server A             server B             handed out
//! 1
//! 4              claims [1 2 3]
//! 4              gives 1                                   1
//! 7                                   claims [4 5 6]       1
//! 7              gives 2              gives 4              1 2 4
//! 7              killed: 3 is lost                         1 2 4
//! 10             restarts, claims                          1 2 4
//!                [7 8 9], gives 7     gives 5              1 2 4 7 5
//! ```
//!
//! # Why it is correct
//!
//! The mark moves, durably, *before* the first name behind it is used, and it only ever moves forward: so no two claims
//! overlap, whoever dies in between. A crash loses what is left of one block, never more: the next block is claimed only
//! when the last name of this one was taken. (A request that was cut off by the crash loses what it took too. Nobody was
//! told of it.)
//!
//! # What it costs
//!
//! Lost names: at most a block a crash. Order: what two servers hand out is interleaved block by block, so a later number
//! may be the smaller one. And one name in a thousand waits for a claim. Claiming ahead, below a low-water mark in memory,
//! would spare it that, and would lose up to two blocks a crash instead of one.
//!
//! # Who claims
//!
//! A task of its own. Were the claim part of the request that found the pool empty, a client that hangs up at the wrong
//! moment would lose the whole block.

mod claimed;

use std::future::Future;
use std::sync::Arc;

use ledger::{Ledger, Resource};
use service::{Lifecycle, Stopping};
use tokio::sync::{Notify, watch};

use self::claimed::Claimed;
use crate::Error;

/// Where blocks come from.
pub trait Blocks: Send + Sync + 'static {
    /// What is handed out.
    type Item: Send;

    /// What one claim brings.
    type Block: ExactSizeIterator<Item = Self::Item> + Send + 'static;

    /// Why a claim failed. Cloned, since one failure is the answer to all who wait.
    type Error: Clone + From<Error> + NotDone + Send + Sync + 'static;

    /// Claims a block.
    ///
    /// # Contract
    /// - MUST be durable before it returns, and MUST be one atomic step: no other claim, on any server, before or after any
    ///   crash, gets one of these items.
    /// - MUST bring at least one item. Where there is none left, that is an error.
    fn claim(&self) -> impl Future<Output = Result<Self::Block, Self::Error>> + Send;
}

/// A failure that can be told to somebody for whom nothing was done.
pub trait NotDone {
    /// The same failure, saying that nothing was done. Of a claim it may be unknown whether the store made it; but whoever
    /// waited for it got nothing, and may safely ask again.
    #[must_use]
    fn not_done(self) -> Self;
}

impl NotDone for Error {
    fn not_done(self) -> Self {
        match self {
            Self::Unknown(cause) => Self::Unavailable(cause),
            known => known,
        }
    }
}

/// Hands out items from claimed blocks.
pub struct BlockPool<B: Blocks> {
    shared: Arc<Shared<B::Block>>,
    /// Changes after every claim; holds what came of it.
    outcome: watch::Receiver<Result<(), B::Error>>,
    resource: Resource,
}

/// What those who take and the task that claims have in common.
struct Shared<B> {
    claimed: Claimed<B>,
    empty: Notify,
}

impl<B: Blocks> BlockPool<B> {
    /// Starts the task that claims. In the ledger: `resource`, busy while a claim runs, waited for by those who found the
    /// block used up.
    pub fn start(resource: &'static str, blocks: B, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let shared = Arc::new(Shared {
            claimed: Claimed::new(),
            empty: Notify::new(),
        });
        let (news, outcome) = watch::channel(Ok(()));
        let resource_row = ledger.resource(resource, "claims", 1.0);
        let claimer = Claimer {
            blocks,
            shared: Arc::clone(&shared),
            news,
            resource: resource_row.clone(),
        };
        lifecycle.spawn("block claims", |stopping| claimer.run(stopping));
        Self {
            shared,
            outcome,
            resource: resource_row,
        }
    }

    /// One item.
    ///
    /// # Errors
    /// That of the claim it waited for; no item was handed out.
    pub async fn next(&self) -> Result<B::Item, B::Error> {
        self.until(|| self.shared.claimed.take()).await
    }

    /// Exactly `count` items, in the order of the blocks. Room for them is made at once: `count` must be bounded by who
    /// asks.
    ///
    /// # Errors
    /// That of a claim it waited for. What was taken before it is lost, as it is if the caller goes away; it is never
    /// handed out twice.
    pub async fn take(&self, count: usize) -> Result<Vec<B::Item>, B::Error> {
        let mut items = Vec::with_capacity(count);
        self.until(|| {
            self.shared.claimed.fill(&mut items, count);
            (items.len() == count).then_some(())
        })
        .await?;
        Ok(items)
    }

    /// Looks until there is enough, and has a block claimed after every look that did not find it.
    async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> Result<T, B::Error> {
        if let Some(found) = look() {
            return Ok(found);
        }
        // Counts for as long as it lives.
        let _waiting = self.resource.wait();
        let mut outcome = self.outcome.clone();
        loop {
            // Before looking: a claim that ends between the look and the wait must wake us.
            outcome.mark_unchanged();
            if let Some(found) = look() {
                return Ok(found);
            }
            self.shared.empty.notify_one();
            let changed = outcome.changed().await;
            changed.map_err(|_| Error::unavailable("no more blocks are claimed: the service is ending, or broken"))?;
            outcome.borrow().clone()?;
        }
    }
}

/// The task that claims.
struct Claimer<B: Blocks> {
    blocks: B,
    shared: Arc<Shared<B::Block>>,
    /// Closed when this task is gone, which those who wait are told by.
    news: watch::Sender<Result<(), B::Error>>,
    resource: Resource,
}

impl<B: Blocks> Claimer<B> {
    async fn run(self, stopping: Stopping) {
        loop {
            tokio::select! {
                () = stopping.requested() => return,
                () = self.shared.empty.notified() => {}
            }
            let outcome = self.refill().await;
            // What came of the claim before is no news.
            drop(self.news.send_replace(outcome));
        }
    }

    async fn refill(&self) -> Result<(), B::Error> {
        // A wake-up can come from a request that looked before the last claim ended: there is enough by now, and a block
        // claimed on top would double what a crash loses.
        if self.shared.claimed.left() > 0 {
            return Ok(());
        }
        let _held = service::hold(&self.resource).await;
        let block = self.blocks.claim().await.map_err(NotDone::not_done)?;
        self.shared.claimed.add(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
