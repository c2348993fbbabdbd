//! What was claimed and not yet handed out: the part of the block pool that is shared between threads.
//!
//! An item is taken in some nanoseconds, by requests that take tens of microseconds: nobody ever waits for this lock. An
//! atomic cursor into an array would do it without a lock and make the switch to the next block the hard part.
//! `tests/loom.rs` runs what is here through all interleavings; `benches/micro/block_pool.rs` measures the pool around it.

use std::collections::VecDeque;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Items that were claimed and not yet handed out. `B` is what a claim brings: a list, a range.
pub(crate) struct Claimed<B> {
    blocks: Mutex<VecDeque<B>>,
}

impl<B: ExactSizeIterator> Claimed<B> {
    /// Nothing: the first to take will have to claim.
    pub(crate) fn new() -> Self {
        Self {
            blocks: Mutex::new(VecDeque::new()),
        }
    }

    /// Takes an item; `None` when the last one is gone and a block must be claimed.
    pub(crate) fn take(&self) -> Option<B::Item> {
        let mut blocks = self.blocks();
        loop {
            if let Some(item) = blocks.front_mut()?.next() {
                return Some(item);
            }
            blocks.pop_front();
        }
    }

    /// Adds to `items` until they are `count`, as far as there are any left: all of it under one lock.
    pub(crate) fn fill(&self, items: &mut Vec<B::Item>, count: usize) {
        let mut blocks = self.blocks();
        while items.len() < count {
            let Some(block) = blocks.front_mut() else { return };
            items.extend(block.take(count - items.len()));
            if items.len() < count {
                blocks.pop_front();
            }
        }
    }

    /// Adds a block that was claimed; it is handed out after what is left of those before it.
    pub(crate) fn add(&self, block: B) {
        self.blocks().push_back(block);
    }

    /// How many items are left: what a crash would lose now. Claim only when this is 0, and a crash loses at most a block.
    pub(crate) fn left(&self) -> usize {
        self.blocks().iter().map(ExactSizeIterator::len).sum()
    }

    fn blocks(&self) -> MutexGuard<'_, VecDeque<B>> {
        // A panic cannot leave a queue of blocks half changed.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
