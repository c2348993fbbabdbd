//! The numbers that every engineer should know, of this machine.
//!
//! # The idea
//!
//! A design is an estimate before it is a program: so many users, so many requests, so many writes that must reach the
//! disk. An estimate needs the time of each step. Lists of such times are well known, but they are of somebody else's
//! machine, most of them of one from 2012. Here each is measured on this one, in under a minute, with its spread and with
//! what was done, beside the figure that is well known.
//!
//! # How a number is made
//!
//! An operation is repeated in batches. The batch is doubled until it takes about 30 ms, so that reading the clock weighs
//! nothing and a lost time slice little; that warms everything up, too. Then eleven batches are timed. The number is the
//! median of the eleven means, its spread their quartiles.
//!
//! What works together across cores is measured across cores: the caller runs on the generator's core, the other side
//! (a thread, a server, an engine) on the server's. Engines are those of a climb: the same binaries, as durable, on the same
//! disk, opened by the same crate as in the designs.
//!
//! # What the numbers are not
//!
//! A mean over a batch hides the slow ones in it; what a user waits at a given rate is the matter of a climb. What is
//! grouped or pipelined is a throughput, written as the time that one takes of it. And 11 samples in a third of a second
//! say nothing of what the machine does in another hour: a shared disk drifts.

mod databases;
mod disk;
mod http;
mod json;
mod memory;
mod published;
mod redis;
mod samples;
mod threads;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::needs::{self, Engines};
use crate::output::numbers::Number;
use crate::output::numbers_table;
use crate::output::progress::Progress;
use crate::stop::Stop;
pub use samples::Effort;
use samples::Samples;

/// All that is measured where nothing is missing, in the order in which it is.
pub const KEYS: [&str; 28] = [
    "clock_read",
    "syscall",
    "memory_latency",
    "memory_copy_kb",
    "atomic_handover",
    "mutex_handover",
    "thread_wakeup",
    "loopback_round_trip",
    "json_encode_kb",
    "json_decode_kb",
    "fdatasync",
    "fdatasync_overwrite",
    "sqlite_insert",
    "sqlite_insert_grouped",
    "sqlite_read",
    "postgres_insert",
    "postgres_insert_grouped",
    "postgres_read",
    "redis_get",
    "redis_get_pipelined",
    "redis_set",
    "redis_set_pipelined",
    "redis_zadd",
    "redis_zadd_pipelined",
    "redis_zrevrank",
    "redis_zrevrank_pipelined",
    "http_request",
    "generator_operation",
];

/// Where and how hard to measure.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Who runs on which core. The calling thread has taken its place already.
    pub layout: &'a Layout,
    /// Cores that this process may use.
    pub cores: usize,
    /// Where files and engines' data are made, and removed again.
    pub data_root: &'a Path,
    /// How much of each.
    pub effort: Effort,
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// In the order of [`KEYS`].
    pub numbers: Vec<Number>,
    /// What was not measured and why, a sentence each.
    pub absent: Vec<String>,
}

/// Measures all that this machine has.
///
/// # Errors
/// Something that is here does not work, or somebody asked to stop. What is not here is no error.
pub fn measure(setup: &Setup<'_>, progress: &Progress, stop: &Stop) -> Result<Measured> {
    let mut bench = Bench {
        setup,
        progress,
        stop,
        measured: Measured {
            numbers: Vec::new(),
            absent: Vec::new(),
        },
    };
    let topics = [
        threads::alone,
        memory::measure,
        threads::together,
        json::measure,
        disk::measure,
        databases::sqlite,
        databases::postgres,
        redis::measure,
        http::measure,
    ];
    // A driver that is interrupted in a system call calls that its own error.
    let done = topics.iter().try_for_each(|topic| topic(&mut bench));
    done.or_else(|error| stop.check().and(Err(error)))?;
    Ok(bench.measured)
}

/// What each measurement works with.
struct Bench<'a> {
    setup: &'a Setup<'a>,
    progress: &'a Progress,
    stop: &'a Stop,
    measured: Measured,
}

impl Bench<'_> {
    /// Measures one number. `batch` does so many and says how long they took; `scale` of them make up what the number is
    /// the time of (a group of 100 rows: 0.01).
    fn number(
        &mut self,
        key: &'static str,
        what: &str,
        how: impl Into<String>,
        scale: f64,
        batch: impl FnMut(u64) -> Result<Duration>,
    ) -> Result<()> {
        let samples = samples::collect(self.setup.effort, self.stop, batch).with_context(|| what.to_owned())?;
        self.add(key, what, how, &samples.scaled(scale));
        Ok(())
    }

    /// Puts down what was sampled.
    fn add(&mut self, key: &'static str, what: &str, how: impl Into<String>, samples: &Samples) {
        let seconds = samples.quantile(0.5);
        let number = Number {
            key: key.to_owned(),
            what: what.to_owned(),
            seconds,
            low_s: samples.quantile(0.25),
            high_s: samples.quantile(0.75),
            samples: samples.count(),
            per_second: 1.0 / seconds,
            how: how.into(),
            published: published::of(key),
        };
        self.progress.line(&numbers_table::line(&number));
        self.measured.numbers.push(number);
    }

    /// Puts down what is not measured, and why.
    fn absent(&mut self, why: String) {
        self.progress.line(&why);
        self.measured.absent.push(why);
    }

    /// An engine of this machine on the server's cores, with its name and version; `None`, and put down as absent, where
    /// there is none.
    fn engine(&mut self, name: &str) -> Result<Option<(Engines, String)>> {
        let need = match needs::own(name, self.setup.data_root) {
            Ok(need) => [need],
            Err(why) => {
                self.absent(format!("{name}: not measured. {why}"));
                return Ok(None);
            }
        };
        let version = needs::to_start(&need).unwrap_or_default();
        let engines = Engines::start_apart(&need, self.setup.data_root, self.setup.layout)?;
        Ok(Some((engines, version)))
    }
}
