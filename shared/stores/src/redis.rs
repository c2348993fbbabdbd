//! Redis: one multiplexed connection that comes back by itself, with a bound on every wait.
//!
//! A plain multiplexed connection never recovers from a disconnect; the manager does. Commands of all requests share the
//! connection in a pipeline, so there is no pool: what a request can wait for is the round trip, and that is what the
//! ledger shows as `redis`.
//!
//! Redis is fast or it is ill: an answer that takes a tenth of a second is not worth waiting for, and after a few of those
//! in a row [a breaker](crate::breaker) says so at once to everybody else.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Ledger, Resource};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, ScriptInvocation};

use crate::Error;
use crate::breaker::Breaker;

/// How long one command may take unless somebody asks for less, a connection that has to be made first included.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_millis(1_000);

/// How long the network may swallow what was sent before the connection is given up, and with it what was not sent yet: a
/// command that arrives a minute after everybody stopped waiting for it does harm.
#[cfg(target_os = "linux")]
const NETWORK_WAIT: Duration = Duration::from_secs(2);

/// Commands under way at once; more wait their turn in the driver.
const PIPELINE: usize = 512;

/// A Redis server. Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    breaker: Arc<Breaker>,
    resource: Resource,
    wait: Duration,
}

impl Redis {
    /// Connects to the server at `url`, such as `redis://127.0.0.1:6379/0`.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the URL is wrong or nobody answers.
    pub async fn open(url: &str, ledger: &Ledger) -> Result<Self, Error> {
        let address = url.into_connection_info().map_err(Error::unavailable)?;
        let client = Client::open(address.set_tcp_settings(tcp())).map_err(Error::unavailable)?;
        let connection = ConnectionManager::new_with_config(client, patient());
        Ok(Self {
            connection: connection.await.map_err(Error::unavailable)?,
            breaker: Arc::new(Breaker::new()),
            resource: ledger.resource("redis", "commands", PIPELINE as f64),
            wait: ANSWER_WAIT,
        })
    }

    /// The same server, asked by somebody who waits no longer than this for an answer, and never longer than others do.
    #[must_use]
    pub fn waiting(&self, wait: Duration) -> Self {
        Self {
            wait: wait.min(ANSWER_WAIT),
            ..self.clone()
        }
    }

    /// Sends a command that only reads.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no answer, or not one of type `T`.
    pub async fn read<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        let answer = self.bounded(command.query_async(&mut connection)).await?;
        answer.map_err(Error::unavailable)
    }

    /// Sends a command that changes something. It is sent once: a command whose answer was lost may have been done.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: Redis refused it. [`Error::Unknown`]: no answer came.
    pub async fn write<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        let answer = self.bounded(command.query_async(&mut connection)).await?;
        answer.map_err(may_be_done)
    }

    /// Runs a script. One that Redis does not know yet is loaded and sent again: it was not run. Nothing else is.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let mut connection = self.connection.clone();
        let answer = self.bounded(script.invoke_async(&mut connection)).await?;
        answer.map_err(may_be_done)
    }

    /// Waits for an answer, if it is worth it.
    async fn bounded<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<RedisResult<T>, Error> {
        if !self.breaker.admits() {
            return Err(Error::unavailable("redis did not answer a moment ago"));
        }
        let _held = service::hold(&self.resource).await;
        let answer = tokio::time::timeout(self.wait, call)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        match &answer {
            Err(error) if is_silence(error) => {
                if self.breaker.failed() {
                    tracing::warn!(%error, "redis does not answer: going on without it, and looking twice a second");
                }
            }
            _ => self.breaker.answered(),
        }
        Ok(answer)
    }
}

fn tcp() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(NETWORK_WAIT);
    settings
}

fn patient() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER_WAIT))
        .set_connection_timeout(Some(CONNECT_WAIT))
        .set_max_delay(CONNECT_WAIT)
        .set_number_of_retries(2)
        .set_pipeline_buffer_size(PIPELINE)
}

/// Whether Redis said nothing at all, not even no.
pub(crate) fn is_silence(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

fn may_be_done(error: RedisError) -> Error {
    let refused = error.code().is_some() && !is_silence(&error);
    if refused || error.is_connection_refusal() {
        Error::unavailable(error)
    } else {
        Error::unknown(error)
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}
