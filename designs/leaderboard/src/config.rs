//! Every flag of this design, each also an environment variable.

use clap::Parser;
use service::ServiceConfig;
use stores::Engines;

use crate::stages::Stage;

/// Leaderboard: from COUNT(*) to an ordered tree, sorted sets, and shards of them
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Which stage to run
    #[arg(long, env = "STAGE", value_enum, default_value_t = Stage::OrderedTree)]
    pub stage: Stage,

    /// What this program offers, as JSON, and end
    #[arg(long)]
    pub describe: bool,

    /// Everything that is the same in every design
    #[command(flatten)]
    pub service: ServiceConfig,

    /// What the stages `sorted_set` and `sharded` stand on
    #[command(flatten)]
    pub engines: Engines,

    /// Boards that there may be
    #[arg(long, env = "MAX_BOARDS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_boards: u32,

    /// Scores at which the shards of a board begin, the lowest shard aside; the same for all servers of a cluster, and for as
    /// long as it lives (stage `sharded`)
    #[arg(long, env = "CUTS", value_delimiter = ',', default_values_t = [333_334, 666_667], allow_negative_numbers = true)]
    pub cuts: Vec<i64>,

    /// Members that the boards in memory may have together (stage `ordered_tree`)
    #[arg(long, env = "MAX_MEMBERS", default_value_t = 20_000_000, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    pub max_members: u32,
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
