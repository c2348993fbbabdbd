//! The layer of `examples/layer.rs`, before its service, asked over a socket.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::net::{SocketAddr, TcpListener};
use std::thread;

use testkit::http::{self, Answer};

#[path = "../examples/layer.rs"]
#[allow(dead_code, reason = "its `main` is for people")]
mod example;

/// Serves the example with so many proxies before it, until the test process ends.
fn serve(trusted_hops: usize) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        testkit::contract::run(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            let service = example::service(trusted_hops).unwrap();
            let service = service.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(socket, service).await.unwrap();
        });
    });
    address
}

fn get(address: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    http::request(address, "GET", "/", headers, b"").unwrap()
}

/// How many of `tries` requests got through to the service.
fn admitted(address: SocketAddr, headers: &[(&str, &str)], tries: usize) -> usize {
    (0..tries).filter(|_| get(address, headers).status == 200).count()
}

#[test]
fn the_service_is_reached_within_the_limit_and_told_of_it() {
    let address = serve(0);
    let first = get(address, &[]);
    assert_eq!((first.status, first.text()), (200, "hello\n"));
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"by-address\";q=30;w=60;lb-burst=5")
    );
    assert_eq!(first.header("ratelimit"), Some("\"by-address\";r=4"));
    // Two seconds make up for one: a slow machine may get a few more in.
    let refused = (0..50)
        .map(|_| get(address, &[]))
        .find(|answer| answer.status != 200)
        .unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let body = refused.json();
    assert_eq!(
        body["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(
        (&body["allowed"], &body["code"]),
        (&false.into(), &"quota_exceeded".into())
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(
        refused.header("ratelimit").unwrap(),
        format!("\"by-address\";r=0;t={wait}")
    );
}

#[test]
fn each_api_key_has_a_bucket_of_its_own_and_is_never_sent_back() {
    let address = serve(0);
    for key in ["first-key-of-a-customer", "second-key-of-a-customer"] {
        let value = format!("Bearer {key}");
        let headers = [("authorization", value.as_str())];
        let answer = get(address, &headers);
        assert_eq!(answer.header("ratelimit"), Some("\"by-key\";r=19"), "{key}");
        let refused = (0..100)
            .map(|_| get(address, &headers))
            .find(|answer| answer.status == 429)
            .unwrap();
        for said in [
            format!("{:?}", answer.headers),
            format!("{:?}", refused.headers),
            refused.text().to_string(),
        ] {
            assert!(!said.contains(key), "{said}");
        }
        let other_case = format!("bearer {key}");
        assert_eq!(
            admitted(address, &[("authorization", &other_case)], 2),
            0,
            "the same key"
        );
    }
    assert_eq!(
        get(address, &[]).header("ratelimit"),
        Some("\"by-address\";r=4"),
        "no key was charged to it"
    );
}

#[test]
fn a_forwarded_address_counts_only_where_a_proxy_of_ones_own_wrote_it() {
    // Without proxies, the header is anybody's: all of these are one peer.
    let direct = serve(0);
    let made_up = |nth: usize| format!("198.51.100.{nth}");
    let through = (0..20)
        .filter(|nth| get(direct, &[("x-forwarded-for", &made_up(*nth))]).status == 200)
        .count();
    assert!(through < 20, "{through} passed by inventing addresses");
    // Behind one, the last entry is who it is, whatever stands before it.
    let behind = serve(1);
    for nth in 0..20 {
        let list = format!("{}, 203.0.113.7", made_up(nth));
        get(behind, &[("x-forwarded-for", &list)]);
    }
    assert!(admitted(behind, &[("x-forwarded-for", "203.0.113.7")], 5) < 5);
    assert_eq!(
        admitted(behind, &[("x-forwarded-for", "203.0.113.8")], 5),
        5,
        "somebody else"
    );
    // A network is one customer.
    for host in 0..20 {
        get(behind, &[("x-forwarded-for", &format!("2001:db8::{host:x}"))]);
    }
    assert!(admitted(behind, &[("x-forwarded-for", "2001:db8::ffff")], 5) < 5);
    assert_eq!(
        admitted(behind, &[("x-forwarded-for", "2001:db8:0:1::1")], 5),
        5,
        "the network beside it"
    );
}
