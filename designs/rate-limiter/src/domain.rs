//! What is asked and what is decided: limits, rules, charges, decisions, and every way in which asking can fail.
//!
//! No I/O, no wire formats, no status codes: those are the business of the adapters and of the faces (`http.rs`, `grpc.rs`).

use std::sync::Arc;
use std::time::Duration;

/// How long a window is. A month has 30 days and a year 365, as in envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// 1 s
    Second,
    /// 60 s
    Minute,
    /// 3,600 s
    Hour,
    /// 86,400 s
    Day,
    /// 7 days
    Week,
    /// 30 days
    Month,
    /// 365 days
    Year,
}

impl Unit {
    /// How many seconds it has.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// How long it is.
    #[must_use]
    pub const fn window(self) -> Duration {
        Duration::from_secs(self.seconds())
    }
}

/// So many requests in a window, and so many at once.
///
/// The promise, for every interval of any length `d`: no more is admitted than `burst + requests x d / window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Requests in a window; 0 admits nothing that costs anything.
    pub requests: u32,
    /// The window.
    pub unit: Unit,
    /// What a bucket holds when it is full; 0 admits nothing that costs anything.
    pub burst: u32,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A counter a window, which begins at zero with each.
    FixedWindow,
    /// The time of every admission of the last window.
    SlidingLog,
    /// Two counters, the older one weighted by how much of its window is still in sight.
    SlidingWindowCounter,
    /// A bucket that fills at the rate of the limit, as GCRA.
    TokenBucket,
}

/// What is decided while the store cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Everything is admitted.
    Open,
    /// Nothing is.
    Closed,
    /// Each server holds the limit by itself: at worst so many times the limit as there are servers.
    #[default]
    Local,
}

/// One limit of the rules file, and how it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Under which name it is reported: its own, or else the path of keys and values to it.
    pub name: String,
    /// The limit.
    pub limit: Limit,
    /// How it counts, if the rule says; otherwise as the stage does.
    pub algorithm: Option<Algorithm>,
    /// What is decided while the store cannot be asked.
    pub failure: FailureMode,
    /// Counts and reports, but admits everything.
    pub shadow: bool,
    /// Whether one bucket is enough: no key of the path stands without a value, so that all requests share it.
    pub single: bool,
}

/// A request as one limit sees it.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// Whose bucket: no two buckets of a store have the same.
    pub key: &'a str,
    /// How much of it; 0 only asks.
    pub cost: u64,
    /// How long the store may take.
    pub within: Duration,
}

/// What was decided about a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it was admitted, and so charged. What is refused costs nothing.
    pub allowed: bool,
    /// The highest cost that would be admitted now.
    pub remaining: u64,
    /// When the bucket is full again, if nothing is charged until then.
    pub reset_after: Duration,
    /// When the same charge would be admitted, if nothing else is until then. `None` where it was, or where waiting does not
    /// help: a limit of zero.
    pub retry_after: Option<Duration>,
    /// How it was decided while the store could not be asked.
    pub degraded: Option<FailureMode>,
}

/// Why nothing was decided. Nothing was charged, except where it says that it may have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No bucket will ever hold so much.
    #[error("a cost of {cost} is above the burst of {burst}")]
    AboveBurst {
        /// What was asked for.
        cost: u64,
        /// What the bucket holds when full.
        burst: u32,
    },
    /// There are as many active keys as there may be; none of them is forgotten for a new one.
    #[error("no room for another key")]
    Full,
    /// The limit that was brought along cannot be kept.
    #[error("{0}")]
    Unfit(Unfit),
    /// The store cannot be asked. Nothing was charged.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The store was asked and did not answer. It may have charged.
    #[error("the store did not answer: {0}")]
    Unknown(Arc<dyn std::error::Error + Send + Sync>),
}

/// Why a rule cannot be kept here, in a sentence for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);
