//! What a primary key costs: the same rows under keys of five kinds, in SQLite and in Postgres.
//!
//! # The idea
//!
//! A database finds a row by its key in a B-tree. A key that is larger than all before it goes to the right edge of the tree:
//! always the same few pages, which are in the cache and are written once they are full. A random key goes anywhere, so each
//! row of a commit may change a page of its own, pages are split in the middle, and a tree that does not fit in the cache has
//! its pages fetched before they can be changed. What of this is felt, and from which size on, is what is measured here.
//!
//! # How
//!
//! - Each kind has a table of its own in a database of its own, an engine of its own in Postgres, so that none fills the cache
//!   of another, and each has a log of its own to be counted.
//! - All of it twice, with a cache that the index of a million random keys fits into, and with one that it does not.
//! - The rows are inserted in ten slices, and all tables of an engine take turns, with either cache: the first slice of each,
//!   then the second of each, in an order that is drawn anew each time. What the machine does meanwhile, it does to all.
//! - A commit has [`ROWS_A_COMMIT`] rows in one statement, and is durable: a server that groups its commits. Only commits are
//!   timed. Keys are made beforehand, by the seed and by a clock that ticks once in [`KEYS_A_MS`] keys.
//! - At the end every table must hold as many rows as were sent.
//!
//! # What the figures are not
//!
//! A page that is not in the database's cache is here still in the system's, a copy away. Where it has to come from a disk, a
//! miss costs what a read of that disk does, and nothing here says how much that is.

mod kinds;
mod postgres;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::runtime::{Builder, Runtime};

use crate::layout::Layout;
use crate::output::keys::{KeyTable, KeysRun, Slice};
use crate::output::keys_table;
use crate::output::progress::Progress;
use crate::stop::Stop;
use kinds::{Group, Keys};
pub use kinds::{KEYS_A_MS, Kind};

/// Rows in one commit.
pub const ROWS_A_COMMIT: u64 = 1_000;
/// In how many turns a table is filled, and so how many rates there are of it.
pub const SLICES: u64 = 10;
/// What a row holds besides its key: about a URL.
pub const PAYLOAD_BYTES: u64 = BODY.len() as u64;
const BODY: &str =
    "https://example.com/a/path/that/is/as/long/as/most/are?and=a&query=with&a=few&parameters=in&it=here.";

/// Where and what to measure.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Who runs on which core. The calling thread has taken its place already.
    pub layout: &'a Layout,
    /// Where databases are made, and removed again.
    pub data_root: &'a Path,
    /// Rows in each table, at least [`SLICES`].
    pub rows: u64,
    /// Decides the keys.
    pub seed: u64,
    /// Whether an engine that is not here is an error.
    pub engines: bool,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// One for each engine and cache.
    pub runs: Vec<KeysRun>,
    /// What was not measured and why, a sentence each.
    pub absent: Vec<String>,
}

/// Measures all engines that this machine has.
///
/// # Errors
/// Something that is here does not work, a table does not hold what was written, or somebody asked to stop. What is not here
/// is an error only where the setup says so.
pub fn measure(setup: &Setup<'_>, progress: &Progress, stop: &Stop) -> Result<Measured> {
    ensure!(
        setup.rows >= SLICES,
        "--rows: at least {SLICES}, one for each slice of the measurement"
    );
    let bench = Bench { setup, progress, stop };
    let done = bench.all();
    // A driver that is interrupted in a system call calls that its own error.
    done.or_else(|error| stop.check().and(Err(error)))
}

/// A table that is being filled.
trait Table {
    /// Commits a group of rows, and says how long that took.
    fn insert(&mut self, group: &Group) -> Result<Duration>;

    /// What is to be done after each slice, untimed.
    fn settle(&mut self) -> Result<()>;

    /// What the table has become.
    fn facts(&mut self) -> Result<Facts>;
}

/// What a database says of a table.
struct Facts {
    rows: u64,
    /// All of the table's pages.
    table_bytes: u64,
    /// All pages of the index beside it; `None` where the table is itself ordered by the key.
    index_bytes: Option<u64>,
    /// What was written to the log.
    log_bytes: u64,
    /// Whole pages in that, where the engine counts them.
    log_pages: Option<u64>,
}

/// What each measurement works with.
struct Bench<'a> {
    setup: &'a Setup<'a>,
    progress: &'a Progress,
    stop: &'a Stop,
}

impl Bench<'_> {
    fn all(&self) -> Result<Measured> {
        let mut measured = Measured {
            runs: sqlite::measure(self)?,
            absent: Vec::new(),
        };
        match postgres::find(self) {
            Ok(need) => measured.runs.extend(postgres::measure(self, &need)?),
            Err(why) => {
                let why = format!("postgres: not measured. {why}");
                ensure!(!self.setup.engines, why);
                self.progress.line(&why);
                measured.absent.push(why);
            }
        }
        Ok(measured)
    }

    /// Fills the tables in turns; each comes with its kind of key and whether it is ordered by it.
    fn fill<T: Table>(&self, engine: &str, tables: Vec<(Kind, bool, T)>) -> Result<Vec<KeyTable>> {
        let mut lanes: Vec<Lane<T>> = tables
            .into_iter()
            .map(|(kind, clustered, table)| Lane {
                table,
                kind,
                clustered,
                keys: Keys::new(kind, self.setup.seed),
                slices: Vec::new(),
            })
            .collect();
        // Whoever follows the one that writes most has the disk's worst time: never the same in each turn.
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        let mut rng = SmallRng::seed_from_u64(self.setup.seed);
        for turn in 0..SLICES {
            let (before, after) = (share(self.setup.rows, turn), share(self.setup.rows, turn + 1));
            order.shuffle(&mut rng);
            for lane in &order {
                let lane = &mut lanes[*lane];
                lane.fill(after - before, self.stop).with_context(|| {
                    let name = keys_table::name(lane.kind, lane.clustered);
                    format!("{engine}, {name}, after {before} rows")
                })?;
            }
            self.progress
                .line(&format!("{engine}: {after} rows in each of {} tables", lanes.len()));
        }
        lanes.into_iter().map(|lane| lane.finish(self.setup.rows)).collect()
    }
}

/// Tables that were filled together, by the cache that they had.
fn runs(engine: &str, caches: impl IntoIterator<Item = u64>, tables: &[KeyTable], each: usize) -> Vec<KeysRun> {
    let run = |(cache_bytes, tables): (u64, &[KeyTable])| KeysRun {
        engine: engine.to_owned(),
        cache_bytes,
        tables: tables.to_vec(),
    };
    caches.into_iter().zip(tables.chunks(each)).map(run).collect()
}

/// Rows in the table after so many slices.
fn share(rows: u64, slices: u64) -> u64 {
    // In two steps, because the product may not fit.
    rows / SLICES * slices + rows % SLICES * slices / SLICES
}

/// A table, its keys, and what has been measured of it so far.
struct Lane<T> {
    table: T,
    kind: Kind,
    clustered: bool,
    keys: Keys,
    slices: Vec<Slice>,
}

impl<T: Table> Lane<T> {
    fn fill(&mut self, rows: u64, stop: &Stop) -> Result<()> {
        let (mut left, mut time) = (rows, Duration::ZERO);
        while left > 0 {
            stop.check()?;
            let count = left.min(ROWS_A_COMMIT);
            let group = self.keys.group(usize::try_from(count)?);
            time += self.table.insert(&group)?;
            left -= count;
        }
        self.slices.push(Slice::of(rows, time));
        self.table.settle()
    }

    fn finish(mut self, rows: u64) -> Result<KeyTable> {
        let facts = self.table.facts()?;
        let name = keys_table::name(self.kind, self.clustered);
        ensure!(
            facts.rows == rows,
            "{rows} rows with {name} were written, {} are there",
            facts.rows
        );
        ensure!(
            self.kind == Kind::UuidV4 || self.keys.in_order() == 1.0,
            "{name} did not increase, as they must"
        );
        Ok(KeyTable {
            key: self.kind,
            clustered: self.clustered,
            rows_per_second: Slice::rate(&self.slices),
            first_tenth_rows_per_second: Slice::rate(&self.slices[..1]),
            last_tenth_rows_per_second: Slice::rate(&self.slices[self.slices.len() - 1..]),
            table_bytes: facts.table_bytes,
            index_bytes: facts.index_bytes,
            log_bytes: facts.log_bytes,
            log_pages: facts.log_pages,
            in_order: self.keys.in_order(),
            slices: self.slices,
        })
    }
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no event queue")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_the_whole_and_differ_by_a_row_at_most() {
        for rows in [10, 2_000, 1_000_007, u64::MAX] {
            assert_eq!((share(rows, 0), share(rows, SLICES)), (0, rows));
            for slice in 0..SLICES {
                let size = share(rows, slice + 1) - share(rows, slice);
                assert!(size - rows / SLICES <= 1, "{rows}: {size}");
            }
        }
    }

    #[test]
    fn the_payload_has_a_hundred_bytes() {
        assert_eq!(PAYLOAD_BYTES, 100);
    }

    /// A table that takes a millisecond a commit, and loses what it is told to lose.
    struct Fake {
        rows: u64,
        loses: u64,
        settled: u64,
    }

    impl Table for Fake {
        fn insert(&mut self, group: &Group) -> Result<Duration> {
            self.rows += group.len() as u64;
            Ok(Duration::from_millis(1))
        }

        fn settle(&mut self) -> Result<()> {
            self.settled += 1;
            Ok(())
        }

        fn facts(&mut self) -> Result<Facts> {
            assert_eq!(self.settled, SLICES);
            Ok(Facts {
                rows: self.rows - self.loses,
                table_bytes: 1,
                index_bytes: None,
                log_bytes: 2,
                log_pages: None,
            })
        }
    }

    fn fill(loses: u64) -> Result<Vec<KeyTable>> {
        let setup = Setup {
            layout: &Layout::detect(),
            data_root: Path::new("/"),
            rows: 25_000,
            seed: 1,
            engines: false,
        };
        let bench = Bench {
            setup: &setup,
            progress: &Progress::spinner(),
            stop: &Stop::default(),
        };
        let tables = [Kind::UuidV4, Kind::Ulid].map(|kind| {
            let fake = Fake {
                rows: 0,
                loses,
                settled: 0,
            };
            (kind, false, fake)
        });
        bench.fill("a test", tables.into())
    }

    #[test]
    fn every_table_is_filled_in_slices_and_keeps_its_place() {
        let tables = fill(0).unwrap();
        assert_eq!(
            tables.iter().map(|table| table.key).collect::<Vec<_>>(),
            [Kind::UuidV4, Kind::Ulid]
        );
        for table in &tables {
            // 2,500 rows are three commits, of 1,000, 1,000 and 500.
            assert!(
                table
                    .slices
                    .iter()
                    .all(|slice| (slice.rows, slice.seconds) == (2_500, 0.003))
            );
            assert_eq!(table.slices.len() as u64, SLICES);
            assert!((table.rows_per_second - 25_000.0 / 0.03).abs() < 1e-6);
        }
    }

    #[test]
    fn a_table_that_lost_a_row_is_an_error() {
        let text = fill(1).unwrap_err().to_string();
        assert_eq!(text, "25000 rows with UUIDv4 were written, 24999 are there");
    }
}
