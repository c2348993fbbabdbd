//! Every stage, as its users see it: one set of recorded conversations, played to a real server of each; and what a script
//! cannot say, since it is about many at once, a stream, or a restart.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use common::{Site, lines, make, report, report_all};
use serde_json::{Value, json};
use testkit::problems::assert_problem;
use testkit::{http, scripts};

common::every_stage! {
    answers_as_recorded,
    counts_every_increment_of_many_at_once,
    tells_whoever_watches_what_is_new_and_not_too_often,
    shows_every_page_in_order_while_scores_come_in,
    gives_a_browser_a_page_and_others_data,
    stays_well_after_hostile_requests,
}

fn script(name: &str) -> String {
    format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn answers_as_recorded(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    scripts::check_folder(script(""), server.addr(), &[]);
}

/// Eight clients, two hundred increments each, on ten members; and each with an event that is reported twice.
fn counts_every_increment_of_many_at_once(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    make(server.addr(), "b", &json!({"policy": "sum"}));
    let (clients, each) = (8, if stage == "count_query" { 30 } else { 200 });
    thread::scope(|scope| {
        for client in 0..clients {
            let addr = server.addr();
            scope.spawn(move || {
                for nth in 0..each {
                    let member = format!("m{}", (client + nth) % 10);
                    let one = json!({"member": member, "delta": 1, "event_id": format!("{client}-{nth}")});
                    for _ in 0..2 {
                        let answer = report(addr, "b", &one);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                }
            });
        }
    });
    let top = lines(&http::get(server.addr(), "/boards/b/top").unwrap());
    let sum: i64 = top.iter().map(|(_, score, _)| score).sum();
    assert_eq!((top.len(), sum), (10, clients * each));
}

/// Reads server-sent events: the lines of each `top`.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(addr: std::net::SocketAddr, target: &str) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        Self(reader)
    }

    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

fn tells_whoever_watches_what_is_new_and_not_too_often(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    make(server.addr(), "b", &json!({"policy": "latest"}));
    let mut events = Events::of(server.addr(), "/boards/b/live?limit=2");
    assert_eq!(events.next(), json!({"entries": []}), "at once, what is there");
    report(server.addr(), "b", &json!({"member": "a", "score": 1}));
    assert_eq!(
        events.next(),
        json!({"entries": [{"member": "a", "score": 1, "rank": 1}]})
    );
    // A hundred changes within a moment are few events, and the last of them has the last score.
    for score in 2..=100 {
        report(server.addr(), "b", &json!({"member": "a", "score": score}));
    }
    let mut seen = 0;
    while events.next()["entries"][0]["score"] != 100 {
        seen += 1;
        assert!(seen < 50, "a change each");
    }
    // Whoever is not among those who are watched changes nothing.
    report_all(
        server.addr(),
        "b",
        &[json!({"member": "b", "score": 50}), json!({"member": "c", "score": 40})],
    );
    assert_eq!(events.next()["entries"][1]["member"], "b");
    report(server.addr(), "b", &json!({"member": "c", "score": 45}));
    report(server.addr(), "b", &json!({"member": "a", "score": 101}));
    assert_eq!(events.next()["entries"][0]["score"], 101);
}

/// Members go up and down while pages are read: each page is in order, and nobody is on it twice.
fn shows_every_page_in_order_while_scores_come_in(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    make(server.addr(), "b", &json!({"policy": "latest"}));
    let all: Vec<Value> = (0..300)
        .map(|nth| json!({"member": format!("m{nth}"), "score": nth}))
        .collect();
    report_all(server.addr(), "b", &all);
    let addr = server.addr();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for nth in 0..100 {
                let many: Vec<Value> = (0..20)
                    .map(|one| json!({"member": format!("m{}", (nth * 37 + one * 11) % 300), "score": (nth * 53 + one * 17) % 300}))
                    .collect();
                report_all(addr, "b", &many);
            }
        });
        let mut pages = 0;
        while !writer.is_finished() || pages == 0 {
            let page = lines(&http::get(addr, "/boards/b/top?limit=100").unwrap());
            assert_eq!(page.len(), 100);
            assert!(page.is_sorted_by(|a, b| a.1 >= b.1 && a.2 + 1 == b.2), "{page:?}");
            let mut names: Vec<&str> = page.iter().map(|(member, ..)| member.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 100, "somebody is there twice");
            pages += 1;
        }
        writer.join().unwrap();
    });
    // Now that it is quiet, pages of any size cover the board, each member once.
    for size in [7, 50, 100] {
        let (mut target, mut seen) = (format!("/boards/b/top?limit={size}"), Vec::new());
        loop {
            let answer = http::get(addr, &target).unwrap();
            seen.extend(lines(&answer));
            let Some(next) = answer.json()["next"].as_str().map(str::to_owned) else {
                break;
            };
            target = format!("/boards/b/top?limit={size}&cursor={next}");
        }
        assert!(seen.iter().map(|(.., rank)| *rank).eq(1..=300), "pages of {size}");
        for (member, score, rank) in seen.iter().step_by(50) {
            let one = http::get(addr, &format!("/boards/b/members/{member}")).unwrap().json();
            assert_eq!((&one["score"], &one["rank"]), (&json!(score), &json!(rank)));
        }
    }
}

fn gives_a_browser_a_page_and_others_data(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    make(server.addr(), "b", &json!({"policy": "best"}));
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page = http::request(server.addr(), "GET", "/boards/b", &[("accept", accept)], b"").unwrap();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'")
    );
    assert!(
        page.text().starts_with("<!doctype html>") && !page.text().contains("://"),
        "nothing from elsewhere"
    );
    let data = http::get(server.addr(), "/boards/b").unwrap();
    assert_eq!(data.json()["board"], "b");
    let absent = http::request(server.addr(), "GET", "/boards/c", &[("accept", accept)], b"").unwrap();
    assert_problem(&absent, "no page of a board that is not there");
    assert_eq!(absent.status, 404);
}

fn stays_well_after_hostile_requests(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    make(server.addr(), "b", &json!({"policy": "sum"}));
    let many: Vec<Value> = (0..1_001)
        .map(|nth| json!({"member": nth.to_string(), "delta": 1}))
        .collect();
    let friends: Vec<String> = (0..101).map(|nth| nth.to_string()).collect();
    let cases: [(&str, String, &[u16]); 12] = [
        ("/boards/b/scores", "NaN".into(), &[400]),
        ("/boards/b/scores", r#"{"member":"a","delta":NaN}"#.into(), &[400]),
        ("/boards/b/scores", r#"{"member":"a","delta":1e400}"#.into(), &[400]),
        ("/boards/b/scores", r#"{"member":"a","delta":1e3}"#.into(), &[422]),
        ("/boards/b/scores", r#"{"member":"a","delta":-0}"#.into(), &[422]),
        (
            "/boards/b/scores",
            r#"{"member":"a","delta":9223372036854775808}"#.into(),
            &[422],
        ),
        (
            "/boards/b/scores",
            r#"{"member":"a","delta":1,"delta":2}"#.into(),
            &[400],
        ),
        ("/boards/b/scores", r#"{"member":"\ud800","delta":1}"#.into(), &[400]),
        (
            "/boards/b/scores",
            json!({"member": "x".repeat(129), "delta": 1}).to_string(),
            &[422],
        ),
        ("/boards/b/scores", "[".repeat(10_000), &[400]),
        ("/boards/b/scores:batch", json!({"scores": many}).to_string(), &[422]),
        (
            "/boards/b/members:batch",
            json!({"members": friends}).to_string(),
            &[422],
        ),
    ];
    for (target, body, statuses) in cases {
        let headers = [("content-type", "application/json")];
        let answer = http::request(server.addr(), "POST", target, &headers, body.as_bytes()).unwrap();
        let shown: String = body.chars().take(80).collect();
        assert!(
            statuses.contains(&answer.status),
            "{shown}: {} {}",
            answer.status,
            answer.text()
        );
        assert_problem(&answer, &shown);
    }
    let board = http::get(server.addr(), "/boards/b").unwrap().json();
    assert_eq!(board["members"], 0, "none of it was counted");
    assert_eq!(
        report(server.addr(), "b", &json!({"member": "a", "delta": 1})).status,
        200
    );
}

#[test]
fn says_in_one_line_why_it_does_not_start() {
    let site = Site::new();
    let folder = site.path().join("boards");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("log-1"), "something else altogether").unwrap();
    let output = site.command("ordered_tree", &[]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("log-1: it does not begin"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        std::fs::read(folder.join("log-1")).unwrap(),
        b"something else altogether"
    );

    let site = Site::new();
    let first = site.start("ordered_tree", &[]);
    let output = site.command("ordered_tree", &[]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another server has"), "{said}");
    drop(first);
}
