//! The server: one stage of the id generator.
//!
//! `cargo run --release -p id-generator -- --stage snowflake`, then `curl -X POST http://127.0.0.1:8080/ids?count=3`.

use std::process::ExitCode;

use clap::Parser as _;
use id_generator::config::Config;
use id_generator::stages;

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
