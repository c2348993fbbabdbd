//! The workload of the rate limiter against limiters that are right, and against limiters that are not.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use lab::generator::Outcome;
use lab::http::{Client, Target};
use lab::stop::Stop;
use lab::workload::{Accuracy, Verified, Workload};
use lab::workloads::{self, Options};
use serde_json::{Value, json};
use support::{Act, serve_bodies};

/// The limit: so many a second, and as many at once.
const LIMIT: u64 = 20;
const SECOND_NS: u64 = 1_000_000_000;
/// Far more than three users may have, in the time that they take.
const OPERATIONS: u64 = 3_000;

/// What a fake server is told to get wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Forgets every 1,000 requests what was used, as a window does at its edge.
    Edge,
    /// Of five admissions one is not written down.
    LostUpdate,
    /// Holds twice as many at once as it says.
    TwiceTheBurst,
    /// Refuses the fifth request of each user, of whom no more than these and eight under way can have been charged.
    WrongRefusal,
    /// Says half of the wait.
    ShortWait,
    /// Says a whole wait in the body, and none in a header.
    ShortHeader,
    /// Says nothing of waiting.
    NoWait,
    /// Decides without its store, and lets everybody in.
    Degraded,
    /// Is out of order, and says that nothing was carried out.
    Overloaded,
    /// Answers 200 to everything, whatever it decides.
    NoBody,
    /// Refuses who only asks.
    RefusesQuestions,
}

/// Buckets: when each is full again, in nanoseconds since the server began.
struct Limiter {
    sabotage: Sabotage,
    zero: Instant,
    full_at: HashMap<String, u64>,
    /// Charges of each user.
    charges: HashMap<String, u64>,
    requests: u64,
    admitted: u64,
}

impl Limiter {
    fn answer(&mut self, body: &Value, more: &str) -> Act {
        let user = body["descriptor"]["user"].as_str().unwrap();
        let cost = body["cost"].as_u64().unwrap();
        let now_ns = u64::try_from(self.zero.elapsed().as_nanos()).unwrap();
        self.requests += 1;
        match self.sabotage {
            Sabotage::Edge if self.requests.is_multiple_of(1_000) => self.full_at.clear(),
            Sabotage::Degraded if cost == 1 => {
                return answer(200, &json!({"allowed": true}), "RateLimit-Degraded: local\r\n");
            }
            Sabotage::Overloaded if cost == 1 => {
                return answer(503, &json!({"code": "overloaded", "outcome": "not_executed"}), "");
            }
            Sabotage::RefusesQuestions if cost == 0 && self.requests > 1 => {
                return answer(429, &json!({"allowed": false}), "");
            }
            _ => {}
        }
        let spacing_ns = SECOND_NS / LIMIT;
        let burst = match self.sabotage {
            Sabotage::TwiceTheBurst => LIMIT * 2,
            _ => LIMIT,
        };
        let charges = self.charges.entry(user.to_owned()).or_insert(0);
        *charges += cost.min(1);
        let wrong = self.sabotage == Sabotage::WrongRefusal && cost == 1 && *charges == 5;
        let full_at = self.full_at.entry(user.to_owned()).or_insert(0);
        let after = (*full_at).max(now_ns) + cost * spacing_ns;
        let wait_ns = after.saturating_sub(now_ns + burst * spacing_ns);
        let policy = format!("RateLimit-Policy: \"u\";q={LIMIT};w=1{more}\r\n");
        if wait_ns == 0 && !wrong {
            self.admitted += cost;
            let lost = self.sabotage == Sabotage::LostUpdate && self.admitted.is_multiple_of(5);
            if !lost {
                *full_at = after;
            }
            return answer(200, &json!({"allowed": true}), &policy);
        }
        let wait_ms = wait_ns.div_ceil(1_000_000);
        let seconds = wait_ms.div_ceil(1_000).max(1);
        let (wait_ms, header) = match self.sabotage {
            Sabotage::ShortWait => (wait_ms / 2, seconds),
            Sabotage::ShortHeader => (wait_ms, 0),
            _ => (wait_ms, seconds),
        };
        let headers = format!("{policy}RateLimit: \"u\";r=0;t={seconds}\r\nRetry-After: {header}\r\n");
        match self.sabotage {
            Sabotage::NoWait => answer(429, &json!({"allowed": false}), &headers),
            Sabotage::NoBody => answer(200, &json!({}), &headers),
            _ => answer(429, &json!({"allowed": false, "retry_after_ms": wait_ms}), &headers),
        }
    }
}

fn answer(status: u16, body: &Value, headers: &str) -> Act {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    Act::Answer([head, body].concat().into_bytes())
}

/// A server with this fault, whose policy has these parameters more.
fn server(sabotage: Sabotage, more: &'static str) -> SocketAddr {
    let limiter = Mutex::new(Limiter {
        sabotage,
        zero: Instant::now(),
        full_at: HashMap::new(),
        charges: HashMap::new(),
        requests: 0,
        admitted: 0,
    });
    serve_bodies(move |line, body| {
        if line.starts_with("POST /check ") {
            return limiter
                .lock()
                .unwrap()
                .answer(&serde_json::from_slice(body).unwrap(), more);
        }
        answer(404, &json!({}), "")
    })
    .0
}

fn workload(address: SocketAddr, nodes: usize) -> Box<dyn Workload> {
    let options = Options {
        target: Target::of(address),
        key: None,
        seed: 7,
        items: 3,
        mix: None,
        nodes,
    };
    workloads::of("rate-limiter", &options).unwrap()
}

fn load_nodes(address: SocketAddr, nodes: usize) -> (Outcome, Verified) {
    let mut client = Client::new(Target::of(address), None);
    support::load(&mut client, workload(address, nodes), OPERATIONS)
}

fn load(sabotage: Sabotage) -> (Outcome, Verified) {
    load_nodes(server(sabotage, ""), 1)
}

fn accuracy(verified: &Verified) -> Accuracy {
    verified.accuracy.unwrap()
}

#[test]
fn a_right_limiter_has_no_violations_and_every_wait_was_true() {
    let (outcome, verified) = load(Sabotage::None);
    assert_eq!(
        (outcome.completed, outcome.violations, verified.violations),
        (OPERATIONS, 0, 0),
        "{:?} {:?}",
        outcome.examples,
        verified.examples
    );
    let accuracy = accuracy(&verified);
    assert_eq!((accuracy.too_many, accuracy.refused_wrongly), (0, 0));
    assert!(accuracy.most_in_a_window > 0.0 && accuracy.most_in_a_window <= 1.0);
    for part in ["limit 20 in 1 s, 20 at once;", "6 of 6 let in after the wait"] {
        assert!(verified.summary.contains(part), "{part}: {}", verified.summary);
    }
    let refused: u64 = verified.summary.split(' ').nth(2).unwrap().parse().unwrap();
    assert!(refused > 0, "{}", verified.summary);
}

/// The load finds it, in answers that say this.
fn found_in_answers(sabotage: Sabotage, part: &str) -> Accuracy {
    let (outcome, verified) = load(sabotage);
    assert!(
        outcome.violations > 0 && outcome.examples.iter().all(|text| text.contains(part)),
        "{part}: {:?}",
        outcome.examples
    );
    accuracy(&verified)
}

#[test]
fn twice_the_limit_across_an_edge_is_found() {
    let accuracy = found_in_answers(Sabotage::Edge, "at the most were promised");
    assert!(accuracy.too_many > 0 && accuracy.refused_wrongly == 0, "{accuracy}");
}

#[test]
fn a_lost_update_is_found() {
    let accuracy = found_in_answers(Sabotage::LostUpdate, "at the most were promised");
    assert!(accuracy.too_many > 0 && accuracy.refused_wrongly == 0, "{accuracy}");
}

#[test]
fn a_wrong_refusal_is_found() {
    let accuracy = found_in_answers(Sabotage::WrongRefusal, "refused, though at most");
    assert!(accuracy.refused_wrongly > 0 && accuracy.too_many == 0, "{accuracy}");
}

#[test]
fn a_question_that_charges_nothing_is_never_refused() {
    found_in_answers(
        Sabotage::RefusesQuestions,
        "a question that charges nothing was refused",
    );
}

#[test]
fn an_answer_that_says_nothing_is_found() {
    found_in_answers(Sabotage::NoBody, "200 with a body that does not say so");
}

#[test]
fn a_wait_that_is_not_true_is_found() {
    for (sabotage, part) in [
        (Sabotage::ShortWait, "which was the wait that it told"),
        (Sabotage::ShortHeader, "Retry-After is 0 s, retry_after_ms"),
        (Sabotage::NoWait, "a refusal without retry_after_ms"),
    ] {
        let (outcome, verified) = load(sabotage);
        assert_eq!(outcome.violations, 0, "{:?}", outcome.examples);
        assert!(
            verified.violations > 0 && verified.examples.iter().all(|text| text.contains(part)),
            "{part}: {:?}",
            verified.examples
        );
    }
}

#[test]
fn a_decision_without_the_store_is_an_error_and_accuses_nobody() {
    let (outcome, verified) = load(Sabotage::Degraded);
    assert_eq!(outcome.violations + verified.violations, 0, "{:?}", outcome.examples);
    assert!(outcome.errors["decided without the store"] > OPERATIONS / 2);
    let unknown = format!("{} of unknown outcome", outcome.failed());
    assert!(verified.summary.contains(&unknown), "{}", verified.summary);
}

#[test]
fn what_was_not_carried_out_is_not_of_unknown_outcome() {
    let (outcome, verified) = load(Sabotage::Overloaded);
    assert!(outcome.errors["503 Service Unavailable"] > OPERATIONS / 2);
    assert!(
        verified.summary.contains("0 of unknown outcome"),
        "{}",
        verified.summary
    );
}

/// What one server may admit beyond the limit, each of them may.
#[test]
fn an_excess_that_is_told_counts_once_a_server() {
    let (outcome, verified) = load_nodes(server(Sabotage::TwiceTheBurst, ";lb-excess=10"), 2);
    assert_eq!(outcome.violations, 0, "{:?}", outcome.examples);
    assert!(
        verified.summary.contains("20 more by 2 servers"),
        "{}",
        verified.summary
    );
    let (outcome, _) = load(Sabotage::TwiceTheBurst);
    assert!(outcome.violations > 0);
}

#[test]
fn the_burst_is_learnt() {
    // It says that it holds less at once than it does.
    let (outcome, verified) = load_nodes(server(Sabotage::None, ";lb-burst=5"), 1);
    assert!(outcome.violations > 0);
    assert!(verified.summary.contains(", 5 at once"), "{}", verified.summary);
}

#[test]
fn a_server_that_promises_nothing_cannot_be_loaded() {
    for (headers, part) in [
        ("", "without RateLimit-Policy"),
        ("RateLimit-Policy: \"u\";q=5\r\n", "no quota or no window"),
        ("RateLimit-Policy: \"u\";q=5;w=0\r\n", "no quota or no window"),
        ("RateLimit-Policy: \"u\";q=five;w=1\r\n", "RateLimit-Policy"),
    ] {
        let (address, _) = serve_bodies(move |_, _| answer(200, &json!({"allowed": true}), headers));
        let mut client = Client::new(Target::of(address), None);
        let error = workload(address, 1).prepare(&mut client, &Stop::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{headers}: {error}");
    }
}
