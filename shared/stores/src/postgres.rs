//! Postgres: a pool of connections, none of which a request waits for long.

use std::time::Duration;

use ledger::Ledger;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Postgres as Driver};

use crate::pool::{Lease, Pool};
use crate::{Error, Migrator};

/// How long to wait for a connection.
const POOL_WAIT: Duration = Duration::from_millis(500);

/// How long a statement may run before the server ends it.
const STATEMENT_WAIT: &str = "1500ms";

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
        let connect: PgConnectOptions = url.parse().map_err(Error::before_commit)?;
        let connect = connect
            .options([("statement_timeout", STATEMENT_WAIT)])
            .disable_statement_logging();
        let options = PoolOptions::<Driver>::new().acquire_timeout(POOL_WAIT);
        let pool = Pool::open("postgres_pool", connections, options, connect, ledger).await;
        let pool = pool.map_err(Error::before_commit)?;
        migrations
            .run(pool.connections())
            .await
            .map_err(|error| Error::unavailable(format!("the schema: {error}")))?;
        Ok(Self { pool })
    }

    /// A connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none came free in time.
    pub async fn connection(&self) -> Result<Lease<'_, Driver>, Error> {
        self.pool.get().await
    }
}
