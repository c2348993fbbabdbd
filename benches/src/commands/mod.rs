//! One file a subcommand.

mod climb;
mod compare;
mod estimate;
mod keys;
mod list;
mod load;
mod numbers;
mod planted;
mod report;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// The exit code of a run that missed an SLO, or got worse.
pub const SLO_MISSED: u8 = 99;

/// Runs the command; the value is the exit code.
///
/// # Errors
/// One line for the user.
pub fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Climb(args) => climb::run(args),
        Command::Load(args) => load::run(&args),
        Command::List => list::run(),
        Command::Report(args) => report::run(&args),
        Command::Numbers(args) => numbers::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Planted(args) => planted::run(&args),
    }
}
