//! `lab keys`: what a primary key costs.
//!
//! A recorded run is printed and drawn again by `--from`, so that a page which quotes it, and shows its picture, can be held
//! against it by `--check`.

use std::fs;
use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::climb::command_line;
use crate::cli::KeysArgs;
use crate::data_root;
use crate::keys::{self, Setup};
use crate::layout::Layout;
use crate::machine::Machine;
use crate::output::json::{self, OutputFile, SCHEMA};
use crate::output::keys::KeysReport;
use crate::output::progress::Progress;
use crate::output::{keys_picture, keys_table};
use crate::platform;
use crate::stop::Stop;

pub(super) fn run(args: &KeysArgs) -> Result<u8> {
    if let (Some(run), Some(picture), true) = (&args.from, &args.svg, args.check) {
        check(run, picture)?;
        return Ok(0);
    }
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;
    let mut picture = args.svg.as_deref().map(OutputFile::create).transpose()?;
    let report = match &args.from {
        Some(run) => json::read(run, WHAT)?,
        None => measure(args)?,
    };
    keys_table::print(&report);
    if let Some(file) = &mut file {
        file.write(&report)?;
    }
    if let Some(picture) = &mut picture {
        picture.write_text(&keys_picture::svg(&report))?;
    }
    Ok(0)
}

/// What a file has to be.
const WHAT: &str = "a run of `lab keys`";

fn measure(args: &KeysArgs) -> Result<KeysReport> {
    let start = Instant::now();
    let stop = Stop::on_signals()?;
    // Before anything is pinned: a pinned thread sees one core.
    let machine = Machine::detect();
    let mut layout = Layout::detect();
    layout.take_place();
    let data_root = data_root::of(args.data_root.as_deref())?;
    let progress = Progress::spinner();
    progress.line(&layout.text);
    let setup = Setup {
        layout: &layout,
        data_root: &data_root,
        rows: args.rows as u64,
        seed: args.seed,
        engines: args.engines,
    };
    let measured = keys::measure(&setup, &progress, &stop);
    progress.clear();
    let measured = measured?;
    Ok(KeysReport {
        schema: SCHEMA,
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: command_line(),
        machine,
        data_filesystem: platform::filesystem(&data_root),
        layout,
        elapsed_s: start.elapsed().as_secs_f64(),
        seed: args.seed,
        rows: args.rows as u64,
        rows_a_commit: keys::ROWS_A_COMMIT,
        payload_bytes: keys::PAYLOAD_BYTES,
        runs: measured.runs,
        absent: measured.absent,
    })
}

/// Complains when the picture, or the text beside the run, is not what the run gives.
fn check(run: &Path, picture: &Path) -> Result<()> {
    let report: KeysReport = json::read(run, WHAT)?;
    let printed = run.with_extension("out");
    for (file, wanted) in [
        (picture, keys_picture::svg(&report)),
        (&printed, keys_table::text(&report)),
    ] {
        let there = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(
            there == wanted,
            "{} is not what {} gives; write it with `lab keys --from {} --svg FILE`",
            file.display(),
            run.display(),
            run.display()
        );
    }
    Ok(())
}
