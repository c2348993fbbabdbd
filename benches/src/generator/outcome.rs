//! What a run has measured: counters, and latency histograms a kind and a second.
//!
//! A histogram takes the same memory whatever is recorded in it, and recording saturates instead of failing. Each second
//! has its own set; when it is over it is summed up in one [`Second`] (48 bytes) and merged into the totals.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::workload::Kind;

/// The longest time that is told apart, in microseconds; whatever took longer counts as this.
const MAX_MICROS: u64 = 60_000_000;
/// How many different error texts are kept; the others are counted together.
const MAX_ERRORS: usize = 32;
/// A run with a larger share of late operations says nothing about the server.
const MAX_LATE: f64 = 0.01;
/// A generator that used less of its core than this was not late by itself.
const BUSY: f64 = 0.85;
/// Nor does one whose generator had no time left.
const MAX_CPU: f64 = 0.95;
const MAX_EXAMPLES: usize = 5;

/// Latencies in microseconds, with three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants")]
        Self(Histogram::new_with_bounds(1, MAX_MICROS, 3).expect("valid histogram bounds"))
    }
}

impl Latencies {
    /// Records a time in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos / 1000);
    }

    /// The quantile `q` (0.99 for p99) in milliseconds; 0 when nothing was recorded.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        self.0.value_at_quantile(q) as f64 / 1000.0
    }

    /// The mean in milliseconds; 0 when nothing was recorded.
    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// The largest value in milliseconds; 0 when nothing was recorded.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all that another has recorded.
    pub fn merge(&mut self, other: &Self) {
        if !other.is_empty() {
            // All have the same bounds, so this cannot fail.
            let _ = self.0.add(&other.0);
        }
    }

    fn clear(&mut self) {
        if !self.is_empty() {
            self.0.reset();
        }
    }
}

/// Response and service time side by side.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// From the scheduled instant: what a user waits.
    pub response: Latencies,
    /// From the actual send: what the server takes.
    pub service: Latencies,
}

impl Times {
    fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
    }

    fn clear(&mut self) {
        self.response.clear();
        self.service.clear();
    }
}

/// One kind of operation.
#[derive(Debug, Clone)]
pub struct KindOutcome {
    /// What it is and what it promises.
    pub kind: Kind,
    /// Operations answered as promised.
    pub completed: u64,
    /// Operations that failed, timed out or violated an invariant.
    pub failed: u64,
    /// Times of all answered operations, those that violate an invariant included; failures are not in here.
    pub times: Times,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Its number, from 0.
    pub second: u64,
    /// Operations answered as promised.
    pub completed: u64,
    /// Operations that failed or timed out.
    pub failed: u64,
    /// Median response time in milliseconds.
    pub p50_ms: f64,
    /// p99 response time in milliseconds.
    pub p99_ms: f64,
}

/// All that a run has measured.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Arrivals a second that were asked for; `None` in a closed loop.
    pub offered_rps: Option<f64>,
    /// How long arrivals were scheduled for.
    pub duration: Duration,
    /// From time zero to the end of the drain.
    pub elapsed: Duration,
    /// Arrivals of the schedule (in a closed loop: operations issued).
    pub planned: u64,
    /// Operations of which at least one request was written.
    pub issued: u64,
    /// Operations answered as promised.
    pub completed: u64,
    /// Operations that the generator itself issued more than 5 ms after their time.
    pub late: u64,
    /// Arrivals that found all connections busy and waited for one.
    pub queued: u64,
    /// Arrivals that found all connections busy and the queue full.
    pub dropped: u64,
    /// Operations without an answer within the time limit.
    pub timed_out: u64,
    /// Operations still waiting or in flight when the drain window ended.
    pub unfinished: u64,
    /// Failed operations by reason, time-outs included.
    pub errors: BTreeMap<Cow<'static, str>, u64>,
    /// Answers that violate an invariant.
    pub violations: u64,
    /// The first few of them.
    pub examples: Vec<String>,
    /// A kind each.
    pub kinds: Vec<KindOutcome>,
    /// All kinds together.
    pub times: Times,
    /// How long after its time the generator took notice of an arrival.
    pub lag: Latencies,
    /// The generator's own CPU time over the wall time, from 0 to 1.
    pub generator_cpu: f64,
    /// Mean number of operations waiting or in flight, sampled at the arrivals.
    pub mean_in_system: f64,
    /// Connections that had to be made anew.
    pub reconnects: u64,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// The course of the run.
    pub seconds: Vec<Second>,
}

impl Outcome {
    /// A run in which nothing has happened yet.
    pub(crate) fn nothing(kinds: &[Kind], offered_rps: Option<f64>, duration: Duration, planned: u64) -> Self {
        let kinds = kinds.iter().map(|kind| KindOutcome {
            kind: kind.clone(),
            completed: 0,
            failed: 0,
            times: Times::default(),
        });
        Self {
            offered_rps,
            duration,
            elapsed: Duration::ZERO,
            planned,
            issued: 0,
            completed: 0,
            late: 0,
            queued: 0,
            dropped: 0,
            timed_out: 0,
            unfinished: 0,
            errors: BTreeMap::new(),
            violations: 0,
            examples: Vec::new(),
            kinds: kinds.collect(),
            times: Times::default(),
            lag: Latencies::default(),
            generator_cpu: 0.0,
            mean_in_system: 0.0,
            reconnects: 0,
            connect_errors: 0,
            seconds: Vec::new(),
        }
    }

    /// Operations answered as promised in a second of the run.
    pub fn achieved_rps(&self) -> f64 {
        self.completed as f64 / self.elapsed.max(self.duration).as_secs_f64().max(1e-9)
    }

    /// Failed operations, all reasons together.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Why this run says more about the generator than about the server, when it does.
    ///
    /// In a closed loop the generator is free to use its whole core.
    pub fn generator_limited(&self) -> Option<String> {
        self.offered_rps?;
        if self.sent_late() {
            return Some(format!(
                "the generator sent {:.1} % of the operations late at {:.0} % of its core: {}",
                self.late as f64 / self.planned.max(1) as f64 * 100.0,
                self.generator_cpu * 100.0,
                if self.was_idle() {
                    "something else took the core"
                } else {
                    "it is limited, not the server"
                }
            ));
        }
        (self.generator_cpu > MAX_CPU).then(|| {
            format!(
                "the generator used {:.0} % of its core: it may be limited, not the server",
                self.generator_cpu * 100.0
            )
        })
    }

    /// Whether the generator had time to spare: what it did late was not its own doing.
    pub fn was_idle(&self) -> bool {
        self.generator_cpu < BUSY
    }

    /// Whether too many operations were late for the run to be what it claims to be.
    pub fn sent_late(&self) -> bool {
        self.late as f64 >= MAX_LATE * self.planned as f64
    }

    /// Whether every planned arrival is accounted for: issued, dropped, or never sent because the drain window ended.
    pub fn accounted(&self, unsent: u64) -> bool {
        self.planned == self.issued + self.dropped + unsent
    }
}

/// Collects an [`Outcome`] while the run goes on.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) outcome: Outcome,
    current: Vec<Times>,
    second: u64,
    completed_before: u64,
    failed_before: u64,
    in_system: u64,
    arrivals: u64,
}

impl Recorder {
    pub(super) fn new(kinds: &[Kind], offered_rps: Option<f64>, duration: Duration, planned: u64) -> Self {
        Self {
            current: vec![Times::default(); kinds.len()],
            second: 0,
            completed_before: 0,
            failed_before: 0,
            in_system: 0,
            arrivals: 0,
            outcome: Outcome::nothing(kinds, offered_rps, duration, planned),
        }
    }

    pub(super) fn arrived(&mut self, in_system: usize, lag: u64) {
        self.arrivals += 1;
        self.in_system += in_system as u64;
        self.outcome.lag.record(lag);
    }

    pub(super) fn answered(&mut self, kind: usize, response: u64, service: u64) {
        let times = &mut self.current[kind];
        times.response.record(response);
        times.service.record(service);
    }

    pub(super) fn completed(&mut self, kind: usize) {
        self.outcome.completed += 1;
        self.outcome.kinds[kind].completed += 1;
    }

    pub(super) fn failed(&mut self, kind: usize, reason: Cow<'static, str>) {
        self.outcome.kinds[kind].failed += 1;
        let errors = &mut self.outcome.errors;
        let reason = if errors.len() >= MAX_ERRORS && !errors.contains_key(&reason) {
            Cow::Borrowed("other errors")
        } else {
            reason
        };
        *errors.entry(reason).or_default() += 1;
    }

    pub(super) fn violation(&mut self, kind: usize, text: String) {
        self.outcome.violations += 1;
        self.outcome.kinds[kind].failed += 1;
        if self.outcome.examples.len() < MAX_EXAMPLES {
            self.outcome.examples.push(text);
        }
    }

    /// Closes the seconds that are over at `now`.
    pub(super) fn roll(&mut self, now: u64) {
        if now / 1_000_000_000 > self.second {
            self.close_second();
            self.second = now / 1_000_000_000;
        }
    }

    fn close_second(&mut self) {
        let mut all = Times::default();
        for (kind, current) in self.outcome.kinds.iter_mut().zip(&mut self.current) {
            kind.times.merge(current);
            all.merge(current);
            current.clear();
        }
        self.outcome.times.merge(&all);
        let failed = self.outcome.failed();
        self.outcome.seconds.push(Second {
            second: self.second,
            completed: self.outcome.completed - self.completed_before,
            failed: failed - self.failed_before,
            p50_ms: all.response.quantile_ms(0.5),
            p99_ms: all.response.quantile_ms(0.99),
        });
        self.completed_before = self.outcome.completed;
        self.failed_before = failed;
    }

    pub(super) fn finish(mut self, elapsed: Duration, cpu: Duration) -> Outcome {
        self.close_second();
        let mut outcome = self.outcome;
        outcome.elapsed = elapsed;
        outcome.generator_cpu = cpu.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
        outcome.mean_in_system = self.in_system as f64 / self.arrivals.max(1) as f64;
        outcome
    }
}
