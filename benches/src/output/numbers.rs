//! What `lab numbers --json` writes, and whoever estimates from this machine's numbers reads.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::machine::Machine;

/// The numbers of one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumbersReport {
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
    /// How long all of it took.
    pub elapsed_s: f64,
    /// The numbers, in the order in which they were measured.
    pub numbers: Vec<Number>,
    /// What was not measured and why, a sentence each.
    pub absent: Vec<String>,
}

impl NumbersReport {
    /// Where the last numbers of this machine are kept for `lab estimate`: beside the lab's executable.
    ///
    /// # Errors
    /// The system does not say where that is.
    pub fn kept() -> Result<PathBuf> {
        let own = std::env::current_exe().context("cannot find the lab's own executable")?;
        Ok(own.with_file_name("lab-numbers.json"))
    }

    /// The number with this key, if it was measured.
    pub fn of(&self, key: &str) -> Option<&Number> {
        self.numbers.iter().find(|number| number.key == key)
    }
}

/// One thing that this machine does, and how long it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// Its name for programs; [`KEYS`](crate::numbers::KEYS) has all.
    pub key: String,
    /// Its name for people.
    pub what: String,
    /// The time of one: the median of the samples.
    pub seconds: f64,
    /// The lower quartile of the samples.
    pub low_s: f64,
    /// The upper quartile of the samples.
    pub high_s: f64,
    /// How many samples.
    pub samples: u32,
    /// How many go into a second, one after the other: 1 / `seconds`. Of what is grouped, pipelined or loaded by many at
    /// once, this is the throughput, and `seconds` its inverse: no single one of them is that fast.
    pub per_second: f64,
    /// The procedure behind it.
    pub how: String,
    /// What is well known of the same or the nearest thing.
    pub published: Option<Published>,
}

/// A figure that somebody else has published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The time of one.
    pub seconds: f64,
    /// Who says so, and of what.
    pub source: String,
    /// The year of it.
    pub year: u32,
}
