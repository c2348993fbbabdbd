//! What a load lab may do to a server that was started for it: slow it, one resource at a time, and nothing else.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

mod common;

use std::time::{Duration, Instant};

use common::{assert_problem, start};
use testkit::http;
use testkit::server::Server;

/// The server the other tests start: see `common`.
#[test]
fn server_under_test() {
    common::serve_if_asked();
}

/// Seconds that a resource was busy so far.
fn busy(server: &Server, resource: &str) -> f64 {
    let page = http::get(server.admin(), "/metrics").unwrap();
    let line = format!("resource_busy_seconds_total{{resource=\"{resource}\",");
    let found = page
        .text()
        .lines()
        .find(|found| found.starts_with(&line))
        .unwrap()
        .to_owned();
    found.rsplit(' ').next().unwrap().parse().unwrap()
}

fn slow(server: &Server, query: &str) -> http::Answer {
    http::request(server.admin(), "POST", &format!("/lab/slow?{query}"), &[], b"").unwrap()
}

/// Asks so many times, one after the other; how long that took, and how long the resource was busy meanwhile.
fn ask(server: &Server, path: &str, times: u32, resource: &str) -> (Duration, f64) {
    let (before, begun) = (busy(server, resource), Instant::now());
    for _ in 0..times {
        assert_eq!(http::get(server.addr(), path).unwrap().status, 200);
    }
    (begun.elapsed(), busy(server, resource) - before)
}

#[test]
fn a_server_that_was_not_started_for_it_cannot_be_slowed() {
    let server = start(&[]);
    assert_problem(&slow(&server, "resource=cpu&nanos=1000"), 404, "not_executed");
}

#[test]
fn the_public_listener_never_slows_anything() {
    let server = start(&["--lab"]);
    let answer = http::request(server.addr(), "POST", "/lab/slow?resource=cpu&nanos=1000", &[], b"").unwrap();
    assert_problem(&answer, 404, "not_executed");
}

#[test]
fn a_slowed_cpu_works_and_slowed_threads_only_block() {
    let server = start(&["--lab"]);
    assert_eq!(slow(&server, "resource=cpu&nanos=4000000").status, 204);
    let (_, worked) = ask(&server, "/fast", 50, "cpu");
    assert!(worked >= 0.2, "{worked} s of CPU");
    assert_eq!(slow(&server, "resource=cpu&nanos=0").status, 204);
    assert_eq!(slow(&server, "resource=workers&nanos=4000000").status, 204);
    let (took, worked) = ask(&server, "/fast", 50, "cpu");
    assert!(took >= Duration::from_millis(190), "{took:?}");
    assert!(worked < 0.1, "{worked} s of CPU");
}

#[test]
fn a_slowed_resource_is_held_for_the_factor_of_its_time() {
    let server = start(&["--lab"]);
    let (_, before) = ask(&server, "/slow/20", 10, "admission");
    assert_eq!(slow(&server, "resource=admission&factor=3").status, 204);
    let (_, after) = ask(&server, "/slow/20", 10, "admission");
    // The first of the ten owes nothing yet.
    assert!(after >= before * 2.5, "{before} s, then {after} s");
    assert_eq!(slow(&server, "resource=admission&factor=1").status, 204);
    let (_, again) = ask(&server, "/slow/20", 10, "admission");
    assert!(again < after * 0.8, "{before} s, then {after} s, then {again} s");
}

#[test]
fn what_cannot_be_slowed_is_refused_in_our_shape() {
    let server = start(&["--lab"]);
    for (query, status) in [
        ("resource=writer&factor=2", 404),
        ("resource=admission&factor=0.5", 422),
        ("resource=admission&factor=NaN", 422),
        ("resource=admission&nanos=5", 422),
        ("resource=cpu&factor=2", 422),
        ("resource=cpu&nanos=1000000001", 422),
        ("resource=cpu&nanos=many", 422),
        ("nanos=5", 422),
        ("resource=cpu&nanos=0&faktor=2", 422),
    ] {
        assert_problem(&slow(&server, query), status, "not_executed");
    }
}
