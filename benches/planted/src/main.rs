//! Services with one known fault each, to check the lab on: `lab planted` climbs them all, and has to name every fault.
//!
//! A verdict that is right on a design proves little, because nobody knows what the right one is. Here it is known: each
//! service answers `GET /task/{key}` and has exactly one thing that must give first. They look to the lab like the stages of
//! a design (`--describe`), run behind the same [`service`], and keep the same ledger. Read [`faults`] from top to bottom.

mod faults;
mod parts;

use std::process::ExitCode;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use clap::Parser as _;
use http::{Method, StatusCode, Uri};
use service::{Class, Knob, Routes, ServiceConfig, Traits};
use utoipa::OpenApi;

use crate::faults::{Fault, Planted};

#[derive(clap::Parser)]
#[command(version, about = "A service with one known fault, to check the lab on")]
struct Flags {
    /// The fault
    #[arg(long, value_enum, default_value = "nothing")]
    stage: Fault,

    /// Connections of the pool in `one_connection`
    #[arg(long, default_value = "1")]
    pool: u32,

    /// Print the faults as JSON and end
    #[arg(long)]
    describe: bool,

    #[command(flatten)]
    service: ServiceConfig,
}

#[derive(OpenApi)]
#[openapi(paths(work))]
struct Document;

/// Does the work, with the fault in its way.
#[utoipa::path(get, path = "/task/{key}")]
async fn work(State(planted): State<&'static Planted>, uri: Uri) -> Response {
    let key = uri.path().rsplit('/').next().and_then(|key| key.parse().ok());
    match key {
        Some(key) => planted.work(key).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.describe {
        #[expect(clippy::print_stdout, reason = "the description is this run's result")]
        {
            println!("{}", describe());
        }
        return ExitCode::SUCCESS;
    }
    service::run(&flags.service, async |host| {
        let planted = Planted::new(flags.stage, flags.pool, &flags.service.data_dir, &host)?;
        // One a process, and for as long as it lives.
        let planted: &'static Planted = Box::leak(Box::new(planted));
        Ok(Routes::new(Document::openapi())
            .add(Class::Read, Method::GET, "/task/{key}", work)
            .with_state(planted))
    })
}

fn describe() -> String {
    service::describe("planted", |fault: &Fault| match fault {
        Fault::OneConnection => Traits {
            knobs: vec![Knob {
                resource: "pool",
                flag: "pool",
            }],
            ..Traits::default()
        },
        _ => Traits::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, ValueEnum as _};

    #[test]
    fn the_command_line_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_fault_has_a_name_and_an_idea() {
        let text = describe();
        let described: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stages = described["stages"].as_array().unwrap();
        assert_eq!(stages.len(), Fault::value_variants().len());
        assert!(
            stages.iter().all(|stage| stage["idea"].as_str().unwrap().len() > 10),
            "{text}"
        );
    }
}
