//! The JSON that `--json` writes. Units stand in the key names; [`SCHEMA`] changes when a key does. A key that was added
//! later is left out where it has nothing to say, so that recorded runs stay what they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::generator::{Latencies, Outcome, Second};
use crate::workload::{Accuracy, Verified};

/// The version of these shapes.
pub const SCHEMA: u32 = 1;

/// The most that is read of a file: a climb is far below it.
const MOST_BYTES: u64 = 256 << 20;

/// Reads one of these shapes back; `what` it is, for the error: `a climb`.
///
/// # Errors
/// The file cannot be read, is something else, or has another [`SCHEMA`].
pub fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let other = || format!("{} is not {what}", path.display());
    // The version first: a file of another one may well have other keys.
    let version: Version = serde_json::from_str(&text).with_context(other)?;
    ensure!(
        version.schema == SCHEMA,
        "{} has schema {}, this lab reads {SCHEMA}",
        path.display(),
        version.schema
    );
    serde_json::from_str(&text).with_context(other)
}

/// A file that was opened before the work, so that minutes of load do not end in "permission denied".
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Opens the file for writing, without touching what it holds.
    ///
    /// # Errors
    /// The path cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Replaces the file's content by a value as JSON.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.write_text(&text)
    }

    /// Replaces the file's content by a text.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_text(&mut self, text: &str) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl From<&Latencies> for Quantiles {
    fn from(latencies: &Latencies) -> Self {
        Self {
            p50: latencies.quantile_ms(0.5),
            p90: latencies.quantile_ms(0.9),
            p99: latencies.quantile_ms(0.99),
            p999: latencies.quantile_ms(0.999),
            max: latencies.max_ms(),
        }
    }
}

/// The result of `lab load`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadReport {
    /// Version of this shape.
    pub schema: u32,
    /// What was loaded; of several servers the URLs with a space between.
    pub url: String,
    /// The seed of arrivals and data.
    pub seed: u64,
    /// How long arrivals were scheduled for.
    pub duration_s: f64,
    /// Arrivals a second that were asked for; null in a closed loop.
    pub offered_rps: Option<f64>,
    /// Operations completed a second.
    pub achieved_rps: f64,
    /// Arrivals of the schedule.
    pub planned: u64,
    /// Operations sent.
    pub issued: u64,
    /// Operations answered as promised.
    pub completed: u64,
    /// Sent by the generator more than 5 ms after their time although a connection was free.
    pub late: u64,
    /// Arrivals that found the queue full.
    pub dropped: u64,
    /// Operations without an answer in time.
    pub timed_out: u64,
    /// Operations without an answer when the drain window ended.
    pub unfinished: u64,
    /// Failed operations.
    pub errors: u64,
    /// The same by reason.
    pub errors_by_reason: BTreeMap<String, u64>,
    /// Broken promises: wrong answers, and what verifying the history has shown.
    pub violations: u64,
    /// The first few of them.
    pub violation_examples: Vec<String>,
    /// What was verified after the load.
    pub verified: String,
    /// How well what the design limits was kept; left out where it limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// From the scheduled instant.
    pub response_ms: Quantiles,
    /// From the actual send.
    pub service_ms: Quantiles,
    /// The generator itself.
    pub generator: GeneratorReport,
    /// A kind of operation each.
    pub kinds: Vec<KindReport>,
    /// The course of the run.
    pub seconds: Vec<SecondReport>,
    /// What was missed of the SLO, a sentence each.
    pub slo_missed: Vec<String>,
}

/// How well the generator did its own work.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorReport {
    /// CPU time over wall time, from 0 to 1.
    pub cpu: f64,
    /// How long after its time an arrival was taken notice of.
    pub lag_p50_ms: f64,
    /// The same, 99th percentile.
    pub lag_p99_ms: f64,
    /// Connections made anew.
    pub reconnects: u64,
    /// Whether the generator, not the server, set the pace: then the run says nothing about the server.
    pub limited: bool,
}

/// One kind of operation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindReport {
    /// Its name.
    pub kind: String,
    /// Operations answered as promised.
    pub completed: u64,
    /// Operations that were not.
    pub failed: u64,
    /// From the scheduled instant.
    pub response_ms: Quantiles,
    /// From the actual send.
    pub service_ms: Quantiles,
}

/// One second of the run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondReport {
    /// Its number, from 0.
    pub second: u64,
    /// Operations answered as promised.
    pub completed: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Median response time.
    pub p50_ms: f64,
    /// p99 response time.
    pub p99_ms: f64,
}

impl From<&Second> for SecondReport {
    fn from(second: &Second) -> Self {
        Self {
            second: second.second,
            completed: second.completed,
            failed: second.failed,
            p50_ms: second.p50_ms,
            p99_ms: second.p99_ms,
        }
    }
}

impl LoadReport {
    /// Puts an outcome into words that a program reads.
    pub fn new(url: &str, seed: u64, outcome: &Outcome, verified: &Verified, missed: &[String]) -> Self {
        Self {
            schema: SCHEMA,
            url: url.to_owned(),
            seed,
            duration_s: outcome.duration.as_secs_f64(),
            offered_rps: outcome.offered_rps,
            achieved_rps: outcome.achieved_rps(),
            planned: outcome.planned,
            issued: outcome.issued,
            completed: outcome.completed,
            late: outcome.late,
            dropped: outcome.dropped,
            timed_out: outcome.timed_out,
            unfinished: outcome.unfinished,
            errors: outcome.failed(),
            errors_by_reason: outcome.errors.iter().map(|(k, v)| (k.to_string(), *v)).collect(),
            violations: outcome.violations + verified.violations,
            violation_examples: outcome.examples.iter().chain(&verified.examples).cloned().collect(),
            verified: verified.summary.clone(),
            accuracy: verified.accuracy,
            response_ms: (&outcome.times.response).into(),
            service_ms: (&outcome.times.service).into(),
            generator: GeneratorReport {
                cpu: outcome.generator_cpu,
                lag_p50_ms: outcome.lag.quantile_ms(0.5),
                lag_p99_ms: outcome.lag.quantile_ms(0.99),
                reconnects: outcome.reconnects,
                limited: outcome.generator_limited().is_some(),
            },
            kinds: outcome
                .kinds
                .iter()
                .map(|kind| KindReport {
                    kind: kind.kind.name.to_owned(),
                    completed: kind.completed,
                    failed: kind.failed,
                    response_ms: (&kind.times.response).into(),
                    service_ms: (&kind.times.service).into(),
                })
                .collect(),
            seconds: outcome.seconds.iter().map(SecondReport::from).collect(),
            slo_missed: missed.to_vec(),
        }
    }
}
