//! An estimate: the shape that `lab estimate --json` writes, and the text, short or as on a whiteboard.
#![expect(clippy::print_stdout, reason = "the estimate is the result")]

use serde::{Deserialize, Serialize};

use crate::estimate::Assumption;
use crate::estimate::knee::{Comparison, Load, Prediction};
use crate::estimate::nines;
use crate::estimate::traffic::{DAY_S, Population, Traffic, YEAR_DAYS};
use crate::machine::Machine;
use crate::output::text::{grouped, rate};

/// One estimate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimateReport {
    /// Version of this shape.
    pub schema: u32,
    /// The design.
    pub design: String,
    /// When, in UTC.
    pub date: String,
    /// Users, and what is assumed of any design.
    pub population: Population,
    /// What is assumed of this one.
    pub assumptions: Vec<AssumptionReport>,
    /// Cores of a machine for the server and its engines.
    pub cores: f64,
    /// Up to which share of its knee a machine is used.
    pub utilisation: f64,
    /// When the elementary numbers were measured.
    pub numbers_date: String,
    /// On what.
    pub machine: Machine,
    /// What comes.
    pub traffic: Traffic,
    /// What each stage carries.
    pub stages: Vec<StageEstimate>,
    /// What availabilities allow.
    pub nines: Nines,
    /// The same held against a climb; null without one.
    pub held: Option<Held>,
}

/// An assumption with the value that holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssumptionReport {
    /// Its name for `--set`.
    pub key: String,
    /// The value.
    pub value: f64,
    /// What it counts.
    pub unit: String,
    /// What it stands for.
    pub why: String,
}

impl From<(&Assumption, f64)> for AssumptionReport {
    fn from((assumption, value): (&Assumption, f64)) -> Self {
        Self {
            key: assumption.key.to_owned(),
            value,
            unit: assumption.unit.to_owned(),
            why: assumption.why.to_owned(),
        }
    }
}

/// What is predicted of a stage, for the users' mix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageEstimate {
    /// Knee and bottleneck.
    pub prediction: Prediction,
    /// Machines for the peak; null where it cannot be told, or where no number of them would do.
    pub machines: Option<f64>,
}

/// What availabilities allow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nines {
    /// For which share of the time one replica is up.
    pub replica_availability: f64,
    /// A row each.
    pub targets: Vec<Target>,
}

/// What one availability allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The share of the time.
    pub availability: f64,
    /// Seconds down in a year of 365 days.
    pub downtime_year_s: f64,
    /// Seconds down in a month of 30 days.
    pub downtime_month_s: f64,
    /// Independent replicas that reach it.
    pub replicas: f64,
}

impl Nines {
    /// A row for each target.
    pub fn all(replica_availability: f64, targets: &[f64]) -> Self {
        Self {
            replica_availability,
            targets: targets
                .iter()
                .map(|&availability| Target {
                    availability,
                    downtime_year_s: nines::downtime_s(availability, YEAR_DAYS * DAY_S),
                    downtime_month_s: nines::downtime_s(availability, 30.0 * DAY_S),
                    replicas: nines::replicas(replica_availability, availability),
                })
                .collect(),
        }
    }
}

/// An estimate held against a climb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The file of the climb.
    pub file: String,
    /// When it was made.
    pub date: String,
    /// The shares of its operations.
    pub mix: Vec<(String, f64)>,
    /// Cores that its servers and engines had.
    pub cores: f64,
    /// Why the two cannot be compared, if so.
    pub warnings: Vec<String>,
    /// A stage each, in the climb's order.
    pub stages: Vec<Comparison>,
}

/// Prints the estimate; every step of it, if asked for.
pub fn print(report: &EstimateReport, explain: bool) {
    println!(
        "{} for {} users a day; numbers of {} on {}",
        report.design,
        exact(report.population.daily_users),
        day(&report.numbers_date),
        report.machine.cpu
    );
    println!();
    if explain {
        assumptions(report);
        envelope_explained(report);
    } else {
        envelope(report);
    }
    println!();
    if explain {
        for stage in &report.stages {
            stage_explained(report, stage);
        }
    }
    stages(report);
    println!();
    match &report.held {
        Some(held) => against(held),
        None => println!(
            "Not held against a climb: `lab climb {} --json FILE`, then --climb FILE.",
            report.design
        ),
    }
    println!();
    availability(&report.nines, explain);
}

fn envelope(report: &EstimateReport) {
    let traffic = &report.traffic;
    println!(
        "requests   {}/s on average, {}/s at the peak",
        small(traffic.average_rps),
        small(traffic.peak_rps)
    );
    let kinds = traffic.kinds.iter();
    let kinds: Vec<String> = kinds
        .map(|kind| format!("{} {}/s", kind.kind, small(kind.average_rps)))
        .collect();
    println!("           on average {}", kinds.join(", "));
    println!(
        "storage    {} a year, {} in {} years, {} copies included",
        bytes(traffic.stored_bytes_year),
        bytes(traffic.stored_bytes),
        report.population.retention_years,
        report.population.copies
    );
    println!(
        "bandwidth  {}/s on average, {}/s at the peak, both directions",
        bytes(traffic.average_bytes_s),
        bytes(traffic.peak_bytes_s)
    );
}

fn assumptions(report: &EstimateReport) {
    println!("Assumed of any design (flags of their own)");
    let population = &report.population;
    for (flag, value) in [
        ("dau", population.daily_users),
        ("peak", population.peak_factor),
        ("retention-years", population.retention_years),
        ("replication", population.copies),
        ("utilisation", report.utilisation),
        ("replica-availability", report.nines.replica_availability),
        ("cores", report.cores),
    ] {
        println!("  --{flag} {value}");
    }
    println!("Assumed of {} (--set KEY=VALUE)", report.design);
    for one in &report.assumptions {
        println!("  {}={} {}: {}", one.key, one.value, one.unit, one.why);
    }
    println!();
}

fn envelope_explained(report: &EstimateReport) {
    let (traffic, population) = (&report.traffic, &report.population);
    let users = exact(population.daily_users);
    println!("Requests");
    for kind in &traffic.kinds {
        println!(
            "  {users} users x {} {name} a day / 86,400 s = {} {name}/s",
            kind.per_user_day,
            small(kind.average_rps),
            name = kind.kind
        );
    }
    let sum: Vec<String> = traffic.kinds.iter().map(|kind| small(kind.average_rps)).collect();
    println!("  {} = {}/s on average", sum.join(" + "), small(traffic.average_rps));
    println!(
        "  {}/s x {} = {}/s at the peak",
        small(traffic.average_rps),
        population.peak_factor,
        small(traffic.peak_rps)
    );
    println!("Storage");
    for kind in traffic.kinds.iter().filter(|kind| kind.stored_bytes > 0.0) {
        println!(
            "  {} {}/s x 86,400 s x 365 days x {} bytes x {} copies = {} a year",
            small(kind.average_rps),
            kind.kind,
            kind.stored_bytes,
            population.copies,
            bytes(kind.average_rps * DAY_S * YEAR_DAYS * kind.stored_bytes * population.copies)
        );
    }
    println!(
        "  {} a year x {} years = {}",
        bytes(traffic.stored_bytes_year),
        population.retention_years,
        bytes(traffic.stored_bytes)
    );
    println!("Bandwidth, both directions");
    let products: Vec<String> = traffic
        .kinds
        .iter()
        .map(|kind| format!("{}/s x {} bytes", small(kind.average_rps), kind.wire_bytes))
        .collect();
    println!(
        "  {} = {}/s on average",
        products.join(" + "),
        bytes(traffic.average_bytes_s)
    );
    println!(
        "  {}/s x {} = {}/s at the peak",
        bytes(traffic.average_bytes_s),
        population.peak_factor,
        bytes(traffic.peak_bytes_s)
    );
}

fn stage_explained(report: &EstimateReport, stage: &StageEstimate) {
    let prediction = &stage.prediction;
    println!("{}", prediction.stage);
    for load in &prediction.loads {
        load_explained(load);
    }
    match (prediction.knee_rps, &prediction.bottleneck, stage.machines) {
        (Some(knee), Some(bottleneck), Some(machines)) => {
            println!("  the lowest is {bottleneck}: knee {}/s", small(knee));
            println!(
                "  {}/s / ({} x {}/s) = {:.2}, so {} machine(s)",
                small(report.traffic.peak_rps),
                report.utilisation,
                small(knee),
                report.traffic.peak_rps / (report.utilisation * knee),
                exact(machines)
            );
        }
        (Some(_), Some(bottleneck), None) => {
            println!("  {bottleneck} cannot keep its promise at any rate, so no number of machines will do");
        }
        _ => println!("  cannot be told: {}", unknown(prediction)),
    }
    println!();
}

fn load_explained(load: &Load) {
    println!("  {} ({})", load.resource, load.capacity);
    for part in &load.parts {
        println!(
            "    {:>7} ({}) x {} x {} {} = {}: {}{}",
            percent(part.share),
            part.kinds.join(", "),
            figure(part.times),
            part.number,
            time(part.seconds),
            time(part.demand_s),
            part.why,
            if part.background { " (after the answer)" } else { "" }
        );
    }
    println!(
        "    demand {}, ceiling {} / {0} = {}/s",
        time(load.demand_s),
        load.capacity,
        small(load.ceiling_rps)
    );
    match load.promise_s {
        Some(promise) => println!(
            "    p99 {}: busy at most 1 - ln 100 x {} / {0} = {}, knee {}/s",
            time(promise),
            time(load.service_s),
            percent(load.utilisation),
            small(load.knee_rps)
        ),
        None => println!("    nobody waits for it: knee {}/s", small(load.knee_rps)),
    }
}

fn stages(report: &EstimateReport) {
    println!(
        "Each stage on a machine of {} core(s) for the server and its engines, used up to {} of its knee",
        report.cores,
        percent(report.utilisation)
    );
    println!(
        "{:<14} {:>16}  {:<16} {:>8}",
        "stage", "knee, predicted", "bottleneck", "machines"
    );
    for stage in &report.stages {
        let prediction = &stage.prediction;
        match (prediction.knee_rps, &prediction.bottleneck) {
            (Some(knee), Some(bottleneck)) => println!(
                "{:<14} {:>16}  {:<16} {:>8}",
                prediction.stage,
                rate(knee),
                bottleneck,
                stage.machines.map_or_else(|| "-".to_owned(), exact)
            ),
            _ => println!("{:<14} cannot be told: {}", prediction.stage, unknown(prediction)),
        }
    }
    println!("Machines are a quotient. Whether a stage can be divided among so many is a question for its design.");
}

fn unknown(prediction: &Prediction) -> String {
    match prediction.missing.as_slice() {
        [] => "nobody does anything with it".to_owned(),
        keys => format!("the numbers lack {}", keys.join(", ")),
    }
}

fn against(held: &Held) {
    let mix: Vec<String> = held
        .mix
        .iter()
        .map(|(kind, share)| format!("{} {kind}", percent(*share)))
        .collect();
    println!(
        "Against {} of {}: {}, {} core(s)",
        held.file,
        day(&held.date),
        mix.join(", "),
        held.cores
    );
    for warning in &held.warnings {
        println!("warning: {warning}");
    }
    println!(
        "{:<14} {:>10} {:>10} {:>8} {:>8}  {:<16} {:<16} foreseen",
        "stage", "predicted", "measured", "error", "factor", "predicted", "measured"
    );
    let absent = || "-".to_owned();
    for stage in &held.stages {
        let bound = if stage.rig_limited { ">= " } else { "" };
        let measured = stage
            .measured_rps
            .map_or_else(absent, |knee| format!("{bound}{}", rate(knee)));
        println!(
            "{:<14} {:>10} {:>10} {:>8} {:>8}  {:<16} {:<16} {}",
            stage.stage,
            stage.predicted_rps.map_or_else(absent, rate),
            measured,
            stage
                .ratio
                .map_or_else(absent, |ratio| format!("{:+.0} %", (ratio - 1.0) * 100.0)),
            stage
                .ratio
                .map_or_else(absent, |ratio| format!("{:.1}", ratio.max(1.0 / ratio))),
            stage.predicted_bottleneck.as_deref().unwrap_or("-"),
            stage.measured_bottleneck.as_deref().unwrap_or("-"),
            match stage.foreseen {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            }
        );
    }
}

fn availability(report: &Nines, explain: bool) {
    let replica = report.replica_availability;
    println!(
        "Availability, with replicas that are up {} of the time",
        nines_percent(replica)
    );
    for target in &report.targets {
        println!(
            "{:<9} {:>6.1} min a year, {:>5.2} min a month down; {} independent replica(s), of which one is enough",
            nines_percent(target.availability),
            target.downtime_year_s / 60.0,
            target.downtime_month_s / 60.0,
            exact(target.replicas)
        );
        if explain {
            println!(
                "          (1 - {}) x 365 x 1,440 min; all {} down: (1 - {replica})^{1} = {:.2e}, allowed {:.0e}",
                target.availability,
                exact(target.replicas),
                (1.0 - replica).powf(target.replicas),
                1.0 - target.availability
            );
        }
    }
    println!(
        "The catch is the word independent: replicas share racks, releases, databases and whoever deploys to them."
    );
}

fn day(date: &str) -> &str {
    date.get(..10).unwrap_or(date)
}

/// Whole numbers in full, others as they are.
fn exact(value: f64) -> String {
    if value.fract() == 0.0 {
        grouped(&format!("{value:.0}"))
    } else {
        value.to_string()
    }
}

/// A rate; one below ten keeps a digit or two behind the point.
fn small(value: f64) -> String {
    if value < 10.0 { figure(value) } else { rate(value) }
}

/// Up to three digits behind the point, and as few as it takes; smaller numbers as powers of ten.
fn figure(value: f64) -> String {
    if value > 0.0 && value < 0.01 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A percentage with all the nines that it has.
fn nines_percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Three digits and a unit.
fn unit(value: f64, units: &[(f64, &str)]) -> String {
    let found = units.iter().find(|(size, _)| value >= *size).or(units.last());
    let Some((size, name)) = found else {
        return value.to_string();
    };
    let value = value / size;
    let digits = match value {
        _ if value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {name}")
}

fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 6] = [
        (1e15, "PB"),
        (1e12, "TB"),
        (1e9, "GB"),
        (1e6, "MB"),
        (1e3, "kB"),
        (1.0, "B"),
    ];
    unit(value, &UNITS)
}

fn time(seconds: f64) -> String {
    unit(seconds, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_on_a_whiteboard() {
        assert_eq!(exact(1e8), "100,000,000");
        assert_eq!(exact(1.5), "1.5");
        assert_eq!([small(9.26), small(0.05), small(1_157.4)], ["9.26", "0.05", "1,160"]);
        assert_eq!([figure(1.0), figure(0.05), figure(0.00195)], ["1", "0.05", "1.9e-3"]);
        assert_eq!(
            [bytes(508e9), bytes(1.5e12), bytes(20.0), bytes(0.0)],
            ["508 GB", "1.50 TB", "20.0 B", "0.00 B"]
        );
        assert_eq!(
            [time(0.02), time(412e-6), time(9.8e-6), time(0.0)],
            ["20.0 ms", "412 us", "9.80 us", "0.00 ns"]
        );
        assert_eq!([nines_percent(0.9999), nines_percent(0.99)], ["99.99 %", "99 %"]);
    }
}
