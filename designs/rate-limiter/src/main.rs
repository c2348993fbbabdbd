//! The server: one stage of the rate limiter.
//!
//! `cargo run --release -p rate-limiter`, then
//! `curl -i -H 'content-type: application/json' -d '{"descriptor":{"user":"alice"}}' http://127.0.0.1:8080/check`.

use std::process::ExitCode;

use clap::Parser as _;
use rate_limiter::config::Config;
use rate_limiter::stages;

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
