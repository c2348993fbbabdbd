//! What a design is loaded with: the contract between the generator and one file of `workloads/`.
//!
//! A workload is synchronous and does no I/O while load runs: it writes request bytes into a buffer and judges answers.
//! The generator decides *when*; the workload decides *what*, and whether the answer is right. It is driven by one thread.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::generator::Generator;
use crate::http::{Client, Response};
use crate::stop::Stop;

/// One kind of operation, with the promise that it has to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The name in tables and JSON.
    pub name: &'static str,
    /// Its p99 response time must not exceed this; `None` where nothing is promised.
    pub slo_p99: Option<Duration>,
}

/// One arrival: a request, or several in order on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Index into [`Workload::kinds`].
    pub kind: usize,
    /// Whatever the workload needs to recognise it again.
    pub token: u64,
    /// Whether the request just written is a HEAD, whose answer has no body.
    pub no_body: bool,
}

/// What an answer means for its operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Not finished: the next request has been written.
    Next(Operation),
    /// Finished as promised.
    Done,
    /// The server answered, but did not do it (overload, an error of its own). The text groups the errors that are printed.
    Failed(Cow<'static, str>),
    /// The server did something wrong: an invariant is violated.
    Violation(String),
}

/// What verifying the history of a run has shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verified {
    /// Broken promises over the whole history.
    pub violations: u64,
    /// The first few of them, in words.
    pub examples: Vec<String>,
    /// What was checked and how much of it, for the reader.
    pub summary: String,
    /// How well what the design limits was kept, where it limits something.
    pub accuracy: Option<Accuracy>,
}

/// How well a limit was kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// The most that was admitted within one window, wherever that is laid, over what is allowed in one: a whole burst and
    /// what the limit adds meanwhile.
    pub most_in_a_window: f64,
    /// How many were admitted beyond what is allowed in some interval, of whatever length.
    pub too_many: u64,
    /// How many were refused although there was room.
    pub refused_wrongly: u64,
}

impl fmt::Display for Accuracy {
    /// `1.00 x`, and what is wrong: `1.37 x, 96 too many, 2 refused wrongly`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} x", self.most_in_a_window)?;
        for (count, what) in [(self.too_many, "too many"), (self.refused_wrongly, "refused wrongly")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Verified {
    /// Counts one violation and keeps its description while there are few.
    pub fn violation(&mut self, text: impl FnOnce() -> String) {
        self.violations += 1;
        if self.examples.len() < 5 {
            self.examples.push(text());
        }
    }
}

/// Shares of the kinds of operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// Running sums of the shares, one a kind; the last is 1.
    upto: Vec<f64>,
}

impl Mix {
    /// From weights in the order of the kinds.
    pub fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let upto = weights
            .iter()
            .map(|weight| {
                sum += weight / total;
                sum
            })
            .collect();
        Self { upto }
    }

    /// Reads `redirect=90,create=8`; a kind that is not named gets nothing.
    ///
    /// # Errors
    /// A kind that does not exist, a weight that is no number, or nothing at all.
    pub fn parse(text: &str, kinds: &[&str]) -> Result<Self> {
        let mut weights = vec![0.0; kinds.len()];
        for part in text.split(',') {
            let parsed = part.split_once('=').and_then(|(name, weight)| {
                let index = kinds.iter().position(|kind| *kind == name.trim())?;
                let weight: f64 = weight.trim().parse().ok()?;
                (weight >= 0.0 && weight.is_finite()).then_some((index, weight))
            });
            let Some((index, weight)) = parsed else {
                bail!(
                    "--mix: `{part}` is not one of {} with a weight, like {}=90",
                    kinds.join(", "),
                    kinds[0]
                );
            };
            weights[index] = weight;
        }
        if weights.iter().sum::<f64>() <= 0.0 {
            bail!("--mix: at least one weight must be above zero");
        }
        Ok(Self::new(&weights))
    }

    /// The shares, in the order of the kinds; their sum is 1.
    pub fn shares(&self) -> Vec<f64> {
        let before = std::iter::once(&0.0).chain(&self.upto);
        self.upto
            .iter()
            .zip(before)
            .map(|(upto, before)| upto - before)
            .collect()
    }

    /// The kind that a draw from `[0, 1)` stands for.
    pub fn pick(&self, draw: f64) -> usize {
        self.upto.iter().position(|upto| draw < *upto).unwrap_or(0)
    }
}

/// A source of operations and the judge of their answers.
pub trait Workload {
    /// The kinds of operations, in the order of their indexes.
    fn kinds(&self) -> &[Kind];

    /// Brings the server into the state that the load expects, through the server's own interface. The client is one of the
    /// first node, where there are several.
    ///
    /// # Errors
    /// The server cannot be prepared.
    fn prepare(&mut self, client: &mut Client, stop: &Stop) -> Result<()> {
        let _ = (client, stop);
        Ok(())
    }

    /// Draws the next operation and appends its first request; `None` ends the run (a backlog that is done).
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation>;

    /// Judges an answer. For [`Checked::Next`] it has appended the next request.
    fn check(&mut self, operation: Operation, answer: &Response<'_>, request: &mut Vec<u8>) -> Checked;

    /// The operation was sent and its answer will never be known: it may or may not have been executed.
    fn lost(&mut self, operation: Operation) {
        let _ = operation;
    }

    /// Checks the promises over the whole history, when the load is over: by a client of the first node, and by the generator,
    /// which asks all of them.
    ///
    /// # Errors
    /// The server cannot be asked.
    fn verify(&mut self, client: &mut Client, generator: &mut Generator, stop: &Stop) -> Result<Verified> {
        let _ = (client, generator, stop);
        Ok(Verified::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_draws_by_weight() {
        let mix = Mix::parse("b=3, a=1", &["a", "b", "c"]).unwrap();
        let picks: Vec<usize> = [0.0, 0.24, 0.26, 0.999].iter().map(|d| mix.pick(*d)).collect();
        assert_eq!(picks, [0, 0, 1, 1]);
        assert_eq!(mix.shares(), [0.25, 0.75, 0.0]);
    }

    #[test]
    fn a_wrong_mix_names_the_kinds() {
        for bad in ["", "x=1", "a", "a=-1", "a=b"] {
            let error = Mix::parse(bad, &["a", "b"]).unwrap_err().to_string();
            assert!(error.contains("a, b"), "{bad}: {error}");
        }
        assert!(Mix::parse("a=0", &["a"]).is_err());
    }
}
