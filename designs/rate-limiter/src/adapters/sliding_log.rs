//! The time of every admission: exact, for any window that one may lay anywhere, and as large as the limit.
//!
//! Of the last window, all times are kept. A charge is admitted if they and it are no more than the limit. Nothing about
//! that is approximate, and nothing about it is small: a key with a limit of a thousand keeps a thousand times.

use std::collections::VecDeque;

use super::shards::{Shards, State};
use super::{decision, window};
use crate::domain::{Decision, Error, Rule, Unfit};

/// The highest limit that is kept as a log: one key at it takes 16 bytes times this.
const MOST: u64 = 100_000;

/// The logs of one rule.
pub struct SlidingLogs {
    requests: u64,
    window_ns: u64,
    logs: Shards<Log>,
}

#[derive(Default)]
struct Log {
    /// Time and cost, oldest first.
    admitted: VecDeque<(u64, u32)>,
    used: u64,
    window_ns: u64,
}

impl State for Log {
    fn idle(&self, now_ns: u64) -> bool {
        self.empty_in_ns(now_ns) == 0
    }
}

impl SlidingLogs {
    /// Logs for at most about so many keys.
    ///
    /// # Errors
    /// The rule has a burst of its own, or its limit makes too long a log.
    pub fn open(rule: &Rule, max_keys: usize) -> Result<Self, Unfit> {
        let (requests, window_ns) = window(rule, "sliding_log")?;
        if requests > MOST {
            return Err(Unfit(format!(
                "sliding_log keeps the time of every request: {requests} are too many, {MOST} are the most"
            )));
        }
        Ok(Self {
            requests,
            window_ns,
            logs: Shards::new(max_keys, window_ns),
        })
    }

    /// Admits a charge, or refuses it.
    ///
    /// # Errors
    /// [`Error::Full`]: there is no room for another key.
    pub fn take(&self, now_ns: u64, key: &str, cost: u64) -> Result<Decision, Error> {
        if cost == 0 {
            return Ok(self.logs.look(key, |log| match log {
                Some(log) => decision(self.requests - log.used_at(now_ns), log.empty_in_ns(now_ns), None),
                None => decision(self.requests, 0, None),
            }));
        }
        let fresh = || Log {
            window_ns: self.window_ns,
            ..Log::default()
        };
        self.logs.change(key, now_ns, fresh, |log| {
            log.forget(now_ns);
            let used = log.used.saturating_add(cost);
            match u32::try_from(cost) {
                Ok(charge) if used <= self.requests => {
                    log.admitted.push_back((now_ns, charge));
                    log.used = used;
                    decision(self.requests - used, self.window_ns, None)
                }
                _ => {
                    let wait_ns = log.room_in_ns(now_ns, used.saturating_sub(self.requests));
                    decision(self.requests - log.used, log.empty_in_ns(now_ns), Some(wait_ns))
                }
            }
        })
    }
}

impl Log {
    /// Drops what the window has left behind. A window is half open: what was admitted exactly one ago is not in it.
    fn forget(&mut self, now_ns: u64) {
        while let Some((time, cost)) = self.admitted.front().copied() {
            if time + self.window_ns > now_ns {
                break;
            }
            self.admitted.pop_front();
            self.used -= u64::from(cost);
        }
    }

    /// The same without dropping anything: what is used in the window that ends now.
    fn used_at(&self, now_ns: u64) -> u64 {
        let gone = self
            .admitted
            .iter()
            .take_while(|(time, _)| time + self.window_ns <= now_ns);
        self.used - gone.map(|(_, cost)| u64::from(*cost)).sum::<u64>()
    }

    /// How long until nothing is in the window.
    fn empty_in_ns(&self, now_ns: u64) -> u64 {
        let last = self.admitted.back().map_or(0, |(time, _)| time + self.window_ns);
        last.saturating_sub(now_ns)
    }

    /// How long until so much has left the window.
    fn room_in_ns(&self, now_ns: u64, needed: u64) -> u64 {
        let mut left = 0;
        let leaves = self.admitted.iter().find(|(_, cost)| {
            left += u64::from(*cost);
            left >= needed
        });
        leaves.map_or(self.window_ns, |(time, _)| {
            (time + self.window_ns).saturating_sub(now_ns)
        })
    }
}
