//! Whether the resource that a verdict names is the one that sets the pace: proof by intervention.
//!
//! # The problem
//!
//! A ledger shows company, not cause. A thread that waits for a core makes everything it holds look busy, and what is busy
//! most need not be what everybody waits for. Only one thing tells: slow a resource, and see whether the server slows.
//!
//! # The idea
//!
//! Slowing a resource by a factor f makes its demand f times as large. By the utilisation law the server then breaks where
//! the first resource is full again, which may be another one than before:
//!
//! ```text
//! utilisation at the knee   u_max of the fullest, u_r of the one slowed
//! prediction                K' / K = min(1, u_max / (f u_r))
//!
//! slow the fullest by 1.5   K' / K = 1 / 1.5 = 0.67      it sets the pace
//! slow one at half of it    K' / K = 1                   a bystander: it has room for 1.5 times the work
//! ```
//!
//! The result is given as an *elasticity*, E = -ln(K'/K) / ln f: by how many percent the knee falls when a resource gets one
//! percent slower; 1 for the bottleneck, 0 for a bystander (the flow control coefficient of metabolic control theory, Kacser
//! and Burns, 1973, for the same question about enzymes).
//!
//! Where nothing is full and the promise breaks because operations take too long, response times are predicted instead, by
//! scaling time. Slow everything in a resource's queue by f, and let arrivals come f times as slowly: the queue does the
//! same as before, only slower. So of the response time R(x) at a rate x, the part H(x) that the ledger sees at the resource,
//! held or waited for, becomes
//!
//! ```text
//! slowed, at x / f          R' = f H(x) + R(x/f) - H(x/f)
//! ```
//!
//! whatever the queue looks like inside. A resource that gets slower because of something *behind* it which is not slowed
//! (a store that is asked by others too) scales less: at least f H(x/f) in place of f H(x). And short holds are slowed in
//! lumps of milliseconds, which makes those wait for longer who come then. Predictions are the range between.
//!
//! # When it is proven
//!
//! Knees are noisy. The spread S of a ratio of two of them is what neighbouring baselines differ by. A measurement within two
//! spreads of its prediction is as predicted; predictions that are four spreads apart can therefore not both be met. f is
//! chosen so large that each resource is that far from the bottleneck, or from one that does not move. One that is not far
//! from the bottleneck cannot be told from it: they are `balanced`, and named together. *Proven* means that every measurement
//! is as predicted, and that the named resource moved most.
//!
//! # What it cannot do
//!
//! A utilisation that is inflated (a hold that waits for a core), or a resource that works the better the more it is asked
//! (a commit that gathers), moves the knee by less than predicted. That ends as `unproven`, with the figures; it is never
//! turned into a name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ledger::CPU;
use crate::output::climb::Bottleneck;
use crate::verdict::{self, Evidence, Reason, Usage, Verdict};

/// How many resources are slowed.
const SUBJECTS: usize = 3;
/// Factors to choose from.
const FACTORS: [f64; 4] = [1.5, 2.0, 3.0, 4.0];
/// No knee is known better than this, as a natural logarithm: the search ends at a bracket of 5 %, and rounds differ.
const LEAST_SPREAD: f64 = 0.05;
/// The standard deviation of a normal distribution, in median deviations.
const NORMAL: f64 = 1.4826;
/// Predictions this many spreads apart can be told from each other.
const APART: f64 = 4.0;
/// What a measure does that does not move.
const STILL: (f64, f64) = (1.0, 1.0);
/// A measurement this many spreads from its prediction is as predicted.
const NEAR: f64 = APART / 2.0;
/// The longest that a short hold stands still for at once: a millisecond, and what timers add to it.
const LUMP_MS: f64 = 2.5;
/// Queues grow beyond all bounds near here, and predictions with them.
const LEAST_IDLE: f64 = 0.05;
/// By how much a resource is slowed where response times are compared.
pub const STRETCH: f64 = 2.0;
/// Where response times are compared, the higher rate is this share of the knee.
pub const LOADED: f64 = 0.7;

/// What the interventions have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Every measurement is as predicted, and the named resource is the one that moves the knee.
    Proven,
    /// As predicted, but several resources are too close to each other to be told apart: all of them are named.
    Balanced,
    /// At least one measurement is not as predicted, or none could be made.
    Unproven,
}

impl Intervention {
    fn range(&self) -> (f64, f64) {
        (self.predicted_low, self.predicted_high)
    }

    /// What is predicted, as a number or as a range: `0.67`, `1.33-1.74`.
    pub fn prediction(&self) -> String {
        let (low, high) = (
            format!("{:.2}", self.predicted_low),
            format!("{:.2}", self.predicted_high),
        );
        if low == high { low } else { format!("{low}-{high}") }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proven => "proven",
            Self::Balanced => "balanced",
            Self::Unproven => "unproven",
        })
    }
}

/// By what a proof is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The highest rate that keeps the promises: for a full resource.
    Knee,
    /// The mean response time at a rate below the knee: where nothing is full.
    ResponseTime,
}

/// One resource slowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// The resource.
    pub resource: String,
    /// Its utilisation just past the knee.
    pub utilisation: f64,
    /// By which factor its service time was stretched.
    pub factor: f64,
    /// What the measure should become, as a share of the baseline (1: does not move): at the least.
    pub predicted_low: f64,
    /// At the most.
    pub predicted_high: f64,
    /// What it became.
    pub measured: f64,
    /// The knee (operations a second) or the response time (milliseconds) with the resource slowed.
    pub value: f64,
    /// -ln(measured) / ln(factor) of a knee: 1 for the bottleneck, 0 for a bystander. Of a response time +ln(measured) /
    /// ln(factor), which has no upper end: a queue grows faster than what it waits for.
    pub elasticity: f64,
    /// The noise of it.
    pub elasticity_spread: f64,
    /// Whether the measurement is as predicted, within the noise.
    pub as_predicted: bool,
}

/// One capacity doubled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relief {
    /// The resource.
    pub resource: String,
    /// The knob, as a flag of the server without dashes.
    pub knob: String,
    /// What it stood at.
    pub from: f64,
    /// What it was set to.
    pub to: f64,
    /// The knee then, in operations a second.
    pub knee_rps: f64,
    /// The rig was at its end before: the knee lies there or above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rig_limited: bool,
    /// That as a share of the baseline.
    pub ratio: f64,
    /// What gives then.
    pub next: Option<Bottleneck>,
}

impl fmt::Display for Relief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "relieved: with --{} {} in place of {} the knee is {}{:.0}/s, {:.2} of what it was",
            self.knob,
            self.to,
            self.from,
            if self.rig_limited { ">= " } else { "" },
            self.knee_rps,
            self.ratio
        )?;
        match &self.next {
            Some(next) => write!(f, "; then {}", next.evidence),
            None => Ok(()),
        }
    }
}

/// The proof of one verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What was found.
    pub finding: Finding,
    /// By what.
    pub measure: Measure,
    /// The resources that set the pace: one when proven, several when balanced.
    pub named: Vec<String>,
    /// One sentence with the numbers.
    pub summary: String,
    /// The spread of a ratio of two measurements, as a natural logarithm.
    pub spread: f64,
    /// The measure with nothing slowed, before, between and after.
    pub baselines: Vec<f64>,
    /// The resources slowed, the fullest first.
    pub interventions: Vec<Intervention>,
    /// Resources that were slowed without a result: the baselines around it never agreed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsteady: Vec<String>,
    /// The named resource with twice its capacity, where that is a knob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relief: Option<Relief>,
    /// Why there is none although there is a knob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relief_failed: Option<String>,
}

/// A resource to slow, and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Its name.
    pub resource: String,
    /// Its utilisation just past the knee.
    pub utilisation: f64,
    /// The measure with it slowed as a share of the baseline, at the least and at the most.
    pub predicted: (f64, f64),
}

/// What was measured with a subject slowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The resource, and what was expected.
    pub subject: Subject,
    /// The measure with it slowed.
    pub value: f64,
    /// The measure without, right before and after.
    pub baseline: f64,
}

impl Measured {
    /// What an intervention was concluded from.
    pub fn again(one: &Intervention) -> Self {
        Self {
            subject: Subject {
                resource: one.resource.clone(),
                utilisation: one.utilisation,
                predicted: (one.predicted_low, one.predicted_high),
            },
            value: one.value,
            baseline: one.value / one.measured,
        }
    }

    /// The middle of several takes, each a slowed value and its baseline; `None` without any.
    pub fn of(subject: Subject, takes: &[(f64, f64)]) -> Option<Self> {
        let middle = |which: fn(&(f64, f64)) -> f64| {
            let logs = takes.iter().map(|take| which(take).ln()).sum::<f64>();
            (logs / takes.len() as f64).exp()
        };
        (!takes.is_empty()).then(|| Self {
            subject,
            value: middle(|take| take.0),
            baseline: middle(|take| take.1),
        })
    }
}

impl Proof {
    /// What the same measurements show by the code of today.
    #[must_use]
    pub fn concluded_again(self) -> Self {
        let Some(first) = self.interventions.first() else {
            return self;
        };
        let measured: Vec<Measured> = self.interventions.iter().map(Measured::again).collect();
        let proof = conclude(self.measure, first.factor, self.baselines, &measured, self.unsteady);
        Self {
            relief: self.relief,
            relief_failed: self.relief_failed,
            ..proof
        }
    }
}

/// How a resource is slowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slowing {
    /// Each hold lasts this many times as long.
    Factor(f64),
    /// Each request does this many nanoseconds more: of work for the CPU, of blocking for the threads.
    Nanos(f64),
}

/// By what a verdict can be proven; `None` where the rig was limited.
pub fn measure(verdict: &Verdict) -> Option<Measure> {
    match verdict.reason {
        Reason::Full => Some(Measure::Knee),
        Reason::LatencyBound => Some(Measure::ResponseTime),
        Reason::RigLimited => None,
    }
}

/// The spread of a ratio of two measurements, from one repeated over and over: what neighbours differ by. A drift over all of
/// them is no noise, since each slowed one stands between two neighbours; and the median is not moved by one that was disturbed.
pub fn spread(repeated: &[f64]) -> f64 {
    let seen: Vec<f64> = repeated.iter().copied().filter(|value| *value > 0.0).collect();
    let steps = seen.windows(2).map(|pair| (pair[1] / pair[0]).ln().abs()).collect();
    (NORMAL * median(steps)).max(std::f64::consts::SQRT_2 * LEAST_SPREAD)
}

/// The middle of the values; 0 when there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The smallest factor at which each of the fullest resources can be told, from the named one or from one that does not
/// move: with a spread of S, the predictions then lie four of them apart.
pub fn factor(usages: &[Usage], named: &str, spread: f64) -> f64 {
    let told = |factor: &&f64| {
        let subjects = by_knee(usages, named, **factor);
        let Some((first, others)) = subjects.split_first() else {
            return true;
        };
        let apart = |subject: &Subject, from: (f64, f64)| gap(subject.predicted, from) >= APART * spread;
        apart(first, STILL)
            && others
                .iter()
                .all(|other| apart(other, first.predicted) || apart(other, STILL))
    };
    *FACTORS.iter().find(told).unwrap_or(&FACTORS[FACTORS.len() - 1])
}

/// How far two ranges of predictions are apart, as a natural logarithm; 0 where they touch.
fn gap(one: (f64, f64), other: (f64, f64)) -> f64 {
    let above = |high: (f64, f64), low: (f64, f64)| (high.0 / low.1).ln();
    above(one, other).max(above(other, one)).max(0.0)
}

/// The resources to slow: the named one, then the fullest others.
fn candidates<'a>(usages: &'a [Usage], named: &str) -> Vec<&'a Usage> {
    let first = usages.iter().find(|usage| usage.resource == named);
    let others = usages.iter().filter(|usage| {
        usage.resource != named && !verdict::is_part(&usage.resource) && !verdict::is_everybodys(&usage.resource)
    });
    first.into_iter().chain(others).take(SUBJECTS).collect()
}

/// What the knee should do when each of the fullest resources is slowed by `factor`.
pub fn by_knee(usages: &[Usage], named: &str, factor: f64) -> Vec<Subject> {
    let candidates = candidates(usages, named);
    let fullest = candidates.first().map_or(0.0, |usage| usage.utilisation);
    let subject = |usage: &&Usage| {
        let predicted = (fullest / (factor * usage.utilisation)).min(1.0);
        Subject {
            resource: usage.resource.clone(),
            utilisation: usage.utilisation,
            predicted: (predicted, predicted),
        }
    };
    candidates.iter().map(subject).collect()
}

/// What the response time at `low` (the lower rate, not slowed) should do when each of those with the largest share of it is
/// slowed by `factor`; `high` was seen at `factor` times the rate.
pub fn by_response(past: &[Usage], named: &str, high: &Evidence, low: &Evidence, factor: f64) -> Vec<Subject> {
    let (at_high, at_low) = (verdict::usages(high), verdict::usages(low));
    let find = |usages: &[Usage], name: &str| usages.iter().find(|usage| usage.resource == name).cloned();
    let response = low.response_mean_ms;
    let subject = |usage: &&Usage| {
        let (high, low) = (find(&at_high, &usage.resource), find(&at_low, &usage.resource));
        let (seen, scaled) = (
            low.as_ref().map_or(0.0, held_ms),
            high.as_ref().map_or(0.0, held_at_most_ms),
        );
        let lumps = low.as_ref().map_or(0.0, |low| lumps_ms(low, factor));
        let predicted = |slowed: f64| (slowed + response - seen) / response;
        Subject {
            resource: usage.resource.clone(),
            utilisation: usage.utilisation,
            predicted: (predicted(factor * seen), predicted(factor * scaled.max(seen) + lumps)),
        }
    };
    candidates(past, named).iter().map(subject).collect()
}

/// How long an operation holds a resource and waits for it, as the ledger sees it.
fn held_ms(usage: &Usage) -> f64 {
    usage.demand_ms + usage.wait_ms
}

/// The same at the most: the wait for a core is in no ledger, and is as long as that of an M/M/1 queue at the worst.
fn held_at_most_ms(usage: &Usage) -> f64 {
    match usage.resource.as_str() {
        CPU => usage.demand_ms / (1.0 - usage.utilisation).max(LEAST_IDLE),
        _ => held_ms(usage),
    }
}

/// How long an operation waits, at the most, because a slowed resource stands still for some milliseconds at a time and not
/// a little with each hold: the share of time that it stands still, times what is left of it to one who comes then, stretched
/// by the queue behind (Pollaczek and Khinchine). With several places the others go on meanwhile.
fn lumps_ms(usage: &Usage, factor: f64) -> f64 {
    if usage.resource == CPU {
        return 0.0; // it spins, a little for each request
    }
    // Of many places, one may be wanted by all: a lock of a hot key among others.
    let one = usage.utilisation * usage.capacity;
    let (load, places) = if factor * one < 1.0 {
        (one, 1.0)
    } else {
        (usage.utilisation, usage.capacity.max(1.0))
    };
    let idle = (1.0 - factor * load).max(LEAST_IDLE);
    (factor - 1.0) * load * LUMP_MS / (2.0 * idle) / places
}

/// How a resource is slowed by `factor`, as its ledger past the knee says; `None` when it was not used.
///
/// What the CPU does when no request comes (`background`, in cores) is not stretched with the requests.
pub fn slowing(usage: &Usage, evidence: &Evidence, background: f64, factor: f64) -> Option<Slowing> {
    if usage.resource != CPU && usage.resource != verdict::WORKERS {
        return Some(Slowing::Factor(factor));
    }
    let busy = usage.utilisation * usage.capacity * evidence.seconds;
    let idle = if usage.resource == CPU {
        background * evidence.seconds
    } else {
        0.0
    };
    let each = (busy - idle).max(0.0) / usage.operations;
    (usage.operations > 0.0).then_some(Slowing::Nanos((factor - 1.0) * each * 1e9))
}

/// What the measurements show. The named resource's comes first; `unsteady` are those of which there is none, because the
/// baselines around it never agreed.
///
/// No measurement can meet two predictions whose ranges are four spreads apart, since it is taken for as predicted within
/// two. What is not as far as that from the named one may be the one that sets the pace just as well: it has to be far from
/// not moving, and is named too.
pub fn conclude(
    measure: Measure,
    factor: f64,
    baselines: Vec<f64>,
    measured: &[Measured],
    unsteady: Vec<String>,
) -> Proof {
    let spread = spread(&baselines);
    let interventions: Vec<Intervention> = measured
        .iter()
        .map(|m| intervention(measure, factor, spread, m))
        .collect();
    let apart = |one: &Intervention, from: (f64, f64)| gap(one.range(), from) >= APART * spread;
    let mut balanced = Vec::new();
    let mut doubts: Vec<String> = unsteady
        .iter()
        .map(|name| format!("no steady baseline beside {name}"))
        .collect();
    if let Some((first, others)) = interventions.split_first() {
        balanced.push(first.resource.clone());
        if !apart(first, STILL) {
            doubts.push(format!(
                "the effect predicted is too small beside a spread of {:.0} %",
                spread * 100.0
            ));
        }
        for other in others.iter().filter(|other| !apart(other, first.range())) {
            if apart(other, STILL) {
                balanced.push(other.resource.clone());
            } else {
                doubts.push(format!(
                    "{} can be told neither from it nor from one that does not move",
                    other.resource
                ));
            }
        }
        let bystanders = others.iter().filter(|other| !balanced.contains(&other.resource));
        doubts.extend(
            bystanders
                .filter(|other| other.elasticity >= first.elasticity)
                .map(|other| format!("{} moves it as much", other.resource)),
        );
    }
    let failed = interventions.is_empty() || !doubts.is_empty() || interventions.iter().any(|one| !one.as_predicted);
    let finding = match balanced.len() {
        _ if failed => Finding::Unproven,
        1 => Finding::Proven,
        _ => Finding::Balanced,
    };
    Proof {
        finding,
        measure,
        summary: summary(measure, factor, &interventions, &doubts),
        named: if failed { Vec::new() } else { balanced },
        spread,
        baselines,
        interventions,
        unsteady,
        relief: None,
        relief_failed: None,
    }
}

fn intervention(measure: Measure, factor: f64, spread: f64, measured: &Measured) -> Intervention {
    let ratio = measured.value / measured.baseline;
    let (low, high) = measured.subject.predicted;
    let margin = (NEAR * spread).exp();
    let direction = match measure {
        Measure::Knee => -1.0,
        Measure::ResponseTime => 1.0,
    };
    Intervention {
        resource: measured.subject.resource.clone(),
        utilisation: measured.subject.utilisation,
        factor,
        predicted_low: low,
        predicted_high: high,
        measured: ratio,
        value: measured.value,
        elasticity: direction * ratio.max(f64::MIN_POSITIVE).ln() / factor.ln(),
        elasticity_spread: spread / factor.ln(),
        as_predicted: ratio >= low / margin && ratio <= high * margin,
    }
}

fn summary(measure: Measure, factor: f64, interventions: &[Intervention], doubts: &[String]) -> String {
    let what = match measure {
        Measure::Knee => "the knee",
        Measure::ResponseTime => "the response time",
    };
    let one = |one: &Intervention| {
        format!(
            "{} to {:.2} of it (predicted {}, E {:.2} +- {:.2}{})",
            one.resource,
            one.measured,
            one.prediction(),
            one.elasticity,
            one.elasticity_spread,
            if one.as_predicted { "" } else { ", NOT as predicted" },
        )
    };
    let all: Vec<String> = interventions.iter().map(one).collect();
    let moves = match all.len() {
        0 => "nothing was measured".to_owned(),
        _ => format!("{what} moves with {}", all.join(", with ")),
    };
    let doubts: String = doubts.iter().map(|doubt| format!("; {doubt}")).collect();
    format!("slowed by {factor}, {moves}{doubts}")
}

/// A proof that could not be made.
pub fn impossible(measure: Measure, why: &str) -> Proof {
    Proof {
        finding: Finding::Unproven,
        measure,
        named: Vec::new(),
        summary: why.to_owned(),
        spread: spread(&[]),
        baselines: Vec::new(),
        interventions: Vec::new(),
        unsteady: Vec::new(),
        relief: None,
        relief_failed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn middle(subject: &Subject) -> f64 {
        (subject.predicted.0 * subject.predicted.1).sqrt()
    }

    fn usage(resource: &str, utilisation: f64) -> Usage {
        Usage {
            resource: resource.to_owned(),
            unit: "connections".to_owned(),
            capacity: 1.0,
            utilisation,
            operations: 1_000.0,
            demand_ms: utilisation,
            wait_ms: 0.0,
            ceiling_rps: None,
        }
    }

    fn three() -> Vec<Usage> {
        vec![
            usage("pool", 0.96),
            usage("cpu", 0.5),
            usage("cache", 0.1),
            usage("log", 0.05),
        ]
    }

    /// Every resource does what the operational laws say, off by `noise`.
    fn obedient(usages: &[Usage], named: &str, factor: f64, noise: &[f64]) -> Vec<Measured> {
        let subjects = by_knee(usages, named, factor);
        let measured = |(subject, noise): (Subject, &f64)| Measured {
            value: 1_000.0 * middle(&subject) * noise.exp(),
            subject,
            baseline: 1_000.0,
        };
        subjects.into_iter().zip(noise).map(measured).collect()
    }

    #[test]
    fn the_fullest_three_are_slowed_and_the_door_and_parts_are_not() {
        let mut usages = three();
        usages.insert(0, usage("admission", 0.99));
        usages.insert(1, usage("workers", 0.97));
        usages.insert(3, usage("cpu/server", 0.5));
        let subjects = by_knee(&usages, "pool", 1.5);
        let names: Vec<&str> = subjects.iter().map(|subject| subject.resource.as_str()).collect();
        assert_eq!(names, ["pool", "cpu", "cache"]);
        let names: Vec<String> = by_knee(&usages, "workers", 1.5)
            .into_iter()
            .map(|s| s.resource)
            .collect();
        assert_eq!(names, ["workers", "pool", "cpu"], "the named one always");
    }

    #[test]
    fn predictions_are_the_utilisation_law() {
        let predicted = |factor: f64| -> Vec<f64> { by_knee(&three(), "pool", factor).iter().map(middle).collect() };
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&predicted(1.5), &[1.0 / 1.5, 1.0, 1.0]));
        assert!(near(&predicted(3.0), &[1.0 / 3.0, 0.96 / 1.5, 1.0]));
    }

    #[test]
    fn the_factor_grows_with_the_noise() {
        let factor = |baselines: &[f64]| factor(&three(), "pool", spread(baselines));
        assert_eq!(factor(&[1_000.0, 1_010.0]), 1.5);
        assert_eq!(factor(&[1_000.0, 1_080.0]), 2.0);
        assert_eq!(factor(&[1_000.0, 3_000.0]), 4.0);
    }

    #[test]
    fn the_factor_grows_until_each_resource_is_far_from_the_first_or_from_one_that_does_not_move() {
        // At 1.5 the CPU's knee is to be 0.8: neither far from the pool's 0.67 nor from 1. At 2 it is far from 1.
        let usages = [usage("pool", 0.96), usage("cpu", 0.8)];
        assert_eq!(factor(&usages, "pool", spread(&[])), 2.0);
        let at = |factor: f64| {
            conclude(
                Measure::Knee,
                factor,
                vec![1_000.0],
                &obedient(&usages, "pool", factor, &[0.0; 2]),
                Vec::new(),
            )
        };
        assert_eq!(at(2.0).finding, Finding::Balanced);
        let doubtful = at(1.5);
        assert_eq!(doubtful.finding, Finding::Unproven);
        assert!(
            doubtful
                .summary
                .ends_with("cpu can be told neither from it nor from one that does not move"),
            "{}",
            doubtful.summary
        );
    }

    #[test]
    fn ranges_that_touch_are_not_told_apart() {
        assert_eq!(gap((1.63, 3.98), (1.38, 1.83)), 0.0);
        assert!((gap((2.0, 4.0), (0.5, 1.0)) - 2f64.ln()).abs() < 1e-9);
        assert_eq!(gap((2.0, 4.0), (0.5, 1.0)), gap((0.5, 1.0), (2.0, 4.0)));
        // A wide range whose lower end does not move proves nothing, whatever was measured.
        let subject = |resource: &str, predicted| Subject {
            resource: resource.to_owned(),
            utilisation: 0.5,
            predicted,
        };
        let measured = |subject, value| Measured {
            subject,
            value,
            baseline: 1.0,
        };
        let wide = [
            measured(subject("store", (1.02, 3.0)), 1.5),
            measured(subject("cpu", (1.0, 1.0)), 1.0),
        ];
        let proof = conclude(Measure::ResponseTime, 2.0, vec![1.0, 1.0], &wide, Vec::new());
        assert_eq!(proof.finding, Finding::Unproven, "{}", proof.summary);
        let overlapping = [
            measured(subject("writer", (1.63, 3.98)), 2.9),
            measured(subject("cpu", (1.38, 1.83)), 1.8),
        ];
        let proof = conclude(Measure::ResponseTime, 2.0, vec![1.0, 1.0], &overlapping, Vec::new());
        assert_eq!(
            (proof.finding, proof.named.len()),
            (Finding::Balanced, 2),
            "{}",
            proof.summary
        );
    }

    #[test]
    fn what_never_stood_between_steady_baselines_leaves_the_proof_open() {
        let measured = obedient(&three(), "pool", 1.5, &[0.0; 3]);
        let proof = conclude(
            Measure::Knee,
            1.5,
            vec![1_000.0, 1_000.0],
            &measured[..2],
            vec!["cache".to_owned()],
        );
        assert_eq!(proof.finding, Finding::Unproven);
        assert!(
            proof.summary.ends_with("no steady baseline beside cache"),
            "{}",
            proof.summary
        );
        let nothing = conclude(Measure::Knee, 1.5, vec![1_000.0, 2_000.0], &[], vec!["pool".to_owned()]);
        assert_eq!(nothing.finding, Finding::Unproven);
    }

    #[test]
    fn a_server_that_obeys_is_proven() {
        let proof = conclude(
            Measure::Knee,
            1.5,
            vec![1_000.0, 1_020.0],
            &obedient(&three(), "pool", 1.5, &[0.05, -0.05, 0.0]),
            Vec::new(),
        );
        assert_eq!((proof.finding, proof.named), (Finding::Proven, vec!["pool".to_owned()]));
        let e = &proof.interventions[0];
        assert!((0.8..1.2).contains(&e.elasticity) && e.elasticity_spread > 0.1, "{e:?}");
        assert!(
            proof
                .summary
                .starts_with("slowed by 1.5, the knee moves with pool to 0.70 of it (predicted 0.67"),
            "{}",
            proof.summary
        );
    }

    #[test]
    fn a_wrong_name_is_not_proven() {
        // The ledger says pool, but it is the CPU that moves the knee.
        let mut measured = obedient(&three(), "pool", 1.5, &[0.0; 3]);
        measured[0].value = 1_000.0;
        measured[1].value = 667.0;
        let proof = conclude(Measure::Knee, 1.5, vec![1_000.0, 1_000.0], &measured, Vec::new());
        assert_eq!((proof.finding, proof.named.len()), (Finding::Unproven, 0));
        assert!(proof.summary.contains("NOT as predicted"), "{}", proof.summary);
    }

    #[test]
    fn resources_too_close_to_each_other_are_named_together() {
        let usages = [usage("cpu", 0.95), usage("pool", 0.9), usage("cache", 0.1)];
        let proof = conclude(
            Measure::Knee,
            2.0,
            vec![1_000.0],
            &obedient(&usages, "cpu", 2.0, &[0.0; 3]),
            Vec::new(),
        );
        assert_eq!(
            (proof.finding, proof.named),
            (Finding::Balanced, vec!["cpu".to_owned(), "pool".to_owned()])
        );
    }

    #[test]
    fn where_baselines_differ_too_much_nothing_is_proven() {
        let measured = obedient(&three(), "pool", 1.5, &[0.0; 3]);
        let proof = conclude(Measure::Knee, 1.5, vec![1_000.0, 1_500.0], &measured, Vec::new());
        assert_eq!(proof.finding, Finding::Unproven);
        assert!(proof.summary.contains("too small beside a spread"), "{}", proof.summary);
    }

    #[test]
    fn the_cpu_spins_for_what_a_request_takes_of_it_and_not_for_the_background() {
        let evidence = Evidence {
            seconds: 2.0,
            ..Evidence::default()
        };
        let cpu = usage("cpu", 0.9);
        // 0.9 s of a core a second, 0.4 of them in any case, 500 requests a second: 1 ms each, half of it once more.
        assert_eq!(slowing(&cpu, &evidence, 0.4, 1.5), Some(Slowing::Nanos(500_000.0)));
        assert_eq!(
            slowing(&usage("pool", 0.9), &evidence, 0.4, 1.5),
            Some(Slowing::Factor(1.5))
        );
        let unused = Usage { operations: 0.0, ..cpu };
        assert_eq!(slowing(&unused, &evidence, 0.0, 1.5), None);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    /// An M/M/1 queue with a hold of `service` ms and a constant time elsewhere.
    fn queue(rate: f64, service: f64, elsewhere: f64) -> Evidence {
        let wait = service * rate * service / 1e3 / (1.0 - rate * service / 1e3);
        let row = |busy_s, wait_s, operations| crate::ledger::Row {
            capacity: 1.0,
            operations,
            busy_s,
            wait_s,
            ..crate::ledger::Row::default()
        };
        Evidence {
            before: [("pool".to_owned(), row(0.0, 0.0, 0.0))].into(),
            after: [("pool".to_owned(), row(rate * service / 1e3, rate * wait / 1e3, rate))].into(),
            seconds: 1.0,
            completed: rate as u64,
            response_mean_ms: service + wait + elsewhere,
            ..Evidence::default()
        }
    }

    proptest! {
        #[test]
        fn scaling_time_predicts_a_slowed_queue_exactly(
            load in 0.1f64..0.9, elsewhere in 0.0f64..20.0, factor in prop::sample::select(vec![1.5, 2.0, 3.0]),
        ) {
            let rate = (load * 1_000.0).round();
            let (high, low) = (queue(rate, 1.0, elsewhere), queue(rate / factor, 1.0, elsewhere));
            let past = [usage("pool", load)];
            let subject = &by_response(&past, "pool", &high, &low, factor)[0];
            let slowed = queue(rate / factor, factor, elsewhere).response_mean_ms / low.response_mean_ms;
            let lumps = lumps_ms(&verdict::usages(&low)[0], factor) / low.response_mean_ms;
            // `completed` is a whole number; nothing else is off.
            prop_assert!(((subject.predicted.1 - lumps) / slowed - 1.0).abs() < 0.02, "{subject:?} {slowed}");
            prop_assert!(subject.predicted.0 <= slowed * 1.02 && lumps > 0.0);
        }

        #[test]
        fn nothing_is_proven_that_is_off_by_two_spreads(
            off in prop::sample::select(vec![-1.0f64, 1.0]), which in 0usize..3, by in 2.0f64..6.0,
        ) {
            let mut noise = [0.0; 3];
            noise[which] = off * (by + 0.1) * spread(&[]);
            let proof = conclude(Measure::Knee, 1.5, vec![1_000.0], &obedient(&three(), "pool", 1.5, &noise), Vec::new());
            prop_assert_eq!(proof.finding, Finding::Unproven);
        }

        #[test]
        fn any_measurements_end_in_a_finding(values in prop::collection::vec(0.0f64..1e6, 3), base in 1.0f64..1e6) {
            let mut measured = obedient(&three(), "pool", 2.0, &[0.0; 3]);
            for (one, value) in measured.iter_mut().zip(values) {
                (one.value, one.baseline) = (value, base);
            }
            let proof = conclude(Measure::Knee, 2.0, vec![base, base], &measured, Vec::new());
            prop_assert!(proof.named.is_empty() == (proof.finding == Finding::Unproven));
            prop_assert!(proof.interventions.iter().all(|one| one.elasticity.is_finite()));
        }
    }
}
