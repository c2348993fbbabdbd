//! SIGTERM, whatever clients do: requests that were sent are answered, the flush is done, and it ends in time.

use std::time::{Duration, Instant};

use testkit::http::Connection;
use testkit::server::Server;

use crate::common::{Client, Site, wait_until};
use crate::ended;

/// What the service promises.
const IN_TIME: Duration = Duration::from_secs(8);

/// Clients that will not let go: one idle, one with half a head, one with half a body, one that asks and never reads.
fn holding_on(server: &Server) -> Vec<Connection> {
    let open = |bytes: &[u8]| {
        let mut connection = Connection::open(server.addr()).unwrap();
        connection.send(bytes).unwrap();
        connection
    };
    let mut idle = open(b"GET /zzzzzzz HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(idle.read().unwrap().status, 404);
    let half_a_head = open(b"GET /zzzz");
    let half_a_body = open(
        b"POST /api/links HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"url\":",
    );
    // More than the buffers in between can hold.
    let never_reads = open(&b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: t\r\n\r\n".repeat(8));
    vec![idle, half_a_head, half_a_body, never_reads]
}

const CREATE: &[u8] =
    b"POST /api/links HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n\
{\"url\":\"https://example.org/\"}";

/// One round: clients that hold on, requests sent right before the signal, the signal, the end.
fn answers_what_was_sent_and_ends(stage: &str, round: usize) {
    let site = Site::new();
    let mut server = site.start(stage, &[]);
    let holding_on = holding_on(&server);
    // Connections that have been used, and ones that the server may not even have accepted yet.
    let mut used: Vec<Connection> = (0..20).map(|_| Connection::open(server.addr()).unwrap()).collect();
    for connection in &mut used {
        connection.send(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert_eq!(connection.read().unwrap().status, 200);
    }
    let mut asking = used;
    asking.extend((0..20).map(|_| Connection::open(server.addr()).unwrap()));
    for connection in &mut asking {
        connection.send(CREATE).unwrap();
    }
    let begun = Instant::now();
    server.begin_termination();
    let mut codes = Vec::new();
    for (number, connection) in asking.iter_mut().enumerate() {
        let answer = connection.read().unwrap_or_else(|error| {
            panic!("{stage}, round {round}: request {number} of 40, sent before SIGTERM: {error}")
        });
        assert_eq!(answer.status, 201, "{stage}: {}\n{}", answer.text(), server.stderr());
        codes.push(answer.json()["code"].as_str().unwrap().to_owned());
    }
    let status = server.wait();
    assert!(status.success(), "{stage}: {status}\n{}", server.stderr());
    assert!(begun.elapsed() < IN_TIME, "{stage}: {:?}", begun.elapsed());
    drop(holding_on);

    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    for code in codes {
        assert!(client.target_of(&code).is_some(), "{stage}: {code} is lost");
    }
}

#[test]
fn what_was_sent_before_sigterm_is_answered_whoever_holds_on() {
    // Each round waits three seconds for those who hold on, so two run beside each other; ten would want more fsyncs than
    // a disk has before a store stops waiting for its turn.
    for stage in crate::common::STAGES {
        std::thread::scope(|scope| {
            for round in 0..2 {
                scope.spawn(move || answers_what_was_sent_and_ends(stage, round));
            }
        });
    }
}

#[test]
fn a_server_without_clients_ends_at_once() {
    let site = Site::new();
    let mut server = site.start("permuted", &[]);
    let (status, took) = ended(&mut server);
    assert!(
        status.success() && took < Duration::from_secs(2),
        "{status} after {took:?}"
    );
}

#[test]
fn while_it_drains_it_is_unready_and_still_alive() {
    let site = Site::new();
    let mut server = site.start("permuted", &[]);
    let holding_on = holding_on(&server);
    server.begin_termination();
    // The operator's listener stays.
    wait_until("it is unready", || {
        testkit::http::get(server.admin(), "/readyz").is_ok_and(|answer| answer.status == 503)
    });
    assert_eq!(testkit::http::get(server.admin(), "/livez").unwrap().status, 200);
    wait_until("nobody new is let in", || Connection::open(server.addr()).is_err());
    assert!(server.wait().success());
    drop(holding_on);
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let site = Site::new();
    let mut server = site.start("permuted", &[]);
    let holding_on = holding_on(&server);
    server.begin_termination();
    wait_until("it drains", || server.stderr().contains("draining"));
    let (status, took) = ended(&mut server);
    assert_eq!(status.code(), Some(1), "{}", server.stderr());
    // Those who hold on would have kept it for three seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(holding_on);
}
