//! The server: one stage of the leaderboard.
//!
//! `cargo run --release -p leaderboard`, then
//! `curl -X PUT -H 'content-type: application/json' -d '{"policy":"best"}' http://127.0.0.1:8080/boards/chess`.

use std::process::ExitCode;

use clap::Parser as _;
use leaderboard::config::Config;
use leaderboard::stages;

fn main() -> ExitCode {
    let config = Config::parse();
    if config.describe {
        #[expect(clippy::print_stdout, reason = "the description is this run's result")]
        {
            println!("{}", stages::describe());
        }
        return ExitCode::SUCCESS;
    }
    service::run(&config.service, async |host| config.stage.build(&config, &host).await)
}
