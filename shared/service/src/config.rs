//! The flags that every design's server has, each also an environment variable.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Where to listen, how much to admit, who may write.
#[derive(Args, Clone, Debug)]
pub struct ServiceConfig {
    /// Address to serve on; port 0 picks a free one
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Address for metrics and health, not meant for the public
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:8090")]
    pub admin_listen: SocketAddr,

    /// Where the service keeps its files; made if absent
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,

    /// Threads that serve requests [default: one a core]
    #[arg(long, env = "WORKERS")]
    pub workers: Option<NonZeroUsize>,

    /// Keys that may write, separated by commas; without any, everybody who reaches the service may
    #[arg(long, env = "API_KEYS", value_delimiter = ',', hide_env_values = true)]
    pub api_keys: Vec<String>,

    /// Serve beyond this machine without API keys
    #[arg(long, env = "INSECURE")]
    pub insecure: bool,

    /// Most requests worked on at once; more wait, then are shed
    #[arg(long, env = "MAX_IN_FLIGHT", default_value = "512")]
    pub max_in_flight: NonZeroUsize,

    /// Most requests waiting to be worked on
    #[arg(long, env = "MAX_QUEUED", default_value_t = 64)]
    pub max_queued: usize,

    /// Most connections at once; beyond that, accepting pauses
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "4096")]
    pub max_connections: NonZeroUsize,

    /// Most connections from one address, loopback excepted; 0 is no cap, for a service behind a proxy
    #[arg(long, env = "MAX_PEER_CONNECTIONS", default_value_t = 256)]
    pub max_peer_connections: usize,

    /// Milliseconds to read a request's head, and for which an idle connection is kept
    #[arg(long, env = "HEADER_TIMEOUT_MS", default_value_t = 10_000)]
    pub header_timeout_ms: u64,

    /// Milliseconds within which a unary request is answered
    #[arg(long, env = "DEADLINE_MS", default_value_t = 2_000)]
    pub deadline_ms: u64,

    /// Milliseconds that requests under way get to finish after SIGTERM
    #[arg(long, env = "DRAIN_MS", default_value_t = 8_000)]
    pub drain_ms: u64,

    /// Let a load lab slow resources and take profiles, through the admin listener
    #[arg(long)]
    pub lab: bool,

    /// Ask the server that runs with these settings whether it is ready, and end
    #[arg(long)]
    pub health: bool,
}

impl ServiceConfig {
    /// Checks what no single flag can: that nobody opens a writable service to a network by accident.
    ///
    /// # Errors
    /// A sentence for the person who started the service.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_address(self.listen)?;
        if self.api_keys.iter().any(|key| key.trim().len() < 8) {
            return Err("an API key must have at least 8 characters".to_owned());
        }
        Ok(())
    }

    /// The same for one address.
    pub(crate) fn validate_address(&self, address: SocketAddr) -> Result<(), String> {
        if !address.ip().is_loopback() && self.api_keys.is_empty() && !self.insecure {
            return Err(format!(
                "refusing to serve on {address}: it can be reached from other machines and no API key is set; \
                 set API_KEYS, or say --insecure"
            ));
        }
        Ok(())
    }

    /// Within which a unary request is answered.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn worker_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.workers.map_or_else(cores, NonZeroUsize::get)
    }

    /// Whether connections from this peer are counted against the cap for one address.
    pub(crate) fn caps_peer(&self, peer: IpAddr) -> bool {
        self.max_peer_connections > 0 && !peer.is_loopback()
    }
}
