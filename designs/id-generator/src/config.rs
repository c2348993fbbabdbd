//! Every flag of this design, each also an environment variable.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use service::ServiceConfig;
use stores::Engines;

use crate::layout::Layout;
use crate::stages::Stage;

/// Id generator: from a ticket row to leased Snowflake nodes
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Which stage to run
    #[arg(long, env = "STAGE", value_enum, default_value_t = Stage::Snowflake)]
    pub stage: Stage,

    /// What this program offers, as JSON, and end
    #[arg(long)]
    pub describe: bool,

    /// Everything that is the same in every design
    #[command(flatten)]
    pub service: ServiceConfig,

    /// What the stage `leased` stands on
    #[command(flatten)]
    pub engines: Engines,

    /// Numbers claimed at once (stage `ranges`): what a crash may lose
    #[arg(long, env = "BLOCK", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub block: u32,

    /// The bits of an id (stages `snowflake` and `leased`)
    #[arg(long, env = "LAYOUT", value_enum, default_value_t = KnownLayout::Twitter)]
    pub layout: KnownLayout,

    /// The moment from which ids count time, such as `2026-01-01T00:00:00Z` [default: the layout's own]
    #[arg(long, env = "EPOCH", value_parser = epoch)]
    pub epoch: Option<u64>,

    /// The node id of this server (stage `snowflake`): no other server may have it
    #[arg(long, env = "NODE_ID", default_value_t = 0)]
    pub node_id: u32,

    /// Milliseconds ahead of the clock for which ids are written down as made (stage `snowflake`): what a server that was
    /// killed waits for when it comes back
    #[arg(long, env = "RESERVE_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub reserve_ms: u64,

    /// Who lends node ids (stage `leased`)
    #[arg(long, env = "LEASES", value_enum, default_value_t = Lender::Postgres)]
    pub leases: Lender,

    /// Milliseconds for which a node id is lent (stage `leased`): how long nobody else gets the one of a dead server
    #[arg(long, env = "LEASE_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub lease_ms: u64,
}

/// The layouts that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KnownLayout {
    /// 41 bits of milliseconds since 2010, 10 of node, 12 of sequence
    Twitter,
    /// 42 bits of milliseconds since 2015, 10 of node, 12 of sequence
    Discord,
    /// 41 bits of milliseconds since 2011, 13 of node, 10 of sequence
    Instagram,
    /// 39 bits of 10 ms since 2014, 8 of sequence, 16 of node
    Sonyflake,
}

/// Who lends node ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lender {
    /// What it has lent, it remembers
    Postgres,
    /// Fast, and as forgetful as its persistence and its replicas are
    Redis,
}

impl Config {
    /// The layout, counted from the configured epoch.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let layout = match self.layout {
            KnownLayout::Twitter => Layout::TWITTER,
            KnownLayout::Discord => Layout::DISCORD,
            KnownLayout::Instagram => Layout::INSTAGRAM,
            KnownLayout::Sonyflake => Layout::SONYFLAKE,
        };
        self.epoch.map_or(layout, |epoch| layout.since(epoch))
    }

    /// How far ahead ids are written down as made.
    #[must_use]
    pub fn reserve(&self) -> Duration {
        Duration::from_millis(self.reserve_ms)
    }

    /// How long a node id is lent.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

fn epoch(text: &str) -> Result<u64, String> {
    let time: SystemTime = humantime::parse_rfc3339(text).map_err(|error| error.to_string())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "must not be before 1970")?;
    u64::try_from(since.as_millis()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }

    #[test]
    fn an_epoch_is_a_moment_since_1970() {
        assert_eq!(epoch("2010-11-04T01:42:54.657Z"), Ok(1_288_834_974_657));
        assert!(epoch("1969-12-31T23:59:59Z").is_err() && epoch("yesterday").is_err());
    }
}
