//! Places handed out from blocks of codes that were claimed ahead ([`stores::BlockPool`]), reserved words passed over.

use ledger::Ledger;
use service::Lifecycle;
use stores::{BlockPool, Blocks};

use crate::domain::{Code, Error, Place};
use crate::ports::Keys;

/// Hands out places from claimed blocks. A claim that finds no codes left is [`Error::KeysExhausted`].
pub struct Pooled<B: Blocks>(BlockPool<B>);

impl<B: Blocks> Pooled<B> {
    /// Starts the task that claims. In the ledger: `key_block`, busy while a claim runs, waited for by creates that found
    /// the block used up.
    pub fn new(blocks: B, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        Self(BlockPool::start("key_block", blocks, lifecycle, ledger))
    }
}

impl<B: Blocks<Item = Code, Error = Error>> Keys for Pooled<B> {
    async fn next(&self) -> Result<Place, Error> {
        loop {
            let code = self.0.next().await?;
            if !code.is_reserved() {
                return Ok(Place::At(code));
            }
        }
    }
}
