//! What stands behind the port: algorithms that keep their buckets in this process, and stores that all servers share.

mod atomic;
mod fail_safe;
mod fixed_window;
mod leased;
mod local;
mod meter;
mod racy;
mod rules_file;
mod shards;
mod sliding_log;
mod sliding_window_counter;
mod token_bucket;

pub use atomic::Atomic;
pub use fail_safe::{FailSafe, SafeBuckets};
pub use fixed_window::FixedWindows;
pub use leased::{Leased, Shares};
pub use local::{Local, LocalBuckets};
pub use meter::Meter;
pub use racy::Racy;
pub use rules_file::RulesFiles;
pub use sliding_log::SlidingLogs;
pub use sliding_window_counter::SlidingWindowCounters;
pub use token_bucket::TokenBuckets;

use std::time::Duration;

use crate::domain::{Decision, Error, Rule, Unfit};

impl From<stores::Error> for Error {
    fn from(error: stores::Error) -> Self {
        match error {
            stores::Error::Unavailable(cause) | stores::Error::Full(cause) => Self::Unavailable(cause),
            stores::Error::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

/// What was decided, from nanoseconds.
fn decision(remaining: u64, reset_after_ns: u64, retry_after_ns: Option<u64>) -> Decision {
    Decision {
        allowed: retry_after_ns.is_none(),
        remaining,
        reset_after: Duration::from_nanos(reset_after_ns),
        retry_after: retry_after_ns.map(Duration::from_nanos),
        degraded: None,
    }
}

/// The limit of a rule for an algorithm that counts requests in windows: requests, and nanoseconds of the window.
///
/// # Errors
/// The rule has a burst of its own: a window has none.
fn window(rule: &Rule, algorithm: &str) -> Result<(u64, u64), Unfit> {
    let limit = rule.limit;
    if limit.burst != limit.requests {
        return Err(Unfit(format!(
            "{algorithm} admits as many at once as in a window: a burst of {} beside {} requests has no meaning there",
            limit.burst, limit.requests
        )));
    }
    Ok((u64::from(limit.requests), limit.unit.seconds() * 1_000_000_000))
}
