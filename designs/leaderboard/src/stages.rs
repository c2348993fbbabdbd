//! The ladder: each stage put together from the same parts. The return types, read in a column, are the story.
//!
//! Nothing outside this file asks which stage it is.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use service::{Clock as _, Host, Routes, SystemClock, Traits};

use crate::adapters::{Bounds, Cuts, OrderedTree, Sharded, SortedSet, Sqlite};
use crate::config::Config;
use crate::http;
use crate::ports::Board;
use crate::service::Leaderboard;

/// How often editions and events that are over are looked for.
const TIDY: Duration = Duration::from_secs(60);

/// The steps from naive to scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// A table; a rank is counted along everybody who is better
    CountQuery,
    /// In memory, in a tree that knows positions; every change in a log first
    OrderedTree,
    /// A sorted set of Redis, which any number of servers share
    SortedSet,
    /// Sorted sets of a Redis Cluster, one for each range of scores; a rank adds up the sizes of those above
    Sharded,
}

/// A table and an index.
///
/// Adds:        nothing yet.
/// Fixes:       -
/// Costs:       a rank is a count of all who are better; a score is an fsync.
/// Breaks when: boards grow: the knee falls as their length rises.
async fn count_query(config: &Config, host: &Host) -> anyhow::Result<Sqlite> {
    let folder = &config.service.data_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let migrations = stores::migrations(&[("boards", include_str!("../migrations/sqlite/1_boards.sql"))]);
    let db = stores::Sqlite::open(&folder.join("leaderboard.db"), &migrations, &host.ledger).await?;
    Ok(Sqlite::new(db, config.max_boards.into()))
}

/// An order-statistic tree in memory.
///
/// Adds:        counts in a tree, and a log that many changes share an fsync of.
/// Fixes:       a rank is a walk down four levels for a million members, and five for ten million.
/// Costs:       all of it must fit into memory; a restart reads it back.
/// Breaks when: one process is not enough, or must not be the only one.
async fn ordered_tree(config: &Config, host: &Host) -> anyhow::Result<OrderedTree> {
    let folder = config.service.data_dir.join("boards");
    let bounds = Bounds {
        boards: usize::try_from(config.max_boards)?,
        members: usize::try_from(config.max_members)?,
    };
    let opened = OrderedTree::open(&folder, bounds, &host.lifecycle, &host.ledger).await;
    opened.with_context(|| format!("the boards in {} cannot be opened", folder.display()))
}

/// A sorted set in Redis.
///
/// Adds:        a board that is nobody's own; scripts that keep first-come order among equals.
/// Fixes:       any number of servers, any of which may die.
/// Costs:       a round trip each; what is durable is what Redis makes durable.
/// Breaks when: one Redis is full: a sorted set lives on one thread of one node.
async fn sorted_set(config: &Config, host: &Host) -> anyhow::Result<SortedSet> {
    let redis = config.engines.redis(&host.ledger).await?;
    Ok(SortedSet::new(redis, config.max_boards.into()))
}

/// Sorted sets over a Redis Cluster.
///
/// Adds:        a range of scores each, and a record of each member that decides which of them he is in.
/// Fixes:       a board is no longer on one thread: nodes share its members and their load.
/// Costs:       two round trips and up to four commands instead of one, more for who changes shards; ranks that are exact once nobody
///              moves.
/// Breaks when: scores gather in one range: cuts are made once, and by hand.
async fn sharded(config: &Config, host: &Host) -> anyhow::Result<Sharded> {
    let cuts = Cuts::new(&config.cuts);
    let cuts = cuts.context("--cuts: up to 30 scores in ascending order, each from -(2^53 - 1) to 2^53 - 1")?;
    let cluster = config.engines.redis_cluster(&host.ledger).await?;
    let board = Sharded::new(&cluster, cuts, config.max_boards.into());
    let others = board
        .cut_otherwise()
        .await
        .context("it cannot be read how boards are cut")?;
    if let Some(others) = others {
        bail!("--cuts: the boards of this cluster are cut at {others}, and stay so");
    }
    board.keep_settled(&host.lifecycle);
    Ok(board)
}

impl Stage {
    /// Puts the stage together, and gives its routes.
    ///
    /// # Errors
    /// A sentence for whoever started it: what cannot be opened or reached, and why.
    pub async fn build(self, config: &Config, host: &Host) -> anyhow::Result<Routes> {
        Ok(match self {
            Self::CountQuery => routes(count_query(config, host).await?, host),
            Self::OrderedTree => routes(ordered_tree(config, host).await?, host),
            Self::SortedSet => routes(sorted_set(config, host).await?, host),
            Self::Sharded => routes(sharded(config, host).await?, host),
        })
    }

    /// What must run beside it.
    fn traits(self) -> Traits {
        match self {
            Self::CountQuery | Self::OrderedTree => Traits::default(),
            Self::SortedSet => Traits {
                needs: &["redis"],
                ..Traits::default()
            },
            Self::Sharded => Traits {
                needs: &["redis-cluster"],
                ..Traits::default()
            },
        }
    }
}

/// The stages in order, as JSON.
#[must_use]
pub fn describe() -> String {
    service::describe("leaderboard", |stage: &Stage| stage.traits())
}

/// Puts the use cases before a board, and forgets what is over in the background.
fn routes<B: Board>(board: B, host: &Host) -> Routes {
    let keeper = board.clone();
    host.lifecycle.spawn("forget", |stopping| async move {
        while stopping.pause(TIDY).await {
            if let Err(error) = keeper.forget(SystemClock.now_ms()).await {
                tracing::warn!(%error, "what is over was not forgotten; the next try is in a minute");
            }
        }
    });
    http::routes(Leaderboard::new(board, Arc::new(SystemClock)))
}
