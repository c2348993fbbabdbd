//! Keys made ahead: how a server hands out names that no other server will ever hand out, without asking anybody.
//!
//! # The problem
//!
//! Every new link needs a name that is free. Asking the store for each one ("is `x7Gk2pQ` taken?") costs a round trip, and
//! between the question and the insert another server may take it. Counting in the store makes every create wait for one
//! row. Counting in memory forgets the count in a crash and starts again from names that are in use.
//!
//! # The idea
//!
//! Take names in *blocks*. One atomic, durable statement moves a mark in the store past a thousand names; from then on
//! they are this server's alone, and it hands them out from memory. This is the key generation service of the textbooks,
//! shrunk to a statement. What lies in a block is the stage's affair: keys drawn at random ahead of time
//! (`adapters/key_table.rs`), or a range of sequence numbers (`adapters/number_ranges.rs`). How it is handed out is the
//! same, and is this file.
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
//! when the last name of this one was taken. (A create that was cut off by the crash loses its name too. Nobody was told
//! of it.)
//!
//! # What it costs
//!
//! Lost names: at most a block a crash, of 3.5 million million. And one create in a thousand waits for a claim. Claiming
//! ahead, below a low-water mark in memory, would spare it that, and would lose up to two blocks a crash instead of one.
//!
//! # Why a lock
//!
//! A name is taken in some nanoseconds, by requests that take tens of microseconds: nobody ever waits here. An atomic
//! cursor into an array would do it without a lock and make the switch to the next block the hard part. `tests/loom.rs`
//! runs what is here through all interleavings; `benches/micro/url_shortener.rs` measures it.

use std::collections::VecDeque;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Names that were claimed and not yet handed out. `B` is what a claim brings: a list, a range.
#[derive(Debug)]
pub struct KeyPool<B> {
    blocks: Mutex<VecDeque<B>>,
}

impl<B: ExactSizeIterator> KeyPool<B> {
    /// An empty pool: the first to take will have to claim.
    #[must_use]
    pub fn new() -> Self {
        Self {
            blocks: Mutex::new(VecDeque::new()),
        }
    }

    /// Takes a name; `None` when the last one is gone and a block must be claimed.
    pub fn take(&self) -> Option<B::Item> {
        let mut blocks = self.blocks();
        loop {
            if let Some(name) = blocks.front_mut()?.next() {
                return Some(name);
            }
            blocks.pop_front();
        }
    }

    /// Adds a block that was claimed; it is handed out after what is left of those before it.
    pub fn add(&self, block: B) {
        self.blocks().push_back(block);
    }

    /// How many names are left: what a crash would lose now. Claim only when this is 0, and a crash loses at most a block.
    #[must_use]
    pub fn left(&self) -> usize {
        self.blocks().iter().map(ExactSizeIterator::len).sum()
    }

    fn blocks(&self) -> MutexGuard<'_, VecDeque<B>> {
        // A panic cannot leave a queue of blocks half changed.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: ExactSizeIterator> Default for KeyPool<B> {
    fn default() -> Self {
        Self::new()
    }
}
