//! The command line: what may be asked for, and how numbers are written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::generator::Arrivals;
use crate::slo::Slo;

/// The load lab: finds out how much a design carries, and what gives first.
#[derive(Debug, Parser)]
#[command(name = "lab", version, about, long_about = None, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 the lab failed, 2 wrong usage, 99 an SLO was missed or a stage got worse.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Push every stage of a design to its knee, name what gives there, and check that nothing was lost.
    Climb(ClimbArgs),
    /// Load any HTTP server, or a running server of a design with that design's workload.
    Load(LoadArgs),
    /// List the designs that can be climbed and loaded.
    List,
    /// Write the table and the picture of a recorded climb into a README, between its report marks, or a page of it.
    Report(ReportArgs),
    /// Measure what this machine does: memory, locks, system calls, disk, databases, HTTP.
    Numbers(NumbersArgs),
    /// Measure what a primary key costs: auto-increment, UUIDs, ULID and Snowflake, in SQLite and Postgres.
    Keys(KeysArgs),
    /// Work out what a design needs for so many users, from this machine's numbers, and hold it against a climb.
    Estimate(EstimateArgs),
    /// Compare two climbs stage by stage: what changed beyond the noise.
    Compare(CompareArgs),
    /// Check the lab itself: climb a service with a known fault of each kind, and see whether each is named and proven.
    Planted(PlantedArgs),
}

/// `lab climb`.
#[derive(Debug, Args)]
pub struct ClimbArgs {
    /// The design; see `lab list`.
    pub design: String,
    /// Only these stages, by name.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub stages: Vec<String>,
    /// One round, probes of one second, a tenth of the data.
    #[arg(long)]
    pub quick: bool,
    /// How often each knee is searched for [default: 3, quick 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: Option<u32>,
    /// How many items to make before the load [default: 100k, of a leaderboard 1M; quick 10k].
    #[arg(long, value_parser = count)]
    pub items: Option<usize>,
    /// Decides arrivals, data and order.
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// Shares of the operations: redirect=90,create=8,unknown=2.
    #[arg(long)]
    pub mix: Option<String>,
    /// A flag for the servers, passed on as --KEY VALUE; may be given several times. `postgres-url=URL` or `redis-url=URL`
    /// makes a stage use that engine, instead of one that the lab starts on the server's cores.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Cores that a stage, its nodes and engines together, may use, by quota: 0.5 is half of one. Makes a fast stage slow enough for a small machine.
    #[arg(long, value_name = "CORES", value_parser = number)]
    pub server_cpu: Option<f64>,
    /// Make it an error, not a skipped stage, when an engine is neither installed here nor given by --set.
    #[arg(long)]
    pub engines: bool,
    /// Connections of the generator, which bound what is in flight.
    #[arg(short, long, default_value = "256", value_parser = count)]
    pub connections: usize,
    /// Where to make data directories [default: beside the lab's executable]. A disk, not memory: durability is measured.
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write a page to look at: one file, no network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Prove each verdict: slow the fullest resources one by one, and see whether the knee moves as predicted.
    #[arg(long)]
    pub prove: bool,
    /// Slow a resource all the while, and see what becomes of the knee: `pool=2` makes each hold of the pool last twice as long.
    #[arg(long, value_name = "RESOURCE=FACTOR", value_parser = slowed, conflicts_with = "prove")]
    pub slow: Option<(String, f64)>,
    /// Sample what each server's CPU does at its knee, and write a flame graph a stage into this directory.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".")]
    pub profile: Option<PathBuf>,
}

/// `lab numbers`.
#[derive(Debug, Args)]
pub struct NumbersArgs {
    /// Also write the numbers to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `lab keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Rows in each table, at least 10.
    #[arg(long, default_value = "1m", value_parser = count)]
    pub rows: usize,
    /// Decides the keys.
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// Make it an error, not a missing part, when Postgres is not installed here.
    #[arg(long)]
    pub engines: bool,
    /// Where to make databases [default: beside the lab's executable]. A disk, not memory: commits are durable.
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also draw the rates over the rows, into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print and draw what `--json` wrote, instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "seed", "engines", "data_root", "json"])]
    pub from: Option<PathBuf>,
    /// Write nothing; exit with 1 when the picture, or what was printed beside the run (its name, ending in .out), is not what
    /// the run gives.
    #[arg(long, requires_all = ["from", "svg"])]
    pub check: bool,
}

/// `lab estimate`.
#[derive(Debug, Args)]
pub struct EstimateArgs {
    /// The design; see `lab list`.
    pub design: String,
    /// Users that come on a day: 500k, 100m, 1b.
    #[arg(long, default_value = "100m", value_name = "N", value_parser = bounded)]
    pub dau: f64,
    /// How many times the average comes at the busiest time.
    #[arg(long, default_value = "10", value_name = "FACTOR", value_parser = bounded)]
    pub peak: f64,
    /// For how many years what is stored is kept.
    #[arg(long, default_value = "5", value_name = "YEARS", value_parser = bounded)]
    pub retention_years: f64,
    /// Copies of everything that is stored.
    #[arg(long, default_value = "3", value_name = "COPIES", value_parser = bounded)]
    pub replication: f64,
    /// Up to which share of its knee a machine is used at the peak.
    #[arg(long, default_value = "0.6", value_name = "SHARE", value_parser = share)]
    pub utilisation: f64,
    /// For which share of the time one replica is up.
    #[arg(long, default_value = "0.99", value_name = "SHARE", value_parser = share)]
    pub replica_availability: f64,
    /// Cores of a machine for the server and its engines [default: as many as the lab gives to servers here].
    #[arg(long, value_name = "N", value_parser = bounded)]
    pub cores: Option<f64>,
    /// An assumption of the design; may be given several times. `--explain` lists them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// What `lab numbers --json` wrote [default: lab-numbers.json beside the lab's executable].
    #[arg(long, value_name = "FILE")]
    pub numbers: Option<PathBuf>,
    /// What `lab climb --json` wrote: says how far off the estimate is.
    #[arg(long, value_name = "FILE")]
    pub climb: Option<PathBuf>,
    /// Show the arithmetic, step by step.
    #[arg(long)]
    pub explain: bool,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `lab compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The JSON of the climb before.
    pub before: PathBuf,
    /// The JSON of the climb after.
    pub after: PathBuf,
    /// Exit with 99 when a stage got worse beyond the noise.
    #[arg(long)]
    pub fail_on_regression: bool,
}

/// `lab planted`.
#[derive(Debug, Args)]
pub struct PlantedArgs {
    /// Only these faults, by name.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub faults: Vec<String>,
    /// Judge a recorded run by the code of today, instead of climbing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["faults", "seeds"])]
    pub judge: Option<PathBuf>,
    /// How many seeds each is climbed with.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u64).range(1..=20))]
    pub seeds: u64,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `lab report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The design.
    pub design: String,
    /// The JSON of a climb.
    #[arg(long, value_name = "FILE")]
    pub run: PathBuf,
    /// The README that holds the block; the picture goes beside it.
    #[arg(long, value_name = "FILE", required_unless_present = "html")]
    pub readme: Option<PathBuf>,
    /// Write nothing; exit with 1 when the block or the picture is not what the run gives.
    #[arg(long, requires = "readme", conflicts_with = "html")]
    pub check: bool,
    /// Write a page to look at: one file, no network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `lab load`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["url", "get"]))]
pub struct LoadArgs {
    /// The design whose workload to use (with --url); see `lab list`.
    #[arg(requires = "url", conflicts_with = "get")]
    pub design: Option<String>,
    /// The running server of the design; given several times, the load is spread over all. The first one prepares and verifies.
    #[arg(long, value_name = "URL", requires = "design")]
    pub url: Vec<String>,
    /// Load any HTTP server: GET this URL again and again.
    #[arg(long, value_name = "URL")]
    pub get: Option<String>,
    /// Arrivals a second, all connections together (open loop): 500, 20k, 1.5m.
    #[arg(short, long, default_value = "1000", value_parser = number, conflicts_with = "closed")]
    pub rate: f64,
    /// Closed loop instead: keep this many operations in flight. Finds the raw ceiling, hides what waits outside.
    #[arg(long, value_name = "N", value_parser = count)]
    pub closed: Option<usize>,
    /// For how long: 10s, 2m.
    #[arg(short, long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Load it in a closed loop for this long first, unmeasured: fills caches.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Connections, which bound what is in flight.
    #[arg(short, long, default_value = "256", value_parser = count)]
    pub connections: usize,
    /// How arrivals are spread over time.
    #[arg(long, value_enum, default_value = "poisson")]
    pub arrivals: Arrivals,
    /// How long an operation may take from its sending.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// How long to wait for answers after the last arrival.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// What must hold, else the exit code is 99: `p99<50ms,err<0.1%`, or of one kind: `create.p99<100ms`.
    #[arg(long)]
    pub slo: Option<Slo>,
    /// Shares of the operations: redirect=90,create=8,unknown=2.
    #[arg(long, requires = "design")]
    pub mix: Option<String>,
    /// The key for writes.
    #[arg(long, env = "API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// How many items to make before the load of a design.
    #[arg(long, default_value = "10k", value_parser = count, requires = "design")]
    pub items: usize,
    /// Decides arrivals, keys and data.
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// Also write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `key=value`, with or without dashes in front.
///
/// # Errors
/// Text for the user.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.trim_start_matches('-').split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, like cache-entries=1000".to_owned()),
    }
}

/// A resource and by which factor it is to be slowed.
///
/// # Errors
/// Text for the user.
pub fn slowed(text: &str) -> Result<(String, f64), String> {
    let (resource, factor) = text
        .split_once('=')
        .ok_or("write RESOURCE=FACTOR, like sqlite_writer=2")?;
    match factor.parse::<f64>() {
        Ok(factor) if (1.0..=1_000.0).contains(&factor) && !resource.is_empty() => Ok((resource.to_owned(), factor)),
        _ => Err("the factor goes from 1 to 1000".to_owned()),
    }
}

/// A positive number with an optional k, m or b behind it.
///
/// # Errors
/// Text for the user.
pub fn number(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.to_ascii_lowercase() {
        lower if lower.ends_with('k') => (&text[..text.len() - 1], 1e3),
        lower if lower.ends_with('m') => (&text[..text.len() - 1], 1e6),
        lower if lower.ends_with('b') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>().map(|value| value * factor) {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a number above zero, like 500, 20k or 1.5m".to_owned()),
    }
}

/// A positive number that arithmetic with other such numbers leaves finite.
///
/// # Errors
/// Text for the user.
pub fn bounded(text: &str) -> Result<f64, String> {
    match number(text)? {
        value if (1e-6..=1e12).contains(&value) => Ok(value),
        _ => Err("a number from a millionth to a million millions".to_owned()),
    }
}

/// A share of a whole that is more than nothing.
///
/// # Errors
/// Text for the user.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=1.0).contains(&value) => Ok(value),
        _ => Err("a share from 0.01 to 1, like 0.6".to_owned()),
    }
}

/// A positive whole number with an optional k or m behind it.
///
/// # Errors
/// Text for the user.
pub fn count(text: &str) -> Result<usize, String> {
    let value = number(text)?;
    if value.fract() != 0.0 || value > 1e9 {
        return Err("a whole number above zero".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(value as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_take_suffixes() {
        assert_eq!(number("500"), Ok(500.0));
        assert_eq!(number("1.5k"), Ok(1500.0));
        assert_eq!(number("2M"), Ok(2e6));
        assert_eq!(number("1b"), Ok(1e9));
        assert_eq!(count("10k"), Ok(10_000));
        for bad in ["", "0", "-1", "k", "1kk", "nan", "inf", "1e308k"] {
            assert!(number(bad).is_err(), "{bad}");
        }
        assert!(count("1.5").is_err());
        assert_eq!(bounded("100M"), Ok(1e8));
        assert!(bounded("1e13").is_err() && bounded("0").is_err());
        assert_eq!(share("1"), Ok(1.0));
        for bad in ["0", "1.01", "nan", "-0.5", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
