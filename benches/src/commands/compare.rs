//! `lab compare`: two climbs, stage by stage.

use anyhow::{Result, ensure};

use super::SLO_MISSED;
use crate::cli::CompareArgs;
use crate::compare::compare;
use crate::output::climb::ClimbReport;
use crate::output::{compare as output, json};

pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let before: ClimbReport = json::read(&args.before, "a climb")?;
    let after: ClimbReport = json::read(&args.after, "a climb")?;
    ensure!(
        before.design == after.design,
        "{} is a climb of {} and {} one of {}",
        args.before.display(),
        before.design,
        args.after.display(),
        after.design
    );
    let comparison = compare(&before, &after);
    output::print(&comparison, (&before, &after), (&args.before, &args.after));
    Ok(if args.fail_on_regression && comparison.is_worse() {
        SLO_MISSED
    } else {
        0
    })
}
