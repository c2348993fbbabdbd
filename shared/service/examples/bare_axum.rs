//! The yardstick: axum as it comes, one route, a constant 302. What a design's redirects are compared with.
//!
//! `cargo run --release -p service --example bare_axum -- 127.0.0.1:8081`, then load `/abcdefg` beside a design's own
//! redirect, with the same client, on the same core. One thread serves, as in a design that has one core.

use axum::Router;
use axum::routing::get;
use http::{StatusCode, header};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let redirect = || async { (StatusCode::FOUND, [(header::LOCATION, "https://example.com/")]) };
    let socket = tokio::net::TcpListener::bind(&address).await?;
    eprintln!("listening on http://{}", socket.local_addr()?);
    axum::serve(socket, Router::new().route("/{code}", get(redirect))).await
}
