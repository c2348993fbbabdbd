//! Every stage, as its users see it: one set of recorded conversations, played to a real server of each; and what a script
//! cannot say, since it is about time, headers or many at once.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::thread;
use std::time::Duration;

use common::{Site, ask, check};
use serde_json::json;
use testkit::problems::assert_problem;
use testkit::wait::wait_until;
use testkit::{http, scripts};

/// Limits that no test waits out.
const RULES: &str = "\
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 5, name: five }
  - key: blocked
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: hour, requests_per_unit: 1 }
  - key: quick
    rate_limit: { unit: second, requests_per_unit: 10 }
";

common::every_stage! {
    answers_as_recorded,
    admits_as_many_as_the_limit_says_and_tells_when_there_is_more,
    lets_in_whoever_has_waited_as_told,
    changes_its_rules_without_a_restart,
    refuses_what_no_bucket_holds,
    refuses_hostile_questions_and_goes_on,
}

fn script(name: &str) -> String {
    format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn answers_as_recorded(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--rules", &site.rules(RULES), "--share", "1"]);
    scripts::check_folder(script(""), server.addr(), &[]);
}

fn admits_as_many_as_the_limit_says_and_tells_when_there_is_more(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--rules", &site.rules(RULES), "--share", "1"]);
    for remaining in (0..5).rev() {
        let answer = check(server.addr(), "alice", 1);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let policy = answer.header("ratelimit-policy").unwrap();
        assert!(policy.starts_with("\"five\";q=5;w=3600"), "{policy}");
        assert_eq!(answer.header("ratelimit").unwrap(), format!("\"five\";r={remaining}"));
        assert_eq!(answer.json()["remaining"], remaining);
        assert!(answer.header("retry-after").is_none());
    }
    let refused = check(server.addr(), "alice", 1);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let body = refused.json();
    assert_eq!(
        body["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(body["violated-policies"], json!(["five"]));
    assert_eq!(
        (&body["allowed"], &body["outcome"]),
        (&json!(false), &json!("not_executed"))
    );
    // Never earlier than is true, nor than the header of the limit says.
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds * 1_000 >= body["retry_after_ms"].as_u64().unwrap());
    assert_eq!(
        refused.header("ratelimit").unwrap(),
        format!("\"five\";r=0;t={seconds}")
    );
    assert_eq!(
        check(server.addr(), "bob", 1).status,
        200,
        "nobody else is refused for it"
    );
    // A question is no charge, and is answered to whoever has nothing left.
    let asked = check(server.addr(), "alice", 0);
    assert_eq!((asked.status, &asked.json()["remaining"]), (200, &json!(0)));
}

fn lets_in_whoever_has_waited_as_told(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--rules", &site.rules(RULES)]);
    let quick = |cost: u64| ask(server.addr(), &json!({"descriptor": {"quick": "x"}, "cost": cost}));
    let mut waited = 0;
    for _ in 0..5 {
        while quick(1).status == 200 {}
        let refused = quick(3);
        if refused.status == 200 {
            continue; // so slow was this machine
        }
        thread::sleep(Duration::from_millis(
            refused.json()["retry_after_ms"].as_u64().unwrap(),
        ));
        assert_eq!(quick(3).status, 200);
        waited += 1;
    }
    assert!(waited > 0, "nobody had to wait");
}

fn changes_its_rules_without_a_restart(stage: &str) {
    let site = Site::new();
    let path = site.rules(RULES);
    let server = site.start(stage, &["--rules", &path]);
    assert_eq!(check(server.addr(), "alice", 5).status, 200);
    site.rules("domain: shop\ndescriptors: nonsense\n");
    wait_until("the bad file is complained about", || {
        server.stderr().contains("the rules stay as they were")
    });
    let complaint = server.stderr();
    assert!(complaint.contains("rules.yaml:2: "), "{complaint}");
    assert_eq!(
        check(server.addr(), "alice", 1).status,
        429,
        "the old rules are in place, and what was charged by them"
    );
    site.rules(&RULES.replace("requests_per_unit: 5", "requests_per_unit: 6"));
    wait_until("the new rules are in place", || {
        check(server.addr(), "new", 0).json()["limit"] == 6
    });
}

fn refuses_what_no_bucket_holds(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--rules", &site.rules(RULES)]);
    for cost in [6, 1 << 40, u64::MAX] {
        let answer = check(server.addr(), "alice", cost);
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_problem(&answer, "a cost above the burst");
        assert!(answer.header("retry-after").is_none(), "waiting does not help");
    }
    assert_eq!(check(server.addr(), "alice", 5).status, 200, "nothing was charged");
    let blocked = ask(server.addr(), &json!({"descriptor": {"blocked": "x"}}));
    assert_eq!(blocked.status, 429);
    assert!(blocked.header("retry-after").is_none() && blocked.json()["retry_after_ms"].is_null());
}

fn refuses_hostile_questions_and_goes_on(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &["--rules", &site.rules(RULES)]);
    let long = "x".repeat(257);
    let many: serde_json::Map<_, _> = (0..17).map(|nth| (format!("k{nth}"), json!("v"))).collect();
    let bodies: Vec<(String, u16)> = vec![
        (String::new(), 400),
        ("{".into(), 400),
        ("[]".into(), 422),
        ("{}".into(), 422),
        (r#"{"descriptor":{}}"#.into(), 422),
        (r#"{"descriptor":[]}"#.into(), 422),
        (r#"{"descriptor":{"user":1}}"#.into(), 422),
        (r#"{"descriptor":{"user":null}}"#.into(), 422),
        (r#"{"descriptor":{"user":""}}"#.into(), 422),
        (r#"{"descriptor":{"":"x"}}"#.into(), 422),
        (r#"{"descriptor":{"user":"a","user":"b"}}"#.into(), 400),
        (format!(r#"{{"descriptor":{{"user":"{long}"}}}}"#), 422),
        (format!(r#"{{"descriptor":{{"{long}":"x"}}}}"#), 422),
        (format!(r#"{{"domain":"{long}","descriptor":{{"user":"a"}}}}"#), 422),
        (json!({"descriptor": many}).to_string(), 422),
        (r#"{"descriptor":{"user":"a"},"cost":-1}"#.into(), 422),
        (r#"{"descriptor":{"user":"a"},"cost":1.5}"#.into(), 422),
        (r#"{"descriptor":{"user":"a"},"cost":18446744073709551616}"#.into(), 422),
        (r#"{"descriptor":{"user":"a"},"cost":"1"}"#.into(), 422),
        (r#"{"descriptor":{"user":"a"},"extra":1}"#.into(), 422),
        (format!(r#"{{"descriptor":{{"user":"{}"}}}}"#, "y".repeat(70_000)), 413),
    ];
    for (body, status) in bodies {
        let headers = [("content-type", "application/json")];
        let answer = http::request(server.addr(), "POST", "/check", &headers, body.as_bytes()).unwrap();
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert_problem(&answer, &shown);
    }
    // Whatever a key looks like, it is a key: nothing of it becomes a path, a command or a line of its own.
    for user in [
        "a b\r\nSET x y",
        "{}",
        "{a}b",
        "../..",
        "%",
        "\u{1F600}",
        "a/b=c",
        "\u{0}",
    ] {
        let answer = check(server.addr(), user, 1);
        assert_eq!(
            (answer.status, &answer.json()["remaining"]),
            (200, &json!(4)),
            "{user:?}"
        );
    }
}

#[test]
fn what_cannot_be_started_says_why_in_one_line() {
    let site = Site::new();
    let cases: [(&str, &str, &str); 4] = [
        (
            "sliding_log",
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: day, requests_per_unit: 2000000}\n",
            "rules.yaml:3: sliding_log keeps the time of every request",
        ),
        (
            "token_bucket",
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: year, requests_per_unit: 1, burst: 4000000000}\n",
            "does not fit into a word",
        ),
        (
            "atomic",
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: second, requests_per_unit: 1, algorithm: sliding_log}\n",
            "token buckets",
        ),
        (
            "atomic",
            "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: day, requests_per_unit: 1, burst: 1000000}\n",
            "2^53",
        ),
    ];
    for (stage, rules, says) in cases {
        let output = site.command(stage, &["--rules", &site.rules(rules)]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{said}");
    }
}

#[test]
fn of_two_hundred_at_once_exactly_five_get_in() {
    for stage in ["token_bucket", "atomic"] {
        let site = Site::new();
        let server = site.start(stage, &["--rules", &site.rules(RULES)]);
        for round in 0..5 {
            let user = format!("user-{round}");
            let admitted: usize = thread::scope(|scope| {
                let threads: Vec<_> = (0..200)
                    .map(|_| scope.spawn(|| check(server.addr(), &user, 1).status == 200))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| usize::from(thread.join().unwrap()))
                    .sum()
            });
            assert_eq!(admitted, 5, "{stage}, round {round}");
        }
    }
}
