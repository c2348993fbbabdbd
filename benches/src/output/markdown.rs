//! A climb as a table in Markdown, for a README.

use std::fmt::Write;
use std::path::Path;

use crate::ledger::CPU;
use crate::output::climb::{ClimbReport, StageReport};
use crate::output::picture;
use crate::output::text::rate;
use crate::verdict::{Reason, cpu_parts};

/// The lines between the report marks, the last one with its line end.
pub fn block(report: &ClimbReport, run: &str) -> String {
    let mut out = String::from("| stage | idea | knee (req/s) | p50 (ms) | p99 (ms) | bottleneck | violations |");
    let limits = report.stages.iter().any(|stage| stage.accuracy.is_some());
    out += if limits { " accuracy |\n" } else { "\n" };
    out += "|---|---|--:|--:|--:|---|--:|";
    out += if limits { "---|\n" } else { "\n" };
    for stage in &report.stages {
        out += &row(stage);
        if limits {
            let accuracy = stage.accuracy.map_or_else(String::new, |accuracy| accuracy.to_string());
            let _ = write!(out, " {accuracy} |");
        }
        out.push('\n');
    }
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "\n![{}]({})\n\nRun `{run}` of {}: `{}` (seed {}) on {} ({} cores, {} GiB, {}, {}), data on {}; {}. \
         The knee is the median of {} round(s), with the lowest and the highest in parentheses; the latencies are at 95 % of it.\n",
        picture::description(report),
        picture(Path::new(run)),
        report.date.get(..10).unwrap_or(&report.date),
        report.command,
        report.seed,
        report.machine.cpu,
        report.machine.cores,
        (report.machine.memory_bytes + (1 << 29)) >> 30,
        report.machine.kernel,
        report.machine.rustc,
        report.data_filesystem,
        report.layout.text,
        report.rounds,
    );
    if let Some((resource, factor)) = &report.slowed {
        let _ = writeln!(out, "`{resource}` was slowed by {factor} all the while.");
    }
    for stage in &report.stages {
        if let Some(ran) = ran(stage) {
            let _ = writeln!(out, "`{}` ran {ran}.", stage.stage);
        }
    }
    out
}

/// `as 2 nodes on postgres 15.18 (local)`: what a stage was beside one server, if anything.
pub fn ran(stage: &StageReport) -> Option<String> {
    if stage.skipped.is_some() {
        return None;
    }
    let nodes = (stage.nodes > 1).then(|| format!("as {} nodes", stage.nodes));
    let engines: Vec<String> = stage.engines.iter().map(ToString::to_string).collect();
    let engines = (!engines.is_empty()).then(|| format!("on {}", engines.join(" and ")));
    let ran: Vec<String> = nodes.into_iter().chain(engines).collect();
    (!ran.is_empty()).then(|| ran.join(" "))
}

/// The file of a run's picture, beside the README that shows it: `climb-NAME.svg` for `.../NAME.json`.
pub fn picture(run: &Path) -> String {
    format!("climb-{}.svg", run.file_stem().unwrap_or_default().to_string_lossy())
}

fn row(stage: &StageReport) -> String {
    if let Some(reason) = &stage.skipped {
        return format!("| `{}` | {} | skipped: {reason} | | | | |", stage.stage, stage.idea);
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let bottleneck = stage.bottleneck.as_ref().map_or_else(
        || "-".to_owned(),
        |found| match found.reason {
            Reason::Full => format!(
                "`{}` {:.0} % busy{}",
                found.resource,
                found.utilisation.min(1.0) * 100.0,
                mostly(stage)
            ),
            Reason::LatencyBound => format!("latency: `{}`", found.resource),
            Reason::RigLimited => "rig-limited".to_owned(),
        },
    );
    format!(
        "| `{}` | {} | {} | {} | {} | {bottleneck}{} | {} |",
        stage.stage,
        stage.idea,
        knee(stage),
        number(stage.p50_ms),
        number(stage.p99_ms),
        stage
            .proof
            .as_ref()
            .map_or_else(String::new, |proof| format!(", {}", proof.finding)),
        stage.violations
    )
}

/// ` (postgres 61 %)`: who takes most of a full CPU, where the server shares it.
pub fn mostly(stage: &StageReport) -> String {
    let cpu = stage.bottleneck.as_ref().is_some_and(|found| found.resource == CPU);
    let first = cpu_parts(&stage.ledger).next().filter(|_| cpu);
    first.map_or_else(String::new, |(name, utilisation)| {
        format!(" ({name} {:.0} %)", utilisation * 100.0)
    })
}

/// `12,300 (11,900-12,700)`.
pub fn knee(stage: &StageReport) -> String {
    let Some(median) = stage.knee_rps else {
        return "-".to_owned();
    };
    let bound = if stage.rig_limited { ">= " } else { "" };
    match (stage.knee_min_rps, stage.knee_max_rps) {
        (Some(low), Some(high)) if stage.knees_rps.len() > 1 => {
            format!("{bound}{} ({}-{})", rate(median), rate(low), rate(high))
        }
        _ => format!("{bound}{}", rate(median)),
    }
}
