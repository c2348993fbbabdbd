//! The tables in SQLite, as a design has it: WAL, `synchronous=FULL`, a checkpoint whenever the log has 1,000 pages.
//!
//! What the natural table is depends on the key. A number is an `INTEGER PRIMARY KEY`: the table is a B-tree ordered by it, and
//! there is no index. 16 bytes are a `BLOB PRIMARY KEY`: rows are stored in the order in which they came, and an index beside
//! them leads from the key to the row. That is what a plain `CREATE TABLE` gives and what Postgres always has, so it is the main
//! row. `WITHOUT ROWID` makes the key order the rows themselves (a *clustered* table, as InnoDB's all are): a lookup less for
//! each read, and a random key now drags a whole row to a random page. It is measured for the random kind and for the one that
//! would replace it.

use std::path::Path;
use std::time::{Duration, Instant};

use ::ledger::Ledger;
use anyhow::{Context, Result, ensure};
use stores::migrations;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{BODY, Bench, Facts, Group, Kind, Table};
use crate::output::keys::KeysRun;

/// What the designs give a connection, and SQLite's own default.
const CACHES: [u64; 2] = [64 << 20, 2_000 << 10];
/// Which tables, and whether they are clustered beyond what a number is.
const TABLES: [(Kind, bool); 7] = [
    (Kind::AutoIncrement, false),
    (Kind::UuidV4, false),
    (Kind::UuidV7, false),
    (Kind::Ulid, false),
    (Kind::Snowflake, false),
    (Kind::UuidV4, true),
    (Kind::UuidV7, true),
];
/// In front of each page in the log.
const FRAME_HEADER: u64 = 24;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<KeysRun>> {
    let root = bench.setup.data_root;
    let all = CACHES.into_iter().flat_map(|cache| TABLES.map(|table| (cache, table)));
    let open = |(cache_bytes, (kind, clustered))| {
        let table = SqliteTable::open(root, kind, clustered, cache_bytes).context("cannot open SQLite")?;
        Ok((kind, clustered, table))
    };
    let tables: Result<Vec<_>> = all.map(open).collect();
    let tables = tables?;
    let version = tables
        .first()
        .map(|(_, _, table)| table.text("SELECT sqlite_version()"));
    let engine = format!("SQLite {}", version.transpose()?.unwrap_or_default());
    let filled = bench.fill(&engine, tables)?;
    Ok(super::runs(&engine, CACHES, &filled, TABLES.len()))
}

/// One table in a database of its own.
struct SqliteTable {
    insert: &'static str,
    /// Declared before the runtime that its connections live in.
    store: stores::Sqlite,
    runtime: Runtime,
    /// What the log held after the last commit, and how much has gone through it.
    log: Log,
    frames: u64,
    cache_bytes: u64,
    _folder: TempDir,
}

/// What the log holds: pages, and how many of them are in the database file, too.
#[derive(Debug, Clone, Copy)]
struct Log {
    frames: u64,
    checkpointed: u64,
}

impl SqliteTable {
    fn open(root: &Path, kind: Kind, clustered: bool, cache_bytes: u64) -> Result<Self> {
        let folder = tempfile::tempdir_in(root)?;
        let steps = match (kind, clustered) {
            (Kind::AutoIncrement | Kind::Snowflake, _) => {
                migrations(&[("rows", "CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")])
            }
            (_, false) => migrations(&[(
                "rows",
                "CREATE TABLE rows (id BLOB PRIMARY KEY NOT NULL, body TEXT NOT NULL)",
            )]),
            (_, true) => migrations(&[(
                "rows",
                "CREATE TABLE rows (id BLOB PRIMARY KEY NOT NULL, body TEXT NOT NULL) WITHOUT ROWID",
            )]),
        };
        let insert = match kind {
            Kind::AutoIncrement => "INSERT INTO rows (body) SELECT ?2 FROM json_each(?1)",
            Kind::Snowflake => "INSERT INTO rows (id, body) SELECT value, ?2 FROM json_each(?1)",
            _ => "INSERT INTO rows (id, body) SELECT unhex(value), ?2 FROM json_each(?1)",
        };
        let runtime = super::runtime()?;
        let file = folder.path().join("keys.db");
        let store = runtime.block_on(stores::Sqlite::open(&file, &steps, &Ledger::new()))?;
        // Of the connection, of which there is one.
        let cache = format!("PRAGMA cache_size = -{}", cache_bytes >> 10);
        runtime.block_on(async {
            let mut connection = store.writer().await?;
            sqlx::query(sqlx::AssertSqlSafe(cache))
                .execute(&mut *connection)
                .await?;
            anyhow::Ok(())
        })?;
        let mut table = Self {
            insert,
            store,
            runtime,
            log: Log {
                frames: 0,
                checkpointed: 0,
            },
            frames: 0,
            cache_bytes,
            _folder: folder,
        };
        table.log = table.look_at_log()?;
        Ok(table)
    }

    fn text(&self, query: &'static str) -> Result<String> {
        self.runtime.block_on(async {
            let mut connection = self.store.writer().await?;
            Ok(sqlx::query_scalar(query).fetch_one(&mut *connection).await?)
        })
    }

    fn number(&self, query: &'static str) -> Result<Option<u64>> {
        self.runtime.block_on(async {
            let mut connection = self.store.writer().await?;
            let number: Option<i64> = sqlx::query_scalar(query).fetch_one(&mut *connection).await?;
            number.map(u64::try_from).transpose().context("a negative size")
        })
    }

    /// Asks without causing a checkpoint, which `NOOP` is for.
    fn look_at_log(&self) -> Result<Log> {
        let (_, frames, checkpointed): (i64, i64, i64) = self.runtime.block_on(async {
            let mut connection = self.store.writer().await?;
            let look = sqlx::query_as("PRAGMA wal_checkpoint(NOOP)");
            anyhow::Ok(look.fetch_one(&mut *connection).await?)
        })?;
        Ok(Log {
            frames: u64::try_from(frames).context("the database has no log")?,
            checkpointed: u64::try_from(checkpointed).context("the database has no log")?,
        })
    }
}

impl Table for SqliteTable {
    fn insert(&mut self, group: &Group) -> Result<Duration> {
        let keys = match group {
            Group::Given(count) => serde_json::to_string(&vec![0; *count])?,
            Group::Integers(keys) => serde_json::to_string(keys)?,
            Group::Sixteen(keys) => {
                let texts: Vec<String> = keys.iter().map(|key| key.simple().to_string()).collect();
                serde_json::to_string(&texts)?
            }
        };
        let insert = sqlx::query(self.insert).bind(keys).bind(BODY);
        let time = self.runtime.block_on(async {
            let mut connection = self.store.writer().await?;
            let start = Instant::now();
            insert.execute(&mut *connection).await?;
            anyhow::Ok(start.elapsed())
        })?;
        let log = self.look_at_log()?;
        self.frames += written(self.log, log)?;
        self.log = log;
        Ok(time)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn facts(&mut self) -> Result<Facts> {
        // In KiB when negative. At the end, because a pool that had replaced its connection would have lost it.
        let cache = self.number("SELECT -cache_size FROM pragma_cache_size")?;
        ensure!(
            cache == Some(self.cache_bytes >> 10),
            "the cache of SQLite is not what was asked for"
        );
        let page = self
            .number("PRAGMA page_size")?
            .context("a database without a page size")?;
        let count = self.number("SELECT count(*) FROM rows")?;
        let table = self.number("SELECT sum(pgsize) FROM dbstat WHERE name = 'rows'")?;
        Ok(Facts {
            rows: count.context("a count of nothing")?,
            table_bytes: table.context("the table has no pages")?,
            // The sum of nothing is null: a table that is ordered by its key has no index.
            index_bytes: self.number("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'sqlite_autoindex_rows_%'")?,
            log_bytes: self.frames * (page + FRAME_HEADER),
            log_pages: Some(self.frames),
        })
    }
}

/// Pages that a commit has put into the log. All of the log being in the database, it began at the front again; there being
/// one writer and nobody reading, that is the only case in which it does.
fn written(before: Log, after: Log) -> Result<u64> {
    let kept = if before.checkpointed == before.frames {
        0
    } else {
        before.frames
    };
    ensure!(
        after.frames > kept,
        "the log of SQLite went from {before:?} to {after:?}: its pages cannot be counted"
    );
    Ok(after.frames - kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_began_again_is_counted_from_its_front() {
        let log = |frames, checkpointed| Log { frames, checkpointed };
        assert_eq!(written(log(30, 0), log(60, 0)).unwrap(), 30);
        assert_eq!(written(log(990, 0), log(1_020, 1_020)).unwrap(), 30);
        assert_eq!(written(log(1_020, 1_020), log(1_031, 1_031)).unwrap(), 1_031);
        assert_eq!(written(log(0, 0), log(5, 0)).unwrap(), 5);
        assert!(written(log(30, 0), log(20, 0)).is_err());
    }
}
