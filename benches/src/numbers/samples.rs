//! Repeated measurement: how many, how long, and what is made of it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::stop::Stop;

/// How much is done for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Samples a number, fewer where the machine is so disturbed that they would take long.
    pub samples: u32,
    /// How long a sample lasts, at the least. A run of the load generator lasts ten times that.
    pub span: Duration,
    /// The memory that latency and bandwidth are measured on: more than any cache holds.
    pub memory_bytes: usize,
}

impl Effort {
    /// What gives believable numbers, all of them in under a minute.
    pub fn full() -> Self {
        Self {
            samples: 11,
            span: Duration::from_millis(30),
            memory_bytes: 256 << 20,
        }
    }
}

/// On a machine that is taken away again and again a batch may take many times its span. After so many spans nothing is
/// doubled any more, and after so many no further sample is taken: what is said to take under a minute does.
const DOUBLING: u32 = 15;
const SAMPLING: u32 = 40;
/// Samples below which there are no quartiles to speak of.
const LEAST: usize = 3;

/// Times of one operation, each the mean of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// From times in seconds, in any order.
    pub(super) fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The quantile `q` in seconds, between two samples where it falls between them; not a number when there is none.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return f64::NAN;
        };
        let at = q.clamp(0.0, 1.0) * last as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of the samples"
        )]
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        self.0[below] + (self.0[above] - self.0[below]) * (at - at.floor())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// The same in another unit.
    #[must_use]
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self(self.0.into_iter().map(|seconds| seconds * factor).collect())
    }
}

/// Samples an operation: `batch` does so many of it and says how long they took.
///
/// # Errors
/// Those of the batch, and an interruption.
pub(super) fn collect(effort: Effort, stop: &Stop, mut batch: impl FnMut(u64) -> Result<Duration>) -> Result<Samples> {
    let start = Instant::now();
    let late = |spans| start.elapsed() > effort.span * spans;
    let mut size = 1;
    // A batch counts as long enough when it is so twice: one that was interrupted would stop the doubling too early.
    loop {
        stop.check()?;
        if batch(size)? >= effort.span && (batch(size)? >= effort.span || late(DOUBLING)) {
            break;
        }
        size *= 2;
    }
    let mut seconds = Vec::new();
    while seconds.len() < effort.samples as usize && (seconds.len() < LEAST || !late(SAMPLING)) {
        stop.check()?;
        seconds.push(batch(size)?.as_secs_f64() / size as f64);
    }
    Ok(Samples::new(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_samples() {
        let samples = Samples::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.quantile(0.0), 1.0);
        assert_eq!(samples.quantile(0.5), 2.5);
        assert_eq!(samples.quantile(0.25), 1.75);
        assert_eq!(samples.quantile(1.0), 4.0);
        assert_eq!(samples.scaled(2.0).quantile(0.5), 5.0);
        assert_eq!(Samples::new(vec![7.0]).quantile(0.75), 7.0);
        assert!(Samples::new(vec![]).quantile(0.5).is_nan());
    }

    const SMALL: Effort = Effort {
        samples: 5,
        span: Duration::from_millis(1),
        memory_bytes: 0,
    };

    #[test]
    fn a_batch_is_as_large_as_the_span_asks_for() {
        let mut sizes = Vec::new();
        let samples = collect(SMALL, &Stop::default(), |size| {
            sizes.push(size);
            Ok(Duration::from_micros(100 * size))
        });
        assert_eq!(samples.unwrap(), Samples::new(vec![100e-6; 5]));
        assert_eq!(sizes, [1, 2, 4, 8, 16, 16, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn one_interrupted_batch_does_not_end_the_doubling() {
        let mut calls = 0;
        let mut largest = 0;
        let samples = collect(SMALL, &Stop::default(), |size| {
            calls += 1;
            largest = largest.max(size);
            Ok(Duration::from_micros(if calls == 1 { 5_000 } else { 100 * size }))
        });
        assert_eq!((samples.unwrap().quantile(0.5), largest), (100e-6, 16));
    }

    #[test]
    fn a_disturbed_machine_gives_fewer_samples_rather_than_take_long() {
        let samples = collect(
            Effort {
                samples: 1_000,
                ..SMALL
            },
            &Stop::default(),
            |_| {
                std::thread::sleep(Duration::from_millis(20));
                Ok(Duration::from_millis(20))
            },
        );
        assert_eq!(samples.unwrap().count() as usize, LEAST);
    }

    #[test]
    fn whoever_asks_to_stop_is_heard_between_two_batches() {
        let stop = Stop::on_signals().unwrap();
        let mut calls = 0;
        let ended = collect(SMALL, &stop, |_| {
            calls += 1;
            if calls == 3 {
                signal_hook::low_level::raise(signal_hook::consts::SIGHUP)?;
            }
            Ok(Duration::from_micros(10))
        });
        assert_eq!((ended.unwrap_err().to_string().as_str(), calls), ("interrupted", 3));
    }
}
