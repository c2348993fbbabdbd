//! Every stage, as its users see it: one set of recorded conversations, played to a real server of each.
//!
//! `scripts/` has the conversations; what differs between stages has a folder of its own there. What a script cannot say
//! (order, time, what is not in a log) is here.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::collections::HashSet;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use common::{BINARY, Client, STAGES, Site};
use serde_json::json;
use testkit::problems::assert_problem;
use testkit::server::metric;
use testkit::{http, scripts};

/// Two keys that may write.
const KEY: &str = "k3y-0f-the-house";
const OTHER_KEY: &str = "an0ther-0f-them";

common::every_stage! {
    answers_as_recorded,
    lets_only_those_with_a_key_make_ids,
    gives_exactly_as_many_as_asked_for_in_every_form,
    gives_greater_ids_with_every_answer,
    says_how_it_is,
    after_a_restart_ids_go_on,
}

fn script(name: &str) -> String {
    format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn carries_time(stage: &str) -> bool {
    matches!(stage, "snowflake" | "leased")
}

fn answers_as_recorded(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    scripts::check_folder(script(""), server.addr(), &[]);
    let own = if carries_time(stage) { "flakes" } else { "counted" };
    scripts::check_folder(script(own), server.addr(), &[]);
}

fn lets_only_those_with_a_key_make_ids(stage: &str) {
    let site = Site::new();
    let mut command = site.command(stage, &[]);
    // Everything a server could be made to say.
    command
        .env("API_KEYS", format!("{KEY},{OTHER_KEY}"))
        .env("RUST_LOG", "trace");
    let mut server = testkit::server::Server::spawn(command);
    scripts::check_folder(script("keys"), server.addr(), &[("key", KEY)]);
    scripts::check_folder(script("keys"), server.addr(), &[("key", OTHER_KEY)]);
    assert!(server.terminate().success());
    let said = server.stderr();
    assert!(said.contains("draining"), "there is a log: {said}");
    for key in [KEY, OTHER_KEY] {
        assert!(!said.contains(key), "an API key stands in the log");
    }
}

fn gives_exactly_as_many_as_asked_for_in_every_form(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    for format in ["snowflake", "base62", "uuid_v4", "uuid_v7", "ulid"] {
        let mut given = HashSet::new();
        for count in [1, 2, 999, 10_000] {
            let target = format!("/ids?count={count}&format={format}");
            let answer = client.call("POST", &target, "").unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let ids = answer.json()["ids"].as_array().unwrap().clone();
            assert_eq!(ids.len(), count, "{target}");
            let texts: Vec<String> = ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
            if matches!(format, "uuid_v7" | "ulid") {
                assert!(texts.is_sorted(), "{target}");
            }
            given.extend(texts);
        }
        assert_eq!(given.len(), 1 + 2 + 999 + 10_000, "{format}");
    }
}

fn gives_greater_ids_with_every_answer(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(server.addr())).collect();
    let mut last = 0;
    for turn in 0..300 {
        let count = 1 + turn % 5;
        let ids = clients[turn % 3].ids(u32::try_from(count).unwrap());
        assert_eq!(ids.len(), count);
        assert!(ids.is_sorted_by(|a, b| a < b) && ids[0] > last, "{ids:?} after {last}");
        last = *ids.last().unwrap();
    }
    if carries_time(stage) {
        let told = client_time(&clients[0].told(last));
        let off = SystemTime::now().duration_since(told).unwrap();
        assert!(off < Duration::from_secs(20), "an id of {off:?} ago");
    }
}

fn client_time(told: &serde_json::Value) -> SystemTime {
    humantime::parse_rfc3339(told["time"].as_str().unwrap()).unwrap()
}

fn says_how_it_is(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    for addr in [server.addr(), server.admin()] {
        assert_eq!(http::get(addr, "/livez").unwrap().status, 200);
        assert_eq!(http::get(addr, "/readyz").unwrap().status, 200);
    }
    let public = http::get(server.addr(), "/metrics").unwrap();
    assert_eq!(public.status, 404);
    assert_problem(&public, "metrics on the public listener");
    Client::new(server.addr()).ids(10);
    let resource = match stage {
        "ticket_row" => "sqlite_writer",
        "ranges" => "id_block",
        _ => "sequence",
    };
    let label = format!("resource=\"{resource}\"");
    assert!(metric(&server, "resource_capacity", &[&label]) > 0.0);
    assert!(metric(&server, "resource_operations_total", &[&label]) > 0.0);
    assert_eq!(
        metric(&server, "http_requests_total", &["route=\"/ids\"", "status=\"200\""]),
        1.0
    );
}

fn after_a_restart_ids_go_on(stage: &str) {
    let site = Site::new();
    let mut last = 0;
    for _ in 0..3 {
        let mut server = site.start(stage, &[]);
        let ids = Client::new(server.addr()).ids(20);
        assert!(ids[0] > last, "{} after {last}", ids[0]);
        last = *ids.last().unwrap();
        assert!(server.terminate().success());
    }
}

/// vipermind/flake-idgen, issue 8: read as a double, a 64-bit id is another one.
#[test]
fn ids_are_strings_because_a_number_would_be_rounded() {
    let site = Site::new();
    let server = site.start("snowflake", &[]);
    let answer = http::request(server.addr(), "POST", "/ids?count=1000", &[], b"").unwrap();
    let ids = answer.json()["ids"].as_array().unwrap().clone();
    assert!(ids.iter().all(serde_json::Value::is_string));
    let rounded: HashSet<u64> = ids
        .iter()
        .map(|id| id.as_str().unwrap().parse::<f64>().unwrap().to_bits())
        .collect();
    assert!(
        rounded.len() < ids.len(),
        "the control: as doubles, some of them are one"
    );
}

#[test]
fn the_layout_decides_what_an_id_tells() {
    for (layout, most) in [
        ("twitter", 4_095),
        ("discord", 4_095),
        ("instagram", 1_023),
        ("sonyflake", 255),
    ] {
        let site = Site::new();
        let server = site.start("snowflake", &["--layout", layout, "--node-id", "31"]);
        let mut client = Client::new(server.addr());
        for id in client.ids(2_000).into_iter().step_by(199) {
            let told = client.told(id);
            assert_eq!((&told["layout"], &told["node"]), (&json!(layout), &json!(31)), "{told}");
            assert!(told["sequence"].as_u64().unwrap() <= most, "{told}");
        }
    }
}

#[test]
fn an_epoch_of_ones_own_makes_smaller_ids_that_tell_the_same_time() {
    let site = Site::new();
    let server = site.start("snowflake", &["--epoch", "2026-01-01T00:00:00Z"]);
    let mut client = Client::new(server.addr());
    let id = client.ids(1)[0];
    assert!(id < 1 << 60, "{id}");
    let told = client_time(&client.told(id));
    assert!(SystemTime::now().duration_since(told).unwrap() < Duration::from_secs(20));
}

#[test]
fn two_servers_have_two_node_ids() {
    for lender in ["postgres", "redis"] {
        let site = Site::new();
        let flags = ["--leases", lender];
        let first = site.start("leased", &flags);
        let other = site.beside();
        let second = other.start("leased", &flags);
        let node = |server: &testkit::server::Server| {
            let mut client = Client::new(server.addr());
            let id = client.ids(1)[0];
            client.told(id)["node"].as_u64().unwrap()
        };
        assert_eq!((node(&first), node(&second)), (0, 1), "{lender}");
    }
}

#[test]
fn the_document_describes_every_route() {
    let site = Site::new();
    let server = site.start("ticket_row", &[]);
    let document = http::get(server.addr(), "/openapi.json").unwrap().json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/ids", "/ids/{id}"]);
    let parameters = document["paths"]["/ids"]["post"]["parameters"].as_array().unwrap();
    let names: Vec<&str> = parameters
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["count", "format"]);
}

/// Runs the program to its end.
fn output(flags: &[&str]) -> Output {
    Command::new(BINARY).args(flags).env_clear().output().unwrap()
}

#[test]
fn describes_its_stages_as_json() {
    let described = output(&["--describe"]);
    assert!(described.status.success() && described.stderr.is_empty());
    let description: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(description["design"], "id-generator");
    let stages = description["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, STAGES);
    let leased = stages.last().unwrap();
    assert_eq!((&leased["needs"], &leased["nodes"]), (&json!(["postgres"]), &json!(2)));
}

/// sony/sonyflake, pull request 72: a node id that is too wide must be refused, not cut.
#[test]
fn what_does_not_fit_into_the_layout_ends_the_start_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for (flags, what) in [
        (&["--node-id", "1024"][..], "does not fit into the 10 bits"),
        (
            &["--layout", "sonyflake", "--node-id", "65536"],
            "does not fit into the 16 bits",
        ),
        (&["--epoch", "2200-01-01T00:00:00Z"], "lies in the future"),
    ] {
        let mut all = vec![
            "--data-dir",
            data,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        all.extend(flags);
        let ended = output(&all);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{flags:?}: {said}");
        assert!(said.contains(what) && said.lines().count() == 1, "{flags:?}: {said}");
    }
}

#[test]
fn ids_of_two_layouts_do_not_come_from_one_store() {
    let site = Site::new();
    drop(site.start("snowflake", &[]));
    let refused = site.command("snowflake", &["--layout", "discord"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("start it on another store"), "{said}");
    for lender in ["postgres", "redis"] {
        let site = Site::new();
        drop(site.start("leased", &["--leases", lender]));
        let flags = ["--leases", lender, "--epoch", "2020-01-01T00:00:00Z"];
        let refused = site.command("leased", &flags).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("start it on another store"), "{lender}: {said}");
    }
}
