//! From demands to a knee: the utilisation law and the promise, resource by resource. See the essay in [`super`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, Capacity, Stage, Term};

/// How long elementary things take, in seconds, by their keys in `lab numbers`.
pub type Seconds = BTreeMap<String, f64>;

/// What is predicted of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Its name.
    pub stage: String,
    /// Elementary numbers that it needs and that were not measured; then there is no knee.
    pub missing: Vec<String>,
    /// Operations a second that keep every promise; null where it cannot be told.
    pub knee_rps: Option<f64>,
    /// The resource that allows no more; null where it cannot be told.
    pub bottleneck: Option<String>,
    /// Every resource that the operations touch, the lowest knee first.
    pub loads: Vec<Load>,
}

/// What the operations take of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its name in the ledger.
    pub resource: String,
    /// How many there are.
    pub capacity: f64,
    /// Seconds of it that the mean operation takes, background work included.
    pub demand_s: f64,
    /// Mean seconds that an operation of a kind that waits for it holds it.
    pub service_s: f64,
    /// The strictest p99 promised to those who wait for it, in seconds; null where nobody waits.
    pub promise_s: Option<f64>,
    /// Operations a second that would keep all of it busy all the time.
    pub ceiling_rps: f64,
    /// How busy it may be for the promise to hold, from 0 to 1.
    pub utilisation: f64,
    /// Operations a second at that utilisation.
    pub knee_rps: f64,
    /// What the demand is made of.
    pub parts: Vec<Part>,
}

/// One product in a demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The kinds of operations that do it.
    pub kinds: Vec<String>,
    /// Their share of the operations, from 0 to 1.
    pub share: f64,
    /// Elementary things in one.
    pub times: f64,
    /// Which: a key of `lab numbers`.
    pub number: String,
    /// Seconds that one takes.
    pub seconds: f64,
    /// Share x times x seconds: what it adds to the mean operation.
    pub demand_s: f64,
    /// Whether nobody's answer waits for it.
    pub background: bool,
    /// Why it is there.
    pub why: String,
}

/// The knee of a stage when the kinds come in these shares (one an action, in their order) and the server and its engines
/// have so many cores.
pub fn predict(stage: &Stage, actions: &[Action], shares: &[f64], seconds: &Seconds, cores: f64) -> Prediction {
    let mut missing = Vec::new();
    let mut loads = Vec::new();
    for resource in &stage.resources {
        let capacity = match resource.capacity {
            Capacity::Cores => cores,
            Capacity::Fixed(count) => count,
        };
        let mut parts = Vec::new();
        for term in &resource.terms {
            let share = share_of(term, actions, shares);
            if share * term.times <= 0.0 {
                continue;
            }
            match seconds.get(term.number) {
                Some(seconds) => parts.push(Part {
                    kinds: term.kinds.iter().map(ToString::to_string).collect(),
                    share,
                    times: term.times,
                    number: term.number.to_owned(),
                    seconds: *seconds,
                    demand_s: share * term.times * seconds,
                    background: term.background,
                    why: term.why.to_owned(),
                }),
                None if missing.iter().any(|key| key == term.number) => {}
                None => missing.push(term.number.to_owned()),
            }
        }
        if !parts.is_empty() {
            loads.push(load(resource.resource, capacity, parts, actions, shares));
        }
    }
    loads.sort_by(|a, b| a.knee_rps.total_cmp(&b.knee_rps));
    let first = loads.first().filter(|_| missing.is_empty());
    Prediction {
        stage: stage.stage.to_owned(),
        knee_rps: first.map(|load| load.knee_rps),
        bottleneck: first.map(|load| load.resource.clone()),
        missing,
        loads,
    }
}

fn share_of(term: &Term, actions: &[Action], shares: &[f64]) -> f64 {
    let shares = actions.iter().zip(shares);
    let ours = shares.filter(|(action, _)| term.kinds.contains(&action.kind));
    ours.map(|(_, share)| share).sum()
}

fn load(resource: &str, capacity: f64, parts: Vec<Part>, actions: &[Action], shares: &[f64]) -> Load {
    let demand_s: f64 = parts.iter().map(|part| part.demand_s).sum();
    let waited = || parts.iter().filter(|part| !part.background);
    // Those who wait: how many of all operations, and the strictest promise among them.
    let waiting = || {
        let coming = actions.iter().zip(shares).filter(|(_, share)| **share > 0.0);
        coming.filter(|(action, _)| waited().any(|part| part.kinds.iter().any(|kind| kind == action.kind)))
    };
    let visits: f64 = waiting().map(|(_, share)| share).sum();
    let service_s = match visits > 0.0 {
        true => waited().map(|part| part.demand_s).sum::<f64>() / visits,
        false => 0.0,
    };
    let promise_s = waiting().map(|(action, _)| action.slo_p99_s).min_by(f64::total_cmp);
    let utilisation = promise_s.map_or(1.0, |promise| allowed_utilisation(service_s, promise));
    let ceiling_rps = capacity / demand_s;
    Load {
        resource: resource.to_owned(),
        capacity,
        demand_s,
        service_s,
        promise_s,
        ceiling_rps,
        utilisation,
        knee_rps: ceiling_rps * utilisation,
        parts,
    }
}

/// How busy one server with exponential service times and random arrivals may be, so that 99 % of the responses take at
/// most `promise_s`; 0 when the service alone takes too long. For several servers behind one queue it is too strict.
pub fn allowed_utilisation(service_s: f64, promise_s: f64) -> f64 {
    (1.0 - 100f64.ln() * service_s / promise_s).max(0.0)
}

/// Machines for a peak when each is used up to a share of its knee; null where no number of them would do.
pub fn machines(peak_rps: f64, knee_rps: f64, utilisation: f64) -> Option<f64> {
    let machines = (peak_rps / (knee_rps * utilisation)).ceil();
    machines.is_finite().then_some(machines.max(1.0))
}

/// A stage's prediction beside what a climb measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The stage.
    pub stage: String,
    /// Predicted for the climb's mix and cores; null where it cannot be told.
    pub predicted_rps: Option<f64>,
    /// What was predicted to give first.
    pub predicted_bottleneck: Option<String>,
    /// The measured knee; null where it was not measured.
    pub measured_rps: Option<f64>,
    /// The generator was at its end before the stage: the knee lies at `measured_rps` or above.
    pub rig_limited: bool,
    /// What gave first.
    pub measured_bottleneck: Option<String>,
    /// Predicted over measured; null where one is not known, or the measured one is only a bound that was not undercut.
    pub ratio: Option<f64>,
    /// Whether what gave first was predicted; null where one is not known.
    pub foreseen: Option<bool>,
}

impl Comparison {
    /// Puts a prediction beside a measured knee and bottleneck.
    pub fn new(
        prediction: &Prediction,
        measured_rps: Option<f64>,
        bottleneck: Option<&str>,
        rig_limited: bool,
    ) -> Self {
        // At the end of the rig the ledger of the server says nothing of what would have given.
        let bottleneck = bottleneck.filter(|_| !rig_limited);
        let ratio = match (prediction.knee_rps, measured_rps) {
            (Some(predicted), Some(measured)) if measured > 0.0 => Some(predicted / measured),
            _ => None,
        };
        let predicted = prediction.bottleneck.as_deref();
        Self {
            stage: prediction.stage.clone(),
            predicted_rps: prediction.knee_rps,
            predicted_bottleneck: prediction.bottleneck.clone(),
            measured_rps,
            rig_limited,
            measured_bottleneck: bottleneck.map(ToOwned::to_owned),
            ratio: ratio.filter(|ratio| !rig_limited || *ratio < 1.0),
            foreseen: predicted
                .zip(bottleneck)
                .map(|(predicted, measured)| predicted == measured),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::estimate::Resource;

    fn action(kind: &'static str, slo_p99_s: f64) -> Action {
        Action {
            kind,
            per_user_day: 1.0,
            workload_share: 0.5,
            wire_bytes: 0.0,
            stored_bytes: 0.0,
            slo_p99_s,
        }
    }

    fn actions() -> [Action; 2] {
        [action("read", 0.02), action("write", 0.1)]
    }

    fn stage() -> Stage {
        Stage {
            stage: "s",
            resources: vec![
                Resource {
                    resource: "cpu",
                    capacity: Capacity::Cores,
                    terms: vec![Term::waited(&["read", "write"], 1.0, "request", "one")],
                },
                Resource {
                    resource: "writer",
                    capacity: Capacity::Fixed(1.0),
                    terms: vec![
                        Term::waited(&["write"], 1.0, "commit", "its own"),
                        Term::later(&["read"], 0.5, "row", "half a row"),
                    ],
                },
            ],
        }
    }

    fn seconds(request: f64, commit: f64, row: f64) -> Seconds {
        [("request", request), ("commit", commit), ("row", row)]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
    }

    #[test]
    fn the_lowest_knee_is_the_stage_s() {
        let found = predict(&stage(), &actions(), &[0.9, 0.1], &seconds(10e-6, 500e-6, 2e-6), 1.0);
        assert_eq!(found.bottleneck.as_deref(), Some("writer"));
        let writer = &found.loads[0];
        assert!(near(writer.demand_s, 0.1 * 500e-6 + 0.9 * 0.5 * 2e-6));
        assert!(
            near(writer.service_s, 500e-6),
            "only those who wait for it hold up others"
        );
        assert_eq!(writer.promise_s, Some(0.1), "reads do not wait for it");
        assert!(near(writer.utilisation, 1.0 - 100f64.ln() * 0.005));
        assert!(near(writer.knee_rps, writer.utilisation / writer.demand_s));
        assert_eq!(found.knee_rps, Some(writer.knee_rps));
        assert_eq!(found.loads[1].promise_s, Some(0.02), "the strictest of all who wait");
    }

    #[test]
    fn a_kind_that_does_not_come_takes_nothing() {
        let found = predict(&stage(), &actions(), &[1.0, 0.0], &seconds(10e-6, 500e-6, 2e-6), 1.0);
        assert_eq!(found.bottleneck.as_deref(), Some("cpu"));
        let writer = &found.loads[1];
        assert_eq!((writer.promise_s, writer.utilisation), (None, 1.0), "nobody waits");
        assert!(near(writer.knee_rps, 1e6));
    }

    #[test]
    fn a_number_that_was_not_measured_is_named_once_and_nothing_is_predicted() {
        let mut known = seconds(10e-6, 500e-6, 2e-6);
        known.remove("request");
        let found = predict(&stage(), &actions(), &[0.5, 0.5], &known, 1.0);
        assert_eq!(found.missing, ["request"]);
        assert_eq!((found.knee_rps, found.bottleneck), (None, None));
    }

    #[test]
    fn a_promise_shorter_than_the_work_cannot_be_kept() {
        assert_eq!(allowed_utilisation(0.01, 0.02), 0.0);
        let found = predict(&stage(), &actions(), &[0.5, 0.5], &seconds(0.01, 0.01, 0.01), 1.0);
        assert_eq!(found.knee_rps, Some(0.0));
        assert_eq!(machines(100.0, 0.0, 0.6), None);
    }

    /// The formula against its definition: in M/M/1 at that utilisation, exactly 1 % of the responses take longer.
    #[test]
    fn at_the_allowed_utilisation_one_response_in_a_hundred_is_late() {
        for (service, promise) in [(0.5e-3, 20e-3), (10e-6, 20e-3), (5e-3, 100e-3)] {
            let utilisation = allowed_utilisation(service, promise);
            let late = (-(1.0 - utilisation) * promise / service).exp();
            assert!((late - 0.01).abs() < 1e-9, "{service} {promise}: {late}");
        }
    }

    #[test]
    fn a_comparison_says_how_far_off_and_whether_it_was_foreseen() {
        let predicted = predict(&stage(), &actions(), &[0.9, 0.1], &seconds(10e-6, 500e-6, 2e-6), 1.0);
        let knee = predicted.knee_rps.unwrap();
        let right = Comparison::new(&predicted, Some(knee / 2.0), Some("writer"), false);
        assert_eq!((right.ratio, right.foreseen), (Some(2.0), Some(true)));
        let wrong = Comparison::new(&predicted, Some(knee), Some("cpu"), false);
        assert_eq!((wrong.ratio, wrong.foreseen), (Some(1.0), Some(false)));
        let above = Comparison::new(&predicted, Some(knee / 2.0), Some("generator"), true);
        assert_eq!(
            (above.ratio, above.foreseen),
            (None, None),
            "a bound that holds is no error"
        );
        let below = Comparison::new(&predicted, Some(knee * 2.0), Some("generator"), true);
        assert_eq!(below.ratio, Some(0.5), "a bound that is undercut is one");
        assert_eq!(Comparison::new(&predicted, None, None, false).ratio, None);
    }

    proptest! {
        #[test]
        fn more_work_never_carries_more_and_more_cores_never_less(
            request in 1e-6..1e-3f64, commit in 1e-6..1e-2f64, row in 1e-7..1e-3f64,
            write in 0.0..1.0f64, factor in 1.0..10.0f64, cores in 1.0..64.0f64,
        ) {
            let knee = |request: f64, commit: f64, cores: f64| {
                predict(&stage(), &actions(), &[1.0 - write, write], &seconds(request, commit, row), cores).knee_rps.unwrap()
            };
            let base = knee(request, commit, cores);
            prop_assert!(knee(request * factor, commit, cores) <= base);
            prop_assert!(knee(request, commit * factor, cores) <= base);
            prop_assert!(knee(request, commit, cores * factor) >= base);
        }

        #[test]
        fn at_the_knee_no_resource_is_busier_than_it_may_be(
            request in 1e-6..1e-3f64, commit in 1e-6..1e-2f64, row in 1e-7..1e-3f64, write in 0.0..1.0f64,
        ) {
            let found = predict(&stage(), &actions(), &[1.0 - write, write], &seconds(request, commit, row), 2.0);
            let knee = found.knee_rps.unwrap();
            for load in &found.loads {
                prop_assert!(knee * load.demand_s / load.capacity <= load.utilisation + 1e-9);
            }
        }

        #[test]
        fn so_many_machines_are_enough_and_one_less_is_not(
            peak in 1.0..1e9f64, knee in 1.0..1e6f64, utilisation in 0.1..1.0f64,
        ) {
            let n = machines(peak, knee, utilisation).unwrap();
            let carried = |n: f64| n * knee * utilisation;
            prop_assert!(carried(n) >= peak * (1.0 - 1e-12));
            prop_assert!(n == 1.0 || carried(n - 1.0) < peak * (1.0 + 1e-12));
        }
    }
}
