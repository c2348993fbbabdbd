//! The lab checked on faults that are known: what each planted service must be told to suffer from.
//!
//! Three things are asked of every verdict: that it names the planted fault, that no other is ever proven, and that proofs
//! succeed: at most one in ten may end as `unproven`. The service that has no fault must end as limited by the rig.

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::machine::Machine;
use crate::output::climb::StageReport;
use crate::proof::{Finding, Proof};
use crate::verdict::{self, Evidence, Reason};

/// Each fault, and the resource that must be named for it.
pub const FAULTS: [(&str, &str); 15] = [
    ("cpu_in_handler", "cpu"),
    ("cpu_in_serialisation", "cpu"),
    ("global_lock", "global_lock"),
    ("hot_key_lock", "key_locks"),
    ("one_connection", "pool"),
    ("slow_store", "store"),
    ("synced_writer", "writer"),
    ("one_consumer", "consumer"),
    ("few_workers", "workers"),
    ("growing_store", "store"),
    ("chatty_store", "store"),
    ("large_responses", "cpu"),
    ("rate_limit", "rate_limit"),
    ("background_work", "cpu"),
    ("nothing", RIG),
];

/// What a verdict names when the rig was the limit.
pub const RIG: &str = "generator";
/// Of so many proofs one may fail.
const ONE_IN: usize = 10;

/// All climbs of all planted services.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedReport {
    /// Version of this shape.
    pub schema: u32,
    /// When it ended, in UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// The command that judged the same measurements again, later; left out where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<String>,
    /// What it ran on.
    pub machine: Machine,
    /// Which core did what.
    pub layout: Layout,
    /// How long it took.
    pub elapsed_s: f64,
    /// One climb each.
    pub cases: Vec<Case>,
}

/// One climb of one planted service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The fault.
    pub fault: String,
    /// The seed.
    pub seed: u64,
    /// The resource that must be named.
    pub expected: String,
    /// The resource that was named; null when there was no verdict.
    pub named: Option<String>,
    /// Full, latency-bound or rig-limited.
    pub reason: Option<Reason>,
    /// The knee, in operations a second.
    pub knee_rps: f64,
    /// What the verdict was made from.
    pub recorded: Option<Evidence>,
    /// The proof; null where the rig was the limit.
    pub proof: Option<Proof>,
}

impl Case {
    /// What a climb with this seed has shown.
    pub fn new(expected: &str, seed: u64, stage: StageReport) -> Self {
        Self {
            fault: stage.stage,
            seed,
            expected: expected.to_owned(),
            named: stage.bottleneck.as_ref().map(|found| found.resource.clone()),
            reason: stage.bottleneck.map(|found| found.reason),
            knee_rps: stage.knee_rps.unwrap_or(0.0),
            recorded: stage.recorded,
            proof: stage.proof,
        }
    }

    /// The same measurements, judged by the code of today: verdict and proof are functions of what was recorded.
    #[must_use]
    pub fn judged_again(self) -> Self {
        let verdict = self.recorded.as_ref().and_then(verdict::judge);
        Self {
            named: verdict.as_ref().map(|verdict| verdict.resource.clone()),
            reason: verdict.map(|verdict| verdict.reason),
            proof: self.proof.map(Proof::concluded_again),
            ..self
        }
    }

    /// Whether the planted fault was named.
    pub fn is_right(&self) -> bool {
        self.named.as_deref() == Some(&self.expected)
    }

    /// Whether something was proven that is not the planted fault.
    pub fn is_proven_wrongly(&self) -> bool {
        let proof = self.proof.as_ref().filter(|proof| proof.finding != Finding::Unproven);
        proof.is_some_and(|proof| !proof.named.contains(&self.expected))
    }

    /// Whether there was something to prove, and it was not.
    pub fn is_unproven(&self) -> bool {
        let proof = self.proof.as_ref();
        self.expected != RIG && proof.is_none_or(|proof| proof.finding == Finding::Unproven)
    }
}

impl PlantedReport {
    /// What is wrong with the lab, a sentence each.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for case in &self.cases {
            let Case { fault, seed, .. } = case;
            if !case.is_right() {
                let named = case.named.as_deref().unwrap_or("nothing");
                complaints.push(format!(
                    "{fault}, seed {seed}: {named} was named, not {}",
                    case.expected
                ));
            }
            if case.is_proven_wrongly() {
                complaints.push(format!("{fault}, seed {seed}: something else was proven"));
            }
        }
        let unproven = self.cases.iter().filter(|case| case.is_unproven()).count();
        if unproven * ONE_IN > self.cases.len() {
            complaints.push(format!(
                "{unproven} of {} verdicts were not proven, one in {ONE_IN} may be",
                self.cases.len()
            ));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{Measure, impossible};

    fn case(named: &str, finding: Finding, proven: &str) -> Case {
        let proof = Proof {
            finding,
            named: vec![proven.to_owned()],
            ..impossible(Measure::Knee, "")
        };
        Case {
            fault: "one_connection".to_owned(),
            seed: 1,
            expected: "pool".to_owned(),
            named: Some(named.to_owned()),
            reason: Some(Reason::Full),
            knee_rps: 1_000.0,
            recorded: None,
            proof: Some(proof),
        }
    }

    fn complaints(cases: Vec<Case>) -> Vec<String> {
        let report = PlantedReport {
            schema: 1,
            date: String::new(),
            command: String::new(),
            judged_by: None,
            machine: Machine::detect(),
            layout: Layout::detect(),
            elapsed_s: 0.0,
            cases,
        };
        report.complaints()
    }

    #[test]
    fn a_lab_that_is_right_has_no_complaints() {
        assert!(complaints(vec![case("pool", Finding::Proven, "pool"); 10]).is_empty());
    }

    #[test]
    fn a_wrong_name_and_a_wrong_proof_are_complaints_each() {
        assert_eq!(complaints(vec![case("cpu", Finding::Proven, "pool")]).len(), 1);
        assert_eq!(complaints(vec![case("pool", Finding::Balanced, "cpu")]).len(), 1);
        assert_eq!(complaints(vec![case("cpu", Finding::Proven, "cpu")]).len(), 2);
    }

    #[test]
    fn one_proof_in_ten_may_fail() {
        let mut cases = vec![case("pool", Finding::Proven, "pool"); 9];
        cases.push(case("pool", Finding::Unproven, ""));
        assert!(complaints(cases.clone()).is_empty());
        cases.push(case("pool", Finding::Unproven, ""));
        assert_eq!(complaints(cases).len(), 1);
    }

    #[test]
    fn a_rig_that_is_the_limit_has_nothing_to_prove() {
        let mut nothing = case(RIG, Finding::Proven, "");
        nothing.expected = RIG.to_owned();
        nothing.proof = None;
        assert!(complaints(vec![nothing; 3]).is_empty());
    }
}
