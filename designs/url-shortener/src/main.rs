//! The server: one stage of the URL shortener.
//!
//! `cargo run --release -p url-shortener -- --stage permuted`, then
//! `curl -d '{"url":"https://example.com"}' -H 'content-type: application/json' http://127.0.0.1:8080/api/links`.

use std::process::ExitCode;

use clap::Parser as _;
use url_shortener::config::Config;
use url_shortener::stages;

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
