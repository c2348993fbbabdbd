//! SQLite as a server's store: one writer, several readers, and commits that survive a power cut.
//!
//! SQLite lets one connection write at a time. Letting many try means that they meet at the lock inside the library, where
//! nobody sees them wait; so there is exactly one writer here, and the queue for it is in the ledger as `sqlite_writer`.
//! In WAL mode readers do not wait for it. `synchronous=FULL` makes every commit wait for its fsync: an acknowledged write
//! survives `kill -9` and, as far as the disk keeps its word, a power cut.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ledger::Ledger;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Sqlite as Driver, SqliteConnection};

use crate::pool::{Lease, Pool};
use crate::{Error, Migrator};

/// Readers: more than cores, since a reader that misses the page cache waits for the disk.
const READERS: u32 = 4;

/// How long to wait for a connection: longer than any burst that drains, shorter than a request's deadline.
const POOL_WAIT: Duration = Duration::from_millis(500);

/// How long to wait for another process that writes to the same file.
const BUSY_WAIT: Duration = Duration::from_millis(1_000);

/// A database in one file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqlite {
    writer: Pool<Driver>,
    readers: Pool<Driver>,
}

impl Sqlite {
    /// Opens the database in `file`, makes it if it is absent, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the file cannot be opened, or its schema is not one that `migrations` leads to.
    pub async fn open(file: &Path, migrations: &Migrator, ledger: &Ledger) -> Result<Self, Error> {
        let connect = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_WAIT)
            .foreign_keys(true)
            // In KiB when negative: the indexes of a few million rows.
            .pragma("cache_size", "-65536")
            .disable_statement_logging();
        let options = || {
            PoolOptions::<Driver>::new()
                .acquire_timeout(POOL_WAIT)
                // A connection to a file in this process does not go stale.
                .test_before_acquire(false)
                .after_release(|connection, _| Box::pin(is_clean(connection)))
        };
        // Servers that start on a new file at once would migrate it at once: one does, the others wait for it.
        let alone = lock(file).await?;
        let writer = Pool::open("sqlite_writer", 1, options(), connect.clone(), ledger).await;
        let writer = writer.map_err(Error::before_commit)?;
        migrations
            .run(writer.connections())
            .await
            .map_err(|error| Error::unavailable(format!("the schema of {}: {error}", file.display())))?;
        drop(alone);
        let readers = Pool::open("sqlite_readers", READERS, options(), connect, ledger).await;
        Ok(Self {
            writer,
            readers: readers.map_err(Error::before_commit)?,
        })
    }

    /// The connection that may write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it did not come free in time.
    pub async fn writer(&self) -> Result<Lease<'_, Driver>, Error> {
        self.writer.get().await
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none came free in time.
    pub async fn reader(&self) -> Result<Lease<'_, Driver>, Error> {
        self.readers.get().await
    }
}

/// Whether a connection can be used again. When the disk is full, SQLite rolls back on its own, and the ROLLBACK that sqlx
/// sends for it fails: sqlx would believe for ever after that the transaction is open, and begin no other.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // Lets a rollback that is on its way arrive: most often that is all.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Waits until nobody else opens this database, and keeps others from it until the answer is dropped.
async fn lock(file: &Path) -> Result<File, Error> {
    let path = file.with_extension("lock");
    let named = path.clone();
    // Waiting for a file lock blocks the thread, which must not be one that the holder needs to go on.
    let locked = tokio::task::spawn_blocking(move || {
        let lock = File::options().create(true).truncate(false).write(true).open(path)?;
        lock.lock().map(|()| lock)
    });
    let locked = locked.await.map_err(Error::unavailable)?;
    locked.map_err(|error| Error::unavailable(format!("cannot lock {}: {error}", named.display())))
}
