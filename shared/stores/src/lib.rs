//! The engines that designs stand on, opened the way a server needs them: pooled, bounded in time, migrated, and with
//! every wait for them in the ledger.
//!
//! This crate knows no design: no table, no key, no query of one. What it does know is what each engine promises and when
//! ([`Error`] says of every failure whether the write happened), and two techniques that more than one design needs:
//! [`GroupCommit`], many writers under one fsync, and [`BlockPool`], names or numbers claimed ahead.

mod block_pool;
mod breaker;
mod engines;
mod error;
mod group_commit;
mod pool;
mod postgres;
mod redis;
mod sqlite;
mod sync;

pub use block_pool::{BlockPool, Blocks, NotDone};
pub use engines::{EngineUrl, Engines, NoEngine};
pub use error::Error;
pub use group_commit::{GroupCommit, Refused};
pub use pool::{Lease, Pool};
pub use postgres::Postgres;
pub use redis::Redis;
pub use sqlite::Sqlite;
pub use sqlx::migrate::Migrator;

use sqlx::migrate::{Migration, MigrationType};

/// Migrations from their SQL, in order: `migrations(&[("links", include_str!("../migrations/sqlite/1_links.sql"))])`.
/// The first is version 1. A database that has other migrations than these is refused when it is opened.
#[must_use]
pub fn migrations(steps: &'static [(&'static str, &'static str)]) -> Migrator {
    let steps = (1_i64..).zip(steps).map(|(version, (name, sql))| {
        Migration::new(
            version,
            (*name).into(),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(*sql),
            false,
        )
    });
    Migrator::with_migrations(steps.collect())
}
