//! Places handed out from blocks that were claimed ahead: the key pool, with somebody who refills it.
//!
//! The claim runs in a task of its own. Were it part of the request that found the pool empty, a client that hangs up at
//! the wrong moment would lose the whole block.

use std::future::Future;
use std::sync::Arc;

use ledger::{Ledger, Resource, Waiting};
use service::Lifecycle;
use tokio::sync::{Notify, watch};

use crate::domain::{Code, Error, Place};
use crate::key_pool::KeyPool;
use crate::ports::Keys;

/// Where blocks come from.
pub trait Blocks: Send + Sync + 'static {
    /// The codes of one block.
    type Block: ExactSizeIterator<Item = Code> + Send + 'static;

    /// Claims a block.
    ///
    /// # Contract
    /// - MUST be durable before it returns, and MUST be one atomic step: no other claim, on any server, before or after any
    ///   crash, gets one of these codes.
    /// - An empty store of keys is [`Error::KeysExhausted`].
    fn claim(&self) -> impl Future<Output = Result<Self::Block, Error>> + Send;
}

/// Hands out places from claimed blocks.
#[derive(Debug)]
pub struct Pooled<B: Blocks> {
    shared: Arc<Shared<B::Block>>,
    resource: Resource,
}

#[derive(Debug)]
struct Shared<B> {
    pool: KeyPool<B>,
    empty: Notify,
    /// Changes after every claim; holds what came of it.
    claimed: watch::Sender<Result<(), Error>>,
}

impl<B: Blocks> Pooled<B> {
    /// Starts the task that claims. In the ledger: `key_block`, busy while a claim runs, waited for by creates that found
    /// the block used up.
    pub fn new(blocks: B, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let shared = Arc::new(Shared {
            pool: KeyPool::new(),
            empty: Notify::new(),
            claimed: watch::Sender::new(Ok(())),
        });
        let resource = ledger.resource("key_block", "claims", 1.0);
        let (state, claims) = (Arc::clone(&shared), resource.clone());
        lifecycle.spawn("key block claims", |stopping| async move {
            loop {
                tokio::select! {
                    () = stopping.requested() => return,
                    () = state.empty.notified() => {}
                }
                // A wake-up can come from a request that looked before the last claim ended: there is enough by now, and
                // a block claimed on top would double what a crash loses.
                let outcome = if state.pool.left() > 0 {
                    Ok(())
                } else {
                    let _held = service::hold(&claims).await;
                    match blocks.claim().await {
                        // Whether or not it was claimed, nobody got a name: for them, nothing happened.
                        Err(Error::Unknown(cause)) => Err(Error::Unavailable(cause)),
                        claim => claim.map(|block| state.pool.add(block)),
                    }
                };
                // What came of the claim before is no news.
                drop(state.claimed.send_replace(outcome));
            }
        });
        Self { shared, resource }
    }
}

impl<B: Blocks> Keys for Pooled<B> {
    async fn next(&self) -> Result<Place, Error> {
        // Counts as a wait for as long as it lives.
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            // Before looking: a claim that ends between the look and the wait must wake us.
            let mut claimed = self.shared.claimed.subscribe();
            while let Some(code) = self.shared.pool.take() {
                if !code.is_reserved() {
                    return Ok(Place::At(code));
                }
            }
            waiting.get_or_insert_with(|| self.resource.wait());
            self.shared.empty.notify_one();
            claimed.changed().await.map_err(stores::Error::unavailable)?;
            claimed.borrow().clone()?;
        }
    }
}
