//! The bucket as Redis holds it: a leaky bucket as a meter, in whole numbers.
//!
//! Lua in Redis has no integers of 64 bits, only doubles, which are exact up to 2^53. The TAT of `gcra.rs` in ticks of a
//! limit's own would not fit beside a clock that counts from 1970. So kept are two smaller numbers: how much is still to be
//! made up for, the *backlog* (TAT minus the clock), and when that was so, in microseconds.
//!
//! The backlog leaks. Its unit is such that both are whole: a request adds `cost` units, a microsecond takes `leak` away.
//! With `g` the greatest divisor that window and requests have in common, `cost = window_us / g` and `leak = requests / g`.
//! Nothing is rounded at all: ITU-T I.371's two algorithms decide alike.

use std::fmt;
use std::time::Duration;

use crate::domain::{Algorithm, Decision, Rule, Unfit};

/// What a double holds exactly.
const EXACT: u64 = 1 << 53;

/// A limit in units of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Units that a request adds.
    pub(super) cost: u64,
    /// Units that a microsecond takes away.
    pub(super) leak: u64,
    /// Units that a burst adds.
    pub(super) capacity: u64,
    /// What keys begin with: the limit is part of it, so that one that was changed begins anew.
    prefix: String,
}

/// What is kept of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Units to be made up for.
    pub(super) backlog: u64,
    /// When that was so, in microseconds since 1970.
    pub(super) at_us: u64,
}

impl Level {
    /// Of a bucket that nobody has used.
    pub(super) fn empty(at_us: u64) -> Self {
        Self { backlog: 0, at_us }
    }

    /// Reads what [`fmt::Display`] and the script write.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (backlog, at_us) = text.split_once(' ')?;
        Some(Self {
            backlog: backlog.parse().ok()?,
            at_us: at_us.parse().ok()?,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backlog, self.at_us)
    }
}

impl Meter {
    /// The units of a rule's limit.
    ///
    /// # Errors
    /// The rule wants another algorithm than this, or its burst is more than a double holds.
    pub(super) fn of(rule: &Rule) -> Result<Self, Unfit> {
        if rule
            .algorithm
            .is_some_and(|algorithm| algorithm != Algorithm::TokenBucket)
        {
            return Err(Unfit(String::from(
                "buckets in Redis are token buckets: there is no other algorithm for them",
            )));
        }
        let limit = rule.limit;
        let window_us = limit.unit.seconds() * 1_000_000;
        let requests = u64::from(limit.requests.max(1));
        let divisor = common_divisor(window_us, requests);
        let (cost, leak) = (window_us / divisor, requests / divisor);
        let capacity = cost.saturating_mul(u64::from(limit.burst));
        // One microsecond more than empties it must not overflow either.
        if capacity.saturating_add(leak) >= EXACT {
            return Err(Unfit(format!(
                "a burst of {} at {} in {} s is {capacity} units of a bucket in Redis, which counts to 2^53",
                limit.burst,
                limit.requests,
                limit.unit.seconds()
            )));
        }
        Ok(Self {
            cost,
            leak,
            capacity,
            prefix: format!("rate:{}/{}s+{}:", limit.requests, limit.unit.seconds(), limit.burst),
        })
    }

    /// Where the bucket of a key is.
    pub(super) fn key(&self, key: &str) -> String {
        let mut text = String::with_capacity(self.prefix.len() + key.len());
        text.push_str(&self.prefix);
        text.push_str(key);
        text
    }

    /// What a bucket decides, and what is left of it: the script of `atomic.rs` in Rust.
    pub(super) fn decide(&self, before: Level, now_us: u64, cost: u64) -> (Level, Decision) {
        let gone_us = now_us.saturating_sub(before.at_us);
        let backlog = before.backlog.saturating_sub(gone_us.saturating_mul(self.leak));
        let after = backlog.saturating_add(cost.saturating_mul(self.cost));
        let allowed = cost == 0 || after <= self.capacity;
        let kept = if allowed { after } else { backlog };
        let level = Level {
            backlog: kept,
            at_us: now_us,
        };
        let retry = (!allowed).then(|| after - self.capacity);
        (level, self.decision(kept, retry))
    }

    /// A decision, from what is in the bucket now and from how much has to leak before the charge fits.
    pub(super) fn decision(&self, backlog: u64, retry: Option<u64>) -> Decision {
        Decision {
            allowed: retry.is_none(),
            remaining: self.capacity.saturating_sub(backlog) / self.cost,
            reset_after: self.empty_in(backlog),
            retry_after: retry.map(|units| self.empty_in(units)),
            degraded: None,
        }
    }

    /// How long so many units take to leak.
    pub(super) fn empty_in(&self, units: u64) -> Duration {
        Duration::from_micros(units.div_ceil(self.leak))
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
