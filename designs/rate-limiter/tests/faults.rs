//! What is decided while the store is frozen, dead, cut off, out of memory or has forgotten its scripts: in time, as the rule
//! says, for everybody to see; and how soon all is well again.
//!
//! Each fault befalls 20 times. A decision is timed by its client, over HTTP, connection included.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]
#![allow(clippy::print_stdout, reason = "what a test measured is worth reading")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use common::proxy::{BLACKHOLE, NO_ANSWERS, OPEN, Proxy};
use common::{Site, ask, check};
use serde_json::json;
use testkit::engines::Engine;
use testkit::http::Answer;
use testkit::server::{Server, metric};
use testkit::wait::wait_until;

const CYCLES: usize = 20;

/// Every decision is there within this.
const BOUND: Duration = Duration::from_millis(60);

/// And made by the store again within this.
const RECOVERED: Duration = Duration::from_secs(5);

const RULES: &str = "\
domain: d
descriptors:
  - key: open
    rate_limit: { unit: hour, requests_per_unit: 4, failure_mode: open }
  - key: closed
    rate_limit: { unit: hour, requests_per_unit: 4, failure_mode: closed }
  - key: local
    rate_limit: { unit: hour, requests_per_unit: 4, failure_mode: local }
  - key: user
    rate_limit: { unit: hour, requests_per_unit: 5 }
";

/// What a store that fails, or whose failure is hidden, was seen to do.
#[derive(Debug, Default)]
struct Seen {
    decisions: usize,
    slowest: Duration,
    broken: Vec<String>,
}

impl Seen {
    fn decide(&mut self, address: SocketAddr, key: &str, value: &str) -> Answer {
        let asked = Instant::now();
        let answer = ask(address, &json!({"descriptor": {key: value}}));
        let took = asked.elapsed();
        self.decisions += 1;
        self.slowest = self.slowest.max(took);
        if took > BOUND {
            self.broken.push(format!("{key} took {took:?}"));
        }
        answer
    }

    /// Six charges of each kind of rule: none may be answered but as the rule says.
    fn without_the_store(&mut self, address: SocketAddr, cycle: usize) {
        let user = format!("user-{cycle}");
        for (key, statuses) in [
            ("open", [200, 200, 200, 200, 200, 200]),
            ("closed", [503, 503, 503, 503, 503, 503]),
            ("local", [200, 200, 200, 200, 429, 429]),
        ] {
            for status in statuses {
                let answer = self.decide(address, key, &user);
                let mode = answer.header("ratelimit-degraded").unwrap_or("not said");
                if answer.status != status || mode != key {
                    self.broken.push(format!(
                        "cycle {cycle}: {key} was answered {} ({mode}), not {status}",
                        answer.status
                    ));
                }
            }
        }
    }
}

fn is_degraded(address: SocketAddr) -> bool {
    ask(address, &json!({"descriptor": {"open": "anybody"}, "cost": 0}))
        .header("ratelimit-degraded")
        .is_some()
}

/// Lets a fault befall a server's store, again and again.
fn again_and_again(stage: &str, redis_url: &str, befall: impl Fn(), undo: impl Fn()) {
    let site = Site::on(redis_url);
    let server = site.start(stage, &["--rules", &site.rules(RULES)]);
    let mut seen = Seen::default();
    let mut longest = Duration::ZERO;
    for cycle in 0..CYCLES {
        wait_until("the store decides", || !is_degraded(server.addr()));
        befall();
        seen.without_the_store(server.addr(), cycle);
        undo();
        let undone = Instant::now();
        wait_until("the store decides again", || !is_degraded(server.addr()));
        longest = longest.max(undone.elapsed());
    }
    println!(
        "{stage}, {CYCLES} times: {} decisions, the slowest after {:?}; decided by the store again after {longest:?} at most",
        seen.decisions, seen.slowest
    );
    assert_eq!(seen.broken, Vec::<String>::new());
    assert!(longest < RECOVERED, "{longest:?}");
    tells_of_it(&server);
}

/// A line when it begins and one when it ends, not one a decision; and a number.
fn tells_of_it(server: &Server) {
    wait_until("it says that the store is well", || {
        !is_degraded(server.addr()) && server.stderr().contains("the store decides again")
    });
    let said = server.stderr();
    let lines = said.matches("deciding without the store").count();
    assert!((1..=CYCLES).contains(&lines), "{lines} lines for {CYCLES} faults");
    let counted = metric(server, "resource_operations_total", &[r#"resource="degraded""#]);
    assert!(counted >= (18 * CYCLES) as f64, "{counted}");
}

fn redis() -> Engine {
    Engine::own_redis(&["--save", ""])
}

/// envoyproxy/ratelimit, issue 462: each request waited for a store that did not answer, for seconds.
#[test]
fn a_store_that_is_frozen() {
    let engine = RefCell::new(redis());
    let url = engine.borrow().url().to_owned();
    again_and_again(
        "atomic",
        &url,
        || engine.borrow_mut().stop(),
        || engine.borrow_mut().cont(),
    );
}

#[test]
fn a_store_that_is_frozen_while_shares_of_it_are_held() {
    let engine = RefCell::new(redis());
    let url = engine.borrow().url().to_owned();
    again_and_again(
        "leased",
        &url,
        || engine.borrow_mut().stop(),
        || engine.borrow_mut().cont(),
    );
}

#[test]
fn a_store_that_is_killed_and_comes_back_empty() {
    let engine = RefCell::new(redis());
    let url = engine.borrow().url().to_owned();
    again_and_again(
        "atomic",
        &url,
        || engine.borrow_mut().kill(),
        || engine.borrow_mut().restart(),
    );
}

#[test]
fn a_store_that_nothing_reaches_any_more() {
    let engine = redis();
    let proxy = Proxy::to(address(engine.url()));
    let url = format!("redis://{}", proxy.address);
    again_and_again("atomic", &url, || proxy.set(BLACKHOLE), || proxy.set(OPEN));
}

#[test]
fn a_store_that_is_out_of_memory() {
    let engine = redis();
    let memory = |limit: &str| tell(engine.url(), &["CONFIG", "SET", "maxmemory", limit]);
    again_and_again("atomic", engine.url(), || memory("1"), || memory("0"));
}

/// vutran1710/PyrateLimiter, issue 182, and upstash/ratelimit-js, issue 122: without its scripts the store was given up.
#[test]
fn a_store_that_has_forgotten_its_scripts_decides_all_the_same() {
    let engine = redis();
    let site = Site::on(engine.url());
    let server = site.start("atomic", &["--rules", &site.rules(RULES)]);
    for cycle in 0..CYCLES {
        tell(engine.url(), &["SCRIPT", "FLUSH"]);
        let answer = check(server.addr(), &format!("user-{cycle}"), 2);
        assert_eq!((answer.status, answer.header("ratelimit-degraded")), (200, None));
        assert_eq!(answer.json()["remaining"], 3, "charged once");
    }
}

/// express-rate-limit/rate-limit-redis, issue 251: what timed out was sent again, and counted twice.
#[test]
fn a_charge_whose_answer_is_lost_is_not_sent_again() {
    let engine = redis();
    let proxy = Proxy::to(address(engine.url()));
    let site = Site::on(&format!("redis://{}", proxy.address));
    let server = site.start("atomic", &["--rules", &site.rules(RULES)]);
    for cycle in 0..3 {
        let user = format!("user-{cycle}");
        wait_until("the store decides", || !is_degraded(server.addr()));
        assert_eq!(check(server.addr(), &user, 1).json()["remaining"], 4);
        proxy.set(NO_ANSWERS);
        let lost = check(server.addr(), &user, 1);
        assert_eq!((lost.status, lost.header("ratelimit-degraded")), (200, Some("local")));
        proxy.set(OPEN);
        wait_until("the store decides again", || !is_degraded(server.addr()));
        assert_eq!(
            check(server.addr(), &user, 0).json()["remaining"],
            3,
            "once, and once without an answer"
        );
    }
}

/// spring-cloud/spring-cloud-gateway, issue 248: a store that refused the command was taken for one that admitted.
#[test]
fn what_the_store_refuses_to_do_is_no_decision() {
    let engine = redis();
    let site = Site::on(engine.url());
    let server = site.start("atomic", &["--rules", &site.rules(RULES)]);
    for (key, status) in [("open", 200), ("closed", 503), ("local", 200)] {
        ask(server.addr(), &json!({"descriptor": {key: "x"}}));
        let buckets: Vec<String> = query(engine.url(), &["KEYS", "*"]);
        // Of another kind than a bucket: Redis answers WRONGTYPE.
        for bucket in buckets {
            tell(engine.url(), &["DEL", &bucket]);
            let _: i64 = query(engine.url(), &["RPUSH", &bucket, "no bucket"]);
        }
        let answer = ask(server.addr(), &json!({"descriptor": {key: "x"}}));
        assert_eq!(
            (answer.status, answer.header("ratelimit-degraded")),
            (status, Some(key))
        );
    }
}

/// varnish/libvmod-vsthrottle, issue 4, in Redis: a bucket that was written by a clock two days ahead.
#[test]
fn a_clock_of_redis_that_was_set_back_neither_shuts_out_nor_gives_a_burst() {
    let engine = redis();
    let site = Site::on(engine.url());
    let rules = "domain: d\ndescriptors:\n  - key: user\n    rate_limit: { unit: second, requests_per_unit: 5 }\n";
    let server = site.start("atomic", &["--rules", &site.rules(rules)]);
    assert_eq!(check(server.addr(), "alice", 1).status, 200);
    let bucket: Vec<String> = query(engine.url(), &["KEYS", "*"]);
    // Five requests, at 200,000 microseconds each, are to be made up for; in two days.
    let seconds: Vec<String> = query(engine.url(), &["TIME"]);
    let ahead = (seconds[0].parse::<u64>().unwrap() + 2 * 86_400) * 1_000_000;
    tell(engine.url(), &["SET", &bucket[0], &format!("1000000 {ahead}")]);
    let refused = check(server.addr(), "alice", 1);
    assert_eq!(refused.status, 429, "no burst");
    let wait_ms = refused.json()["retry_after_ms"].as_u64().unwrap();
    assert!(wait_ms <= 200, "{wait_ms}");
    wait_until("the bucket fills up by this clock", || {
        check(server.addr(), "alice", 1).status == 200
    });
}

/// Tabcorp/redis-rate-limiter, issue 1: a key without an end limited for ever.
#[test]
fn every_key_has_an_end() {
    for stage in ["racy", "atomic", "leased"] {
        let engine = redis();
        let site = Site::on(engine.url());
        let server = site.start(stage, &["--rules", &site.rules(RULES)]);
        for nth in 0..20 {
            check(server.addr(), &format!("user-{}", nth % 3), 1 + nth % 2);
        }
        let keys: Vec<String> = query(engine.url(), &["KEYS", "*"]);
        assert_eq!(keys.len(), 3, "{stage}: {keys:?}");
        for key in keys {
            let left: i64 = query(engine.url(), &["PTTL", &key]);
            assert!((1..=3_600_000).contains(&left), "{stage}: {key} has {left} ms left");
        }
    }
}

/// Servers whose clocks are six seconds apart keep one limit: by the clock of the store.
#[test]
fn servers_whose_clocks_differ_keep_one_limit() {
    let engine = redis();
    let site = Site::on(engine.url());
    let rules =
        site.rules("domain: d\ndescriptors:\n  - key: user\n    rate_limit: { unit: minute, requests_per_unit: 60 }\n");
    let servers: Vec<Server> = ["-3s", "+3s"]
        .into_iter()
        .map(|by| {
            let mut command = site.command("atomic", &["--rules", &rules]);
            testkit::clock::off(&mut command, by);
            Server::spawn(command)
        })
        .collect();
    let began = Instant::now();
    let admitted: usize = (0..400)
        .map(|nth| usize::from(check(servers[nth % 2].addr(), "alice", 1).status == 200))
        .sum();
    // One a second, and one more for the second that has begun.
    let promised = 60 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!((60..=promised).contains(&admitted), "{admitted} of {promised}");
}

/// The checks above, on servers that do not keep what they check.
#[test]
fn a_server_that_breaks_a_promise_is_found_out() {
    let engine = redis();
    let site = Site::on(engine.url());
    let server = site.start("atomic", &["--rules", &site.rules(RULES)]);
    let mut seen = Seen::default();
    seen.without_the_store(server.addr(), 0);
    assert!(
        seen.broken.len() >= 18 - 4,
        "a store that answers is not taken for one that does not: {:?}",
        seen.broken
    );
    let late = Cell::new(false);
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let frozen = scope.spawn(|| {
            thread::sleep(Duration::from_millis(5));
            server.stop();
            thread::sleep(Duration::from_millis(200));
            server.cont();
        });
        while !frozen.is_finished() {
            seen.decide(server.addr(), "open", "x");
        }
        late.set(seen.broken.iter().any(|what| what.contains("took")));
    });
    assert!(late.get(), "a decision that took 200 ms is seen");
}

fn address(url: &str) -> SocketAddr {
    let address = url.trim_start_matches("redis://");
    address.split('/').next().unwrap().parse().unwrap()
}

fn query<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    command.query(&mut connection).unwrap()
}

fn tell(url: &str, words: &[&str]) {
    let () = query(url, words);
}
