//! SQLite and Postgres: a row written and durable, a hundred in one commit, a row read by its key.
//!
//! Both are opened by the crate that the designs open them with, so these are the settings a design has: SQLite in WAL mode
//! with `synchronous=FULL`, Postgres with fsync on. One connection, one statement at a time, prepared once. The group is one
//! statement with all its rows, as in the designs' group commit.
//!
//! Both are filled first. A new database writes behind the end of its log, where each fsync has the file's new size to write
//! as well; one that has been running for a while writes over what is there (SQLite from its first checkpoint on, Postgres
//! always), and on some disks that is several times faster: compare `fdatasync` with `fdatasync_overwrite`.

use std::time::{Duration, Instant};

use ::ledger::Ledger;
use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Database, PgConnection, SqliteConnection};
use stores::{Lease, migrations};
use tokio::runtime::{Builder, Runtime};

use super::Bench;

/// Rows in one commit, where they are grouped.
const GROUP: i64 = 100;
/// Rows written before anything is measured: more than SQLite's log takes up to its first checkpoint, which is at 1,000 pages.
const FILLED: i64 = 50_000;
/// Rows in one commit while filling.
const FILL_GROUP: i64 = 1_000;
/// What a row holds besides its number: about a URL.
const BODY: &str =
    "https://example.com/a/path/that/is/as/long/as/most/are?and=a&query=with&a=few&parameters=in&it=here";

/// A table of rows, in one database or the other.
trait Rows {
    type Db: Database;

    /// A connection that writes.
    async fn writer(&self) -> Result<Lease<'_, Self::Db>, stores::Error>;

    /// A connection that reads.
    async fn reader(&self) -> Result<Lease<'_, Self::Db>, stores::Error>;

    /// Writes a row, in a commit of its own.
    async fn insert(connection: &mut Connection<Self>, row: i64) -> Result<()>;

    /// Writes rows, in one commit.
    async fn insert_all(connection: &mut Connection<Self>, rows: Vec<i64>) -> Result<()>;

    /// What a row holds.
    async fn read(connection: &mut Connection<Self>, row: i64) -> Result<String>;
}

type Connection<R> = <<R as Rows>::Db as Database>::Connection;

/// A key and a title for each number.
type Names = [(&'static str, &'static str); 3];

pub(super) fn sqlite(bench: &mut Bench<'_>) -> Result<()> {
    const NAMES: Names = [
        ("sqlite_insert", "SQLite insert, one at a time"),
        ("sqlite_insert_grouped", "SQLite insert, 100 a commit"),
        ("sqlite_read", "SQLite read by key"),
    ];
    // Removed after all that has files in it.
    let folder = tempfile::tempdir_in(bench.setup.data_root)?;
    let file = folder.path().join("numbers.db");
    let runtime = runtime()?;
    let steps = migrations(&[("rows", "CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")]);
    let store = runtime.block_on(stores::Sqlite::open(&file, &steps, &Ledger::new()))?;
    measure(
        bench,
        &runtime,
        &store,
        NAMES,
        "SQLite in this process, WAL, synchronous=FULL",
    )
}

pub(super) fn postgres(bench: &mut Bench<'_>) -> Result<()> {
    const NAMES: Names = [
        ("postgres_insert", "Postgres insert, one at a time"),
        ("postgres_insert_grouped", "Postgres insert, 100 a commit"),
        ("postgres_read", "Postgres read by key"),
    ];
    let Some((engines, version)) = bench.engine("postgres")? else {
        return Ok(());
    };
    let runtime = runtime()?;
    let steps = migrations(&[("rows", "CREATE TABLE rows (id bigint PRIMARY KEY, body text NOT NULL)")]);
    let url = url(&engines)?;
    let store = runtime.block_on(stores::Postgres::open(&url, 1, &steps, &Ledger::new()))?;
    let how = format!("{version} on the server's cores, one connection, fsync on");
    measure(bench, &runtime, &store, NAMES, &how)?;
    // Politely, so that the engine does not write into its log that a client was lost.
    drop(store);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Fills the table, then takes its three numbers.
fn measure<R: Rows>(bench: &mut Bench<'_>, runtime: &Runtime, store: &R, names: Names, how: &str) -> Result<()> {
    let [insert, grouped, read] = names;
    let mut rows = 0_i64;
    runtime.block_on(async {
        let mut connection = store.writer().await?;
        while rows < FILLED {
            R::insert_all(&mut connection, take(&mut rows, FILL_GROUP)).await?;
        }
        anyhow::Ok(())
    })?;
    bench.number(
        insert.0,
        insert.1,
        format!("{how}: INSERT of a row of {} bytes, a commit each", BODY.len()),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.writer().await?;
                let start = Instant::now();
                for _ in 0..size {
                    rows += 1;
                    R::insert(&mut connection, rows).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    bench.number(
        grouped.0,
        grouped.1,
        format!("{how}: INSERT of {GROUP} rows by one statement, a commit each; by the row"),
        1.0 / GROUP as f64,
        |size| {
            runtime.block_on(async {
                let mut connection = store.writer().await?;
                let start = Instant::now();
                for _ in 0..size {
                    R::insert_all(&mut connection, take(&mut rows, GROUP)).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    let mut rng = SmallRng::seed_from_u64(1);
    bench.number(
        read.0,
        read.1,
        format!("{how}: SELECT of a row by its primary key, among the {rows} written before"),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.reader().await?;
                let start = Instant::now();
                for _ in 0..size {
                    let body = R::read(&mut connection, rng.random_range(1..=rows)).await?;
                    ensure!(body == BODY, "another row came back");
                }
                Ok(start.elapsed())
            })
        },
    )
}

/// The numbers of so many rows that are not there yet.
fn take(rows: &mut i64, count: i64) -> Vec<i64> {
    let first = *rows + 1;
    *rows += count;
    (first..=*rows).collect()
}

impl Rows for stores::Sqlite {
    type Db = sqlx::Sqlite;

    async fn writer(&self) -> Result<Lease<'_, sqlx::Sqlite>, stores::Error> {
        self.writer().await
    }

    async fn reader(&self) -> Result<Lease<'_, sqlx::Sqlite>, stores::Error> {
        self.reader().await
    }

    async fn insert(connection: &mut SqliteConnection, row: i64) -> Result<()> {
        let insert = sqlx::query("INSERT INTO rows (id, body) VALUES (?1, ?2)");
        insert.bind(row).bind(BODY).execute(connection).await?;
        Ok(())
    }

    async fn insert_all(connection: &mut SqliteConnection, rows: Vec<i64>) -> Result<()> {
        let group: Vec<(i64, &str)> = rows.into_iter().map(|row| (row, BODY)).collect();
        let insert = sqlx::query("INSERT INTO rows (id, body) SELECT value ->> 0, value ->> 1 FROM json_each(?1)");
        insert.bind(serde_json::to_string(&group)?).execute(connection).await?;
        Ok(())
    }

    async fn read(connection: &mut SqliteConnection, row: i64) -> Result<String> {
        let read = sqlx::query_scalar("SELECT body FROM rows WHERE id = ?1");
        Ok(read.bind(row).fetch_one(connection).await?)
    }
}

impl Rows for stores::Postgres {
    type Db = sqlx::Postgres;

    async fn writer(&self) -> Result<Lease<'_, sqlx::Postgres>, stores::Error> {
        self.connection().await
    }

    async fn reader(&self) -> Result<Lease<'_, sqlx::Postgres>, stores::Error> {
        self.connection().await
    }

    async fn insert(connection: &mut PgConnection, row: i64) -> Result<()> {
        let insert = sqlx::query("INSERT INTO rows (id, body) VALUES ($1, $2)");
        insert.bind(row).bind(BODY).execute(connection).await?;
        Ok(())
    }

    async fn insert_all(connection: &mut PgConnection, rows: Vec<i64>) -> Result<()> {
        let bodies = vec![BODY; rows.len()];
        let insert = sqlx::query("INSERT INTO rows (id, body) SELECT * FROM UNNEST($1::bigint[], $2::text[])");
        insert.bind(rows).bind(bodies).execute(connection).await?;
        Ok(())
    }

    async fn read(connection: &mut PgConnection, row: i64) -> Result<String> {
        let read = sqlx::query_scalar("SELECT body FROM rows WHERE id = $1");
        Ok(read.bind(row).fetch_one(connection).await?)
    }
}

/// Where the engine answers that was started last.
pub(super) fn url(engines: &crate::needs::Engines) -> Result<String> {
    engines.flags().nth(1).context("the engine has no address")
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no event queue")
}
