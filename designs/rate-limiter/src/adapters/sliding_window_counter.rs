//! Two counters instead of a log: the window before this one, weighted by how much of it is still in sight, and this one.
//!
//! ```text
//!      window before         this window
//! |  42 requests        |  18 so far  now          |
//!           └──── the last window ────┘
//!             3/4 of 42  +  18  =  49.5
//! ```
//!
//! The estimate takes for granted that the requests of the window before came evenly. If they came late in it, too few are
//! believed to be in sight, and more than the limit passes within one window; if they came early, too many, and a log would
//! have admitted what is refused here. `tests/windows.rs` measures both.
//!
//! The promise holds all the same. Between admissions the estimate falls at the rate of the window before, which is at most
//! the limit's, and at an edge it does not jump: it is a bucket that leaks no faster than the limit allows. So in any
//! interval of length `d` no more is admitted than `L + L x d / W`: what a token bucket promises, and no more.

use super::shards::{Shards, State};
use super::{decision, window};
use crate::domain::{Decision, Error, Rule, Unfit};

/// The counters of one rule.
pub struct SlidingWindowCounters {
    requests: u64,
    window_ns: u64,
    counters: Shards<Pair>,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    window: u64,
    before: u64,
    used: u64,
    window_ns: u64,
}

impl State for Pair {
    fn idle(&self, now_ns: u64) -> bool {
        let now = self.at(now_ns / self.window_ns);
        now.before == 0 && now.used == 0
    }
}

impl Pair {
    /// The same counters, seen from this window or a later one.
    fn at(self, window: u64) -> Self {
        let (before, used) = match window.saturating_sub(self.window) {
            0 => return self,
            1 => (self.used, 0),
            _ => (0, 0),
        };
        Self {
            window,
            before,
            used,
            ..self
        }
    }
}

impl SlidingWindowCounters {
    /// Counters for at most about so many keys.
    ///
    /// # Errors
    /// The rule has a burst of its own.
    pub fn open(rule: &Rule, max_keys: usize) -> Result<Self, Unfit> {
        let (requests, window_ns) = window(rule, "sliding_window_counter")?;
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
        let fresh = || Pair {
            window: now_ns / self.window_ns,
            window_ns: self.window_ns,
            ..Pair::default()
        };
        if cost == 0 {
            let pair = self.counters.look(key, |pair| pair.copied().unwrap_or_else(fresh));
            return Ok(self.decide(pair, now_ns, 0).1);
        }
        self.counters.change(key, now_ns, fresh, |pair| {
            let (after, decision) = self.decide(*pair, now_ns, cost);
            *pair = after;
            decision
        })
    }

    /// The counters afterwards, and what was decided.
    fn decide(&self, pair: Pair, now_ns: u64, cost: u64) -> (Pair, Decision) {
        let pair = pair.at(now_ns / self.window_ns);
        let gone_ns = now_ns % self.window_ns;
        let room = self.room(pair, gone_ns);
        if cost > room {
            let retry_ns = self.room_in_ns(pair, gone_ns, cost);
            return (pair, decision(room, pair.empty_in_ns(gone_ns), Some(retry_ns)));
        }
        let after = Pair {
            used: pair.used + cost,
            ..pair
        };
        let left = self.room(after, gone_ns);
        (after, decision(left, after.empty_in_ns(gone_ns), None))
    }

    /// How many more fit now. In units of one request times one nanosecond, so that nothing is rounded before the end.
    fn room(&self, pair: Pair, gone_ns: u64) -> u64 {
        let window_ns = u128::from(self.window_ns);
        let estimate =
            u128::from(pair.before) * u128::from(self.window_ns - gone_ns) + u128::from(pair.used) * window_ns;
        let room = (u128::from(self.requests) * window_ns).saturating_sub(estimate) / window_ns;
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    /// How long until a charge fits, if none comes before it: in this window, or else in the next.
    fn room_in_ns(&self, pair: Pair, gone_ns: u64, cost: u64) -> u64 {
        match self.requests.checked_sub(pair.used.saturating_add(cost)) {
            Some(spare) => self.fits_at_ns(pair.before, spare).saturating_sub(gone_ns),
            None => self.window_ns - gone_ns + self.fits_at_ns(pair.used, self.requests.saturating_sub(cost)),
        }
    }

    /// How far into a window no more than `spare` of the window before is in sight.
    fn fits_at_ns(&self, before: u64, spare: u64) -> u64 {
        if before <= spare {
            return 0;
        }
        let sight_ns = u128::from(spare) * u128::from(self.window_ns) / u128::from(before);
        self.window_ns - u64::try_from(sight_ns).unwrap_or(self.window_ns)
    }
}

impl Pair {
    /// How long until both windows are out of sight.
    fn empty_in_ns(&self, gone_ns: u64) -> u64 {
        match (self.used, self.before) {
            (0, 0) => 0,
            (0, _) => self.window_ns - gone_ns,
            _ => 2 * self.window_ns - gone_ns,
        }
    }
}
