//! Blocks of consecutive numbers, shown as permuted codes: one row in the store, whatever the number of links.

use std::ops::Range;

use stores::{Blocks, Postgres, Sqlite};

use crate::domain::{CODES, Code, Error};
use crate::permutation::Permutation;

/// Claims ranges of numbers in a store.
#[derive(Clone, Debug)]
pub struct NumberRanges<Db> {
    db: Db,
    permutation: Permutation,
    block: u32,
}

impl<Db> NumberRanges<Db> {
    /// Ranges of `block` numbers each.
    pub fn new(db: Db, permutation: Permutation, block: u32) -> Self {
        Self { db, permutation, block }
    }

    fn range(&self, start: u64) -> Result<PermutedRange, Error> {
        let end = start.checked_add(u64::from(self.block)).filter(|end| *end <= CODES);
        let end = end.ok_or(Error::KeysExhausted)?;
        Ok(PermutedRange::new(start..end, self.permutation))
    }
}

/// From a mark that moves forward. There is one writer, so nobody waits for another.
impl Blocks for NumberRanges<Sqlite> {
    type Item = Code;
    type Block = PermutedRange;
    type Error = Error;

    async fn claim(&self) -> Result<PermutedRange, Error> {
        let mut writer = self.db.writer().await?;
        // All rows, although there is one: the commit comes after the last, and whoever stops at the first never hears that
        // it failed.
        let ends: Vec<i64> = sqlx::query_scalar(
            "UPDATE marks SET next = next + ?1 WHERE name = 'number' AND next + ?1 <= ?2 RETURNING next",
        )
        .bind(self.block)
        .bind(CODES.cast_signed())
        .fetch_all(&mut *writer)
        .await
        .map_err(stores::Error::at_commit)?;
        let end = ends
            .first()
            .and_then(|end| u64::try_from(*end).ok())
            .ok_or(Error::KeysExhausted)?;
        self.range(end - u64::from(self.block))
    }
}

/// By the number of a new row. A mark would be one row that all servers update, each waiting for the commit of the one
/// before; inserts pass each other. All servers must claim the same number at a time: `Postgres::new` refuses another.
impl Blocks for NumberRanges<Postgres> {
    type Item = Code;
    type Block = PermutedRange;
    type Error = Error;

    async fn claim(&self) -> Result<PermutedRange, Error> {
        let claims: Vec<i64> = Postgres::answer(async {
            let mut connection = self.db.connection().await?;
            // To the end of the answer, as above.
            sqlx::query_scalar("INSERT INTO claims DEFAULT VALUES RETURNING id")
                .fetch_all(&mut *connection)
                .await
                .map_err(stores::Error::at_commit)
        })
        .await?;
        let claim = claims.first().copied().ok_or(Error::KeysExhausted)?;
        self.range(claim.cast_unsigned().saturating_mul(u64::from(self.block)))
    }
}

/// Numbers one after the other, as the codes that stand for them.
#[derive(Clone, Debug)]
pub struct PermutedRange {
    numbers: Range<u64>,
    permutation: Permutation,
}

impl PermutedRange {
    /// The codes of `numbers`, all of which must be below [`CODES`].
    #[must_use]
    pub fn new(numbers: Range<u64>, permutation: Permutation) -> Self {
        Self { numbers, permutation }
    }
}

impl Iterator for PermutedRange {
    type Item = Code;

    fn next(&mut self) -> Option<Code> {
        let number = Code::new(self.numbers.next()?)?;
        Some(self.permutation.code_of(number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.numbers.end.saturating_sub(self.numbers.start)).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for PermutedRange {}
