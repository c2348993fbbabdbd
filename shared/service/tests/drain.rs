//! What the service promises about its end: nothing that was asked in time is lost, and nobody can hold it up.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{gauge, start, until};
use testkit::http::{self, Connection};
use testkit::server::Server;

/// The server the other tests start: see `common`.
#[test]
fn server_under_test() {
    common::serve_if_asked();
}

const ASK: &[u8] = b"GET /fast HTTP/1.1\r\nHost: t\r\n\r\n";

fn under_way(server: &Server, requests: f64) {
    // Each request under way is one that was admitted, or waits to be, and not yet answered.
    until(|| gauge(server, "resource_operations_total{resource=\"admission\"") >= requests);
}

#[test]
fn a_request_sent_before_sigterm_is_answered_and_told_to_close() {
    for round in 0..10 {
        let mut server = start(&[]);
        let mut connections: Vec<_> = (0..8).map(|_| Connection::open(server.addr()).unwrap()).collect();
        for connection in &mut connections {
            connection.send(ASK).unwrap();
            assert_eq!(connection.read().unwrap().status, 200);
        }
        let mut fresh = Connection::open(server.addr()).unwrap();
        for (n, connection) in connections.iter_mut().enumerate() {
            let path = if n % 2 == 0 { "/fast" } else { "/slow/300" };
            connection
                .send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes())
                .unwrap();
        }
        fresh.send(ASK).unwrap();
        server.begin_termination();
        connections.push(fresh);
        for connection in &mut connections {
            let answer = connection.read();
            assert_eq!(
                answer.unwrap_or_else(|error| panic!("round {round}: {error}")).status,
                200
            );
        }
        assert!(server.wait().success());
        assert!(server.stderr().contains("flushed"), "{}", server.stderr());
    }
}

#[test]
fn clients_that_hold_on_do_not_hold_it_up() {
    let mut server = start(&[]);
    let mut idle = Connection::open(server.addr()).unwrap();
    idle.send(ASK).unwrap();
    idle.read().unwrap();
    let mut half_head = Connection::open(server.addr()).unwrap();
    half_head.send(b"GET /fast HT").unwrap();
    let mut half_body = Connection::open(server.addr()).unwrap();
    half_body
        .send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
        .unwrap();
    let silent = Connection::open(server.addr()).unwrap();
    let started = Instant::now();
    let ended = server.terminate();
    assert!(ended.success(), "{}", server.stderr());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    drop((idle, half_head, half_body, silent));
}

#[test]
fn while_draining_it_is_alive_and_not_ready_and_says_close() {
    let mut server = start(&["--deadline-ms", "10000"]);
    let mut waiting = Connection::open(server.addr()).unwrap();
    waiting.send(b"GET /slow/1500 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    server.begin_termination();
    until(|| http::get(server.admin(), "/readyz").is_ok_and(|answer| answer.status == 503));
    assert_eq!(http::get(server.admin(), "/livez").unwrap().status, 200);
    let answer = waiting.read().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(server.wait().success());
}

#[test]
fn a_request_that_outlives_the_drain_is_cut_off_and_said_so() {
    let mut server = start(&["--deadline-ms", "60000", "--drain-ms", "4000"]);
    let mut endless = Connection::open(server.addr()).unwrap();
    endless.send(b"GET /slow/50000 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut other = Connection::open(server.addr()).unwrap();
    other.send(ASK).unwrap();
    other.read().unwrap();
    let started = Instant::now();
    let ended = server.terminate();
    assert_eq!(ended.code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(8));
    assert!(
        server.stderr().contains("1 requests were cut off"),
        "{}",
        server.stderr()
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = start(&["--deadline-ms", "60000"]);
    let mut endless = Connection::open(server.addr()).unwrap();
    endless.send(b"GET /slow/50000 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut other = Connection::open(server.addr()).unwrap();
    other.send(ASK).unwrap();
    other.read().unwrap();
    under_way(&server, 1.0);
    server.begin_termination();
    until(|| http::get(server.admin(), "/readyz").is_ok_and(|answer| answer.status == 503));
    server.begin_termination();
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.stderr().contains("second signal"), "{}", server.stderr());
}

#[test]
fn it_tells_the_health_of_the_server_that_runs_with_its_settings() {
    let mut server = start(&["--deadline-ms", "10000"]);
    let address = server.admin().to_string();
    let ask = || {
        let ended = common::command(&["--admin-listen", &address, "--health"]).output();
        let ended = ended.unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(stderr.lines().count(), usize::from(!ended.status.success()), "{stderr}");
        (ended.status.success(), stderr)
    };
    assert!(ask().0);
    let mut waiting = Connection::open(server.addr()).unwrap();
    waiting.send(b"GET /slow/1500 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    under_way(&server, 1.0);
    server.begin_termination();
    until(|| http::get(server.admin(), "/readyz").is_ok_and(|answer| answer.status == 503));
    let (ready, says) = ask();
    assert!(!ready && says.contains("says 503"), "{says}");
    assert_eq!(waiting.read().unwrap().status, 200);
    assert!(server.wait().success());
    let (ready, says) = ask();
    assert!(!ready && says.contains("no answer from"), "{says}");
}

#[test]
fn what_it_cannot_do_is_one_line_and_an_exit_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    for (flags, says) in [
        (vec!["--listen", &port], "cannot listen on"),
        (vec!["--listen", "0.0.0.0:0"], "no API key is set"),
        (vec!["--api-keys", "short"], "at least 8 characters"),
    ] {
        let ended = common::command(&flags).stdout(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{flags:?}: {stderr}");
        assert!(!ended.status.success());
    }
}
