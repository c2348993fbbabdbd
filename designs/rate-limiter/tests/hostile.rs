//! What hostile clients send to the faces that read Envoy's messages, and to any path: refused in our shape, by which
//! nothing is charged, and the server goes on. What they send to `/check` is in `stages.rs`.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::net::SocketAddr;

use common::{Site, check};
use serde_json::{Value, json};
use testkit::http;
use testkit::problems::assert_problem;
use testkit::server::metric;

common::every_stage! {
    messages_that_are_none_are_refused_and_charge_nothing,
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn user(more: &Value) -> Value {
    let mut descriptor = json!({"entries": [{"key": "user", "value": "victim"}]});
    descriptor
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"domain": "default", "descriptors": [descriptor]})
}

fn bodies() -> Vec<(String, u16)> {
    let long = "x".repeat(1_025);
    let of = |descriptor: Value| json!({"domain": "default", "descriptors": [descriptor]}).to_string();
    let many = |number: usize| vec![json!({"key": "k", "value": "v"}); number];
    vec![
        (String::new(), 400),
        ("\u{feff}{}".into(), 400),
        ("{\"domain\":\"default\"".into(), 400),
        ("null".into(), 422),
        (format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), 422),
        (
            format!(r#"{{"descriptors":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000)),
            422,
        ),
        ("[]".into(), 422),
        ("{}".into(), 422),
        (r#"{"domain":"default"}"#.into(), 422),
        (
            r#"{"domain":"default","domain":"default","descriptors":[]}"#.into(),
            400,
        ),
        (r#"{"domain":1,"descriptors":[]}"#.into(), 422),
        (r#"{"domain":"default","descriptors":{}}"#.into(), 422),
        (of(json!({})), 422),
        (of(json!({"entries": []})), 422),
        (of(json!({"entries": [{"key": "", "value": "x"}]})), 422),
        (of(json!({"entries": [{"key": long, "value": "x"}]})), 422),
        (of(json!({"entries": [{"key": "user", "value": long}]})), 422),
        (of(json!({"entries": [{"key": "user", "value": ["victim"]}]})), 422),
        (of(json!({"entries": many(17)})), 422),
        (
            json!({"domain": "default", "descriptors": vec![json!({"entries": many(1)}); 33]}).to_string(),
            422,
        ),
        (user(&json!({"hitsAddend": -1})).to_string(), 422),
        (user(&json!({"hitsAddend": 1.5})).to_string(), 422),
        (user(&json!({"hitsAddend": "many"})).to_string(), 422),
        (user(&json!({"hitsAddend": "18446744073709551616"})).to_string(), 422),
        (user(&json!({"isNegativeHits": true})).to_string(), 422),
        (user(&json!({"limit": {"requestsPerUnit": 5}})).to_string(), 422),
        (
            user(&json!({"limit": {"requestsPerUnit": 5, "unit": "UNKNOWN"}})).to_string(),
            422,
        ),
        (
            user(&json!({"limit": {"requestsPerUnit": 5, "unit": "FORTNIGHT"}})).to_string(),
            422,
        ),
        (
            user(&json!({"limit": {"requestsPerUnit": 4_294_967_296_u64, "unit": "DAY"}})).to_string(),
            422,
        ),
        (user(&json!({"__proto__": {}})).to_string(), 422),
        (format!("{{\"domain\":\"{}\"}}", "d".repeat(70_000)), 413),
    ]
}

/// What is left to the user whom they all try to charge.
fn left(addr: SocketAddr) -> Value {
    check(addr, "victim", 0).json()["remaining"].clone()
}

fn messages_that_are_none_are_refused_and_charge_nothing(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    for (body, status) in bodies() {
        let shown: String = body.chars().take(120).collect();
        let answer = http::request(server.addr(), "POST", "/json", &[JSON], body.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert_problem(&answer, &shown);
        assert_eq!(left(server.addr()), 100, "after {shown}");
    }
    for (headers, status) in [
        (&[][..], 415),
        (&[("content-type", "text/plain")][..], 415),
        (&[("content-type", "application/grpc")][..], 415),
        (&[JSON, ("content-encoding", "gzip")][..], 415),
    ] {
        for path in ["/check", "/json"] {
            let body = user(&json!({})).to_string();
            let answer = http::request(server.addr(), "POST", path, headers, body.as_bytes()).unwrap();
            assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text());
            assert_problem(&answer, path);
        }
    }
    for (method, path, status) in [
        ("GET", "/check", 405),
        ("DELETE", "/json", 405),
        (
            "POST",
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            415,
        ),
        ("POST", "/check/", 404),
        ("POST", "/%63heck", 404),
    ] {
        let answer = http::request(server.addr(), method, path, &[JSON], b"{}").unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_problem(&answer, path);
    }
    assert_eq!(left(server.addr()), 100);
    assert_eq!(metric(&server, "http_requests_total", &["status=\"5"]), 0.0);
}

/// The control: what is a message does charge.
#[test]
fn a_message_that_is_one_charges() {
    let site = Site::new();
    let server = site.start("token_bucket", &[]);
    let answer = http::post_json(server.addr(), "/json", &user(&json!({"hitsAddend": "100"}))).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(left(server.addr()).as_u64().unwrap() < 100);
}
