//! The check of the lab on planted faults, as a table.
#![expect(clippy::print_stdout, reason = "this module writes results")]

use crate::output::text::rate;
use crate::planted::{Case, PlantedReport, RIG};
use crate::proof::Finding;

/// Prints a line a climb, and what is wrong with the lab.
pub fn table(report: &PlantedReport) {
    println!(
        "{:<21} {:>4} {:>10}  {:<14} {:<14} {:<9} {:>13}  {:<27}",
        "fault", "seed", "knee req/s", "planted", "named", "finding", "E of named", "largest E of the others"
    );
    for case in &report.cases {
        row(case);
    }
    println!();
    let count = |which: fn(&Case) -> bool| report.cases.iter().filter(|case| which(case)).count();
    println!(
        "{} climbs on {} ({} cores), {}: {} named right, {} proven wrongly, {} unproven; {:.0} s",
        report.cases.len(),
        report.machine.cpu,
        report.machine.cores,
        report.layout.text,
        count(Case::is_right),
        count(Case::is_proven_wrongly),
        count(Case::is_unproven),
        report.elapsed_s,
    );
}

fn row(case: &Case) {
    let finding = match &case.proof {
        Some(proof) => proof.finding.to_string(),
        None if case.expected == RIG => "rig".to_owned(),
        None => "-".to_owned(),
    };
    let interventions = case.proof.as_ref().map_or(&[][..], |proof| &proof.interventions);
    let first = interventions.first().map_or_else(
        || "-".to_owned(),
        |one| format!("{:.2} +- {:.2}", one.elasticity, one.elasticity_spread),
    );
    let others = interventions.iter().skip(1);
    let most = others.max_by(|a, b| a.elasticity.total_cmp(&b.elasticity));
    let most = most.map_or_else(
        || "-".to_owned(),
        |one| format!("{} {:.2} +- {:.2}", one.resource, one.elasticity, one.elasticity_spread),
    );
    println!(
        "{:<21} {:>4} {:>10}  {:<14} {:<14} {:<9} {first:>13}  {most}",
        case.fault,
        case.seed,
        rate(case.knee_rps),
        case.expected,
        case.named.as_deref().unwrap_or("-"),
        finding,
    );
    let unproven = case.proof.as_ref().filter(|proof| proof.finding == Finding::Unproven);
    if let Some(proof) = unproven {
        println!("    {}", proof.summary);
    }
}
