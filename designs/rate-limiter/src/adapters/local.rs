//! Buckets in the memory of this process, counted by whichever algorithm a rule or a stage has chosen.

use quanta::{Clock, Instant};

use super::{FixedWindows, SlidingLogs, SlidingWindowCounters, TokenBuckets};
use crate::domain::{Algorithm, Charge, Decision, Error, Rule, Unfit};
use crate::ports::Limiter;

/// Keeps buckets here. They are gone when the process is.
pub struct Local {
    algorithm: Algorithm,
    max_keys: usize,
    clock: Clock,
    zero: Instant,
}

/// What is kept for one rule.
pub enum LocalBuckets {
    /// A counter a window.
    FixedWindow(FixedWindows),
    /// Times of admissions.
    SlidingLog(SlidingLogs),
    /// Two counters.
    SlidingWindowCounter(SlidingWindowCounters),
    /// Cells of GCRA.
    TokenBucket(TokenBuckets),
}

impl Local {
    /// `algorithm` for rules that name none, `max_keys` buckets a rule. The clock never goes back.
    #[must_use]
    pub fn new(algorithm: Algorithm, max_keys: usize, clock: Clock) -> Self {
        Self {
            algorithm,
            max_keys,
            zero: clock.now(),
            clock,
        }
    }

    fn now_ns(&self) -> u64 {
        let since = self.clock.now().saturating_duration_since(self.zero);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Limiter for Local {
    type Buckets = LocalBuckets;

    fn open(&self, rule: &Rule) -> Result<LocalBuckets, Unfit> {
        let max_keys = if rule.single { 1 } else { self.max_keys };
        Ok(match rule.algorithm.unwrap_or(self.algorithm) {
            Algorithm::FixedWindow => LocalBuckets::FixedWindow(FixedWindows::open(rule, max_keys)?),
            Algorithm::SlidingLog => LocalBuckets::SlidingLog(SlidingLogs::open(rule, max_keys)?),
            Algorithm::SlidingWindowCounter => {
                LocalBuckets::SlidingWindowCounter(SlidingWindowCounters::open(rule, max_keys)?)
            }
            Algorithm::TokenBucket => LocalBuckets::TokenBucket(TokenBuckets::open(rule, max_keys)?),
        })
    }

    async fn take(&self, buckets: &LocalBuckets, charge: Charge<'_>) -> Result<Decision, Error> {
        let (now_ns, key, cost) = (self.now_ns(), charge.key, charge.cost);
        match buckets {
            LocalBuckets::FixedWindow(counters) => counters.take(now_ns, key, cost),
            LocalBuckets::SlidingLog(logs) => logs.take(now_ns, key, cost),
            LocalBuckets::SlidingWindowCounter(counters) => counters.take(now_ns, key, cost),
            LocalBuckets::TokenBucket(buckets) => buckets.take(now_ns, key, cost),
        }
    }
}
