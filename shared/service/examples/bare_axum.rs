//! The yardstick: axum as it comes. A constant 302, with which redirects are compared, the bytes of one new id, those of one
//! decision about a question that was read, and those of one member of a board.
//!
//! `cargo run --release -p service --example bare_axum -- 127.0.0.1:8081`, then load `/abcdefg` beside a design's own
//! redirect, `/ids/one` beside its new ids, `/check` beside its decisions, or `/boards/b/members/player-1` beside its ranks,
//! with the same client, on the same core. One thread serves, as in a design that has one core.

use std::collections::HashMap;

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;

/// As the rate limiter is asked.
#[derive(Deserialize)]
struct Question {
    descriptor: HashMap<String, String>,
    cost: u64,
}

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
    let decision = |Json(question): Json<Question>| async move {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
            (
                HeaderName::from_static("ratelimit-policy"),
                "\"default.user\";q=1000000;w=1",
            ),
            (HeaderName::from_static("ratelimit"), "\"default.user\";r=999999"),
        ];
        // So that what was read is needed.
        let known = question.cost <= 1_000_000 && question.descriptor.contains_key("user");
        let body = r#"{"allowed":true,"limit":1000000,"remaining":999999,"reset_after_ms":1}"#;
        (headers, if known { body } else { "" })
    };
    let member = |Path((_, member)): Path<(String, String)>| async move {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let known = member.starts_with("player-");
        let body = r#"{"member":"player-50000","score":500000,"rank":500000,"members":1000000,"percentile":50.0}"#;
        (headers, if known { body } else { "" })
    };
    let routes = Router::new()
        .route("/{code}", get(redirect))
        .route("/ids/one", get(id))
        .route("/check", post(decision))
        .route("/boards/{board}/members/{member}", get(member));
    let socket = tokio::net::TcpListener::bind(&address).await?;
    eprintln!("listening on http://{}", socket.local_addr()?);
    axum::serve(socket, routes).await
}
