//! One look at one rate: load it, read the ledger before and after, judge, and let the backlogs drain.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::generator::Outcome;
use crate::knee::{Search, Seen};
use crate::ledger::Rows;
use crate::output::climb::{Phase, ProbeReport};
use crate::rig;
use crate::slo;
use crate::verdict::{self, Evidence};

/// How long a backlog may take to go back to where it was: longer, and the server has put work off that it cannot do.
const BACKLOG_GRACE: Duration = Duration::from_secs(2);
/// How long a probe waits for a backlog before it goes on regardless.
const BACKLOG_LIMIT: Duration = Duration::from_secs(20);

/// How much time a climb takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Probes of two seconds and 2,000 operations at least.
    Thorough,
    /// Probes of one second and 500 operations at least.
    Quick,
}

impl Effort {
    /// How long to look at a rate.
    pub fn duration(self, rate: f64) -> Duration {
        let (seconds, samples) = match self {
            Self::Thorough => (2.0, 2_000.0),
            Self::Quick => (1.0, 500.0),
        };
        Duration::from_secs_f64((samples / rate).clamp(seconds, 20.0))
    }

    /// The first search of a stage.
    pub fn search(self, guess: f64) -> Search {
        match self {
            Self::Thorough => Search::new(guess),
            Self::Quick => Search::quick(guess),
        }
    }

    /// How long the rounds may take: a round that would not fit any more is left out.
    pub fn budget(self, stages: usize) -> Duration {
        let each = match self {
            Self::Thorough => 60,
            Self::Quick => 20,
        };
        Duration::from_secs(each * stages as u64)
    }

    /// How long to sample the CPU.
    pub fn profile(self) -> Duration {
        match self {
            Self::Thorough => Duration::from_secs(5),
            Self::Quick => Duration::from_secs(3),
        }
    }

    /// How often a proof slows each resource.
    pub fn takes(self) -> u32 {
        match self {
            Self::Thorough => 2,
            Self::Quick => 1,
        }
    }

    /// How long to run the closed loop that gives the first guess and warms the caches.
    pub fn warm_up(self) -> Duration {
        match self {
            Self::Thorough => Duration::from_secs(1),
            Self::Quick => Duration::from_millis(500),
        }
    }
}

/// One finished probe.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) phase: Phase,
    pub(super) round: u32,
    pub(super) rate: f64,
    pub(super) outcome: Outcome,
    pub(super) evidence: Evidence,
    /// What was not kept, a sentence each.
    pub(super) missed: Vec<String>,
    /// Why it says more about the rig than about the server, when it does.
    pub(super) rig: Option<String>,
    pub(super) seen: Seen,
}

/// The ledger around a run.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) before: Rows,
    pub(super) after: Rows,
    pub(super) time: Duration,
    /// The cores that a quota leaves the server.
    pub(super) quota_cores: Option<f64>,
    /// The cores in use when no request comes.
    pub(super) background_cores: f64,
    /// Connections of the generator.
    pub(super) connections: usize,
    /// How many cores generator and server share, where they are not apart.
    pub(super) shared_cores: Option<f64>,
}

impl Probe {
    pub(super) fn judge(
        phase: Phase,
        round: u32,
        rate: f64,
        outcome: Outcome,
        around: Around,
        backlog: Option<String>,
    ) -> Self {
        let evidence = Evidence {
            before: around.before,
            after: around.after,
            seconds: around.time.as_secs_f64(),
            completed: outcome.completed,
            service_mean_ms: outcome.times.service.mean_ms(),
            response_mean_ms: outcome.times.response.mean_ms(),
            achieved_rps: outcome.achieved_rps(),
            mean_in_system: outcome.mean_in_system,
            cpu_quota_cores: around.quota_cores,
            cpu_background_cores: Some(around.background_cores),
            rig: None,
        };
        let mut missed = slo::missed_by_kind(&outcome);
        missed.extend(backlog);
        let rig = rig::limited(
            &outcome,
            &verdict::usages(&evidence),
            around.connections,
            around.shared_cores,
        );
        let seen = see(&outcome, &missed, rig.as_deref());
        Self {
            phase,
            round,
            rate,
            outcome,
            evidence,
            missed,
            rig,
            seen,
        }
    }

    /// Something else took the generator's core: it was late without having been busy, and promises were broken. Such a
    /// look shows nothing.
    pub(super) fn disturbed(&self) -> bool {
        self.seen == Seen::RigLimited && self.outcome.sent_late() && self.outcome.was_idle()
    }

    pub(super) fn report(&self) -> ProbeReport {
        let outcome = &self.outcome;
        ProbeReport {
            round: self.round,
            phase: self.phase,
            offered_rps: self.rate,
            achieved_rps: outcome.achieved_rps(),
            p50_ms: outcome.times.response.quantile_ms(0.5),
            p99_ms: outcome.times.response.quantile_ms(0.99),
            service_p99_ms: outcome.times.service.quantile_ms(0.99),
            planned: outcome.planned,
            issued: outcome.issued,
            completed: outcome.completed,
            errors: outcome.failed(),
            late: outcome.late,
            dropped: outcome.dropped,
            timed_out: outcome.timed_out,
            unfinished: outcome.unfinished,
            violations: outcome.violations,
            generator_cpu: outcome.generator_cpu,
            passed: self.seen == Seen::Passed,
            missed: self.missed.clone(),
        }
    }

    /// One line of progress.
    pub(super) fn line(&self, stage: &str) -> String {
        let result = match self.seen {
            Seen::Passed => "passed".to_owned(),
            Seen::Failed | Seen::Collapsed => format!("failed: {}", self.missed.join("; ")),
            Seen::RigLimited => format!(
                "rig-limited: {}",
                self.rig.clone().unwrap_or_else(|| self.missed.join("; "))
            ),
        };
        format!(
            "{stage:<14} {:>7.0}/s {:<9} p50 {:>7.2} ms  p99 {:>8.2} ms  {result}",
            self.rate,
            self.phase.to_string(),
            self.outcome.times.response.quantile_ms(0.5),
            self.outcome.times.response.quantile_ms(0.99),
        )
    }
}

fn see(outcome: &Outcome, missed: &[String], rig: Option<&str>) -> Seen {
    // What was sent late is still measured from its time, so lateness can only make a server look worse, never better.
    if missed.is_empty() {
        return Seen::Passed;
    }
    if rig.is_some() {
        return Seen::RigLimited;
    }
    if slo::collapsed(outcome) {
        Seen::Collapsed
    } else {
        Seen::Failed
    }
}

/// Waits until all backlogs are back at what they are when the server is idle. The text says which one was not in time.
pub(super) fn settle(
    mut read: impl FnMut() -> Result<Rows>,
    idle: &Rows,
    mut pause: impl FnMut() -> Result<()>,
) -> Result<Option<String>> {
    let start = Instant::now();
    let mut late = None;
    loop {
        let rows = read()?;
        let worst = backlog(&rows, idle);
        let Some((name, waiting)) = worst else {
            return Ok(late);
        };
        if start.elapsed() >= BACKLOG_GRACE && late.is_none() {
            late = Some(format!(
                "{name} still had a backlog of {waiting:.0} {} s after the probe",
                BACKLOG_GRACE.as_secs()
            ));
        }
        if start.elapsed() >= BACKLOG_LIMIT {
            return Ok(late);
        }
        pause()?;
    }
}

/// The resource with the largest backlog above its idle one.
fn backlog(rows: &Rows, idle: &Rows) -> Option<(String, f64)> {
    rows.iter()
        .filter(|(name, row)| row.backlog > idle.get(*name).map_or(0.0, |row| row.backlog))
        .map(|(name, row)| (name.clone(), row.backlog))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Row;

    fn rows(backlog: f64) -> Rows {
        Rows::from([(
            "click_buffer".to_owned(),
            Row {
                capacity: 1.0,
                backlog,
                ..Row::default()
            },
        )])
    }

    #[test]
    fn a_backlog_is_waited_for() {
        let mut left = 3.0;
        let result = settle(
            || {
                left -= 1.0;
                Ok(rows(left))
            },
            &rows(0.0),
            || Ok(()),
        );
        assert_eq!((result.unwrap(), left), (None, 0.0));
    }

    #[test]
    fn what_is_always_there_is_no_backlog() {
        assert_eq!(settle(|| Ok(rows(5.0)), &rows(5.0), || Ok(())).unwrap(), None);
    }

    #[test]
    fn a_backlog_that_stays_is_named() {
        assert_eq!(backlog(&rows(7.0), &rows(5.0)), Some(("click_buffer".to_owned(), 7.0)));
    }

    #[test]
    fn probes_are_long_enough() {
        assert_eq!(Effort::Thorough.duration(50_000.0), Duration::from_secs(2));
        assert_eq!(Effort::Thorough.duration(500.0), Duration::from_secs(4));
        assert_eq!(Effort::Quick.duration(1000.0), Duration::from_secs(1));
        assert_eq!(Effort::Thorough.duration(1.0), Duration::from_secs(20));
    }
}
