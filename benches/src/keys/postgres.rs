//! The tables in Postgres: rows where there is room, and an index beside them, whatever the key.
//!
//! Each table has an engine of its own, so that its `shared_buffers` and its log are its own, too. After each slice there is a
//! checkpoint, untimed: a server has one every few minutes, in the background. It is felt afterwards, because the first change
//! of a page after a checkpoint puts the whole page into the log; how often, the engine counts.

use std::time::{Duration, Instant};

use ::ledger::Ledger;
use anyhow::{Context, Result, ensure};
use sqlx::{Connection, PgConnection};
use stores::migrations;
use tokio::runtime::Runtime;

use super::{BODY, Bench, Facts, Group, Kind, Table};
use crate::needs::{self, Engines, Need};
use crate::output::keys::KeysRun;

/// Postgres's own default, which is also what a climb gives it; and one that an index of random keys outgrows.
const CACHES: [(u64, [&str; 2]); 2] = [
    (128 << 20, ["-c", "shared_buffers=128MB"]),
    (16 << 20, ["-c", "shared_buffers=16MB"]),
];
/// From this version on a connection can be told to report what it has counted at once.
const TELLS_AT_ONCE: u64 = 150_000;

/// This machine's Postgres; the text of an error says how to get one.
pub(super) fn find(bench: &Bench<'_>) -> Result<Need, String> {
    needs::own("postgres", bench.setup.data_root)
}

pub(super) fn measure(bench: &Bench<'_>, need: &Need) -> Result<Vec<KeysRun>> {
    let all = CACHES.into_iter().flat_map(|cache| Kind::ALL.map(|kind| (cache, kind)));
    let open = |((cache_bytes, args), kind): ((u64, [&'static str; 2]), Kind)| {
        let need = [need.clone().with(&args)];
        let mut table = PostgresTable::open(bench, &need, kind).context("cannot open Postgres")?;
        let cache = table.number("SELECT pg_size_bytes(current_setting('shared_buffers'))")?;
        ensure!(cache == cache_bytes, "the cache of Postgres is not what was asked for");
        Ok((kind, false, table))
    };
    let tables: Result<Vec<_>> = all.map(open).collect();
    let version = needs::to_start(std::slice::from_ref(need)).unwrap_or_default();
    let engine = version.replace("postgres ", "Postgres ");
    let filled = bench.fill(&engine, tables?)?;
    let caches = CACHES.map(|(bytes, _)| bytes);
    Ok(super::runs(&engine, caches, &filled, Kind::ALL.len()))
}

/// One table in an engine of its own.
struct PostgresTable {
    insert: &'static str,
    /// Declared before the runtime that its connection lives in, and both before the engine that it is to.
    store: stores::Postgres,
    /// For what takes longer than a design's statement may.
    own: PgConnection,
    runtime: Runtime,
    tells_at_once: bool,
    begin: Log,
    _engines: Engines,
}

/// How much has gone through the log since the engine was made.
#[derive(Debug, Clone, Copy)]
struct Log {
    bytes: u64,
    pages: Option<u64>,
}

impl PostgresTable {
    fn open(bench: &Bench<'_>, need: &[Need], kind: Kind) -> Result<Self> {
        let engines = Engines::start_apart(need, bench.setup.data_root, bench.setup.layout)?;
        let url = engines.flags().nth(1).context("the engine has no address")?;
        let steps = match kind {
            Kind::AutoIncrement => migrations(&[(
                "rows",
                "CREATE TABLE rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)",
            )]),
            Kind::Snowflake => migrations(&[("rows", "CREATE TABLE rows (id bigint PRIMARY KEY, body text NOT NULL)")]),
            _ => migrations(&[("rows", "CREATE TABLE rows (id uuid PRIMARY KEY, body text NOT NULL)")]),
        };
        let insert = match kind {
            Kind::AutoIncrement => "INSERT INTO rows (body) SELECT $2 FROM generate_series(1, $1)",
            Kind::Snowflake => "INSERT INTO rows (id, body) SELECT key, $2 FROM UNNEST($1::bigint[]) AS key",
            _ => "INSERT INTO rows (id, body) SELECT key, $2 FROM UNNEST($1::uuid[]) AS key",
        };
        let runtime = super::runtime()?;
        let store = runtime.block_on(stores::Postgres::open(&url, 1, &steps, &Ledger::new()))?;
        let own = runtime.block_on(PgConnection::connect(&url))?;
        let mut table = Self {
            insert,
            store,
            own,
            runtime,
            tells_at_once: false,
            begin: Log { bytes: 0, pages: None },
            _engines: engines,
        };
        table.tells_at_once = table.number("SELECT current_setting('server_version_num')::bigint")? >= TELLS_AT_ONCE;
        table.settle()?;
        table.begin = table.look_at_log()?;
        Ok(table)
    }

    fn number(&mut self, query: &'static str) -> Result<u64> {
        let number = sqlx::query_scalar(query).fetch_one(&mut self.own);
        let number: i64 = self.runtime.block_on(number)?;
        u64::try_from(number).context("a negative size")
    }

    fn look_at_log(&mut self) -> Result<Log> {
        let bytes = self.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")?;
        let pages = if self.tells_at_once {
            self.runtime.block_on(async {
                let mut connection = self.store.connection().await?;
                let tell = sqlx::query("SELECT pg_stat_force_next_flush()");
                tell.execute(&mut *connection).await?;
                anyhow::Ok(())
            })?;
            Some(self.number("SELECT wal_fpi FROM pg_stat_wal")?)
        } else {
            None
        };
        Ok(Log { bytes, pages })
    }
}

impl Table for PostgresTable {
    fn insert(&mut self, group: &Group) -> Result<Duration> {
        let insert = sqlx::query(self.insert);
        let insert = match group {
            Group::Given(count) => insert.bind(i32::try_from(*count)?),
            Group::Integers(keys) => insert.bind(keys),
            Group::Sixteen(keys) => insert.bind(keys),
        };
        let insert = insert.bind(BODY);
        self.runtime.block_on(async {
            let mut connection = self.store.connection().await?;
            let start = Instant::now();
            insert.execute(&mut *connection).await?;
            Ok(start.elapsed())
        })
    }

    fn settle(&mut self) -> Result<()> {
        let checkpoint = sqlx::query("CHECKPOINT").execute(&mut self.own);
        self.runtime.block_on(checkpoint)?;
        Ok(())
    }

    fn facts(&mut self) -> Result<Facts> {
        let (begin, end) = (self.begin, self.look_at_log()?);
        Ok(Facts {
            rows: self.number("SELECT count(*) FROM rows")?,
            table_bytes: self.number("SELECT pg_relation_size('rows')")?,
            index_bytes: Some(self.number("SELECT pg_relation_size('rows_pkey')")?),
            log_bytes: end.bytes - begin.bytes,
            log_pages: end.pages.zip(begin.pages).map(|(end, begin)| end - begin),
        })
    }
}
