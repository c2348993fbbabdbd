//! `lab report`: the table and the picture of a recorded climb in a README, so that no number there is typed by hand; or
//! a page of it.
//!
//! The block lies between `<!-- report: RUN -->` and `<!-- /report -->`. Everything between the marks is replaced; the run
//! is named in the opening mark, by its path from the root of the project, so that a check needs nothing else. A README may have
//! several blocks, each with a run of another name. The picture is a file beside the README, which the block shows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::ReportArgs;
use crate::output::climb::ClimbReport;
use crate::output::picture::{self, Width};
use crate::output::{html, json, markdown};

const OPEN: &str = "<!-- report:";
const CLOSE: &str = "<!-- /report -->";

pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let report: ClimbReport = json::read(&args.run, "a climb")?;
    ensure!(
        report.design == args.design,
        "{} is a climb of {}, not of {}",
        args.run.display(),
        report.design,
        args.design
    );
    if let Some(file) = &args.html {
        fs::write(file, html::page(&report)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(readme) = &args.readme {
        block(args, &report, readme)?;
    }
    Ok(0)
}

/// The block, and the picture that it shows.
fn block(args: &ReportArgs, report: &ClimbReport, readme: &Path) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let block = markdown::block(report, &args.run.display().to_string());
    let wanted = replace(&text, &args.run, &block).with_context(|| readme.display().to_string())?;
    let picture = readme.with_file_name(markdown::picture(&args.run));
    settle(args, "the report block", readme, Some(&text), &wanted)?;
    let there = fs::read_to_string(&picture).ok();
    settle(
        args,
        "the picture",
        &picture,
        there.as_deref(),
        &picture::svg(report, Width::Page),
    )
}

/// Makes a file what the run gives, or complains that it is not.
fn settle(args: &ReportArgs, what: &str, file: &Path, there: Option<&str>, wanted: &str) -> Result<()> {
    if there == Some(wanted) {
        return Ok(());
    }
    if args.check {
        bail!(
            "{}: {what} is not what {} gives; write it with `lab report {} --run {} --readme README.md`, or `make report`",
            file.display(),
            args.run.display(),
            args.design,
            args.run.display(),
        );
    }
    fs::write(file, wanted).with_context(|| format!("cannot write {}", file.display()))
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
