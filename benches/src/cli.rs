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

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the lab failed, 2 wrong usage, 99 an SLO was missed.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Push every stage of a design to its knee, name what gives there, and check that nothing was lost.
    Climb(ClimbArgs),
    /// Load any HTTP server, or a running server of a design with that design's workload.
    Load(LoadArgs),
    /// List the designs that can be climbed and loaded.
    List,
    /// Write the table of a recorded climb into a README, between its report marks.
    Report(ReportArgs),
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
    /// How many items to make before the load [default: 100k, quick 10k].
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
    /// Cores that a server and its engines may use, by quota: 0.5 is half of one. Makes a fast stage slow enough for a small machine.
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
}

/// `lab report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The design.
    pub design: String,
    /// The JSON of a climb.
    #[arg(long, value_name = "FILE")]
    pub run: PathBuf,
    /// The README that holds the block.
    #[arg(long, value_name = "FILE")]
    pub readme: PathBuf,
    /// Write nothing; exit with 1 when the block is not what the run gives.
    #[arg(long)]
    pub check: bool,
}

/// `lab load`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["url", "get"]))]
pub struct LoadArgs {
    /// The design whose workload to use (with --url); see `lab list`.
    #[arg(requires = "url", conflicts_with = "get")]
    pub design: Option<String>,
    /// The running server of the design.
    #[arg(long, value_name = "URL", requires = "design")]
    pub url: Option<String>,
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

/// A positive number with an optional k or m behind it.
///
/// # Errors
/// Text for the user.
pub fn number(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.to_ascii_lowercase() {
        lower if lower.ends_with('k') => (&text[..text.len() - 1], 1e3),
        lower if lower.ends_with('m') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value * factor),
        _ => Err("a number above zero, like 500, 20k or 1.5m".to_owned()),
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
        assert_eq!(count("10k"), Ok(10_000));
        for bad in ["", "0", "-1", "k", "1kk", "nan", "inf"] {
            assert!(number(bad).is_err(), "{bad}");
        }
        assert!(count("1.5").is_err());
    }
}
