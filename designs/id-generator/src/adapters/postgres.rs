//! Node ids lent by Postgres: a row for each, and one statement for each step. The schema is `migrations/postgres/`.
//!
//! What was acknowledged is on the disk of the server that acknowledged it: a loan survives a crash, and so does the fence.

use std::time::Duration;

use stores::Postgres;

use super::{another_layout, lease};
use crate::domain::Error;
use crate::layout::Layout;
use crate::lease::Lease;
use crate::ports::NodeIds;

/// Lends node ids from a table.
#[derive(Clone, Debug)]
pub struct PostgresNodes {
    db: Postgres,
    lasts: Duration,
}

impl PostgresNodes {
    /// All node ids of the layout, lent for so long.
    ///
    /// # Errors
    /// Ids of another layout were made with this database, or the store's.
    pub async fn open(db: Postgres, layout: &Layout, lasts: Duration) -> Result<Self, Error> {
        let meaning = layout.meaning();
        let found: String = Postgres::answer(async {
            let mut connection = db.connection().await?;
            let connection = &mut *connection;
            sqlx::query("INSERT INTO layout (only_row, meaning) VALUES (1, $1) ON CONFLICT DO NOTHING")
                .bind(&meaning)
                .execute(&mut *connection)
                .await
                .map_err(stores::Error::at_commit)?;
            sqlx::query(
                "INSERT INTO node_leases (node) SELECT generate_series(0, $1)
                 WHERE NOT EXISTS (SELECT FROM node_leases WHERE node = $1) ON CONFLICT DO NOTHING",
            )
            .bind(i64::from(layout.last_node()))
            .execute(&mut *connection)
            .await
            .map_err(stores::Error::at_commit)?;
            sqlx::query_scalar("SELECT meaning FROM layout")
                .fetch_one(&mut *connection)
                .await
                .map_err(stores::Error::before_commit)
        })
        .await?;
        if found == meaning {
            Ok(Self { db, lasts })
        } else {
            Err(another_layout(&found, &meaning))
        }
    }

    fn lasts_s(&self) -> f64 {
        self.lasts.as_secs_f64()
    }
}

impl NodeIds for PostgresNodes {
    fn lasts(&self) -> Option<Duration> {
        Some(self.lasts)
    }

    async fn claim(&self, clock_ms: u64, reach_ms: u64) -> Result<Option<Lease>, Error> {
        // Two servers that claim at once take two rows: each skips what the other has locked.
        let rows: Vec<(i64, i64, i64, i64)> = Postgres::answer(async {
            let mut connection = self.db.connection().await?;
            sqlx::query_as(
                "UPDATE node_leases SET
                     epoch = epoch + 1,
                     expires_at = clock_timestamp() + make_interval(secs => $3),
                     until_ms = greatest(until_ms, $1 + $2)
                 FROM (SELECT node AS free, greatest(until_ms, $1) AS begins FROM node_leases
                       WHERE expires_at <= clock_timestamp()
                       ORDER BY begins, node LIMIT 1 FOR UPDATE SKIP LOCKED) AS chosen
                 WHERE node = free
                 RETURNING node::bigint, epoch, begins, until_ms",
            )
            .bind(clock_ms.cast_signed())
            .bind(reach_ms.cast_signed())
            .bind(self.lasts_s())
            // To the end of the answer: the commit comes after the row.
            .fetch_all(&mut *connection)
            .await
            .map_err(stores::Error::at_commit)
        })
        .await?;
        rows.first().copied().map(lease).transpose()
    }

    async fn renew(&self, lease: &Lease, until_ms: u64) -> Result<Option<Lease>, Error> {
        let until_ms: Vec<i64> = Postgres::answer(async {
            let mut connection = self.db.connection().await?;
            sqlx::query_scalar(
                "UPDATE node_leases SET
                     expires_at = clock_timestamp() + make_interval(secs => $4),
                     until_ms = greatest(until_ms, $3)
                 WHERE node = $1 AND epoch = $2 RETURNING until_ms",
            )
            .bind(i64::from(lease.node))
            .bind(lease.epoch.cast_signed())
            .bind(until_ms.cast_signed())
            .bind(self.lasts_s())
            .fetch_all(&mut *connection)
            .await
            .map_err(stores::Error::at_commit)
        })
        .await?;
        let until_ms = until_ms.first().and_then(|until_ms| u64::try_from(*until_ms).ok());
        Ok(until_ms.map(|until_ms| Lease { until_ms, ..*lease }))
    }

    async fn release(&self, lease: &Lease, until_ms: u64) -> Result<(), Error> {
        let released = Postgres::answer(async {
            let mut connection = self.db.connection().await?;
            sqlx::query("UPDATE node_leases SET expires_at = '-infinity', until_ms = $3 WHERE node = $1 AND epoch = $2")
                .bind(i64::from(lease.node))
                .bind(lease.epoch.cast_signed())
                .bind(until_ms.cast_signed())
                .execute(&mut *connection)
                .await
                .map_err(stores::Error::at_commit)
        });
        released.await?;
        Ok(())
    }
}
