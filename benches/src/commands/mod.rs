//! One file a subcommand.

mod climb;
mod list;
mod load;
mod report;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// The exit code of a run that missed an SLO.
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
    }
}
