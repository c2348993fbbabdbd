//! `lab report`: the table of a recorded climb in a README, so that no number there is typed by hand.
//!
//! The block lies between `<!-- report: RUN -->` and `<!-- /report -->`. Everything between the marks is replaced; the run
//! is named in the opening mark, by its path from the root of the project, so that a check needs nothing else. A README may have
//! several blocks, each with a run of another name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::ReportArgs;
use crate::output::climb::ClimbReport;
use crate::output::json::SCHEMA;
use crate::output::markdown;

const OPEN: &str = "<!-- report:";
const CLOSE: &str = "<!-- /report -->";

pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let report = read(&args.run)?;
    ensure!(
        report.design == args.design,
        "{} is a climb of {}, not of {}",
        args.run.display(),
        report.design,
        args.design
    );
    let readme = fs::read_to_string(&args.readme).with_context(|| format!("cannot read {}", args.readme.display()))?;
    let block = markdown::block(&report, &args.run.display().to_string());
    let wanted = replace(&readme, &args.run, &block).with_context(|| args.readme.display().to_string())?;
    if wanted == readme {
        return Ok(0);
    }
    if args.check {
        bail!(
            "{}: the report block is not what {} gives; write it with `lab report {} --run {} --readme {}`",
            args.readme.display(),
            args.run.display(),
            args.design,
            args.run.display(),
            args.readme.display()
        );
    }
    fs::write(&args.readme, wanted).with_context(|| format!("cannot write {}", args.readme.display()))?;
    Ok(0)
}

fn read(path: &Path) -> Result<ClimbReport> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: ClimbReport =
        serde_json::from_str(&text).with_context(|| format!("{} is not a climb", path.display()))?;
    ensure!(
        report.schema == SCHEMA,
        "{} has schema {}, this lab reads {SCHEMA}",
        path.display(),
        report.schema
    );
    Ok(report)
}

/// The text with the block of this run replaced: the one whose mark names a file of the same name.
fn replace(text: &str, run: &Path, block: &str) -> Result<String> {
    let file = run.file_name();
    let marks = text.match_indices(OPEN).map(|(at, _)| at);
    let mut ours = marks.filter(|at| Path::new(named(&text[*at..])).file_name() == file);
    let start = ours.next().with_context(|| {
        format!(
            "there is no `{OPEN} ...` that names a run of the name of {}",
            run.display()
        )
    })?;
    ensure!(ours.next().is_none(), "two report blocks name {}", run.display());
    let rest = &text[start + OPEN.len()..];
    let length = rest.find(CLOSE).context("the report block has no `<!-- /report -->`")?;
    ensure!(
        !rest[..length].contains(OPEN),
        "the report block has no `<!-- /report -->` of its own"
    );
    let end = start + OPEN.len() + length;
    Ok(format!(
        "{}{OPEN} {} -->\n{block}{}",
        &text[..start],
        run.display(),
        &text[end..]
    ))
}

/// The run that a mark names.
fn named(mark: &str) -> &str {
    mark[OPEN.len()..].split("-->").next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_block_of_the_run_changes() {
        let text =
            "a\n<!-- report: old/x.json -->\nold\n<!-- /report -->\nb\n<!-- report: old/y.json -->\n<!-- /report -->\n";
        let run = Path::new("new/x.json");
        let once = replace(text, run, "table\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- report: new/x.json -->\ntable\n<!-- /report -->\nb\n<!-- report: old/y.json -->\n<!-- /report -->\n"
        );
        assert_eq!(replace(&once, run, "table\n").unwrap(), once);
    }

    #[test]
    fn a_readme_without_the_marks_of_the_run_is_an_error() {
        let run = Path::new("new/x.json");
        assert!(replace("a", run, "t").is_err());
        assert!(replace("<!-- report: y.json -->\n<!-- /report -->", run, "t").is_err());
        assert!(replace("<!-- report: x.json -->", run, "t").is_err());
        let open = "<!-- report: x.json -->\n<!-- report: y.json -->\n<!-- /report -->\n";
        assert!(replace(open, run, "t").is_err());
        let two = "<!-- report: x.json -->\n<!-- /report -->\n".repeat(2);
        assert!(replace(&two, run, "t").is_err());
    }
}
