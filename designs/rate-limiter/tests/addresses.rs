//! The second address, which Envoy expects: kept to the same rules as the first, and ended with it.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::net::{TcpListener, TcpStream};

use common::Site;
use serde_json::json;
use testkit::http;

/// What a server that cannot start says, in one line.
fn refusal(grpc_listen: &str) -> String {
    let site = Site::new();
    let mut command = site.command("token_bucket", &[]);
    // Once only, or the flag would contradict itself.
    let given: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = given.iter().position(|flag| flag == "--grpc-listen").unwrap();
    command = std::process::Command::new(common::BINARY);
    command
        .args(&given[..at])
        .args(&given[at + 2..])
        .args(["--grpc-listen", grpc_listen])
        .env_clear();
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("listening on"), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    errors[0].to_owned()
}

#[test]
fn it_is_not_open_to_other_machines_without_a_key() {
    let said = refusal("0.0.0.0:0");
    assert!(
        said.contains("refusing to serve on 0.0.0.0:0") && said.contains("API_KEYS"),
        "{said}"
    );
}

#[test]
fn one_that_is_taken_is_said_so_before_anything_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(&address);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[test]
fn both_serve_the_same_and_end_together() {
    let site = Site::new();
    let mut server = site.start("token_bucket", &[]);
    let addresses = [server.addr(), common::grpc(&server)];
    for (place, address) in addresses.into_iter().enumerate() {
        let answer = http::post_json(address, "/check", &json!({"descriptor": {"ip": "192.0.2.1"}})).unwrap();
        assert_eq!((answer.status, &answer.json()["remaining"]), (200, &json!(999 - place)));
        assert_eq!(http::get(address, "/readyz").unwrap().status, 200);
        assert_eq!(
            http::get(address, "/metrics").unwrap().status,
            404,
            "that is on the admin listener alone"
        );
    }
    assert!(server.terminate().success(), "{}", server.stderr());
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "{address} is still served");
    }
}
