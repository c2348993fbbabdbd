//! The four algorithms in memory, beside each other: what each promises, what it keeps, and where it is wrong.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]
#![allow(clippy::print_stdout, reason = "what a test measured is worth reading")]

use proptest::prelude::*;
use rate_limiter::adapters::{FixedWindows, SlidingLogs, SlidingWindowCounters, TokenBuckets};
use rate_limiter::domain::{Decision, Error, FailureMode, Limit, Rule, Unit};

const SECOND: u64 = 1_000_000_000;
const LIMIT: u64 = 10;

fn rule(requests: u32) -> Rule {
    Rule {
        name: String::from("rule"),
        limit: Limit {
            requests,
            unit: Unit::Second,
            burst: requests,
        },
        algorithm: None,
        failure: FailureMode::Local,
        shadow: false,
        single: false,
    }
}

/// An algorithm, with the two methods that all have.
type Take = Box<dyn Fn(u64, &str, u64) -> Result<Decision, Error>>;

fn all(requests: u32, max_keys: usize) -> [(&'static str, Take); 4] {
    let rule = rule(requests);
    let fixed = FixedWindows::open(&rule, max_keys).unwrap();
    let log = SlidingLogs::open(&rule, max_keys).unwrap();
    let counter = SlidingWindowCounters::open(&rule, max_keys).unwrap();
    let bucket = TokenBuckets::open(&rule, max_keys).unwrap();
    [
        (
            "fixed_window",
            Box::new(move |now, key, cost| fixed.take(now, key, cost)),
        ),
        ("sliding_log", Box::new(move |now, key, cost| log.take(now, key, cost))),
        (
            "sliding_window_counter",
            Box::new(move |now, key, cost| counter.take(now, key, cost)),
        ),
        (
            "token_bucket",
            Box::new(move |now, key, cost| bucket.take(now, key, cost)),
        ),
    ]
}

fn one(name: &str) -> Take {
    let found = all(10, 100).into_iter().find(|(known, _)| *known == name);
    found.unwrap().1
}

/// When charges of one were admitted, of those that came at these times.
fn admitted(take: &Take, times: &[u64]) -> Vec<u64> {
    let admitted = times.iter().filter(|time| take(**time, "key", 1).unwrap().allowed);
    admitted.copied().collect()
}

/// By how much the promise is broken in the worst interval, in requests: admitted <= L + L x d / W.
fn beyond(admitted: &[u64]) -> f64 {
    let mut worst = f64::MIN;
    for (i, from) in admitted.iter().enumerate() {
        for (j, to) in admitted.iter().enumerate().skip(i) {
            let promised = LIMIT as f64 + LIMIT as f64 * (to - from) as f64 / SECOND as f64;
            worst = worst.max((j - i + 1) as f64 - promised);
        }
    }
    worst
}

/// The most within one window, wherever it is laid.
fn most_in_a_window(admitted: &[u64]) -> usize {
    let within = |from: &u64| {
        admitted
            .iter()
            .filter(|time| (*from..from + SECOND).contains(time))
            .count()
    };
    admitted.iter().map(within).max().unwrap_or(0)
}

fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0..50_000_000u64, 0..900_000_000u64], 1..150).prop_map(|gaps| {
        let times = gaps.into_iter().scan(0, |now, gap| {
            *now += gap;
            Some(*now)
        });
        times.collect()
    })
}

proptest! {
    #[test]
    fn all_but_the_fixed_window_keep_the_promise_in_every_interval(times in arrivals()) {
        for name in ["sliding_log", "sliding_window_counter", "token_bucket"] {
            let admitted = admitted(&one(name), &times);
            prop_assert!(beyond(&admitted) <= 1e-6, "{name}: {}", beyond(&admitted));
        }
    }

    #[test]
    fn a_log_admits_the_limit_in_any_window_and_whatever_fits(times in arrivals()) {
        let take = one("sliding_log");
        let mut kept: Vec<u64> = Vec::new();
        for time in times {
            let in_sight = kept.iter().filter(|before| **before + SECOND > time).count() as u64;
            let allowed = take(time, "key", 1).unwrap().allowed;
            prop_assert_eq!(allowed, in_sight < LIMIT);
            if allowed {
                kept.push(time);
            }
        }
    }

    /// Waiting as long as is said lets the charge in, whatever came before; what remains can be taken; and asking changes
    /// nothing.
    #[test]
    fn what_is_said_is_true(times in arrivals(), cost in 1..10u64) {
        for (name, take) in all(10, 100) {
            let mut now = 0;
            for time in &times {
                take(*time, "key", 1).unwrap();
                now = *time;
            }
            let left = take(now, "key", 0).unwrap().remaining;
            prop_assert_eq!(take(now, "key", 0).unwrap().remaining, left);
            prop_assert!(!take(now, "key", left + 1).unwrap().allowed, "{}", name);
            if let Some(wait) = take(now, "key", cost).unwrap().retry_after {
                let later = now + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert!(take(later, "key", cost).unwrap().allowed, "{name}: after {wait:?}");
            }
        }
    }
}

#[test]
fn a_fixed_window_admits_twice_the_limit_across_an_edge() {
    let times: Vec<u64> = (0..20).map(|nth| SECOND - 100 + nth * 10).collect();
    let admitted = admitted(&one("fixed_window"), &times);
    assert_eq!(admitted.len(), 20);
    assert!(beyond(&admitted) > 9.0, "the check sees it");
}

/// What the file says of its error, measured: beside a log, over a minute of arrivals that come in bursts.
#[test]
fn two_counters_are_wrong_about_single_windows_in_both_directions() {
    // All of a window's requests in its last tenth, or all in its first.
    let burst = |window: u64, at: u64| (0..30).map(move |nth| window * SECOND + at + nth * 3_000_000);
    let late: Vec<u64> = (0..60).flat_map(|window| burst(window, 900_000_000)).collect();
    let both: Vec<u64> = (0..60)
        .flat_map(|window| burst(window, if window % 2 == 0 { 900_000_000 } else { 0 }))
        .collect();
    for (name, times) in [("late", &late), ("late and early", &both)] {
        let log = admitted(&one("sliding_log"), times);
        let counter = admitted(&one("sliding_window_counter"), times);
        println!(
            "{name}: most in a window {} of {LIMIT} (log {}); admitted {} where the log admits {}",
            most_in_a_window(&counter),
            most_in_a_window(&log),
            counter.len(),
            log.len()
        );
        assert!(most_in_a_window(&log) <= 10);
        assert!(most_in_a_window(&counter) <= 20);
        assert!(beyond(&counter) <= 1e-6);
    }
    // Ten late in one window are believed to have come evenly: half a window later five more are let in.
    let take = one("sliding_window_counter");
    let ten: Vec<u64> = (0..10).map(|nth| 990_000_000 + nth).collect();
    assert_eq!(admitted(&take, &ten).len(), 10);
    assert_eq!(admitted(&take, &[1_500_000_000; 6]).len(), 5, "a log would let in none");
    // Ten early in one window are believed to be in sight when they are not any more.
    let take = one("sliding_window_counter");
    let ten: Vec<u64> = (0..10).collect();
    assert_eq!(admitted(&take, &ten).len(), 10);
    assert_eq!(admitted(&take, &[1_100_000_000; 3]).len(), 1, "a log would let in all");
}

#[test]
fn keys_do_not_know_of_each_other() {
    for (name, take) in all(3, 100) {
        for key in ["a", "b", ""] {
            let admitted = (0..5).filter(|_| take(0, key, 1).unwrap().allowed).count();
            assert_eq!(admitted, 3, "{name} {key:?}");
        }
    }
}

#[test]
fn what_is_refused_costs_nothing_and_neither_does_a_question() {
    for (name, take) in all(5, 100) {
        assert!(take(0, "key", 4).unwrap().allowed);
        assert!(!take(0, "key", 2).unwrap().allowed, "{name}");
        assert!(take(0, "key", 0).unwrap().allowed);
        assert_eq!(take(0, "key", 1).unwrap().remaining, 0, "{name}");
    }
}

#[test]
fn at_the_cap_new_keys_are_refused_and_those_that_are_active_keep_their_limits() {
    for (name, take) in all(1, 200) {
        let keys: Vec<String> = (0..5_000).map(|nth| format!("user-{nth}")).collect();
        let known: Vec<&String> = keys.iter().filter(|key| take(0, key, 1).is_ok()).collect();
        assert!((200..=450).contains(&known.len()), "{name}: {}", known.len());
        for key in known {
            assert!(!take(1, key, 1).unwrap().allowed, "{name}: {key} got a second burst");
        }
        let later = (0..200)
            .filter(|nth| take(3 * SECOND, &format!("new-{nth}"), 1).is_ok())
            .count();
        assert_eq!(later, 200, "{name}");
    }
}

#[test]
fn an_algorithm_of_windows_refuses_a_burst_of_its_own() {
    let mut rule = rule(10);
    rule.limit.burst = 20;
    assert!(FixedWindows::open(&rule, 1).is_err());
    assert!(SlidingWindowCounters::open(&rule, 1).is_err());
    let refused = SlidingLogs::open(&rule, 1).err().unwrap().to_string();
    assert!(refused.contains("a burst of 20 beside 10 requests"), "{refused}");
    rule.limit.burst = 1_000_000;
    rule.limit.requests = 1_000_000;
    let refused = SlidingLogs::open(&rule, 1).err().unwrap().to_string();
    assert!(refused.contains("100000 are the most"), "{refused}");
}
