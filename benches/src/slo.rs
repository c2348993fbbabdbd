//! Service level objectives: what a run must keep to count as served.
//!
//! Two sources: each kind of operation of a workload has a limit for its p99 response time, and a user may give more with
//! `--slo`. Errors and completion are held for every run of a design: errors at most 0.1 % of what was issued, and 99 %
//! of the arrivals completed.

use std::str::FromStr;
use std::time::Duration;

use crate::generator::{KindOutcome, Latencies, Outcome};

/// Errors may be at most this share of the arrivals.
pub const MAX_ERRORS: f64 = 0.001;
/// At least this share of the arrivals must be completed.
pub const MIN_COMPLETED: f64 = 0.99;
/// A p90 beyond this multiple of what is allowed for the p99 is a queue that grows, not a hiccup.
const COLLAPSED: f64 = 5.0;
/// A kind with fewer samples has no p99 to speak of, only a maximum: it is judged by its median. If half of some few miss what
/// one of a hundred may, that is no chance.
const MIN_SAMPLES: u64 = 100;
/// With fewer than these, a kind is not judged on its own.
const SOME_SAMPLES: u64 = 10;

/// Limits as the user writes them: `p99<50ms,err<0.1%,create.p99<100ms`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Quantile {
        kind: Option<String>,
        name: &'static str,
        q: f64,
        limit: Duration,
    },
    Errors(f64),
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let terms = text.split(',').map(term).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }
}

fn term(text: &str) -> Result<Term, String> {
    let wrong = || format!("`{text}`: write p99<50ms, create.p99<100ms or err<0.1%");
    let (left, right) = text.trim().split_once('<').ok_or_else(wrong)?;
    let (left, right) = (left.trim(), right.trim());
    if left == "err" {
        let percent = right.strip_suffix('%').ok_or_else(wrong)?;
        let share: f64 = percent.trim().parse().map_err(|_| wrong())?;
        return Ok(Term::Errors(share / 100.0));
    }
    let (kind, name) = match left.rsplit_once('.') {
        Some((kind, name)) => (Some(kind.to_owned()), name),
        None => (None, left),
    };
    let &(name, q) = QUANTILES.iter().find(|(n, _)| *n == name).ok_or_else(wrong)?;
    let limit = humantime::parse_duration(right).map_err(|_| wrong())?;
    Ok(Term::Quantile { kind, name, q, limit })
}

impl Slo {
    /// What the run misses, a sentence each.
    pub fn missed(&self, outcome: &Outcome) -> Vec<String> {
        self.terms.iter().filter_map(|term| miss(term, outcome)).collect()
    }

    /// The first kind that is named and that the workload does not have.
    pub fn unknown_kind(&self, kinds: &[&str]) -> Option<&str> {
        self.terms.iter().find_map(|term| match term {
            Term::Quantile { kind: Some(kind), .. } if !kinds.contains(&kind.as_str()) => Some(kind.as_str()),
            _ => None,
        })
    }
}

fn miss(term: &Term, outcome: &Outcome) -> Option<String> {
    match term {
        Term::Errors(limit) => {
            let share = error_share(outcome);
            (share >= *limit && share > 0.0)
                .then(|| format!("errors {:.3} %, the SLO is below {:.3} %", share * 100.0, limit * 100.0))
        }
        Term::Quantile { kind, name, q, limit } => {
            let (label, times): (&str, &Latencies) = match kind {
                None => ("", &outcome.times.response),
                Some(kind) => {
                    let found = outcome.kinds.iter().find(|k| k.kind.name == kind)?;
                    (found.kind.name, &found.times.response)
                }
            };
            let value = times.quantile_ms(*q);
            (value >= limit.as_secs_f64() * 1e3).then(|| {
                format!(
                    "{label} {name} {value:.2} ms, the SLO is below {}",
                    humantime::format_duration(*limit)
                )
                .trim_start()
                .to_owned()
            })
        }
    }
}

/// What the run misses of the promises that hold for every design.
pub fn missed_by_kind(outcome: &Outcome) -> Vec<String> {
    let mut missed: Vec<String> = outcome.kinds.iter().filter_map(late_kind).collect();
    let errors = error_share(outcome);
    if errors > MAX_ERRORS {
        let most = outcome.errors.iter().max_by_key(|(_, count)| **count);
        let reason = most.map_or_else(String::new, |(reason, _)| format!(" ({reason})"));
        missed.push(format!("{:.2} % errors{reason}, 0.1 % are allowed", errors * 100.0));
    }
    let completed = outcome.completed as f64 / outcome.planned.max(1) as f64;
    // Answers that violate an invariant are counted as such, not as missing.
    let answered = completed + outcome.violations as f64 / outcome.planned.max(1) as f64;
    if answered < MIN_COMPLETED {
        missed.push(format!(
            "{:.1} % of the arrivals completed, 99 % are needed",
            completed * 100.0
        ));
    }
    missed
}

/// Whether every kind keeps its limit from the moment at which it is sent: what breaks it, if anything does, is the waiting
/// before that.
pub fn kept_once_sent(outcome: &Outcome) -> bool {
    outcome.kinds.iter().all(|kind| {
        let p99 = kind.times.service.quantile_ms(0.99);
        kind.times.service.len() < MIN_SAMPLES || kind.kind.slo_p99.is_none_or(|limit| p99 <= limit.as_secs_f64() * 1e3)
    })
}

/// Whether a limit is missed by so much that no hiccup of the machine explains it.
pub fn collapsed(outcome: &Outcome) -> bool {
    outcome.kinds.iter().any(|kind| {
        let p90 = kind.times.response.quantile_ms(0.9);
        kind.kind
            .slo_p99
            .is_some_and(|limit| p90 > COLLAPSED * limit.as_secs_f64() * 1e3)
    })
}

fn late_kind(kind: &KindOutcome) -> Option<String> {
    let limit = kind.kind.slo_p99?;
    let (name, quantile) = match kind.times.response.len() {
        MIN_SAMPLES.. => ("p99", 0.99),
        SOME_SAMPLES.. => ("p50", 0.5),
        _ => return None,
    };
    let value = kind.times.response.quantile_ms(quantile);
    (value > limit.as_secs_f64() * 1e3).then(|| {
        format!(
            "{} {name} {value:.1} ms, {} are allowed",
            kind.kind.name,
            humantime::format_duration(limit)
        )
    })
}

fn error_share(outcome: &Outcome) -> f64 {
    outcome.failed() as f64 / outcome.planned.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Times;
    use crate::workload::Kind;

    #[test]
    fn terms_are_read() {
        let slo: Slo = "p99<50ms, err<0.1%,create.p999<1s".parse().unwrap();
        assert_eq!(slo.terms.len(), 3);
        assert_eq!(slo.terms[1], Term::Errors(0.001));
        assert_eq!(slo.unknown_kind(&["create"]), None);
        assert_eq!(slo.unknown_kind(&["get"]), Some("create"));
    }

    #[test]
    fn wrong_terms_say_how_to_write_them() {
        for bad in ["", "p99", "p98<1ms", "err<1", "p99<fast"] {
            assert!(bad.parse::<Slo>().unwrap_err().contains("write p99<50ms"), "{bad}");
        }
    }

    #[test]
    fn few_samples_are_judged_by_their_median_and_fewer_not_at_all() {
        let judged = |slow: u64, fast: u64| {
            let mut kind = KindOutcome {
                kind: Kind {
                    name: "rank",
                    slo_p99: Some(Duration::from_millis(20)),
                },
                completed: slow + fast,
                failed: 0,
                times: Times::default(),
            };
            for nth in 0..slow + fast {
                let ms = if nth < slow { 50 } else { 1 };
                kind.times.response.record(ms * 1_000_000);
            }
            late_kind(&kind)
        };
        assert_eq!(judged(1, 89), None, "one of some few is chance");
        assert_eq!(judged(9, 0), None, "of nine nothing is known");
        assert!(judged(60, 30).unwrap().contains("rank p50 50.0 ms"));
        assert!(judged(2, 98).unwrap().contains("rank p99 50.0 ms"));
    }
}
