//! The limiter before a service of one's own: no server of ours, three lines around a router.
//!
//! `cargo run -p rate-limiter --example layer`, then, more often than five times in ten seconds,
//! `curl -i http://127.0.0.1:3000/` is refused; with `-H 'authorization: Bearer a-key-of-mine'` one is somebody else, and may
//! come twenty times a minute. Another address is the first argument.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use rate_limiter::adapters::Local;
use rate_limiter::domain::Algorithm;
use rate_limiter::layer::{KeyBy, RateLimitLayer};
use rate_limiter::rules;
use rate_limiter::service::RateLimiter;

const RULES: &str = "\
domain: example
descriptors:
  - key: ip
    rate_limit: { name: by-address, unit: minute, requests_per_unit: 30, burst: 5 }
  - key: api_key
    rate_limit: { name: by-key, unit: minute, requests_per_unit: 20 }
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let socket = tokio::net::TcpListener::bind(&address).await?;
    eprintln!("listening on http://{}", socket.local_addr()?);
    // The layer has to know who is there.
    let service = service(0)?.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(socket, service).await?)
}

/// A service behind the layer, and so many proxies before it that are one's own.
pub(crate) fn service(trusted_hops: usize) -> anyhow::Result<Router> {
    let limiter = Local::new(Algorithm::TokenBucket, 100_000, quanta::Clock::new());
    let rate_limiter = RateLimiter::new(limiter, vec![rules::parse(RULES)?])?;
    let layer = RateLimitLayer::new(Arc::new(rate_limiter), KeyBy::ApiKey { trusted_hops });
    Ok(Router::new().route("/", get(async || "hello\n")).layer(layer))
}
