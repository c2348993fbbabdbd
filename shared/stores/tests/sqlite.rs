//! SQLite as the stores open it, on real files.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

use ledger::Ledger;
use sqlx::Connection as _;
use stores::{Error, Migrator, Sqlite, migrations};

fn schema() -> Migrator {
    migrations(&[(
        "notes",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",
    )])
}

async fn write(db: &Sqlite, text: &str) -> Result<(), Error> {
    let mut writer = db.writer().await?;
    let written = sqlx::query("INSERT INTO notes (text) VALUES (?1)")
        .bind(text)
        .execute(&mut *writer)
        .await;
    written.map(drop).map_err(Error::at_commit)
}

async fn count(db: &Sqlite) -> i64 {
    let mut reader = db.reader().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM notes")
        .fetch_one(&mut *reader)
        .await
        .unwrap()
}

#[tokio::test]
async fn commits_are_made_durable_and_logged_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let db = Sqlite::open(&folder.path().join("a.db"), &schema(), &Ledger::new())
        .await
        .unwrap();
    let mut writer = db.writer().await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *writer)
        .await
        .unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *writer)
        .await
        .unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2)); // 2 is FULL
}

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let db = Sqlite::open(&file, &schema(), &Ledger::new()).await.unwrap();
    write(&db, "kept").await.unwrap();
    drop(db);
    let again = Sqlite::open(&file, &schema(), &Ledger::new()).await.unwrap();
    assert_eq!(count(&again).await, 1);
}

#[tokio::test]
async fn those_who_wait_for_the_one_writer_show_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new();
    let db = Sqlite::open(&folder.path().join("a.db"), &schema(), &ledger)
        .await
        .unwrap();
    let row = || {
        ledger
            .read()
            .into_iter()
            .find(|row| row.name == "sqlite_writer")
            .unwrap()
    };
    let held = db.writer().await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { write(&db, "late").await }
    });
    while row().backlog == 0 {
        tokio::task::yield_now().await;
    }
    drop(held);
    waiting.await.unwrap().unwrap();
    let row = row();
    assert_eq!((row.operations, row.backlog, row.capacity), (2, 0, 1.0));
    assert!(row.wait_seconds > 0.0 && row.busy_seconds > 0.0);
}

#[tokio::test]
async fn who_does_not_get_the_writer_in_time_has_changed_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = Sqlite::open(&folder.path().join("a.db"), &schema(), &Ledger::new())
        .await
        .unwrap();
    let held = db.writer().await.unwrap();
    assert!(matches!(write(&db, "never").await, Err(Error::Unavailable(_))));
    drop(held);
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn another_process_that_keeps_the_lock_is_waited_for_and_then_reported_as_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let db = Sqlite::open(&file, &schema(), &Ledger::new()).await.unwrap();
    let other = Sqlite::open(&file, &schema(), &Ledger::new()).await.unwrap();
    let mut writer = other.writer().await.unwrap();
    let lock = writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(matches!(write(&db, "never").await, Err(Error::Unavailable(_))));
    lock.rollback().await.unwrap();
    write(&db, "now").await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_transaction_whose_request_was_dropped_is_rolled_back_and_frees_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let db = Sqlite::open(&folder.path().join("a.db"), &schema(), &Ledger::new())
        .await
        .unwrap();
    {
        let mut writer = db.writer().await.unwrap();
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("INSERT INTO notes (text) VALUES ('half')")
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    write(&db, "whole").await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_open_a_new_file_together_migrate_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            tokio::spawn(async move { Sqlite::open(&file, &schema(), &Ledger::new()).await })
        })
        .collect();
    for opened in opened {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_file_with_another_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    drop(Sqlite::open(&file, &schema(), &Ledger::new()).await.unwrap());
    let changed = migrations(&[("notes", "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;")]);
    let refused = Sqlite::open(&file, &changed, &Ledger::new()).await.unwrap_err();
    assert!(refused.to_string().contains("the schema of"), "{refused}");
}
