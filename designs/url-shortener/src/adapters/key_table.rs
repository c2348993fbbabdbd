//! Random keys made ahead into a table, and claimed from it in blocks.
//!
//! Keys stand in the table in the order in which they were drawn; a claim moves a mark past some of them. So a claim
//! changes one row however many keys it takes, and their values stay as random as they were drawn. Rows behind the mark
//! stay too: they are what keeps a key from being drawn a second time, and they are this stage's price, a second thing to
//! store that grows with the links.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use service::{Lifecycle, Stopping};
use sqlx::SqliteConnection;
use stores::{Blocks, Sqlite};
use tokio::sync::Notify;

use super::sqlite;
use crate::domain::{CODES, Code, Error};

/// Keys made in one transaction: holds the writer, and the core, for about a millisecond. More at once would be a burst
/// that every redirect stands behind.
const BATCH: u32 = 256;

/// The same when keys run short, and when the table is filled for the first time.
const HASTY_BATCH: u32 = 8 * BATCH;

/// Between two transactions, as long as there is time.
const PAUSE: Duration = Duration::from_millis(5);

/// How long to wait after a refill that failed.
const RETRY: Duration = Duration::from_millis(500);

/// How much to make ahead.
#[derive(Clone, Copy, Debug)]
pub struct Stock {
    /// How many unused keys the table holds when full.
    pub size: u32,
    /// Below how many unused keys it is filled up again.
    pub low_water: u32,
    /// How many keys a claim takes.
    pub block: u32,
}

/// Claims blocks of random keys from a table in SQLite, and keeps the table filled.
#[derive(Clone, Debug)]
pub struct KeyTable {
    db: Sqlite,
    stock: Stock,
    low: Arc<Notify>,
}

impl KeyTable {
    /// Fills the table, and keeps filling it in the background.
    ///
    /// # Errors
    /// The store's, if the first filling fails.
    pub async fn open(db: Sqlite, stock: Stock, lifecycle: &Lifecycle) -> Result<Self, Error> {
        let table = Self {
            db,
            stock,
            low: Arc::new(Notify::new()),
        };
        table.fill().await?;
        let keeper = table.clone();
        lifecycle.spawn(
            "key refill",
            |stopping| async move { keeper.keep_filled(stopping).await },
        );
        Ok(table)
    }

    async fn keep_filled(&self, stopping: Stopping) {
        loop {
            tokio::select! {
                () = stopping.requested() => return,
                () = self.low.notified() => {}
            }
            // Creates go on from what is left.
            while let Err(error) = self.fill().await {
                tracing::warn!(%error, "cannot make keys ahead");
                if !stopping.pause(RETRY).await {
                    return;
                }
            }
        }
    }

    /// Draws keys until the table is full.
    async fn fill(&self) -> Result<(), Error> {
        loop {
            let unused = self.unused().await?;
            let missing = self.stock.size.saturating_sub(unused);
            if missing == 0 {
                return Ok(());
            }
            if unused > self.stock.low_water / 2 {
                tokio::time::sleep(PAUSE).await;
                self.draw(missing.min(BATCH)).await?;
            } else {
                self.draw(missing.min(HASTY_BATCH)).await?;
            }
        }
    }

    /// Draws keys from the operating system's randomness. One that was ever drawn before is left out.
    async fn draw(&self, keys: u32) -> Result<(), Error> {
        let drawn = {
            let mut random = rand::rng();
            let drawn: Vec<u64> = (0..keys).map(|_| random.random_range(0..CODES)).collect();
            serde_json::Value::from(drawn).to_string()
        };
        let mut writer = self.db.writer().await?;
        sqlx::query("INSERT OR IGNORE INTO keys (key) SELECT value FROM json_each(?1)")
            .bind(drawn)
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        Ok(())
    }

    async fn unused(&self) -> Result<u32, Error> {
        let mut reader = self.db.reader().await?;
        unused(&mut reader).await
    }
}

impl Blocks for KeyTable {
    type Item = Code;
    type Block = std::vec::IntoIter<Code>;
    type Error = Error;

    async fn claim(&self) -> Result<Self::Block, Error> {
        let mut writer = self.db.writer().await?;
        let mut claim = sqlite::begin(&mut writer).await.map_err(stores::Error::before_commit)?;
        let keys: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT position, key FROM keys WHERE position >= (SELECT next FROM marks WHERE name = 'position')
             ORDER BY position LIMIT ?1",
        )
        .bind(self.stock.block)
        .fetch_all(&mut *claim)
        .await
        .map_err(stores::Error::before_commit)?;
        let Some((last, _)) = keys.last() else {
            self.low.notify_one();
            return Err(Error::KeysExhausted);
        };
        sqlx::query("UPDATE marks SET next = ?1 + 1 WHERE name = 'position'")
            .bind(last)
            .execute(&mut *claim)
            .await
            .map_err(stores::Error::before_commit)?;
        let left = unused(&mut claim).await?;
        claim.commit().await.map_err(stores::Error::at_commit)?;
        // Also with a low-water mark of 0: an empty table must not stay empty.
        if left < self.stock.low_water.max(1) {
            self.low.notify_one();
        }
        let codes = keys
            .into_iter()
            .filter_map(|(_, key)| u64::try_from(key).ok().and_then(Code::new));
        Ok(codes.collect::<Vec<_>>().into_iter())
    }
}

/// Positions are given in order and never removed, so the distance between the ends is the number in between.
async fn unused(connection: &mut SqliteConnection) -> Result<u32, Error> {
    let unused: i64 = sqlx::query_scalar(
        "SELECT coalesce((SELECT max(position) FROM keys), 0) + 1 - next FROM marks WHERE name = 'position'",
    )
    .fetch_one(connection)
    .await
    .map_err(stores::Error::before_commit)?;
    Ok(u32::try_from(unused).unwrap_or(0))
}
