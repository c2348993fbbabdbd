//! Redis: one multiplexed connection that comes back by itself, with a bound on every wait.
//!
//! A plain multiplexed connection never recovers from a disconnect; the manager does. Commands of all requests share the
//! connection in a pipeline, so there is no pool: what a request can wait for is the round trip, and that is what the
//! ledger shows as `redis`.
//!
//! A cluster has a connection to each of its nodes, and a command goes to the node that has its keys. What says that it went
//! to the wrong one was not carried out, and is sent again to where the slots have gone; nothing else is sent twice. The
//! driver would also send again what it got no answer to, so that is switched off there.
//!
//! Redis is fast or it is ill: an answer that takes a tenth of a second is not worth waiting for, and after a few of those
//! in a row [a breaker](crate::breaker) says so at once to everybody else.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Ledger, Resource};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::{
    Arg, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, Value,
};

use crate::Error;
use crate::breaker::Breaker;

/// How long one command may take unless somebody asks for less, a connection that has to be made first included.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// How long a command may take that nobody looks on at: a batch, which may meet a node that writes its log anew.
const PATIENT_WAIT: Duration = Duration::from_millis(1_000);

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_millis(1_000);

/// How long the network may swallow what was sent before the connection is given up, and with it what was not sent yet: a
/// command that arrives a minute after everybody stopped waiting for it does harm.
#[cfg(target_os = "linux")]
const NETWORK_WAIT: Duration = Duration::from_secs(2);

/// Commands under way at once; more wait their turn in the driver.
const PIPELINE: usize = 512;

/// How often a command is sent whose slot has moved to another node meanwhile.
const MOVES: usize = 3;

/// A Redis server, or a cluster of them. Cheap to clone: all clones share the connections.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
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
        let connection = connection.await.map_err(Error::unavailable)?;
        Ok(Self::over(Connection::One(connection), ledger))
    }

    /// Connects to the cluster that these servers belong to, one or several with commas between.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: a URL is wrong or nobody answers.
    pub async fn open_cluster(urls: &str, ledger: &Ledger) -> Result<Self, Error> {
        let client = cluster(urls).map_err(Error::unavailable)?;
        let connection = client.get_async_connection().await.map_err(Error::unavailable)?;
        let nodes = Nodes {
            connection,
            lacks_script: None,
        };
        Ok(Self::over(Connection::Cluster(nodes), ledger))
    }

    fn over(connection: Connection, ledger: &Ledger) -> Self {
        Self {
            connection,
            breaker: Arc::new(Breaker::new()),
            resource: ledger.resource("redis", "commands", PIPELINE as f64),
            wait: ANSWER_WAIT,
        }
    }

    /// The same server, asked by somebody who has time, up to a second: for batches, not for what a person waits for.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self {
            wait: PATIENT_WAIT,
            ..self.clone()
        }
    }

    /// The same for a part that can fail alone, such as what is on one node: it has a breaker of its own.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            breaker: Arc::new(Breaker::new()),
            ..self.clone()
        }
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

    /// Runs a script, which has a key. One that Redis does not know yet is loaded and sent again: it was not run. Nothing else
    /// is.
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

/// The servers behind one [`Redis`].
#[derive(Clone)]
enum Connection {
    One(ConnectionManager),
    Cluster(Nodes),
}

/// A cluster, as one caller sees it.
#[derive(Clone)]
struct Nodes {
    connection: ClusterConnection,
    /// Who has said last that it does not know a script.
    lacks_script: Option<Route>,
}

impl Nodes {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        // The driver would load a script into all nodes at once, and fail with any of them.
        if let Some(node) = self.lacks_script.take()
            && words(command).eq([&b"SCRIPT"[..], b"LOAD"])
        {
            let node = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(node));
            return self.connection.route_command(command.clone(), node).await;
        }
        let mut sent = 0;
        loop {
            sent += 1;
            let answer = self.connection.req_packed_command(command).await;
            match answer.and_then(Value::extract_error) {
                Err(error) if has_moved(&error) && sent < MOVES => {}
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.lacks_script = first_key(command).map(|key| Route::with_key(key, SlotAddr::Master));
                    return Err(error);
                }
                answer => return answer,
            }
        }
    }
}

/// The first two words of a command.
fn words(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().take(2).filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    })
}

/// The first key of a script: after EVALSHA, what it is called, and how many keys there are.
fn first_key(script: &Cmd) -> Option<&[u8]> {
    match script.args_iter().nth(3)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(nodes) => Box::pin(nodes.send(command)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(nodes) => nodes.connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(nodes) => nodes.connection.get_db(),
        }
    }
}

/// A client for the cluster that these servers belong to.
pub(crate) fn cluster(urls: &str) -> RedisResult<ClusterClient> {
    ClusterClientBuilder::new(urls.split(','))
        .retries(0)
        .connection_timeout(CONNECT_WAIT)
        // Each command has its own bound, which is never longer.
        .response_timeout(PATIENT_WAIT)
        .overall_response_timeout(None)
        .tcp_settings(tcp())
        .build()
}

fn tcp() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(NETWORK_WAIT);
    settings
}

fn patient() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        // Each command has its own bound, which is never longer.
        .set_response_timeout(Some(PATIENT_WAIT))
        .set_connection_timeout(Some(CONNECT_WAIT))
        .set_max_delay(CONNECT_WAIT)
        .set_number_of_retries(2)
        .set_pipeline_buffer_size(PIPELINE)
}

/// Whether Redis said nothing at all, not even no.
pub(crate) fn is_silence(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// Whether the command went to a node that has its keys no longer: it was not carried out, and the driver looks up by now
/// where they are.
fn has_moved(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ReadOnly)
    )
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
