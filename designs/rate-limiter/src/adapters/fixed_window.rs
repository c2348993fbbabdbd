//! A counter a window: the first idea that everybody has, and wrong by a factor of two.
//!
//! ```text
//! limit 5        window 1         window 2
//!          |          . . . . .|. . . . .          |
//!                     └─ 10 in much less than a window ─┘
//! ```
//!
//! A window begins with nothing used, whatever was used a moment ago. So twice the limit passes across an edge, which is
//! more than the promise allows for an interval that short.

use super::shards::{Shards, State};
use super::{decision, window};
use crate::domain::{Decision, Error, Rule, Unfit};

/// The counters of one rule.
pub struct FixedWindows {
    requests: u64,
    window_ns: u64,
    counters: Shards<Counter>,
}

struct Counter {
    window: u64,
    window_ns: u64,
    used: u64,
}

impl State for Counter {
    fn idle(&self, now_ns: u64) -> bool {
        now_ns / self.window_ns > self.window
    }
}

impl Counter {
    fn used_in(&self, window: u64) -> u64 {
        if self.window == window { self.used } else { 0 }
    }
}

impl FixedWindows {
    /// Counters for at most about so many keys.
    ///
    /// # Errors
    /// The rule has a burst of its own.
    pub fn open(rule: &Rule, max_keys: usize) -> Result<Self, Unfit> {
        let (requests, window_ns) = window(rule, "fixed_window")?;
        Ok(Self {
            requests,
            window_ns,
            counters: Shards::new(max_keys, window_ns),
        })
    }

    /// Admits a charge, or refuses it.
    ///
    /// # Errors
    /// [`Error::Full`]: there is no room for another key.
    pub fn take(&self, now_ns: u64, key: &str, cost: u64) -> Result<Decision, Error> {
        let window = now_ns / self.window_ns;
        if cost == 0 {
            let used = |counter: Option<&Counter>| counter.map_or(0, |counter| counter.used_in(window));
            let used = self.counters.look(key, used);
            return Ok(self.decide(now_ns, used, 0).1);
        }
        let fresh = || Counter {
            window,
            window_ns: self.window_ns,
            used: 0,
        };
        self.counters.change(key, now_ns, fresh, |counter| {
            let (used, decision) = self.decide(now_ns, counter.used_in(window), cost);
            *counter = Counter { used, ..fresh() };
            decision
        })
    }

    /// What is used afterwards, and what was decided.
    fn decide(&self, now_ns: u64, used: u64, cost: u64) -> (u64, Decision) {
        let ends_in_ns = self.window_ns - now_ns % self.window_ns;
        match self.requests.checked_sub(used.saturating_add(cost)) {
            Some(left) => {
                let full_in_ns = if left == self.requests { 0 } else { ends_in_ns };
                (used + cost, decision(left, full_in_ns, None))
            }
            None => (used, decision(self.requests - used, ends_in_ns, Some(ends_in_ns))),
        }
    }
}
