//! One node id that somebody wrote into a flag, and how far its ids may have come.
//!
//! Nobody lends it and nobody takes it back. What is left of a loan is the span of time: it is written down ahead of the
//! ids, so that a server that was killed, or whose clock was set back while it was down, begins behind them. And a file
//! lock: a second server on the same data directory refuses to start. Two servers with the same flag on two directories are
//! two that nobody tells apart; that is what stage `leased` is for.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stores::Sqlite;

use super::{another_layout, lease};
use crate::domain::Error;
use crate::layout::Layout;
use crate::lease::Lease;
use crate::ports::NodeIds;

/// A node id of one's own.
#[derive(Clone, Debug)]
pub struct FixedNode {
    db: Sqlite,
    node: u32,
    _alone: Arc<File>,
}

impl FixedNode {
    /// Node id `node` in this database, with `lock` as the file that keeps a second server out.
    ///
    /// # Errors
    /// A sentence for whoever started it: another server has the file, or ids of another layout were made here.
    pub async fn open(db: Sqlite, layout: &Layout, node: u32, lock: &Path) -> anyhow::Result<Self> {
        let alone = File::options().create(true).truncate(false).write(true).open(lock);
        let alone = alone.with_context(|| format!("cannot open {}", lock.display()))?;
        match alone.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another server makes ids in this data directory ({} is locked): two with one node id would make the same ids",
                lock.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock.display()));
            }
        }
        agree(&db, &layout.meaning()).await?;
        Ok(Self {
            db,
            node,
            _alone: Arc::new(alone),
        })
    }
}

/// Takes note of the layout, or finds another.
async fn agree(db: &Sqlite, meaning: &str) -> Result<(), Error> {
    let mut writer = db.writer().await?;
    sqlx::query("INSERT OR IGNORE INTO layout (only_row, meaning) VALUES (1, ?1)")
        .bind(meaning)
        .execute(&mut *writer)
        .await
        .map_err(stores::Error::at_commit)?;
    let found: String = sqlx::query_scalar("SELECT meaning FROM layout")
        .fetch_one(&mut *writer)
        .await
        .map_err(stores::Error::before_commit)?;
    if found == meaning {
        Ok(())
    } else {
        Err(another_layout(&found, meaning))
    }
}

impl NodeIds for FixedNode {
    fn lasts(&self) -> Option<Duration> {
        None
    }

    async fn claim(&self, clock_ms: u64, reach_ms: u64) -> Result<Option<Lease>, Error> {
        let mut writer = self.db.writer().await?;
        let reached: Vec<Option<i64>> = sqlx::query_scalar("SELECT max(until_ms) FROM high_water")
            .fetch_all(&mut *writer)
            .await
            .map_err(stores::Error::before_commit)?;
        let reached = reached.first().copied().flatten().unwrap_or(0);
        let from_ms = clock_ms.max(u64::try_from(reached).unwrap_or(0));
        // All rows, although there is one: the commit comes after the last, and whoever stops at the first never hears that
        // it failed.
        let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
            // Behind all ids of this database, also those of another node id that this server had before.
            "INSERT INTO high_water (node, until_ms) VALUES (?1, max(?2, ?3))
             ON CONFLICT (node) DO UPDATE SET until_ms = max(?2, ?3)
             RETURNING node, 0, ?2, until_ms",
        )
        .bind(self.node)
        .bind(from_ms.cast_signed())
        .bind(clock_ms.saturating_add(reach_ms).cast_signed())
        .fetch_all(&mut *writer)
        .await
        .map_err(stores::Error::at_commit)?;
        rows.first().copied().map(lease).transpose()
    }

    async fn renew(&self, lease: &Lease, until_ms: u64) -> Result<Option<Lease>, Error> {
        let until_ms = until_ms.max(lease.until_ms);
        self.write(until_ms).await?;
        Ok(Some(Lease { until_ms, ..*lease }))
    }

    async fn release(&self, _: &Lease, until_ms: u64) -> Result<(), Error> {
        self.write(until_ms).await
    }
}

impl FixedNode {
    async fn write(&self, until_ms: u64) -> Result<(), Error> {
        let mut writer = self.db.writer().await?;
        sqlx::query("UPDATE high_water SET until_ms = ?1 WHERE node = ?2")
            .bind(until_ms.cast_signed())
            .bind(self.node)
            .execute(&mut *writer)
            .await
            .map_err(stores::Error::at_commit)?;
        Ok(())
    }
}
