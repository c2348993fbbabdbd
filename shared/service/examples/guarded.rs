//! The second yardstick: the constant 302 of `bare_axum`, served through this crate: accept loop, guard, metrics, drain.
//!
//! `cargo run --release -p service --example guarded -- --listen 127.0.0.1:8082 --admin-listen 127.0.0.1:0 --workers 1`.
//! What it carries beside `bare_axum` is what this crate costs; what a design carries beside it is what the design costs.

use std::process::ExitCode;

use clap::Parser as _;
use http::{Method, StatusCode, header};
use service::{Class, Routes, ServiceConfig};
use utoipa::OpenApi;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    service: ServiceConfig,
}

#[derive(OpenApi)]
#[openapi(paths(redirect))]
struct Document;

#[utoipa::path(get, path = "/{code}")]
async fn redirect() -> (StatusCode, [(header::HeaderName, &'static str); 1]) {
    (StatusCode::FOUND, [(header::LOCATION, "https://example.com/")])
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    service::run(&flags.service, async |_| {
        Ok(Routes::new(Document::openapi())
            .add(Class::Read, Method::GET, "/{code}", redirect)
            .with_state(()))
    })
}
