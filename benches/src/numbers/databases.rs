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
use sqlx::{PgConnection, SqliteConnection};
use stores::migrations;
use tokio::runtime::{Builder, Runtime};

use super::Bench;

/// Rows in one commit, where they are grouped.
const GROUP: u64 = 100;
/// Rows written before anything is measured: more than SQLite's log takes up to its first checkpoint, which is at 1,000 pages.
const FILLED: u64 = 50_000;
/// Rows in one commit while filling.
const FILL_GROUP: u64 = 1_000;
/// What a row holds besides its number: about a URL.
const BODY: &str =
    "https://example.com/a/path/that/is/as/long/as/most/are?and=a&query=with&a=few&parameters=in&it=here";

pub(super) fn sqlite(bench: &mut Bench<'_>) -> Result<()> {
    // Removed after all that has files in it.
    let folder = tempfile::tempdir_in(bench.setup.data_root)?;
    let file = folder.path().join("numbers.db");
    let runtime = runtime()?;
    let steps = migrations(&[("rows", "CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")]);
    let store = runtime.block_on(stores::Sqlite::open(&file, &steps, &Ledger::new()))?;
    let how = "SQLite in this process, WAL, synchronous=FULL";
    let mut rows = 0_u64;
    runtime.block_on(async {
        let mut connection = store.writer().await?;
        while rows < FILLED {
            into_sqlite(&mut connection, &mut rows, FILL_GROUP).await?;
        }
        anyhow::Ok(())
    })?;
    bench.number(
        "sqlite_insert",
        "SQLite insert, one at a time",
        format!("{how}: INSERT of a row of {} bytes, a commit each", BODY.len()),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.writer().await?;
                let start = Instant::now();
                for _ in 0..size {
                    rows += 1;
                    let insert = sqlx::query("INSERT INTO rows (id, body) VALUES (?1, ?2)");
                    let insert = insert.bind(rows.cast_signed()).bind(BODY);
                    insert.execute(&mut *connection).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    bench.number(
        "sqlite_insert_grouped",
        "SQLite insert, 100 a commit",
        format!("{how}: INSERT of {GROUP} rows by one statement, a commit each; by the row"),
        1.0 / GROUP as f64,
        |size| {
            runtime.block_on(async {
                let mut connection = store.writer().await?;
                let start = Instant::now();
                for _ in 0..size {
                    into_sqlite(&mut connection, &mut rows, GROUP).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    let mut rng = SmallRng::seed_from_u64(1);
    bench.number(
        "sqlite_read",
        "SQLite read by key",
        format!("{how}: SELECT of a row by its primary key, {}", among(rows)),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.reader().await?;
                let start = Instant::now();
                for _ in 0..size {
                    let read = sqlx::query_scalar::<_, String>("SELECT body FROM rows WHERE id = ?1");
                    let read = read.bind(rng.random_range(1..=rows).cast_signed());
                    ensure!(read.fetch_one(&mut *connection).await? == BODY, "another row came back");
                }
                Ok(start.elapsed())
            })
        },
    )
}

pub(super) fn postgres(bench: &mut Bench<'_>) -> Result<()> {
    let Some((engines, version)) = bench.engine("postgres")? else {
        return Ok(());
    };
    let runtime = runtime()?;
    let steps = migrations(&[("rows", "CREATE TABLE rows (id bigint PRIMARY KEY, body text NOT NULL)")]);
    let url = url(&engines)?;
    let store = runtime.block_on(stores::Postgres::open(&url, 1, &steps, &Ledger::new()))?;
    let how = format!("{version} on the server's cores, one connection, fsync on");
    let mut rows = 0_u64;
    runtime.block_on(async {
        let mut connection = store.connection().await?;
        while rows < FILLED {
            into_postgres(&mut connection, &mut rows, FILL_GROUP).await?;
        }
        anyhow::Ok(())
    })?;
    bench.number(
        "postgres_insert",
        "Postgres insert, one at a time",
        format!("{how}: INSERT of a row of {} bytes, a commit each", BODY.len()),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.connection().await?;
                let start = Instant::now();
                for _ in 0..size {
                    rows += 1;
                    let insert = sqlx::query("INSERT INTO rows (id, body) VALUES ($1, $2)");
                    let insert = insert.bind(rows.cast_signed()).bind(BODY);
                    insert.execute(&mut *connection).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    bench.number(
        "postgres_insert_grouped",
        "Postgres insert, 100 a commit",
        format!("{how}: INSERT of {GROUP} rows by one statement, a commit each; by the row"),
        1.0 / GROUP as f64,
        |size| {
            runtime.block_on(async {
                let mut connection = store.connection().await?;
                let start = Instant::now();
                for _ in 0..size {
                    into_postgres(&mut connection, &mut rows, GROUP).await?;
                }
                Ok(start.elapsed())
            })
        },
    )?;
    let mut rng = SmallRng::seed_from_u64(1);
    bench.number(
        "postgres_read",
        "Postgres read by key",
        format!("{how}: SELECT of a row by its primary key, {}", among(rows)),
        1.0,
        |size| {
            runtime.block_on(async {
                let mut connection = store.connection().await?;
                let start = Instant::now();
                for _ in 0..size {
                    let read = sqlx::query_scalar::<_, String>("SELECT body FROM rows WHERE id = $1");
                    let read = read.bind(rng.random_range(1..=rows).cast_signed());
                    ensure!(read.fetch_one(&mut *connection).await? == BODY, "another row came back");
                }
                Ok(start.elapsed())
            })
        },
    )?;
    // Politely, so that the engine does not write into its log that a client was lost.
    drop(store);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Writes so many rows more, in one commit.
async fn into_sqlite(connection: &mut SqliteConnection, rows: &mut u64, count: u64) -> Result<()> {
    let group: Vec<(u64, &str)> = (*rows + 1..=*rows + count).map(|row| (row, BODY)).collect();
    *rows += count;
    let insert = sqlx::query("INSERT INTO rows (id, body) SELECT value ->> 0, value ->> 1 FROM json_each(?1)");
    insert.bind(serde_json::to_string(&group)?).execute(connection).await?;
    Ok(())
}

/// The same in Postgres.
async fn into_postgres(connection: &mut PgConnection, rows: &mut u64, count: u64) -> Result<()> {
    let ids: Vec<i64> = (*rows + 1..=*rows + count).map(u64::cast_signed).collect();
    *rows += count;
    let bodies = vec![BODY; ids.len()];
    let insert = sqlx::query("INSERT INTO rows (id, body) SELECT * FROM UNNEST($1::bigint[], $2::text[])");
    insert.bind(ids).bind(bodies).execute(connection).await?;
    Ok(())
}

/// Where the engine answers that was started last.
pub(super) fn url(engines: &crate::needs::Engines) -> Result<String> {
    engines.flags().nth(1).context("the engine has no address")
}

fn among(rows: u64) -> String {
    format!("among the {rows} written before")
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no event queue")
}
