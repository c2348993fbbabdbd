//! `lab climb`: all stages of a design to their knees, and the table.

use std::time::{Instant, SystemTime};

use anyhow::{Result, ensure};

use crate::cli::ClimbArgs;
use crate::climb::{self, Effort, Request};
use crate::data_root;
use crate::http::Target;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::needs::without_password;
use crate::output::climb::{ClimbReport, Slo};
use crate::output::html;
use crate::output::json::{OutputFile, SCHEMA};
use crate::output::progress::Progress;
use crate::output::text;
use crate::platform;
use crate::profile;
use crate::stop::Stop;
use crate::workloads;

pub(super) fn run(args: ClimbArgs) -> Result<u8> {
    let start = Instant::now();
    let slo = promises(&args)?;
    if let Some(directory) = &args.profile {
        profile::directory(directory)?;
    }
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;
    let mut page = args.html.as_deref().map(OutputFile::create).transpose()?;
    let stop = Stop::on_signals()?;
    // Before anything is pinned: a pinned thread sees one core.
    let machine = Machine::detect();
    let mut layout = Layout::detect();
    layout.take_place();
    let request = request(&args)?;
    let progress = Progress::spinner();
    progress.line(&format!("{}: {}", request.design, layout.text));
    let stages = climb::run(&request, &layout, &progress, &stop);
    progress.clear();
    let stages = stages?;
    let rounds = stages.iter().map(|stage| stage.knees_rps.len()).max().unwrap_or(0);
    let report = ClimbReport {
        schema: SCHEMA,
        design: request.design,
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: command_line(),
        seed: request.seed,
        items: request.items,
        mix: request.mix,
        set: request
            .set
            .into_iter()
            .map(|(key, value)| (key, without_password(&value)))
            .collect(),
        server_cpu_cores: request.server_cpu,
        slowed: request.slow,
        rounds,
        quick: args.quick,
        machine,
        layout,
        data_filesystem: platform::filesystem(&request.data_root),
        slo,
        elapsed_s: start.elapsed().as_secs_f64(),
        stages,
    };
    text::climb(&report);
    if args.stages.is_empty() && report.set.is_empty() && report.slowed.is_none() {
        // Where nobody may write, nothing is kept, and `lab estimate` asks for a file.
        if let Ok(mut kept) = OutputFile::create(&ClimbReport::kept(&report.design)?) {
            kept.write(&report)?;
        }
    }
    if let Some(file) = &mut file {
        file.write(&report)?;
    }
    if let Some(page) = &mut page {
        page.write_text(&html::page(&report)?)?;
    }
    Ok(0)
}

/// The design's promises; also the moment at which an unknown design or mix is noticed.
fn promises(args: &ClimbArgs) -> Result<Slo> {
    let nowhere = workloads::Options {
        target: Target::of(([127, 0, 0, 1], 0).into()),
        key: None,
        seed: 0,
        items: 1,
        mix: args.mix.clone(),
        nodes: 1,
    };
    Ok(Slo::of(workloads::of(&args.design, &nowhere)?.kinds()))
}

fn request(args: &ClimbArgs) -> Result<Request> {
    if let Some(cores) = args.server_cpu {
        ensure!(
            (0.1..=1024.0).contains(&cores),
            "--server-cpu: {cores} cores are not between 0.1 and 1024"
        );
    }
    Ok(Request {
        design: args.design.clone(),
        stages: args.stages.clone(),
        effort: if args.quick { Effort::Quick } else { Effort::Thorough },
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { 3 }),
        items: args
            .items
            .unwrap_or_else(|| workloads::default_items(&args.design, args.quick)),
        seed: args.seed,
        mix: args.mix.clone(),
        set: args.set.clone(),
        server_cpu: args.server_cpu,
        engines: args.engines,
        connections: args.connections,
        slow: args.slow.clone(),
        prove: args.prove,
        data_root: data_root::of(args.data_root.as_deref())?,
        profile: args.profile.clone(),
    })
}

/// The command line with the executable's bare name (where it lay says nothing) and without passwords.
pub(super) fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|argument| {
        let argument = without_password(&argument);
        if argument.contains([' ', '"', '\'']) {
            format!("{argument:?}")
        } else {
            argument
        }
    });
    std::iter::once("lab".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
