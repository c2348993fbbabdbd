//! Every stage, as its users see it: one set of recorded conversations, played to a real server of each.
//!
//! `scripts/` has the conversations; what differs between stages, the text of a code, is captured there. What a script
//! cannot say (time, counts, what a page loads, what is not in a log) is here.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use common::{BINARY, Client, STAGES, Site, assert_problem, metric, wait_until};
use serde_json::json;
use testkit::clock::VirtualClock;
use testkit::{http, scripts};
use url_shortener::adapters::{AutoIncrement, Memory};
use url_shortener::domain::Error;
use url_shortener::service::{Shortener, Wish};
use url_shortener::target::Rules;

/// Two keys that may write.
const KEY: &str = "k3y-0f-the-house";
const OTHER_KEY: &str = "an0ther-0f-them";

common::every_stage! {
    answers_as_recorded,
    redirects_with_the_configured_status,
    lets_only_those_with_a_key_write,
    a_link_ends_when_its_time_is_up,
    a_query_string_never_changes_where_a_link_leads,
    every_get_is_counted_and_no_head_is,
    ten_codes_in_a_row_have_seven_letters_and_digits,
    says_how_it_is,
}

fn script(name: &str) -> String {
    format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn answers_as_recorded(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let link = r#"{"url": "https://example.org/"}"#;
    let variables = [("longest", "x".repeat(64)), ("thousand", vec![link; 1_000].join(", "))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    scripts::check_folder(script(""), server.addr(), &variables);
}

fn redirects_with_the_configured_status(stage: &str) {
    for (status, kept) in [
        ("301", "public, max-age=300"),
        ("307", "no-store"),
        ("308", "public, max-age=300"),
    ] {
        let site = Site::new();
        let server = site.start(stage, &["--redirect-status", status]);
        scripts::check_folder(
            script("redirects"),
            server.addr(),
            &[("status", status), ("kept", kept)],
        );
        // Never kept longer than the link lives.
        let mut client = Client::new(server.addr());
        let link = json!({"url": "https://example.org/", "alias": "short-lived", "expires_in_s": 100});
        assert_eq!(client.create(&link).unwrap().status, 201);
        let answer = client.get("/short-lived").unwrap();
        let kept = answer.header("cache-control").unwrap();
        let seconds = kept
            .strip_prefix("public, max-age=")
            .map(|seconds| seconds.parse::<u32>().unwrap());
        assert!(seconds.is_none_or(|seconds| seconds <= 100), "{kept}");
    }
}

fn lets_only_those_with_a_key_write(stage: &str) {
    let site = Site::new();
    let mut command = site.command(stage, &[]);
    // Everything a server could be made to say.
    command
        .env("API_KEYS", format!("{KEY},{OTHER_KEY}"))
        .env("RUST_LOG", "trace");
    let mut server = testkit::server::Server::spawn(command);
    scripts::check_folder(script("keys"), server.addr(), &[("key", KEY), ("other", OTHER_KEY)]);
    let metrics = http::get(server.admin(), "/metrics").unwrap();
    assert!(server.terminate().success());
    let said = server.stderr();
    assert!(said.contains("draining"), "there is a log: {said}");
    for key in [KEY, OTHER_KEY] {
        assert!(!said.contains(key), "an API key stands in the log");
        assert!(!metrics.text().contains(key), "an API key stands in the metrics");
    }
}

fn a_link_ends_when_its_time_is_up(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let link = json!({"url": "https://example.org/", "alias": "soon-over", "expires_in_s": 1});
    assert_eq!(client.create(&link).unwrap().status, 201);
    assert_eq!(client.get("/soon-over").unwrap().status, 302);
    wait_until("the link has ended", || client.get("/soon-over").unwrap().status == 410);
    assert_eq!(client.get("/api/links/soon-over").unwrap().status, 410);
    assert_eq!(client.delete("soon-over").unwrap().status, 410);
    // Its name is not free for that.
    let again = json!({"url": "https://evil.example/", "alias": "soon-over"});
    assert_eq!(client.create(&again).unwrap().status, 409);
    assert_eq!(client.get("/soon-over").unwrap().status, 410);
}

fn a_query_string_never_changes_where_a_link_leads(stage: &str) {
    // Names under which other shorteners have taken a target from the query string.
    const NAMES: [&str; 15] = [
        "url",
        "redir_url",
        "redirect",
        "redirect_url",
        "redirect_uri",
        "next",
        "target",
        "to",
        "dest",
        "destination",
        "link",
        "u",
        "goto",
        "return",
        "location",
    ];
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let url = "https://example.org/kept?q=1";
    let code = client.make(url);
    for name in NAMES {
        for value in ["https://evil.example", "//evil.example"] {
            let answer = client.get(&format!("/{code}?{name}={value}")).unwrap();
            assert_eq!(
                (answer.status, answer.header("location")),
                (302, Some(url)),
                "{name}={value}"
            );
        }
    }
}

fn every_get_is_counted_and_no_head_is(stage: &str) {
    let site = Site::new();
    let mut server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let code = client.make("https://example.org/");
    let link = json!({"url": "https://example.org/", "alias": "by-name"});
    assert_eq!(client.create(&link).unwrap().status, 201);
    for (name, times) in [(code.as_str(), 7), ("by-name", 3)] {
        for _ in 0..times {
            assert_eq!(client.get(&format!("/{name}")).unwrap().status, 302);
            let head = client.call("HEAD", &format!("/{name}"), &[], "").unwrap();
            assert_eq!(head.status, 302);
        }
        wait_until("all clicks are counted", || {
            let clicks = client.clicks(name);
            assert!(clicks <= times, "{clicks} clicks, followed {times} times");
            clicks == times
        });
    }
    // Also what was counted in memory outlives the server.
    assert!(server.terminate().success());
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    assert_eq!((client.clicks(&code), client.clicks("by-name")), (7, 3));
}

fn ten_codes_in_a_row_have_seven_letters_and_digits(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let codes: Vec<String> = (0..10)
        .map(|n| client.make(&format!("https://example.org/{n}")))
        .collect();
    for code in &codes {
        assert!(
            code.len() == 7 && code.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{code}"
        );
    }
    // Where the table counts, whoever has one code can guess the next; from `pregenerated` on, nobody can.
    let near = codes.windows(2).filter(|pair| pair[0][..4] == pair[1][..4]).count();
    let enumerable = matches!(stage, "single_table" | "cached");
    assert_eq!(near, if enumerable { 9 } else { 0 }, "{codes:?}");
}

fn says_how_it_is(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    for addr in [server.addr(), server.admin()] {
        assert_eq!(http::get(addr, "/livez").unwrap().status, 200);
        assert_eq!(http::get(addr, "/readyz").unwrap().status, 200);
    }
    // Metrics are the operator's, not the public's.
    let public = http::get(server.addr(), "/metrics").unwrap();
    assert_eq!(public.status, 404);
    assert_problem(&public, "metrics on the public listener");
    let before = metric(&server, "http_requests_total", &["route=\"/{code}\"", "status=\"404\""]);
    assert_eq!(http::get(server.addr(), "/zzzzzzz").unwrap().status, 404);
    let after = metric(&server, "http_requests_total", &["route=\"/{code}\"", "status=\"404\""]);
    assert_eq!(after - before, 1.0);
    let page = http::get(server.admin(), "/metrics").unwrap();
    assert!(page.text().ends_with("# EOF\n"));
    let stores = match stage {
        "shared" => ["postgres_pool", "redis"],
        _ => ["sqlite_writer", "sqlite_readers"],
    };
    for resource in ["cpu", "admission"].into_iter().chain(stores) {
        let label = format!("resource=\"{resource}\"");
        assert!(metric(&server, "resource_capacity", &[&label]) > 0.0, "{resource}");
    }
}

#[test]
fn the_document_describes_every_route_and_the_page_loads_it() {
    let site = Site::new();
    let server = site.start("single_table", &[]);
    let document = http::get(server.addr(), "/openapi.json").unwrap().json();
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<(&str, Vec<&str>)> = paths
        .iter()
        .map(|(path, item)| {
            (
                path.as_str(),
                item.as_object().unwrap().keys().map(String::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(
        described,
        [
            ("/api/links", vec!["post"]),
            ("/api/links/{code}", vec!["delete", "get"]),
            ("/api/links:batch", vec!["post"]),
            ("/{code}", vec!["get"]),
        ]
    );
    let initializer = http::get(server.addr(), "/docs/swagger-initializer.js").unwrap();
    assert!(
        initializer.text().contains("\"/openapi.json\""),
        "{}",
        initializer.text()
    );
}

/// The values of an attribute in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let mark = format!("{name}=\"");
    let pieces = page.split(mark.as_str()).skip(1);
    pieces.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn the_page_of_documentation_loads_nothing_from_another_host() {
    let site = Site::new();
    let server = site.start("single_table", &[]);
    let page = http::get(server.addr(), "/docs/").unwrap();
    assert_eq!(page.status, 200);
    let mut loaded = attributes(page.text(), "src");
    loaded.extend(attributes(page.text(), "href"));
    assert!(loaded.len() >= 4, "the page loads only {loaded:?}");
    for reference in loaded {
        assert!(
            !reference.contains("//") && !reference.starts_with("data:text"),
            "{reference}"
        );
        let part = http::get(server.addr(), &format!("/docs/{}", reference.trim_start_matches("./"))).unwrap();
        assert_eq!(part.status, 200, "{reference}");
        if reference.ends_with(".css") {
            let foreign = part.text().split("url(").skip(1).filter(|rest| {
                let url = rest.trim_start_matches(['"', '\'']);
                url.starts_with("http") || url.starts_with("//")
            });
            assert_eq!(foreign.count(), 0, "{reference} loads from elsewhere");
            assert!(!part.text().contains("@import"), "{reference}");
        }
    }
    let initializer = http::get(server.addr(), "/docs/swagger-initializer.js").unwrap();
    assert!(!initializer.text().contains("://"), "{}", initializer.text());
}

#[test]
fn time_decides_whether_a_link_leads_anywhere() {
    testkit::contract::run(async {
        let clock = VirtualClock::at(1_000_000);
        let (memory, patience) = (Memory::default(), Duration::from_secs(1));
        let shortener = Shortener::new(
            memory.clone(),
            AutoIncrement,
            memory,
            Rules::default(),
            Arc::new(clock.clone()),
            patience,
        );
        let wish = Wish {
            url: "https://example.com/".to_owned(),
            expires_in_s: Some(60),
            ..Wish::default()
        };
        let link = shortener.create(wish, None).await.unwrap();
        assert_eq!(link.expires_at, Some(1_060_000));
        clock.set(1_059_999);
        assert!(shortener.follow(&link.slug, true).await.is_ok());
        clock.set(1_060_000);
        assert!(matches!(shortener.follow(&link.slug, true).await, Err(Error::Gone)));
        assert!(matches!(shortener.look_up(&link.slug).await, Err(Error::Gone)));
        assert!(matches!(shortener.delete(&link.slug).await, Err(Error::Gone)));
        // A clock that goes back brings it back, and never to another's target.
        clock.set(999_000);
        assert_eq!(shortener.follow(&link.slug, true).await.unwrap().target, link.target);
        assert_eq!(shortener.look_up(&link.slug).await.unwrap().1, 2);
    });
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
    assert_eq!(
        (&description["schema"], &description["design"]),
        (&json!(1), &json!("url-shortener"))
    );
    let stages = description["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, STAGES);
    for stage in stages {
        assert!(stage["idea"].as_str().is_some_and(|idea| !idea.is_empty()), "{stage}");
        let needs = match stage["name"].as_str() {
            Some("shared") => json!(["postgres", "redis"]),
            _ => json!([]),
        };
        assert_eq!(
            (&stage["needs"], &stage["roles"], &stage["nodes"]),
            (&needs, &json!(["all"]), &json!(1))
        );
    }
}

#[test]
fn a_bad_flag_ends_it_with_2_and_a_port_that_is_taken_with_1() {
    for flags in [
        &["--stage", "nonsense"][..],
        &["--redirect-status", "200"],
        &["--code-key", "short"],
        &["--api-keys", "tiny"],
        &["--listen", "0.0.0.0:0"],
    ] {
        let ended = output(flags);
        assert_eq!(ended.status.code(), Some(2), "{flags:?}: {ended:?}");
        assert!(
            !ended.stderr.is_empty() && ended.stdout.is_empty(),
            "{flags:?}: {ended:?}"
        );
    }
    let site = Site::new();
    let server = site.start("single_table", &[]);
    let taken = server.addr().to_string();
    let folder = site.path();
    let folder = folder.to_str().unwrap();
    let ended = output(&[
        "--listen",
        &taken,
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        folder,
    ]);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {taken}")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
