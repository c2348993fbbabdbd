//! Every flag of this design, each also an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use service::ServiceConfig;
use stores::Engines;

use crate::stages::Stage;

/// Rate limiter: from windows in memory to shares of a global budget
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Which stage to run
    #[arg(long, env = "STAGE", value_enum, default_value_t = Stage::TokenBucket)]
    pub stage: Stage,

    /// What this program offers, as JSON, and end
    #[arg(long)]
    pub describe: bool,

    /// Everything that is the same in every design
    #[command(flatten)]
    pub service: ServiceConfig,

    /// What the stages `racy`, `atomic` and `leased` stand on
    #[command(flatten)]
    pub engines: Engines,

    /// Files of rules, in the YAML of envoyproxy/ratelimit, each with a domain of its own; looked at once a second
    /// [default: `user`: 100 a second; `ip`: 1,000 a minute; in the domain `default`]
    #[arg(long, env = "RULES", value_name = "FILE", value_delimiter = ',')]
    pub rules: Vec<PathBuf>,

    /// Keys that a rule may have at once; an active one is never forgotten for a new one
    #[arg(long, env = "MAX_KEYS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub max_keys: u32,

    /// Percent of a burst that a server takes at once (stage `leased`): what it may admit beyond the limit
    #[arg(long, env = "SHARE", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub share: u8,

    /// Where Envoy's rate limit service is served besides the main address, which serves it too
    #[arg(long, env = "GRPC_LISTEN", default_value = "127.0.0.1:8081")]
    pub grpc_listen: SocketAddr,
}

impl Config {
    /// Keys that a rule may have at once.
    #[must_use]
    pub fn max_keys(&self) -> usize {
        usize::try_from(self.max_keys).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }
}
