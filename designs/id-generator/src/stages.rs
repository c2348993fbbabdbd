//! The ladder: each stage put together from the same parts. The return types, read in a column, are the story.
//!
//! Nothing outside this file asks which stage it is.

use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use service::{Clock as _, Host, Knob, Routes, SystemClock, Traits};

use crate::adapters::{FixedNode, Flake, PostgresNodes, Ranges, RedisNodes, TicketRow};
use crate::config::{Config, Lender};
use crate::http;
use crate::layout::Layout;
use crate::ports::{Ids, NodeIds};
use crate::service::Generator;

/// The steps from naive to scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// A row that counts; every request is a commit
    TicketRow,
    /// Blocks of a thousand numbers from that row, given from memory
    Ranges,
    /// Time, node and sequence in one atomic word; nobody is asked
    Snowflake,
    /// The same on any number of servers, with node ids on loan
    Leased,
}

/// A row that counts.
///
/// Adds:        nothing yet.
/// Fixes:       -
/// Costs:       an fsync a request.
/// Breaks when: requests outgrow the disk's fsyncs; and there is one such row.
async fn ticket_row(config: &Config, host: &Host) -> anyhow::Result<Generator<TicketRow>> {
    let row = TicketRow::new(sqlite(config, host).await?);
    Ok(generator(row, None))
}

/// Numbers from blocks that were claimed ahead.
///
/// Adds:        hi/lo: the row moves by a thousand, the numbers between are given from memory.
/// Fixes:       one fsync carries a thousand ids.
/// Costs:       a crash loses what is left of a block; between servers, numbers are in no order.
/// Breaks when: one server is full; a second one needs the same row, and an id says nothing of its age.
async fn ranges(config: &Config, host: &Host) -> anyhow::Result<Generator<Ranges>> {
    let db = sqlite(config, host).await?;
    let ranges = Ranges::new(db, config.block, &host.lifecycle, &host.ledger);
    Ok(generator(ranges, None))
}

/// Ids from time, node and sequence.
///
/// Adds:        Snowflake: one atomic word; a mark on the disk, ahead of the ids.
/// Fixes:       no request waits for a disk; ids sort by age, on all servers together.
/// Costs:       a clock that has to be right: set back, the server says no until it has caught up.
/// Breaks when: two servers are given one node id, and nobody notices.
async fn snowflake(config: &Config, host: &Host) -> anyhow::Result<Generator<Flake<FixedNode, SystemClock>>> {
    let layout = config.layout();
    layout.check(config.node_id, SystemClock.now_ms())?;
    let db = sqlite(config, host).await?;
    let lock = config.service.data_dir.join("node.lock");
    let node = FixedNode::open(db, &layout, config.node_id, &lock).await?;
    flake(node, layout, config.reserve(), host).await
}

/// The same with node ids on loan.
///
/// Adds:        a table of leases in Postgres; a lease is for a node id and a span of time.
/// Fixes:       servers come and go without anybody counting them; no two make one id, whoever sleeps.
/// Costs:       an engine to run; a server that cannot reach it says no once its lease ends.
/// Breaks when: all node ids are lent: the layout has 1,024 of them.
async fn leased(config: &Config, host: &Host) -> anyhow::Result<Generator<Flake<PostgresNodes, SystemClock>>> {
    let layout = config.layout();
    layout.check(0, SystemClock.now_ms())?;
    let db = config.engines.postgres(&migrations_of_leases(), &host.ledger).await?;
    let nodes = PostgresNodes::open(db, &layout, config.lease()).await?;
    flake(nodes, layout, config.lease(), host).await
}

/// The same with Redis as the lender: what it may forget is written in `adapters/redis.rs`.
async fn leased_from_redis(config: &Config, host: &Host) -> anyhow::Result<Generator<Flake<RedisNodes, SystemClock>>> {
    let layout = config.layout();
    layout.check(0, SystemClock.now_ms())?;
    let redis = config.engines.redis(&host.ledger).await?;
    let nodes = RedisNodes::open(redis, &layout, config.lease()).await?;
    flake(nodes, layout, config.lease(), host).await
}

impl Stage {
    /// Puts the stage together, on the files in the data directory, and gives its routes.
    ///
    /// # Errors
    /// A sentence for whoever started it: what cannot be opened, and why.
    pub async fn build(self, config: &Config, host: &Host) -> anyhow::Result<Routes> {
        Ok(match (self, config.leases) {
            (Self::TicketRow, _) => http::routes(ticket_row(config, host).await?),
            (Self::Ranges, _) => http::routes(ranges(config, host).await?),
            (Self::Snowflake, _) => http::routes(snowflake(config, host).await?),
            (Self::Leased, Lender::Postgres) => http::routes(leased(config, host).await?),
            (Self::Leased, Lender::Redis) => http::routes(leased_from_redis(config, host).await?),
        })
    }

    /// What must run beside it, and what can be turned.
    fn traits(self) -> Traits {
        match self {
            Self::TicketRow | Self::Ranges | Self::Snowflake => Traits::default(),
            Self::Leased => Traits {
                needs: &["postgres"],
                nodes: 2,
                listens: &[],
                knobs: vec![Knob {
                    resource: "postgres_pool",
                    flag: "postgres-connections",
                }],
            },
        }
    }
}

/// The stages in order, as JSON.
#[must_use]
pub fn describe() -> String {
    service::describe("id-generator", |stage: &Stage| stage.traits())
}

fn generator<I: Ids>(ids: I, layout: Option<Layout>) -> Generator<I> {
    Generator::new(ids, layout, Arc::new(SystemClock))
}

async fn flake<N: NodeIds>(
    nodes: N,
    layout: Layout,
    reach: std::time::Duration,
    host: &Host,
) -> anyhow::Result<Generator<Flake<N, SystemClock>>> {
    let flake = Flake::start(nodes, layout, reach, SystemClock, &host.lifecycle, &host.ledger).await?;
    Ok(generator(flake, Some(layout)))
}

/// Opens the data directory's database.
async fn sqlite(config: &Config, host: &Host) -> anyhow::Result<stores::Sqlite> {
    let directory = &config.service.data_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(stores::Sqlite::open(&directory.join("ids.db"), &migrations(), &host.ledger).await?)
}

/// The schema of the embedded stages.
#[must_use]
pub fn migrations() -> stores::Migrator {
    stores::migrations(&[("ids", include_str!("../migrations/sqlite/1_ids.sql"))])
}

/// The schema of the stage `leased`.
#[must_use]
pub fn migrations_of_leases() -> stores::Migrator {
    stores::migrations(&[("node_leases", include_str!("../migrations/postgres/1_node_leases.sql"))])
}
