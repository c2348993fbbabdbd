//! `lab estimate`: the envelope of a design, from this machine's numbers, beside what a climb measured.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use crate::cli::EstimateArgs;
use crate::estimate::knee::{self, Comparison, Seconds};
use crate::estimate::traffic::{Population, traffic};
use crate::estimate::{Action, Assumptions, MILLISECOND, Stage, nines};
use crate::output::climb::ClimbReport;
use crate::output::estimate::{self as output, AssumptionReport, EstimateReport, Held, Nines, StageEstimate};
use crate::output::json::{self, OutputFile, SCHEMA};
use crate::output::numbers::NumbersReport;
use crate::workload::Mix;
use crate::workloads;

pub(super) fn run(args: &EstimateArgs) -> Result<u8> {
    let envelope = workloads::envelope(&args.design)?;
    let assumptions = Assumptions::new(envelope.assumptions, &args.set)?;
    ensure!(args.peak >= 1.0, "--peak: the busiest time is at least the average, 1");
    let actions = (envelope.actions)(&assumptions);
    ensure!(
        actions.iter().any(|action| action.per_user_day > 0.0),
        "--set: somebody must do something"
    );
    let stages = (envelope.stages)(&assumptions);
    let numbers = numbers(args.numbers.as_deref())?;
    let seconds = seconds(&numbers)?;
    let climb = match &args.climb {
        Some(file) => Some(climb(file, &args.design)?),
        None => {
            let kept = ClimbReport::kept(&args.design)?;
            kept.exists().then(|| climb(&kept, &args.design)).transpose()?
        }
    };
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;

    let population = Population {
        daily_users: args.dau,
        peak_factor: args.peak,
        retention_years: args.retention_years,
        copies: args.replication,
    };
    let traffic = traffic(&population, &actions);
    let shares: Vec<f64> = traffic.kinds.iter().map(|kind| kind.share).collect();
    let cores = args
        .cores
        .unwrap_or_else(|| server_cores(&numbers.layout.server_cores, numbers.machine.cores));
    let estimates = stages.iter().map(|stage| {
        let prediction = knee::predict(stage, &actions, &shares, &seconds, cores);
        let machines = prediction.knee_rps;
        StageEstimate {
            machines: machines.and_then(|knee| knee::machines(traffic.peak_rps, knee, args.utilisation)),
            prediction,
        }
    });
    let report = EstimateReport {
        schema: SCHEMA,
        design: args.design.clone(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        population,
        assumptions: assumptions.iter().map(AssumptionReport::from).collect(),
        cores,
        utilisation: args.utilisation,
        numbers_date: numbers.date.clone(),
        machine: numbers.machine.clone(),
        stages: estimates.collect(),
        nines: Nines::all(args.replica_availability, &nines::TARGETS),
        held: match climb {
            Some((file, climb)) => Some(hold(&file, &climb, &numbers, &stages, &actions, &seconds)?),
            None => None,
        },
        traffic,
    };
    output::print(&report, args.explain);
    if let Some(file) = &mut file {
        file.write(&report)?;
    }
    Ok(0)
}

fn numbers(file: Option<&Path>) -> Result<NumbersReport> {
    let what = "what `lab numbers --json` writes";
    if let Some(file) = file {
        return json::read(file, what);
    }
    let file = NumbersReport::kept()?;
    if !file.exists() {
        bail!("nobody knows yet what this machine does: run `lab numbers` first, or give --numbers FILE");
    }
    json::read(&file, what)
}

fn seconds(numbers: &NumbersReport) -> Result<Seconds> {
    for number in &numbers.numbers {
        ensure!(
            number.seconds.is_finite() && number.seconds > 0.0,
            "--numbers: {} takes {} s, which nothing does",
            number.key,
            number.seconds
        );
    }
    let measured = numbers
        .numbers
        .iter()
        .map(|number| (number.key.clone(), number.seconds));
    Ok(measured.chain([(MILLISECOND.to_owned(), 1e-3)]).collect())
}

fn climb(file: &Path, design: &str) -> Result<(PathBuf, ClimbReport)> {
    let climb: ClimbReport = json::read(file, "a climb")?;
    ensure!(
        climb.design == design,
        "{} is a climb of {}, not of {design}",
        file.display(),
        climb.design
    );
    Ok((file.to_owned(), climb))
}

/// Where nothing is pinned, all cores.
fn server_cores(pinned: &[usize], all: usize) -> f64 {
    if pinned.is_empty() {
        all as f64
    } else {
        pinned.len() as f64
    }
}

/// Predicts what the climb measured, with its mix and its cores, and puts both side by side.
fn hold(
    file: &Path,
    climb: &ClimbReport,
    numbers: &NumbersReport,
    stages: &[Stage],
    actions: &[Action],
    seconds: &Seconds,
) -> Result<Held> {
    let kinds: Vec<&str> = actions.iter().map(|action| action.kind).collect();
    let shares = match &climb.mix {
        Some(mix) => Mix::parse(mix, &kinds)
            .with_context(|| file.display().to_string())?
            .shares(),
        None => actions.iter().map(|action| action.workload_share).collect(),
    };
    let all = server_cores(&climb.layout.server_cores, climb.machine.cores);
    let cores = climb.server_cpu_cores.unwrap_or(all);
    let mut warnings = Vec::new();
    let differences = numbers.machine.differences(&climb.machine);
    if !differences.is_empty() {
        warnings.push(format!(
            "numbers and climb are not of one machine: {}",
            differences.join("; ")
        ));
    }
    if !climb.set.is_empty() {
        let flags: Vec<String> = climb.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        warnings.push(format!(
            "the climb's servers had --set {}, of which the estimate knows nothing",
            flags.join(" ")
        ));
    }
    let known = |name: &str| stages.iter().find(|stage| stage.stage == name);
    for measured in climb.stages.iter().filter(|measured| known(&measured.stage).is_none()) {
        warnings.push(format!(
            "nothing is written down of the demands of `{}`",
            measured.stage
        ));
    }
    let comparisons = climb.stages.iter().filter_map(|measured| {
        let stage = known(&measured.stage)?;
        let prediction = knee::predict(stage, actions, &shares, seconds, cores);
        let bottleneck = measured.bottleneck.as_ref().map(|found| found.resource.as_str());
        Some(Comparison::new(
            &prediction,
            measured.knee_rps,
            bottleneck,
            measured.rig_limited,
        ))
    });
    Ok(Held {
        file: file.display().to_string(),
        date: climb.date.clone(),
        mix: kinds
            .iter()
            .zip(&shares)
            .map(|(kind, share)| ((*kind).to_owned(), *share))
            .collect(),
        cores,
        warnings,
        stages: comparisons.collect(),
    })
}
