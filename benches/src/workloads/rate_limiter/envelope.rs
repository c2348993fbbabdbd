//! The rate limiter's envelope: how many decisions its users' requests need, and what each stage does for one, counted from
//! its architecture. Written before any climb of this design was seen.
//!
//! A limiter stands before everything, so it is asked once for every request of a site: its traffic is the site's. A hundred
//! million users with a hundred requests a day make ten thousand million decisions, 1.2 million a second at the peak. What it
//! keeps is small: a bucket in memory is 24 bytes, and gone when it is full.
//!
//! On the way, a decision in memory is two reads of the clock and a hash table; in Redis it is a round trip, two where it is
//! read and then written; by shares it is one for a tenth of a burst, as long as a user comes often.

use super::{ASK, CHECK, CROWD, NAMES, SLO_P99_MS, WEIGHTS};
use crate::estimate::{Action, Assumption, Assumptions, Capacity, Envelope, Kinds, Resource, Stage, Term};

/// The envelope.
pub const ENVELOPE: Envelope = Envelope {
    assumptions: &ASSUMPTIONS,
    actions,
    stages,
};

const ALL: Kinds = &NAMES;
/// Those that are charged.
const CHARGED: Kinds = &[NAMES[CHECK], NAMES[CROWD]];
/// Those that only ask.
const ASKING: Kinds = &[NAMES[ASK]];

const ASSUMPTIONS: [Assumption; 6] = [
    amount(
        "checks-per-user",
        75.0,
        "a user a day",
        "requests of those who are well within their limit, mostly",
    ),
    amount(
        "crowds-per-user",
        20.0,
        "a user a day",
        "requests in bursts: retries, scripts, a page that loads",
    ),
    amount("asks-per-user", 5.0, "a user a day", "questions that charge nothing"),
    amount(
        "request-bytes",
        550.0,
        "bytes",
        "a question and its answer, headers included",
    ),
    amount(
        "bucket-bytes",
        0.0,
        "bytes",
        "stored for ever: nothing, a full bucket is as good as none",
    ),
    Assumption {
        least: 1.0,
        ..amount(
            "share",
            10.0,
            "requests",
            "taken at once, a tenth of a burst of a hundred",
        )
    },
];

const fn amount(key: &'static str, value: f64, unit: &'static str, why: &'static str) -> Assumption {
    Assumption {
        key,
        value,
        least: 0.0,
        most: 1e9,
        unit,
        why,
    }
}

fn actions(assume: &Assumptions) -> Vec<Action> {
    let action = |index: usize, per_user: &str| Action {
        kind: NAMES[index],
        per_user_day: assume.get(per_user),
        workload_share: WEIGHTS[index] / WEIGHTS.iter().sum::<f64>(),
        wire_bytes: assume.get("request-bytes"),
        stored_bytes: assume.get("bucket-bytes"),
        slo_p99_s: SLO_P99_MS as f64 / 1e3,
    };
    vec![
        action(CHECK, "checks-per-user"),
        action(CROWD, "crowds-per-user"),
        action(ASK, "asks-per-user"),
    ]
}

fn stages(assume: &Assumptions) -> Vec<Stage> {
    let in_memory = |stage| Stage {
        stage,
        resources: vec![cpu([request(), memory()].concat())],
    };
    let in_redis = |stage, commands: f64| Stage {
        stage,
        resources: vec![cpu([
            request(),
            vec![Term::waited(
                ALL,
                commands,
                "redis_get",
                "a round trip to Redis, on the same core",
            )],
        ]
        .concat())],
    };
    vec![
        in_memory("fixed_window"),
        in_memory("sliding_log"),
        in_memory("token_bucket"),
        // Read by all, written by those that are charged; most of them are admitted.
        in_redis("racy", 2.0),
        in_redis("atomic", 1.0),
        Stage {
            stage: "leased",
            resources: vec![cpu([
                request(),
                memory(),
                vec![
                    Term::waited(CHARGED, 1.0 / assume.get("share"), "redis_get", "a share taken"),
                    Term::waited(ASKING, 1.0, "redis_get", "what only asks is asked of Redis"),
                ],
            ]
            .concat())],
        },
    ]
}

/// A request, whose body is read and whose answer is written.
fn request() -> Vec<Term> {
    vec![
        Term::waited(ALL, 1.0, "http_request", "a request, read and answered"),
        Term::waited(ALL, 0.2, "json_encode_kb", "its body read, and the answer written"),
    ]
}

fn memory() -> Vec<Term> {
    vec![
        Term::waited(ALL, 1.0, "clock_read", "when it is"),
        Term::waited(
            ALL,
            2.0,
            "memory_latency",
            "a slot that nobody had in the cache, and its rule",
        ),
    ]
}

fn cpu(terms: Vec<Term>) -> Resource {
    Resource {
        resource: "cpu",
        capacity: Capacity::Cores,
        terms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::listed;

    fn assumptions() -> Assumptions {
        Assumptions::new(&ASSUMPTIONS, &[]).unwrap()
    }

    #[test]
    fn users_do_what_the_workload_does() {
        listed::as_the_workload_does(&actions(&assumptions()), &NAMES);
    }

    #[test]
    fn the_peak_of_the_essay_is_that_of_the_assumptions() {
        let all: f64 = actions(&assumptions()).iter().map(|action| action.per_user_day).sum();
        assert!((all * 100e6 / 86_400.0 * 10.0 - 1.157e6).abs() < 1e3);
    }

    #[test]
    fn every_demand_is_of_what_there_is() {
        listed::of_what_there_is(&stages(&assumptions()), &NAMES);
    }
}
