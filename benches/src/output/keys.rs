//! What `lab keys --json` writes, and `lab keys --from` reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keys::Kind;
use crate::layout::Layout;
use crate::machine::Machine;

/// Primary keys of one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysReport {
    /// Version of this shape.
    pub schema: u32,
    /// When, in UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// What it was measured on.
    pub machine: Machine,
    /// Who ran on which core.
    pub layout: Layout,
    /// Where the databases were.
    pub data_filesystem: String,
    /// How long all of it took.
    pub elapsed_s: f64,
    /// What decided the keys.
    pub seed: u64,
    /// Rows in each table.
    pub rows: u64,
    /// Rows in each commit.
    pub rows_a_commit: u64,
    /// What a row holds besides its key.
    pub payload_bytes: u64,
    /// One for each engine and cache.
    pub runs: Vec<KeysRun>,
    /// What was not measured and why, a sentence each.
    pub absent: Vec<String>,
}

/// All tables in one engine with one size of cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRun {
    /// Name and version.
    pub engine: String,
    /// The database's own cache for each of the tables.
    pub cache_bytes: u64,
    /// The tables.
    pub tables: Vec<KeyTable>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyTable {
    /// The kind of its primary key.
    pub key: Kind,
    /// Whether rows are stored in the order of a key of 16 bytes, instead of beside an index.
    pub clustered: bool,
    /// Rows through the time of their commits.
    pub rows_per_second: f64,
    /// The same of the first tenth of the rows.
    pub first_tenth_rows_per_second: f64,
    /// The same of the last tenth.
    pub last_tenth_rows_per_second: f64,
    /// All of the table's pages, without its index.
    pub table_bytes: u64,
    /// All pages of the primary key's index; null where the table is itself the tree that is ordered by the key.
    pub index_bytes: Option<u64>,
    /// What went through the log.
    pub log_bytes: u64,
    /// Whole pages in that. SQLite logs nothing else; Postgres logs changes, and a whole page at the first change after a
    /// checkpoint. Null before Postgres 15.
    pub log_pages: Option<u64>,
    /// The share of the keys that were larger than the one before.
    pub in_order: f64,
    /// The rows in the order in which they were written.
    pub slices: Vec<Slice>,
}

impl KeyTable {
    /// The size of the tree that is ordered by the key: the index, or the table where there is none.
    pub fn tree_bytes(&self) -> u64 {
        self.index_bytes.unwrap_or(self.table_bytes)
    }
}

/// Rows that were written one after the other, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// How many.
    pub rows: u64,
    /// The time of their commits.
    pub seconds: f64,
}

impl Slice {
    /// So many rows in this time.
    pub fn of(rows: u64, time: Duration) -> Self {
        Self {
            rows,
            seconds: time.as_secs_f64(),
        }
    }

    /// Rows a second over some slices; not a number where there are none.
    pub fn rate(slices: &[Self]) -> f64 {
        let rows: u64 = slices.iter().map(|slice| slice.rows).sum();
        let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
        rows as f64 / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_over_slices_is_by_time_and_no_mean_of_rates() {
        let slices = [
            Slice::of(1_000, Duration::from_secs(1)),
            Slice::of(1_000, Duration::from_secs(3)),
        ];
        assert_eq!(Slice::rate(&slices), 500.0);
        assert_eq!(Slice::rate(&slices[..1]), 1_000.0);
        assert!(Slice::rate(&[]).is_nan());
    }
}
