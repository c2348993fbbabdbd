//! Postgres: a pool of connections, none of which a request waits for long.

use std::future::Future;
use std::time::Duration;

use ledger::Ledger;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Postgres as Driver};

use crate::pool::{Lease, Pool};
use crate::{Error, Migrator};

/// How long to wait for a connection.
const POOL_WAIT: Duration = Duration::from_millis(500);

/// What the server does about a client that has become silent: it ends a statement that takes long, a transaction whose
/// next statement does not come, and a connection whose other end is gone. Each would keep its locks.
const IMPATIENCE: [(&str, &str); 5] = [
    ("statement_timeout", "1500ms"),
    ("idle_in_transaction_session_timeout", "2s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];

/// How long to wait for an answer: a little more than a server that is alive takes to give up.
const ANSWER_WAIT: Duration = Duration::from_millis(1_750);

/// A database on a Postgres server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: Pool<Driver>,
}

impl Postgres {
    /// Opens `connections` connections to the database at `url`, and brings it to the newest schema. Several servers may
    /// do so at once: one migrates, the others wait for it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the URL is wrong, nobody answers, or the schema is not one that `migrations` leads to.
    pub async fn open(url: &str, connections: u32, migrations: &Migrator, ledger: &Ledger) -> Result<Self, Error> {
        let connect = options(url)?;
        // On a connection without the bound on statements: a migration, or the wait for another server's, may take longer.
        let mut migrating = connect_once(&connect).await.map_err(Error::before_commit)?;
        migrations
            .run(&mut migrating)
            .await
            .map_err(|error| Error::unavailable(format!("the schema is not this version's: {error}")))?;
        migrating.close().await.map_err(Error::before_commit)?;

        let connect = connect.options(IMPATIENCE);
        let pool = PoolOptions::<Driver>::new().acquire_timeout(POOL_WAIT);
        let pool = Pool::open("postgres_pool", connections, pool, connect, ledger).await;
        let pool = pool.map_err(Error::before_commit)?;
        // One that was held longer waits for an answer that may never come; whoever got it next would wait as well.
        let pool = pool.trusting_for(ANSWER_WAIT.saturating_sub(POOL_WAIT));
        Ok(Self { pool })
    }

    /// A connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none came free in time.
    pub async fn connection(&self) -> Result<Lease<'_, Driver>, Error> {
        self.pool.get().await
    }

    /// Waits for the answer to a change. A request has its deadline; a background task has none, and would wait as long as
    /// a network that swallows its question does.
    ///
    /// # Errors
    /// Those of the change; [`Error::Unknown`] when no answer came.
    pub async fn answer<T>(change: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(ANSWER_WAIT, change)
            .await
            .unwrap_or_else(|_| Err(Error::unknown("postgres did not answer in time")))
    }
}

pub(crate) fn options(url: &str) -> Result<PgConnectOptions, Error> {
    // The driver takes anything with a scheme.
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(Error::unavailable("must begin with postgres://"));
    }
    let options: PgConnectOptions = url.parse().map_err(Error::before_commit)?;
    Ok(options.disable_statement_logging())
}

/// One connection, if the server has one within a second.
pub(crate) async fn connect_once(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    tokio::time::timeout(Duration::from_secs(1), options.connect())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
