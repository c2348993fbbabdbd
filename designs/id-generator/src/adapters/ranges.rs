//! Hi/lo: the row is moved by a thousand at a time, and the numbers of such a block are given from memory.
//!
//! The pool of blocks, and why it neither doubles nor waits, is `stores::BlockPool`. What it costs is order across servers:
//! a server that is asked seldom gives numbers from an old block, long after others gave greater ones.

use std::ops::Range;

use ledger::Ledger;
use service::Lifecycle;
use stores::{BlockPool, Blocks, Sqlite};

use super::TicketRow;
use crate::domain::{Count, Error};
use crate::ports::Ids;

/// Numbers from blocks that were claimed ahead.
pub struct Ranges {
    pool: BlockPool<Claims>,
}

struct Claims {
    row: TicketRow,
    block: u32,
}

impl Ranges {
    /// Starts the task that claims blocks of `block` numbers. In the ledger: `id_block`, busy while a claim runs.
    pub fn new(db: Sqlite, block: u32, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let row = TicketRow::new(db);
        Self {
            pool: BlockPool::start("id_block", Claims { row, block }, lifecycle, ledger),
        }
    }
}

impl Ids for Ranges {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        self.pool.take(usize::try_from(count.get()).unwrap_or(usize::MAX)).await
    }
}

impl Blocks for Claims {
    type Item = u64;
    type Block = Numbers;
    type Error = Error;

    async fn claim(&self) -> Result<Numbers, Error> {
        let first = self.row.advance(self.block).await?;
        Ok(Numbers(first..first + u64::from(self.block)))
    }
}

/// Consecutive numbers. (A range of `u64` does not say how many it has.)
#[derive(Clone, Debug)]
pub struct Numbers(Range<u64>);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Numbers {}
