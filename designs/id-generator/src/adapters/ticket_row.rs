//! A row that counts: Flickr's ticket server (2010), with SQLite in place of MySQL.
//!
//! Every request moves the row forward and waits until that is on the disk. The numbers are dense, in order, and start
//! again where they stopped.

use stores::Sqlite;

use crate::domain::{Count, Error};
use crate::ports::Ids;

/// Numbers from a row in SQLite.
#[derive(Clone, Debug)]
pub struct TicketRow {
    db: Sqlite,
}

impl TicketRow {
    /// The row of this database.
    pub fn new(db: Sqlite) -> Self {
        Self { db }
    }

    /// Moves the row forward, durably; the first number that it passed.
    pub(super) async fn advance(&self, count: u32) -> Result<u64, Error> {
        let mut writer = self.db.writer().await?;
        // All rows, although there is one: the commit comes after the last, and whoever stops at the first never hears that
        // it failed.
        let next: Vec<i64> =
            sqlx::query_scalar("UPDATE tickets SET next = next + ?1 WHERE next <= ?2 - ?1 RETURNING next")
                .bind(count)
                .bind(i64::MAX)
                .fetch_all(&mut *writer)
                .await
                .map_err(stores::Error::at_commit)?;
        let next = next
            .first()
            .and_then(|next| u64::try_from(*next).ok())
            .ok_or(Error::Over)?;
        Ok(next - u64::from(count))
    }
}

impl Ids for TicketRow {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        let first = self.advance(count.get()).await?;
        Ok((first..first + u64::from(count.get())).collect())
    }
}
