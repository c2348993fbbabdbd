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
    to: f64,
}

/// Searches the knee of a stage once more with twice of what sets its pace, if that can be turned, and writes what comes
/// of it into the report's proof. A server that does not bear it is a result too, and loses nothing of what was found before.
pub(super) fn relieve(
    request: &Request,
    setup: &Setup<'_>,
    stage: &Stage,
    needs: &[Need],
    report: &mut StageReport,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let cores = setup.layout.server_cores.len();
    let Some(knob) = knob(report, stage, setup.quota_cores, cores) else {
        return Ok(());
    };
    progress.line(&format!("{:<14} relieved: --{} {}", stage.name, knob.flag, knob.to));
    let relieved = climb_again(request, setup, stage, needs, &knob, progress, stop);
    stop.check()?;
    let Some(proof) = &mut report.proof else {
        return Ok(());
    };
    match relieved {
        Ok(after) => {
            let (knee, before) = (after.knee_rps.unwrap_or(0.0), report.knee_rps.unwrap_or(0.0));
            proof.relief = Some(Relief {
                resource: knob.resource,
                knob: knob.flag,
                from: knob.from,
                to: knob.to,
                knee_rps: knee,
                rig_limited: after.rig_limited,
                ratio: if before > 0.0 { knee / before } else { 0.0 },
                next: after.bottleneck,
            });
            report.violations += after.violations;
            report.violation_examples.extend(after.violation_examples);
        }
        Err(error) => proof.relief_failed = Some(format!("with --{} {}: {error:#}", knob.flag, knob.to)),
    }
    Ok(())
}

fn climb_again(
    request: &Request,
    setup: &Setup<'_>,
    stage: &Stage,
    needs: &[Need],
    knob: &Knob,
    progress: &Progress,
    stop: &Stop,
) -> Result<StageReport> {
    let others = setup.set.iter().filter(|(flag, _)| *flag != knob.flag);
    let mut set: Vec<_> = others.cloned().collect();
    let mut turned = *setup;
    if knob.flag == QUOTA {
        turned.quota_cores = Some(knob.to);
    } else {
        set.push((knob.flag.clone(), knob.to.to_string()));
    }
    let turned = Setup { set: &set, ..turned };
    let mut running = prepare(request, &turned, stage, needs, progress, stop)?;
    running.search(1, progress, stop)?;
    running.find_bottleneck(progress, stop)?;
    running.finish(progress, stop)
}

/// The knob of what was proven. `cores` are those that the server runs on: no quota gives more; 0 where it is not bound.
fn knob(report: &StageReport, stage: &Stage, quota: Option<f64>, cores: usize) -> Option<Knob> {
    let proof = report
        .proof
        .as_ref()
        .filter(|proof| proof.finding != Finding::Unproven)?;
    let resource = proof.named.first()?.clone();
    if resource == CPU {
        let from = quota?;
        let most = if cores == 0 { f64::INFINITY } else { cores as f64 };
        let to = (from * 2.0).min(most);
        let flag = QUOTA.to_owned();
        return (to > from).then_some(Knob {
            resource,
            flag,
            from,
            to,
        });
    }
    let flag = stage.knobs.iter().find(|knob| knob.resource == resource)?.flag.clone();
    let all = report.ledger.iter().find(|usage| usage.resource == resource)?.capacity;
    let from = all / f64::from(stage.nodes); // every node gets the flag, for its own
    let to = from * 2.0;
    Some(Knob {
        resource,
        flag,
        from,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::climb::Skipped;
    use crate::proof::{Measure, impossible};
    use crate::server;
    use crate::verdict::Usage;

    fn found(named: &str, finding: Finding, quota: Option<f64>) -> Option<Knob> {
        found_on(1, named, finding, quota)
    }

    fn found_on(nodes: u32, named: &str, finding: Finding, quota: Option<f64>) -> Option<Knob> {
        let stage = Stage {
            name: "a".to_owned(),
            idea: String::new(),
            needs: Vec::new(),
            knobs: vec![server::Knob {
                resource: "pool".to_owned(),
                flag: "connections".to_owned(),
            }],
            nodes,
            listens: Vec::new(),
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
        knob(&report, &stage, quota, 1)
    }

    #[test]
    fn what_is_proven_and_has_a_knob_is_relieved() {
        let knob = found("pool", Finding::Proven, None).unwrap();
        assert_eq!((knob.flag.as_str(), knob.from, knob.to), ("connections", 8.0, 16.0));
        assert_eq!(found("pool", Finding::Unproven, None), None);
        assert_eq!(found("writer", Finding::Proven, None), None);
    }

    #[test]
    fn a_flag_is_each_nodes_and_the_quota_is_that_of_all() {
        let each = found_on(2, "pool", Finding::Proven, None).unwrap();
        assert_eq!((each.from, each.to), (4.0, 8.0), "two pools of four are eight");
        let all = found_on(2, "cpu", Finding::Proven, Some(0.5)).unwrap();
        assert_eq!((all.from, all.to), (0.5, 1.0));
    }

    #[test]
    fn the_knob_of_the_cpu_is_its_quota() {
        assert_eq!(found("cpu", Finding::Proven, None), None, "a core cannot be made two");
        let knob = found("cpu", Finding::Balanced, Some(0.5)).unwrap();
        assert_eq!((knob.flag.as_str(), knob.from, knob.to), (QUOTA, 0.5, 1.0));
        let most = found("cpu", Finding::Proven, Some(0.8)).unwrap();
        assert_eq!(most.to, 1.0, "there is one core");
        assert_eq!(found("cpu", Finding::Proven, Some(1.0)), None);
    }
}
