//! What hostile clients send: 62 inputs in one table, each with what must come back.
//!
//! `hostile/table.rs` is the table, `hostile/talks.rs` what takes more than one message. After each input the server still
//! answers, every error of ours has our shape, and at the end not one request was answered with a 5xx.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

#[path = "hostile/table.rs"]
mod table;
#[path = "hostile/talks.rs"]
mod talks;

use std::collections::BTreeSet;

use common::{Site, assert_problem, assert_problem_body, metric, wait_until};
use testkit::http::{self, Answer, Connection};
use testkit::server::Server;

use table::{Case, Expected, Sent, cases};

/// Servers on which the inputs are tried.
pub(crate) struct House {
    /// One that anybody may write to, known to its users as `https://xn--bcher-kva.example`.
    pub(crate) open: Server,
    /// One that wants a key.
    pub(crate) keyed: Server,
    /// One that waits 300 ms for a head or a body.
    pub(crate) hasty: Server,
    _sites: [Site; 3],
}

impl House {
    fn of(stage: &str) -> Self {
        let sites = [Site::new(), Site::new(), Site::new()];
        Self {
            open: sites[0].start(stage, &["--public-url", "https://xn--bcher-kva.example"]),
            keyed: sites[1].start(stage, &["--api-keys", "k3y-0f-the-house"]),
            hasty: sites[2].start(stage, &["--header-timeout-ms", "300"]),
            _sites: sites,
        }
    }

    fn servers(&self) -> [&Server; 3] {
        [&self.open, &self.keyed, &self.hasty]
    }
}

/// Sends a case and returns what came back. Nothing at all stands for a connection that was closed.
fn send(case: &Case, house: &House) -> Vec<Answer> {
    match &case.sent {
        Sent::Raw(bytes) => {
            let mut connection = Connection::open(house.open.addr()).unwrap();
            // A server that has said no need not listen to the end.
            let _ = connection.send(bytes);
            connection.read().into_iter().collect()
        }
        Sent::Talk(talk) => talk(house),
        Sent::Elsewhere(reason) => {
            eprintln!("{} {}: not sent here: {reason}", case.number, case.what);
            Vec::new()
        }
    }
}

/// Fails unless a case was answered as the table says.
fn judge(case: &Case, answers: &[Answer]) {
    let name = format!("{} {}", case.number, case.what);
    match case.expected {
        Expected::Nothing => assert!(answers.is_empty(), "{name}: {answers:?}"),
        Expected::Status(expected) => {
            assert!(!answers.is_empty(), "{name}: no answer");
            for answer in answers {
                assert!(expected.contains(&answer.status), "{name}: {answer:?}");
                if answer.status >= 400 {
                    assert_problem(answer, &name);
                }
            }
        }
        Expected::FromTheLibrary(expected) => {
            assert!(!answers.is_empty(), "{name}: no answer");
            for answer in answers {
                assert!(expected.contains(&answer.status), "{name}: {answer:?}");
                assert!(answer.body.is_empty() || answer.status < 400, "{name}: {answer:?}");
            }
        }
    }
    for answer in answers {
        assert!(answer.header("set-cookie").is_none(), "{name}: {answer:?}");
        for result in batch_problems(answer) {
            assert_problem_body(
                &result["problem"],
                u16::try_from(result["status"].as_u64().unwrap()).unwrap(),
                &name,
            );
        }
    }
}

fn batch_problems(answer: &Answer) -> Vec<serde_json::Value> {
    let is_json = answer.header("content-type") == Some("application/json");
    let results = is_json.then(|| answer.json()["results"].as_array().cloned()).flatten();
    let results = results.unwrap_or_default().into_iter();
    results.filter(|result| result.get("problem").is_some()).collect()
}

fn survives(house: &House, cases: &[Case]) {
    for case in cases {
        judge(case, &send(case, house));
        let alive =
            http::get(house.open.addr(), "/zzzzzzz").unwrap_or_else(|error| panic!("after {}: {error}", case.what));
        assert_eq!(alive.status, 404, "after {} {}", case.number, case.what);
    }
    assert!(metric(&house.open, "http_requests_total", &["status=\"404\""]) >= cases.len() as f64);
    for server in house.servers() {
        // The hasty one may find a busy machine too slow once.
        wait_until("it answers", || {
            http::get(server.addr(), "/readyz").is_ok_and(|answer| answer.status == 200)
        });
        assert_eq!(metric(server, "http_requests_total", &["status=\"5"]), 0.0);
        assert_eq!(metric(server, "resource_backlog", &["resource=\"admission\""]), 0.0);
    }
}

#[test]
fn the_table_has_all_62_inputs() {
    let numbers: BTreeSet<u8> = cases().iter().map(|case| case.number).collect();
    assert_eq!(numbers, (1..=62).collect());
}

#[test]
fn every_hostile_input_is_answered_as_the_table_says() {
    survives(&House::of("permuted"), &cases());
}

/// Those of one message each, on the other stages.
fn survives_messages(stage: &str) {
    let messages: Vec<Case> = cases()
        .into_iter()
        .filter(|case| matches!(case.sent, Sent::Raw(_)))
        .collect();
    assert!(messages.len() > 100);
    survives(&House::of(stage), &messages);
}

#[test]
fn single_table_survives_every_message() {
    survives_messages("single_table");
}

#[test]
fn cached_survives_every_message() {
    survives_messages("cached");
}

#[test]
fn pregenerated_survives_every_message() {
    survives_messages("pregenerated");
}

/// The control: a status that is not in the table, and an error without our shape, are noticed.
#[test]
fn the_judge_is_not_easily_pleased() {
    let fails = |expected, answer: Answer| {
        let case = Case {
            number: 1,
            what: "control",
            sent: Sent::Raw(Vec::new()),
            expected,
        };
        let judged = std::panic::AssertUnwindSafe(|| judge(&case, &[answer]));
        std::panic::catch_unwind(judged).is_err()
    };
    let plain = Answer {
        status: 404,
        headers: Vec::new(),
        body: b"not found".to_vec(),
    };
    assert!(fails(Expected::Status(&[404]), plain.clone()));
    assert!(fails(Expected::Status(&[422]), plain.clone()));
    assert!(fails(Expected::Nothing, plain.clone()));
    assert!(fails(Expected::FromTheLibrary(&[404]), plain));
}
