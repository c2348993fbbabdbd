//! Redis: one multiplexed connection that comes back by itself, with a bound on every wait.
//!
//! A plain multiplexed connection never recovers from a disconnect; the manager does. Commands of all requests share the
//! connection in a pipeline, so there is no pool: what a request can wait for is the round trip, and that is what the
//! ledger shows as `redis`.

use std::time::Duration;

use ledger::{Ledger, Resource};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, FromRedisValue};

use crate::Error;

/// How long one command may take.
const RESPONSE_WAIT: Duration = Duration::from_millis(250);

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_millis(1_000);

/// Commands under way at once; more are refused by the driver rather than queued without end.
const PIPELINE: usize = 512;

/// A Redis server. Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    resource: Resource,
}

impl Redis {
    /// Connects to the server at `url`, such as `redis://127.0.0.1:6379/0`.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the URL is wrong or nobody answers.
    pub async fn open(url: &str, ledger: &Ledger) -> Result<Self, Error> {
        let client = redis::Client::open(url).map_err(Error::unavailable)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_WAIT))
            .set_connection_timeout(Some(CONNECT_WAIT))
            .set_max_delay(CONNECT_WAIT)
            .set_number_of_retries(2)
            .set_pipeline_buffer_size(PIPELINE);
        let connection = ConnectionManager::new_with_config(client, config);
        Ok(Self {
            connection: connection.await.map_err(Error::unavailable)?,
            resource: ledger.resource("redis", "commands", PIPELINE as f64),
        })
    }

    /// Sends a command that only reads.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no answer, or not one of type `T`.
    pub async fn read<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.call(command).await.map_err(Error::unavailable)
    }

    /// Sends a command that changes something. It is sent once: a command whose answer was lost may have been done.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: Redis refused it. [`Error::Unknown`]: no answer came.
    pub async fn write<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.call(command).await.map_err(|error| {
            let refused = error.code().is_some() && !error.is_io_error() && !error.is_timeout();
            if refused {
                Error::unavailable(error)
            } else {
                Error::unknown(error)
            }
        })
    }

    async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, redis::RedisError> {
        let _held = self.resource.enter();
        command.query_async(&mut self.connection.clone()).await
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}
