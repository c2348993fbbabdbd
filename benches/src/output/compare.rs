//! Two climbs beside each other, as text on standard output.
#![expect(clippy::print_stdout, reason = "the comparison is the result")]

use std::path::Path;

use crate::compare::{Change, Comparison, StageChange};
use crate::output::climb::{ClimbReport, StageReport};
use crate::output::markdown::knee;

/// Prints what changed.
pub fn print(comparison: &Comparison<'_>, (before, after): (&ClimbReport, &ClimbReport), files: (&Path, &Path)) {
    println!("{}", before.design);
    for (label, climb, file) in [("before", before, files.0), ("after", after, files.1)] {
        println!(
            "{label:<7} {} of {}, {} round(s)",
            file.display(),
            climb.date.get(..10).unwrap_or(&climb.date),
            climb.rounds
        );
    }
    for warning in &comparison.warnings {
        println!("warning: {warning}");
    }
    println!();
    println!(
        "{:<14} {:>24} {:>24}  {:<12} {:>9} {:>9}  p99",
        "stage", "knee before (req/s)", "after", "knee", "p99 ms", "after"
    );
    for stage in &comparison.stages {
        row(stage);
    }
    println!();
    println!(
        "Changed: the spreads of the rounds do not overlap, and the medians differ by more than 10 %. p99 is at 95 % of each knee."
    );
}

fn row(stage: &StageChange<'_>) {
    let p99 = |stage: Option<&StageReport>| {
        stage
            .and_then(|stage| stage.p99_ms)
            .map_or_else(|| "-".to_owned(), |p99| format!("{p99:.2}"))
    };
    let knee_of = |stage: Option<&StageReport>| stage.map_or_else(|| "-".to_owned(), knee);
    let word = |change| match (change, stage.before, stage.after) {
        (Change::Lower, ..) => "lower",
        (Change::Higher, ..) => "higher",
        (Change::Noise, ..) => "within noise",
        (Change::Unknown, None, Some(_)) => "new",
        (Change::Unknown, Some(_), None) => "gone",
        (Change::Unknown, ..) => "-",
    };
    println!(
        "{:<14} {:>24} {:>24}  {:<12} {:>9} {:>9}  {}",
        stage.stage,
        knee_of(stage.before),
        knee_of(stage.after),
        word(stage.knee),
        p99(stage.before),
        p99(stage.after),
        word(stage.p99)
    );
    if let Some((before, after)) = stage.bottlenecks() {
        println!("  bottleneck: {before} before, {after} after");
    }
    for text in &stage.worse {
        println!("  worse: {text}");
    }
}
