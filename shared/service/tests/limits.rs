//! What the service promises about requests: every bound at its edge, every refusal in our shape, and health through it all.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

mod common;

use std::io::Read as _;

use common::{assert_problem, in_parallel, post, start};
use testkit::http::{self, Connection};

/// The server the other tests start: see `common`.
#[test]
fn server_under_test() {
    common::serve_if_asked();
}

#[test]
fn a_body_may_be_as_long_as_its_class_allows_and_not_a_byte_longer() {
    let server = start(&[]);
    for (path, limit) in [("/echo", 64 << 10), ("/bulk", 4 << 20)] {
        let answer = post(server.addr(), path, &vec![b'x'; limit]);
        assert_eq!(
            (answer.status, answer.text()),
            (200, limit.to_string().as_str()),
            "{path}"
        );
        let announced = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
            limit + 1
        );
        assert_problem(
            &http::raw(server.addr(), announced.as_bytes()).unwrap(),
            413,
            "not_executed",
        );
    }
    let mut chunked = b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..65 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'x'; 1_024]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_problem(&http::raw(server.addr(), &chunked).unwrap(), 413, "not_executed");
}

#[test]
fn a_target_or_head_that_is_too_long_is_refused() {
    let server = start(&[]);
    let answer = http::get(server.addr(), &format!("/fast?{}", "x".repeat((8 << 10) - 6))).unwrap();
    assert_eq!(answer.status, 200);
    let answer = http::get(server.addr(), &format!("/fast?{}", "x".repeat((8 << 10) - 5))).unwrap();
    assert_problem(&answer, 414, "not_executed");
    // Refused by hyper, before there is a request to answer: no body.
    let long_header = http::request(server.addr(), "GET", "/fast", &[("X", &"x".repeat(17 << 10))], b"");
    assert_eq!(long_header.unwrap().status, 431);
    let headers: Vec<_> = (0..65).map(|_| ("X", "x")).collect();
    assert_eq!(
        http::request(server.addr(), "GET", "/fast", &headers, b"")
            .unwrap()
            .status,
        431
    );
}

#[test]
fn a_path_or_method_that_is_not_there_is_told_apart() {
    let server = start(&[]);
    assert_problem(
        &http::get(server.addr(), "/nowhere/at/all").unwrap(),
        404,
        "not_executed",
    );
    let answer = http::request(server.addr(), "DELETE", "/fast", &[], b"").unwrap();
    assert_problem(&answer, 405, "not_executed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    let head = http::request(server.addr(), "HEAD", "/fast", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn an_answer_that_is_not_ready_in_time_is_504_and_unknown() {
    let server = start(&["--deadline-ms", "50"]);
    assert_problem(&http::get(server.addr(), "/slow/60000").unwrap(), 504, "unknown");
    assert_eq!(http::get(server.addr(), "/slow/1").unwrap().status, 200);
}

#[test]
fn a_panic_costs_its_own_request_only() {
    let server = start(&[]);
    for _ in 0..3 {
        assert_problem(&http::get(server.addr(), "/panic").unwrap(), 500, "unknown");
    }
    assert_eq!(http::get(server.addr(), "/fast").unwrap().status, 200);
    assert!(
        http::get(server.admin(), "/metrics")
            .unwrap()
            .text()
            .contains(r#"route="/panic",method="GET",status="500"} 3"#)
    );
}

#[test]
fn a_client_that_is_silent_or_slow_is_let_go() {
    let server = start(&["--header-timeout-ms", "200"]);
    for begun in [
        &b""[..],
        b"GET /fast HT",
        b"PRI * HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut connection = Connection::open(server.addr()).unwrap();
        connection.send(begun).unwrap();
        // Whatever it says before it hangs up, it must hang up.
        let mut rest = Vec::new();
        let ended = connection.stream().read_to_end(&mut rest);
        assert!(
            ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "still open after {:?}",
            String::from_utf8_lossy(begun)
        );
    }
    let stalled = b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf";
    assert_problem(&http::raw(server.addr(), stalled).unwrap(), 408, "not_executed");
}

#[test]
fn beyond_the_cap_and_the_queue_requests_are_shed_and_health_is_not() {
    let server = start(&["--max-in-flight", "4", "--max-queued", "2", "--deadline-ms", "20000"]);
    let addr = server.addr();
    let answers = in_parallel(20, move |_| http::get(addr, "/slow/1000").unwrap());
    let shed: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served + shed.len(), 20);
    // All twenty arrive within the second that the first four take; nobody waits longer than the queue's patience.
    assert_eq!(served, 4);
    for answer in shed {
        assert_problem(answer, 503, "not_executed");
        assert!(answer.header("retry-after").is_some());
    }
    let held = std::thread::spawn(move || in_parallel(6, move |_| http::get(addr, "/slow/1000").unwrap()));
    common::until(|| common::gauge(&server, "resource_operations_total{resource=\"admission\"") >= 4.0);
    assert_eq!(http::get(server.addr(), "/livez").unwrap().status, 200);
    assert_eq!(http::get(server.admin(), "/readyz").unwrap().status, 200);
    held.join().unwrap();
}

#[test]
fn large_bodies_share_a_budget_and_small_ones_do_not_need_it() {
    let server = start(&["--header-timeout-ms", "2000"]);
    let addr = server.addr();
    let stalled = format!("POST /bulk HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\nx", 4 << 20);
    let large = std::thread::spawn(move || in_parallel(17, move |_| http::raw(addr, stalled.as_bytes()).unwrap()));
    assert_eq!(post(addr, "/echo", b"small").status, 200);
    // Sixteen of 4 MiB fit into 64 MiB and run into the time-out; the one too many is refused before a byte is read.
    let mut statuses: Vec<_> = large.join().unwrap().iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [&[408; 16][..], &[503]].concat());
    assert_eq!(post(addr, "/bulk", &vec![b'x'; 1 << 20]).status, 200);
}

#[test]
fn beyond_the_connection_cap_one_waits_until_another_leaves() {
    let server = start(&["--max-connections", "2"]);
    let ask = b"GET /fast HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut first = Connection::open(server.addr()).unwrap();
    let mut second = Connection::open(server.addr()).unwrap();
    for connection in [&mut first, &mut second] {
        connection.send(ask).unwrap();
        assert_eq!(connection.read().unwrap().status, 200);
    }
    let mut third = Connection::open(server.addr()).unwrap(); // in the kernel's queue
    third.send(ask).unwrap();
    third
        .stream()
        .set_read_timeout(Some(std::time::Duration::from_millis(200)))
        .unwrap();
    assert!(third.read().is_err(), "answered beyond the cap");
    third
        .stream()
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    drop(first);
    assert_eq!(third.read().unwrap().status, 200);
}

#[test]
fn writing_needs_a_key_once_there_are_keys_and_the_key_is_never_logged() {
    let server = start(&["--api-keys", "first-secret-key,second-secret-key"]);
    let with = |value: &str| http::request(server.addr(), "POST", "/echo", &[("Authorization", value)], b"x").unwrap();
    assert_eq!(with("Bearer second-secret-key").status, 200);
    for wrong in [
        "Bearer wrong-secret-key",
        "Bearer ",
        "second-secret-key",
        &format!("Bearer {}", "k".repeat(10_240)),
    ] {
        let refused = with(wrong);
        assert_problem(&refused, 401, "not_executed");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    assert_problem(&post(server.addr(), "/echo", b"x"), 401, "not_executed");
    assert_eq!(http::get(server.addr(), "/fast").unwrap().status, 200);
    assert!(!server.stderr().contains("secret"));
}

#[test]
fn the_documents_are_served_from_the_binary_and_point_nowhere_else() {
    let server = start(&[]);
    let document = http::get(server.addr(), "/openapi.json").unwrap().json();
    assert!(document["paths"]["/echo"]["post"].is_object());
    let page = http::get(server.addr(), "/docs/").unwrap();
    assert_eq!(page.status, 200);
    assert!(
        !page.text().contains("//cdn") && !page.text().contains("https://"),
        "{}",
        page.text()
    );
    assert_eq!(
        http::get(server.addr(), "/").unwrap().header("location"),
        Some("/docs/")
    );
    // Metrics are for the operator only.
    assert_eq!(http::get(server.addr(), "/metrics").unwrap().status, 404);
}

#[test]
fn the_ledger_shows_the_cpu_and_the_gate() {
    let server = start(&[]);
    for _ in 0..10 {
        http::get(server.addr(), "/fast").unwrap();
    }
    let page = http::get(server.admin(), "/metrics").unwrap();
    for line in [
        "resource_operations_total{resource=\"admission\",unit=\"requests\"} 10.0",
        "resource_operations_total{resource=\"cpu\",unit=\"cores\"} 10.0",
        "resource_capacity{resource=\"admission\",unit=\"requests\"} 512.0",
    ] {
        assert!(
            page.text().lines().any(|found| found == line),
            "no {line} in\n{}",
            page.text()
        );
    }
}
