//! A proven bottleneck whose capacity is a knob, relieved: twice of it, and what gives then.

use anyhow::Result;

use super::{Request, prepare};
use crate::ledger::CPU;
use crate::needs::Need;
use crate::output::climb::StageReport;
use crate::output::progress::Progress;
use crate::proof::{Finding, Relief};
use crate::server::{Setup, Stage};
use crate::stop::Stop;

/// The lab's own flag for the CPU quota.
const QUOTA: &str = "server-cpu";

/// A knob that the stage has for what sets its pace.
#[derive(Debug, PartialEq)]
struct Knob {
    resource: String,
    flag: String,
    from: f64,
}

/// Searches the knee of a stage once more with twice of what sets its pace, if that can be turned, and writes what comes
/// of it into the report's proof.
pub(super) fn relieve(
    request: &Request,
    setup: &Setup<'_>,
    stage: &Stage,
    needs: &[Need],
    report: &mut StageReport,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let Some(knob) = knob(report, stage, setup.quota_cores) else {
        return Ok(());
    };
    let to = knob.from * 2.0;
    progress.line(&format!("{:<14} relieved: --{} {to}", stage.name, knob.flag));
    let mut set: Vec<_> = setup
        .set
        .iter()
        .filter(|(flag, _)| *flag != knob.flag)
        .cloned()
        .collect();
    let mut turned = *setup;
    if knob.flag == QUOTA {
        turned.quota_cores = Some(to);
    } else {
        set.push((knob.flag.clone(), to.to_string()));
    }
    let turned = Setup { set: &set, ..turned };
    let mut running = prepare(request, &turned, stage, needs, progress, stop)?;
    running.search(1, progress, stop)?;
    running.find_bottleneck(progress, stop)?;
    let after = running.finish(progress, stop)?;
    let knee = after.knee_rps.unwrap_or(0.0);
    let before = report.knee_rps.unwrap_or(0.0);
    if let Some(proof) = &mut report.proof {
        proof.relief = Some(Relief {
            resource: knob.resource,
            knob: knob.flag,
            from: knob.from,
            to,
            knee_rps: knee,
            ratio: if before > 0.0 { knee / before } else { 0.0 },
            next: after.bottleneck,
        });
    }
    Ok(())
}

fn knob(report: &StageReport, stage: &Stage, quota: Option<f64>) -> Option<Knob> {
    let proof = report
        .proof
        .as_ref()
        .filter(|proof| proof.finding != Finding::Unproven)?;
    let resource = proof.named.first()?.clone();
    if resource == CPU {
        let from = quota?;
        let flag = QUOTA.to_owned();
        return Some(Knob { resource, flag, from });
    }
    let flag = stage.knobs.iter().find(|knob| knob.resource == resource)?.flag.clone();
    let from = report.ledger.iter().find(|usage| usage.resource == resource)?.capacity;
    Some(Knob { resource, flag, from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::climb::Skipped;
    use crate::proof::{Measure, impossible};
    use crate::server;
    use crate::verdict::Usage;

    fn found(named: &str, finding: Finding, quota: Option<f64>) -> Option<Knob> {
        let stage = Stage {
            name: "a".to_owned(),
            idea: String::new(),
            needs: Vec::new(),
            knobs: vec![server::Knob {
                resource: "pool".to_owned(),
                flag: "connections".to_owned(),
            }],
        };
        let mut report = StageReport::skipped(&stage, Skipped(String::new()));
        report.ledger = vec![Usage {
            resource: "pool".to_owned(),
            unit: "connections".to_owned(),
            capacity: 8.0,
            utilisation: 0.97,
            operations: 1.0,
            demand_ms: 1.0,
            wait_ms: 0.0,
            ceiling_rps: None,
        }];
        let mut proof = impossible(Measure::Knee, "");
        (proof.finding, proof.named) = (finding, vec![named.to_owned()]);
        report.proof = Some(proof);
        knob(&report, &stage, quota)
    }

    #[test]
    fn what_is_proven_and_has_a_knob_is_relieved() {
        let knob = found("pool", Finding::Proven, None).unwrap();
        assert_eq!((knob.flag.as_str(), knob.from), ("connections", 8.0));
        assert_eq!(found("pool", Finding::Unproven, None), None);
        assert_eq!(found("writer", Finding::Proven, None), None);
    }

    #[test]
    fn the_knob_of_the_cpu_is_its_quota() {
        assert_eq!(found("cpu", Finding::Proven, None), None, "a core cannot be made two");
        let knob = found("cpu", Finding::Balanced, Some(0.5)).unwrap();
        assert_eq!((knob.flag.as_str(), knob.from), (QUOTA, 0.5));
    }
}
