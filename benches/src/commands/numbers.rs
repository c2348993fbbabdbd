//! `lab numbers`: what this machine does.

use std::time::{Instant, SystemTime};

use anyhow::Result;

use super::climb::command_line;
use crate::cli::NumbersArgs;
use crate::data_root;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::numbers::{self, Effort, Setup};
use crate::output::json::{OutputFile, SCHEMA};
use crate::output::numbers::NumbersReport;
use crate::output::numbers_table;
use crate::output::progress::Progress;
use crate::stop::Stop;

pub(super) fn run(args: &NumbersArgs) -> Result<u8> {
    let start = Instant::now();
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;
    let stop = Stop::on_signals()?;
    // Before anything is pinned: a pinned thread sees one core.
    let machine = Machine::detect();
    let mut layout = Layout::detect();
    layout.take_place();
    let data_root = data_root::beside_executable()?;
    let progress = Progress::spinner();
    progress.line(&layout.text);
    let setup = Setup {
        layout: &layout,
        cores: machine.cores,
        data_root: &data_root,
        effort: Effort::full(),
    };
    let measured = numbers::measure(&setup, &progress, &stop);
    progress.clear();
    let measured = measured?;
    let report = NumbersReport {
        schema: SCHEMA,
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: command_line(),
        machine,
        layout,
        elapsed_s: start.elapsed().as_secs_f64(),
        numbers: measured.numbers,
        absent: measured.absent,
    };
    numbers_table::print(&report);
    // A lab that is installed where nobody may write keeps nothing; `lab estimate` then asks for a file.
    if let Ok(mut kept) = OutputFile::create(&NumbersReport::kept()?) {
        kept.write(&report)?;
    }
    if let Some(file) = &mut file {
        file.write(&report)?;
    }
    Ok(0)
}
