//! The ladder: each stage put together from the same parts. The return types, read in a column, are the story.
//!
//! Nothing outside this file asks which stage it is.

use std::sync::Arc;

use clap::ValueEnum;
use service::{Host, Routes, Traits};

use crate::adapters::{Atomic, FailSafe, Leased, Local, Racy, RulesFiles};
use crate::config::Config;
use crate::domain::Algorithm;
use crate::http;
use crate::ports::Limiter;
use crate::service::RateLimiter;

/// The steps from naive to scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// A counter a window, in memory; twice the limit passes across an edge
    FixedWindow,
    /// The time of every admission: exact, and as large as the limit
    SlidingLog,
    /// A token bucket as one atomic word a key
    TokenBucket,
    /// The same in Redis, read and then written: wrong when two ask at once
    Racy,
    /// The same in one script, by Redis's clock
    Atomic,
    /// Each server takes shares of the limit and answers by itself
    Leased,
}

/// A counter a window.
///
/// Adds:        nothing yet.
/// Fixes:       -
/// Costs:       next to nothing.
/// Breaks when: a client knows where the edge is: twice the limit passes around it.
fn fixed_window(config: &Config) -> Local {
    local(Algorithm::FixedWindow, config)
}

/// The time of every admission.
///
/// Adds:        a log a key.
/// Fixes:       exact in every window, wherever it is laid.
/// Costs:       16 bytes for each request of a limit, for each key.
/// Breaks when: limits are high or keys are many.
fn sliding_log(config: &Config) -> Local {
    local(Algorithm::SlidingLog, config)
}

/// A bucket that fills at a rate.
///
/// Adds:        GCRA: a bucket is one word, the time at which it is full again.
/// Fixes:       16 bytes a key, no lock, and the promise holds in every interval.
/// Costs:       a burst may come at once; whoever wants requests spread evenly sets a smaller one.
/// Breaks when: there is a second server: each of them admits the whole limit.
fn token_bucket(config: &Config) -> Local {
    local(Algorithm::TokenBucket, config)
}

/// The same bucket in Redis, read, decided here, and written.
///
/// Adds:        one bucket for all servers.
/// Fixes:       a limit that no longer grows with the number of servers.
/// Costs:       two round trips a request.
/// Breaks when: two requests read before either has written: both pass, one is counted.
async fn racy(config: &Config, host: &Host) -> anyhow::Result<FailSafe<Racy, Local>> {
    let redis = config.engines.redis(&host.ledger).await?;
    Ok(fail_safe(Racy::new(redis), config, host))
}

/// The same in one script.
///
/// Adds:        the decision where the bucket is, by the clock that is there.
/// Fixes:       nothing comes between reading and writing; servers need no common clock.
/// Costs:       a round trip a request, and Redis's one thread for all of them.
/// Breaks when: Redis is full: every request of every server is one of its commands.
async fn atomic(config: &Config, host: &Host) -> anyhow::Result<FailSafe<Atomic, Local>> {
    let redis = config.engines.redis(&host.ledger).await?;
    Ok(fail_safe(Atomic::new(redis), config, host))
}

/// Shares of the limit.
///
/// Adds:        a server takes a tenth of a bucket at once, and answers from what it has.
/// Fixes:       one command of Redis for many requests.
/// Costs:       what servers hold may be admitted beyond the limit: a share for each of them.
/// Breaks when: keys are many and seldom: then each request is a command again.
async fn leased(config: &Config, host: &Host) -> anyhow::Result<FailSafe<Leased, Local>> {
    let redis = config.engines.redis(&host.ledger).await?;
    let leased = Leased::new(Atomic::new(redis), config.share, config.max_keys(), &host.ledger);
    Ok(fail_safe(leased, config, host))
}

impl Stage {
    /// Puts the stage together, and gives its routes.
    ///
    /// # Errors
    /// A sentence for whoever started it: what cannot be reached or read, and why.
    pub async fn build(self, config: &Config, host: &Host) -> anyhow::Result<Routes> {
        match self {
            Self::FixedWindow => routes(fixed_window(config), config, host).await,
            Self::SlidingLog => routes(sliding_log(config), config, host).await,
            Self::TokenBucket => routes(token_bucket(config), config, host).await,
            Self::Racy => routes(racy(config, host).await?, config, host).await,
            Self::Atomic => routes(atomic(config, host).await?, config, host).await,
            Self::Leased => routes(leased(config, host).await?, config, host).await,
        }
    }

    /// What must run beside it.
    fn traits(self) -> Traits {
        let here = Traits {
            listens: &["grpc-listen"],
            ..Traits::default()
        };
        let redis = Traits {
            needs: &["redis"],
            listens: here.listens,
            ..Traits::default()
        };
        match self {
            Self::FixedWindow | Self::SlidingLog | Self::TokenBucket => here,
            Self::Racy | Self::Atomic => redis,
            Self::Leased => Traits { nodes: 2, ..redis },
        }
    }
}

/// The stages in order, as JSON.
#[must_use]
pub fn describe() -> String {
    service::describe("rate-limiter", |stage: &Stage| stage.traits())
}

fn local(algorithm: Algorithm, config: &Config) -> Local {
    Local::new(algorithm, config.max_keys(), quanta::Clock::new())
}

/// A limiter on a store, with what is decided while the store is down.
fn fail_safe<L: Limiter>(limiter: L, config: &Config, host: &Host) -> FailSafe<L, Local> {
    FailSafe::new(limiter, local(Algorithm::TokenBucket, config), &host.ledger)
}

/// Reads the rules, watches them, and puts the faces before it all.
async fn routes<L: Limiter>(limiter: L, config: &Config, host: &Host) -> anyhow::Result<Routes> {
    let files = RulesFiles::new(config.rules.clone());
    let loaded = files.load().await?;
    let rate_limiter = Arc::new(RateLimiter::new(limiter, loaded.clone())?);
    let installed = Arc::clone(&rate_limiter);
    files.watch(loaded, &host.lifecycle, move |files| installed.install(files));
    Ok(http::routes(rate_limiter).also_on("grpc", config.grpc_listen))
}
