//! Results as text on standard output.
#![expect(clippy::print_stdout, reason = "this is the one module that writes results")]

use crate::generator::{Latencies, Outcome};
use crate::output::climb::{ClimbReport, StageReport};
use crate::output::markdown::{knee, mostly};
use crate::output::paint::{self, BAD, BOLD, DOUBTFUL, GOOD, paint};
use crate::output::profile;
use crate::verdict::{Reason, cpu_parts};
use crate::workload::Verified;

/// Prints one run of `lab load`.
pub fn load(outcome: &Outcome, verified: &Verified, missed: &[String]) {
    match outcome.offered_rps {
        Some(rate) => println!("requested  {rate:.0}/s for {:?}, open loop", outcome.duration),
        None => println!("requested  as much as goes for {:?}, closed loop", outcome.duration),
    }
    println!("achieved   {:.0}/s", outcome.achieved_rps());
    println!(
        "operations planned {}, issued {}, completed {}, errors {}, violations {}",
        outcome.planned,
        outcome.issued,
        outcome.completed,
        outcome.failed(),
        outcome.violations + verified.violations
    );
    println!(
        "           late {}, dropped {}, timed out {}, unfinished {}",
        outcome.late, outcome.dropped, outcome.timed_out, outcome.unfinished
    );
    println!();
    let colour = paint::wanted(&std::io::stdout());
    let head = format!(
        "{:<26}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "ms", "p50", "p90", "p99", "p999", "max"
    );
    println!("{}", paint(colour, BOLD, &head));
    quantiles("response (from schedule)", &outcome.times.response);
    quantiles("service (from send)", &outcome.times.service);
    if outcome.kinds.len() > 1 {
        for kind in &outcome.kinds {
            quantiles(&format!("  {} response", kind.kind.name), &kind.times.response);
        }
    }
    println!();
    println!(
        "generator  {:.0} % of a core, p99 {:.3} ms behind its schedule",
        outcome.generator_cpu * 100.0,
        outcome.lag.quantile_ms(0.99)
    );
    for (reason, count) in &outcome.errors {
        println!("error      {count} x {reason}");
    }
    if !verified.summary.is_empty() {
        println!("verified   {}", verified.summary);
    }
    if let Some(accuracy) = verified.accuracy {
        println!("accuracy   {accuracy}");
    }
    for example in outcome.examples.iter().chain(&verified.examples) {
        println!("{}  {example}", paint(colour, BAD, "violation"));
    }
    if let Some(reason) = outcome.generator_limited() {
        println!("{}    {reason}", paint(colour, DOUBTFUL, "INVALID"));
    }
    for text in missed {
        println!("{} {text}", paint(colour, BAD, "SLO missed"));
    }
}

fn quantiles(label: &str, latencies: &Latencies) {
    print!("{label:<26}");
    for q in [0.5, 0.9, 0.99, 0.999] {
        print!("{:>9.3}", latencies.quantile_ms(q));
    }
    println!("{:>9.3}", latencies.max_ms());
}

/// Prints a climb: the table, then what each verdict rests on.
pub fn climb(report: &ClimbReport) {
    println!(
        "{} on {} ({} cores, {}), data on {}; {}; seed {}, {} items",
        report.design,
        report.machine.cpu,
        report.machine.cores,
        report.machine.kernel,
        report.data_filesystem,
        report.layout.text,
        report.seed,
        report.items,
    );
    if let Some((resource, factor)) = &report.slowed {
        println!("{resource} was slowed by {factor} all the while");
    }
    if let Some(cores) = report.server_cpu_cores {
        println!("each stage may use {cores} of a core");
    }
    println!();
    let colour = paint::wanted(&std::io::stdout());
    let limits = report.stages.iter().any(|stage| stage.accuracy.is_some());
    let head = format!(
        "{:<14} {:>24} {:>9} {:>9}  {:<30} {:>10}{}",
        "stage",
        "knee req/s (spread)",
        "p50 ms",
        "p99 ms",
        "bottleneck",
        "violations",
        if limits { "  accuracy" } else { "" }
    );
    println!("{}", paint(colour, BOLD, &head));
    for stage in &report.stages {
        row(stage, colour);
    }
    println!();
    for stage in report.stages.iter().filter(|stage| stage.skipped.is_none()) {
        details(stage, colour);
    }
    println!(
        "Knee: the highest rate with {}, errors <= {} % and no growing backlog; median of {} round(s). Latencies at 95 % of it. {:.0} s in all.",
        promises(report),
        report.slo.max_errors_percent,
        report.rounds,
        report.elapsed_s
    );
}

fn row(stage: &StageReport, colour: bool) {
    if let Some(reason) = &stage.skipped {
        println!("{:<14} {}: {reason}", stage.stage, paint(colour, DOUBTFUL, "skipped"));
        return;
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let bottleneck = stage.bottleneck.as_ref().map_or_else(
        || "-".to_owned(),
        |found| match found.reason {
            Reason::Full => format!(
                "{} {:.0} % busy{}",
                found.resource,
                found.utilisation.min(1.0) * 100.0,
                mostly(stage)
            ),
            Reason::LatencyBound => format!("latency-bound: {}", found.resource),
            Reason::RigLimited => "rig-limited".to_owned(),
        },
    );
    let violations = format!("{:>10}", stage.violations);
    let accuracy = stage
        .accuracy
        .map_or_else(String::new, |accuracy| format!("  {accuracy}"));
    println!(
        "{:<14} {:>24} {:>9} {:>9}  {bottleneck:<30} {}{accuracy}",
        stage.stage,
        knee(stage),
        number(stage.p50_ms),
        number(stage.p99_ms),
        paint(colour, if stage.violations > 0 { BAD } else { GOOD }, &violations)
    );
}

fn details(stage: &StageReport, colour: bool) {
    println!("{}", paint(colour, BOLD, &stage.stage));
    if let Some(found) = &stage.bottleneck {
        println!("  {}", found.evidence);
        for warning in &found.warnings {
            println!("  {}: {warning}", paint(colour, DOUBTFUL, "warning"));
        }
    }
    if let Some(proof) = &stage.proof {
        println!("  {}: {}", proof.finding, proof.summary);
        if let Some(relief) = &proof.relief {
            println!("  {relief}");
        }
        if let Some(failed) = &proof.relief_failed {
            println!("  not relieved {failed}");
        }
    }
    if let Some(found) = &stage.profile {
        profile::print(found);
    }
    if stage.nodes > 1 {
        println!(
            "  nodes: {} beside each other on the same cores; the ledger is that of all together",
            stage.nodes
        );
    }
    if !stage.engines.is_empty() {
        println!("  engines: {}", engines(stage));
    }
    if !stage.verified.is_empty() {
        println!("  verified: {}", stage.verified);
    }
    for example in &stage.violation_examples {
        println!("  {}: {example}", paint(colour, BAD, "violation"));
    }
}

/// Which engines a stage ran on, and of which of them there is no evidence.
fn engines(stage: &StageReport) -> String {
    let seen = |name: &str| cpu_parts(&stage.ledger).any(|(part, _)| part == name);
    let engines: Vec<String> = stage
        .engines
        .iter()
        .map(|engine| {
            let unseen = if seen(&engine.engine) { "" } else { ", its CPU not seen" };
            format!("{engine}{unseen}")
        })
        .collect();
    engines.join("; ")
}

/// The latencies that had to be kept: `redirect p99 <= 20 ms, create p99 <= 100 ms`.
pub(super) fn promises(report: &ClimbReport) -> String {
    let limits: Vec<String> = report
        .slo
        .kinds
        .iter()
        .filter_map(|kind| Some(format!("{} p99 <= {} ms", kind.kind, kind.p99_ms?)))
        .collect();
    limits.join(", ")
}

/// A rate with separators, to three significant digits: more would be noise.
pub fn rate(value: f64) -> String {
    if value <= 0.0 {
        return "0".to_owned();
    }
    let scale = 10f64.powf(value.log10().floor() - 2.0).max(1.0);
    grouped(&format!("{:.0}", (value / scale).round() * scale))
}

/// Digits with a separator before each three.
pub fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(7.4), "7");
        assert_eq!(rate(987.6), "988");
        assert_eq!(rate(12_345.0), "12,300");
        assert_eq!(rate(999_600.0), "1,000,000");
    }
}
