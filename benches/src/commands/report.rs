//! `lab report`: the table of a recorded climb in a README, so that no number there is typed by hand.
//!
//! The block lies between `<!-- report: RUN -->` and `<!-- /report -->`. Everything between the marks is replaced; the run
//! is named in the opening mark, relative to the README, so that a check needs nothing else.

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
    let name = run_name(&args.run);
    let block = markdown::block(&report, &name);
    let wanted = replace(&readme, &name, &block).with_context(|| args.readme.display().to_string())?;
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

/// `<date>-<machine>/<file>`: the folder and the file, which is how runs are filed.
fn run_name(path: &Path) -> String {
    let parts: Vec<String> = path
        .components()
        .rev()
        .take(2)
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// The text with its one report block replaced.
fn replace(text: &str, name: &str, block: &str) -> Result<String> {
    let start = text
        .find(OPEN)
        .with_context(|| format!("there is no `{OPEN} ... -->` to write behind"))?;
    let end = text[start..]
        .find(CLOSE)
        .context("the report block has no `<!-- /report -->`")?
        + start;
    ensure!(
        text[end + CLOSE.len()..].find(OPEN).is_none(),
        "there is more than one report block"
    );
    Ok(format!("{}{OPEN} {name} -->\n{block}{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_block_changes() {
        let text = "a\n<!-- report: old -->\nold\n<!-- /report -->\nb\n";
        let once = replace(text, "new/climb.json", "table\n").unwrap();
        assert_eq!(once, "a\n<!-- report: new/climb.json -->\ntable\n<!-- /report -->\nb\n");
        assert_eq!(replace(&once, "new/climb.json", "table\n").unwrap(), once);
    }

    #[test]
    fn a_readme_without_its_marks_is_an_error() {
        assert!(replace("a", "n", "t").is_err());
        assert!(replace("<!-- report: x -->", "n", "t").is_err());
        let two = "<!-- report: x -->\n<!-- /report -->\n<!-- report: y -->\n<!-- /report -->\n";
        assert!(replace(two, "n", "t").is_err());
    }

    #[test]
    fn a_run_is_named_by_its_folder() {
        assert_eq!(
            run_name(Path::new("benches/runs/2026-11-22-vm/climb.json")),
            "2026-11-22-vm/climb.json"
        );
    }
}
