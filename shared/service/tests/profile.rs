//! What a server under `--lab` tells of its own CPU time, and that no other server does.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{assert_problem, start, until};
use testkit::http;

/// The server the other tests start: see `common`.
#[test]
fn server_under_test() {
    common::serve_if_asked();
}

#[test]
fn a_busy_server_shows_its_own_function_in_its_profile() {
    let server = start(&["--lab"]);
    let (addr, admin) = (server.addr(), server.admin());
    let done = AtomicBool::new(false);
    let profile = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                http::get(addr, "/busy").unwrap();
            }
        });
        let profile = http::get(admin, "/lab/profile?seconds=1&hz=199");
        done.store(true, Ordering::Relaxed);
        profile.unwrap()
    });
    assert_eq!(profile.status, 200, "{profile:?}");
    assert_eq!(profile.header("content-type"), Some("text/plain; charset=utf-8"));
    let (mut all, mut busy) = (0, 0);
    for line in profile.text().lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        all += count;
        if stack.split(';').any(|frame| frame.ends_with("count_for_a_while")) {
            busy += count;
        }
    }
    assert!(
        busy > 5 && busy * 2 > all,
        "{busy} of {all} samples:\n{}",
        profile.text()
    );
}

#[test]
fn without_lab_there_is_no_profile() {
    let server = start(&[]);
    assert_eq!(http::get(server.admin(), "/metrics").unwrap().status, 200);
    for addr in [server.admin(), server.addr()] {
        assert_eq!(http::get(addr, "/lab/profile?seconds=0.1").unwrap().status, 404);
    }
    let public = start(&["--lab"]);
    assert_eq!(
        http::get(public.addr(), "/lab/profile?seconds=0.1").unwrap().status,
        404
    );
}

#[test]
fn one_profile_at_a_time_and_only_within_bounds() {
    let server = start(&["--lab"]);
    let admin = server.admin();
    for bad in ["seconds=31", "seconds=0", "hz=1000", "hz=0", "minutes=1"] {
        let answer = http::get(admin, &format!("/lab/profile?{bad}")).unwrap();
        assert_problem(&answer, 400, "not_executed");
    }
    let asked = || http::get(admin, "/lab/profile?seconds=0.1").unwrap();
    let mut first = None;
    until(|| {
        // On another connection, so it may come second and be refused: then it is asked for anew.
        let mut connection = http::Connection::open(admin).unwrap();
        connection
            .send(b"GET /lab/profile?seconds=30 HTTP/1.1\r\nHost: t\r\n\r\n")
            .unwrap();
        first = Some(connection);
        asked().status == 409
    });
    assert_problem(&asked(), 409, "not_executed");
    // Who goes away does not keep it.
    drop(first);
    let started = Instant::now();
    until(|| asked().status == 200);
    assert!(started.elapsed() < Duration::from_secs(15));
}
