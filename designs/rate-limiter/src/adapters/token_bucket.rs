//! Token buckets in memory: GCRA in a table of words.

use super::decision;
use crate::domain::{Decision, Error, Rule, Unfit};
use crate::gcra::Rate;
use crate::table::Table;

/// The buckets of one rule.
pub struct TokenBuckets {
    rate: Rate,
    table: Table,
}

impl TokenBuckets {
    /// Buckets for at most so many keys.
    ///
    /// # Errors
    /// The limit fits into no word.
    pub fn open(rule: &Rule, max_keys: usize) -> Result<Self, Unfit> {
        // Whoever asks for nothing is never here (`service.rs`), but a rule for it may be.
        let mut limit = rule.limit;
        limit.requests = limit.requests.max(1);
        limit.burst = limit.burst.max(1);
        Ok(Self {
            rate: Rate::new(limit)?,
            table: Table::new(max_keys),
        })
    }

    /// Admits a charge, or refuses it.
    ///
    /// # Errors
    /// [`Error::Full`]: there is no room for another key.
    pub fn take(&self, now_ns: u64, key: &str, cost: u64) -> Result<Decision, Error> {
        let taken = self.table.take(&self.rate, now_ns, key, cost)?;
        let decided = decision(taken.remaining, taken.full_in_ns, taken.retry_in_ns);
        Ok(Decision {
            allowed: taken.allowed,
            ..decided
        })
    }
}
