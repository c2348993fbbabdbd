//! `lab planted`: the lab checked on faults that are known.

use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Result, bail, ensure};

use super::climb::command_line;
use crate::cli::PlantedArgs;
use crate::climb::{self, Effort, Request};
use crate::data_root;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::output::json::{self, OutputFile, SCHEMA};
use crate::output::planted::table;
use crate::output::progress::Progress;
use crate::planted::{Case, FAULTS, PlantedReport};
use crate::server::Binary;
use crate::stop::Stop;
use crate::workloads::PLANTED;

/// Connections of the generator: the service without a fault uses them up before its core.
const CONNECTIONS: usize = 256;

pub(super) fn run(args: &PlantedArgs) -> Result<u8> {
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;
    let report = match &args.judge {
        Some(recorded) => judge(recorded)?,
        None => climb_all(args)?,
    };
    table(&report);
    if let Some(file) = &mut file {
        file.write(&report)?;
    }
    let complaints = report.complaints();
    ensure!(complaints.is_empty(), "the lab is wrong: {}", complaints.join("; "));
    Ok(0)
}

fn judge(recorded: &Path) -> Result<PlantedReport> {
    let report: PlantedReport = json::read(recorded, "a run of planted faults")?;
    let cases = report.cases.into_iter().map(Case::judged_again).collect();
    Ok(PlantedReport {
        cases,
        judged_by: Some(command_line()),
        ..report
    })
}

fn climb_all(args: &PlantedArgs) -> Result<PlantedReport> {
    let start = Instant::now();
    let faults = select(&args.faults)?;
    let stop = Stop::on_signals()?;
    let machine = Machine::detect();
    let mut layout = Layout::detect();
    layout.take_place();
    let progress = Progress::spinner();
    progress.line(&format!("{PLANTED}: {}", layout.text));
    let mut cases = Vec::new();
    for seed in 1..=args.seeds {
        for (fault, expected) in &faults {
            // One at a time: a fault may take the core although nobody asks.
            let reports = climb::run(&request(fault, seed)?, &layout, &progress, &stop);
            for report in reports.inspect_err(|_| progress.clear())? {
                cases.push(Case::new(expected, seed, report));
            }
        }
    }
    progress.clear();
    Ok(PlantedReport {
        schema: SCHEMA,
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: command_line(),
        judged_by: None,
        machine,
        layout,
        elapsed_s: start.elapsed().as_secs_f64(),
        cases,
    })
}

fn request(fault: &str, seed: u64) -> Result<Request> {
    Ok(Request {
        design: PLANTED.to_owned(),
        stages: vec![fault.to_owned()],
        effort: Effort::Quick,
        rounds: 1,
        items: 1,
        seed,
        mix: None,
        set: Vec::new(),
        server_cpu: None,
        engines: false,
        connections: CONNECTIONS,
        slow: None,
        prove: true,
        profile: None,
        data_root: data_root::of(None)?,
    })
}

/// The faults asked for, all of which the service has.
fn select(wanted: &[String]) -> Result<Vec<(&'static str, &'static str)>> {
    let planted = Binary::find(PLANTED)?.describe()?.stages;
    if let Some(stage) = planted
        .iter()
        .find(|stage| !FAULTS.iter().any(|(fault, _)| *fault == stage.name))
    {
        bail!("nobody has said what is to be named for the fault {}", stage.name);
    }
    if let Some(name) = wanted
        .iter()
        .find(|name| !FAULTS.iter().any(|(fault, _)| fault == name))
    {
        let names: Vec<&str> = FAULTS.iter().map(|(fault, _)| *fault).collect();
        bail!("there is no fault `{name}`; there are: {}", names.join(", "));
    }
    let asked = |fault: &str| wanted.is_empty() || wanted.iter().any(|name| name == fault);
    Ok(FAULTS.into_iter().filter(|(fault, _)| asked(fault)).collect())
}
