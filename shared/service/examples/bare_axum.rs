//! The yardstick: axum as it comes. A constant 302, with which redirects are compared, and the bytes of one new id.
//!
//! `cargo run --release -p service --example bare_axum -- 127.0.0.1:8081`, then load `/abcdefg` beside a design's own
//! redirect, or `/ids/one` beside its new ids, with the same client, on the same core. One thread serves, as in a design
//! that has one core.

use axum::Router;
use axum::routing::get;
use http::{StatusCode, header};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let redirect = || async { (StatusCode::FOUND, [(header::LOCATION, "https://example.com/")]) };
    let id = || async {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (headers, r#"{"ids":["2125663570413748224"]}"#)
    };
    let routes = Router::new().route("/{code}", get(redirect)).route("/ids/one", get(id));
    let socket = tokio::net::TcpListener::bind(&address).await?;
    eprintln!("listening on http://{}", socket.local_addr()?);
    axum::serve(socket, routes).await
}
