//! Two climbs of one design, stage by stage: what changed, and what is only noise.
//!
//! A knee that is searched for again is another knee. So a difference counts when it is larger than what each climb
//! disagrees with itself by: when the spreads of the rounds do not overlap. Few rounds have a narrow spread by luck, and
//! one has none; so the medians must differ by more than a tenth as well, about what two identical runs on a small virtual
//! machine differ by. Latencies are held to the same rule, over the probes that confirmed the knee.
//!
//! A knee at which the rig was at its end is a bound. The true one lies above, so it is never lower than another, and no
//! other is higher than it.

use crate::output::climb::{ClimbReport, Phase, StageReport};

/// By how much medians must differ, as a share of the first.
const LEAST: f64 = 0.1;

/// What became of each stage.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// Why the two climbs are not quite comparable, a sentence each.
    pub warnings: Vec<String>,
    /// The stages of the first, then those that only the second has.
    pub stages: Vec<StageChange<'a>>,
}

/// What became of one stage.
#[derive(Debug)]
pub struct StageChange<'a> {
    /// Its name.
    pub stage: &'a str,
    /// As it was; `None` where it was not measured.
    pub before: Option<&'a StageReport>,
    /// As it is; `None` where it was not measured.
    pub after: Option<&'a StageReport>,
    /// Its knee.
    pub knee: Change,
    /// Its p99 at 95 % of the knee.
    pub p99: Change,
    /// What got worse, a phrase each.
    pub worse: Vec<String>,
}

/// A difference beyond the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// None.
    Noise,
    /// To less.
    Lower,
    /// To more.
    Higher,
    /// One of the two is not known.
    Unknown,
}

/// The same thing measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The most.
    pub high: f64,
}

impl Spread {
    /// From a median and what it is the median of, which may be nothing.
    fn new(median: f64, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (median, median);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        Self { low, median, high }
    }

    fn knee(stage: &StageReport) -> Option<Self> {
        Some(Self::new(stage.knee_rps?, stage.knees_rps.iter().copied()))
    }

    fn p99(stage: &StageReport) -> Option<Self> {
        let confirming = stage
            .probes
            .iter()
            .filter(|probe| probe.phase == Phase::Confirm && probe.passed);
        Some(Self::new(stage.p99_ms?, confirming.map(|probe| probe.p99_ms)))
    }
}

/// Whether `after` differs from `before` beyond the noise, and how.
pub fn change(before: Spread, after: Spread) -> Change {
    if (after.median - before.median).abs() <= LEAST * before.median {
        Change::Noise
    } else if after.high < before.low {
        Change::Lower
    } else if after.low > before.high {
        Change::Higher
    } else {
        Change::Noise
    }
}

/// Compares two climbs of one design.
pub fn compare<'a>(before: &'a ClimbReport, after: &'a ClimbReport) -> Comparison<'a> {
    let added = after.stages.iter().filter(|stage| find(before, &stage.stage).is_none());
    Comparison {
        warnings: warnings(before, after),
        stages: before
            .stages
            .iter()
            .map(|stage| stage_change(Some(stage), find(after, &stage.stage), &stage.stage))
            .chain(added.map(|stage| stage_change(None, Some(stage), &stage.stage)))
            .collect(),
    }
}

impl Comparison<'_> {
    /// Whether any stage got worse.
    pub fn is_worse(&self) -> bool {
        self.stages.iter().any(|stage| !stage.worse.is_empty())
    }
}

impl StageChange<'_> {
    /// What gave first in both, where that changed.
    pub fn bottlenecks(&self) -> Option<(&str, &str)> {
        let (before, after) = (self.before?.bottleneck.as_ref()?, self.after?.bottleneck.as_ref()?);
        (before.resource != after.resource).then_some((&before.resource, &after.resource))
    }
}

fn find<'a>(climb: &'a ClimbReport, name: &str) -> Option<&'a StageReport> {
    climb.stages.iter().find(|stage| stage.stage == name)
}

fn stage_change<'a>(
    before: Option<&'a StageReport>,
    after: Option<&'a StageReport>,
    stage: &'a str,
) -> StageChange<'a> {
    let skipped = after.and_then(|stage| stage.skipped.as_deref());
    let measured = |stage: &&StageReport| stage.skipped.is_none();
    let (before, after) = (before.filter(measured), after.filter(measured));
    let both = before.zip(after);
    let changed = |of: fn(&StageReport) -> Option<Spread>| {
        let spreads = both.and_then(|(before, after)| of(before).zip(of(after)));
        spreads.map_or(Change::Unknown, |(before, after)| change(before, after))
    };
    let knee = match (changed(Spread::knee), both) {
        (Change::Lower, Some((_, after))) if after.rig_limited => Change::Noise,
        (Change::Higher, Some((before, _))) if before.rig_limited => Change::Noise,
        (change, _) => change,
    };
    let mut worse = Vec::new();
    match (before, after, skipped) {
        (Some(_), None, Some(reason)) => worse.push(format!("it was skipped: {reason}")),
        (Some(_), None, None) => worse.push("it is gone".to_owned()),
        _ => {}
    }
    if knee == Change::Lower {
        worse.push("its knee is lower".to_owned());
    }
    let broken = |stage: Option<&StageReport>| stage.map_or(0, |stage| stage.violations);
    if broken(after) > broken(before) {
        worse.push(format!("violations: {}, {} before", broken(after), broken(before)));
    }
    StageChange {
        stage,
        before,
        after,
        knee,
        p99: changed(Spread::p99),
        worse,
    }
}

fn warnings(before: &ClimbReport, after: &ClimbReport) -> Vec<String> {
    let flags = |climb: &ClimbReport| match climb.set.as_slice() {
        [] => "none".to_owned(),
        set => set
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let mix = |climb: &ClimbReport| climb.mix.clone().unwrap_or_else(|| "the design's own".to_owned());
    let quota = |climb: &ClimbReport| {
        climb
            .server_cpu_cores
            .map_or_else(|| "none".to_owned(), |cores| cores.to_string())
    };
    let slowed = |climb: &ClimbReport| {
        let one = climb.slowed.as_ref();
        one.map_or_else(
            || "none".to_owned(),
            |(resource, factor)| format!("{resource}={factor}"),
        )
    };
    let conditions = [
        ("seed", before.seed.to_string(), after.seed.to_string()),
        ("items", before.items.to_string(), after.items.to_string()),
        ("mix", mix(before), mix(after)),
        ("quick", before.quick.to_string(), after.quick.to_string()),
        ("--set", flags(before), flags(after)),
        ("--server-cpu", quota(before), quota(after)),
        ("--slow", slowed(before), slowed(after)),
        ("cores", before.layout.text.clone(), after.layout.text.clone()),
        ("data on", before.data_filesystem.clone(), after.data_filesystem.clone()),
    ];
    let machines = before.machine.differences(&after.machine).into_iter();
    machines
        .map(|text| format!("the machines differ: {text}"))
        .chain(
            conditions
                .into_iter()
                .filter(|(_, before, after)| before != after)
                .map(|(name, before, after)| format!("{name}: {before} before, {after} after")),
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(low: f64, median: f64, high: f64) -> Spread {
        Spread { low, median, high }
    }

    #[test]
    fn a_change_is_more_than_a_tenth_and_outside_both_spreads() {
        let before = spread(90.0, 100.0, 110.0);
        for (after, expected) in [
            (before, Change::Noise),
            (spread(60.0, 70.0, 80.0), Change::Lower),
            (spread(120.0, 130.0, 140.0), Change::Higher),
            // Overlaps, though the medians are far apart.
            (spread(60.0, 70.0, 95.0), Change::Noise),
            (spread(105.0, 130.0, 140.0), Change::Noise),
        ] {
            assert_eq!(change(before, after), expected, "{after:?}");
        }
        // One round each: no spread at all, and a tenth decides.
        assert_eq!(
            change(spread(100.0, 100.0, 100.0), spread(91.0, 91.0, 91.0)),
            Change::Noise
        );
        assert_eq!(
            change(spread(100.0, 100.0, 100.0), spread(89.0, 89.0, 89.0)),
            Change::Lower
        );
    }

    proptest! {
        #[test]
        fn a_value_lies_in_the_spread_it_is_in(median in 0.0..1e6f64, values in prop::collection::vec(0.0..1e6f64, 0..5)) {
            let spread = Spread::new(median, values.clone());
            prop_assert!(values.iter().chain([&median]).all(|value| (spread.low..=spread.high).contains(value)));
            prop_assert_eq!(change(spread, spread), Change::Noise);
        }

        #[test]
        fn nothing_is_lower_and_higher_at_once(a in 1.0..1e6f64, b in 1.0..1e6f64, width in 0.0..0.5f64) {
            let around = |median: f64| spread(median * (1.0 - width), median, median * (1.0 + width));
            let there = change(around(a), around(b));
            let back = change(around(b), around(a));
            prop_assert!(there != Change::Lower || back != Change::Lower);
            prop_assert!(there != Change::Higher || back != Change::Higher);
        }
    }
}
