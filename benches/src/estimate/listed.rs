//! What every design's list has to be, for the tests that stand beside each.

use super::{Action, MILLISECOND, Stage};
use crate::numbers::KEYS;

/// Users do what the workload does: the kinds in its order, and each as often beside the others.
pub(crate) fn as_the_workload_does(actions: &[Action], names: &[&str]) {
    let all: f64 = actions.iter().map(|action| action.per_user_day).sum();
    let kinds: Vec<&str> = actions.iter().map(|action| action.kind).collect();
    assert_eq!(kinds, names);
    for action in actions {
        let share = action.per_user_day / all;
        assert!((share - action.workload_share).abs() < 1e-9, "{}", action.kind);
    }
}

/// Every demand is of kinds and a number that there are, and no stage lists a resource twice.
pub(crate) fn of_what_there_is(stages: &[Stage], names: &[&str]) {
    for stage in stages {
        let mut resources: Vec<_> = stage.resources.iter().map(|resource| resource.resource).collect();
        resources.sort_unstable();
        resources.dedup();
        assert_eq!(resources.len(), stage.resources.len(), "{}", stage.stage);
        for term in stage.resources.iter().flat_map(|resource| &resource.terms) {
            assert!(term.kinds.iter().all(|kind| names.contains(kind)), "{:?}", term.kinds);
            assert!(
                KEYS.contains(&term.number) || term.number == MILLISECOND,
                "{}",
                term.number
            );
            assert!(
                term.times.is_finite() && term.times >= 0.0,
                "{}: {}",
                stage.stage,
                term.why
            );
        }
    }
}
