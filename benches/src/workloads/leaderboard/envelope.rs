//! The leaderboard's envelope: how much its players ask for, and what each stage does for it, counted from its architecture.
//! Written before any climb of this design was seen.
//!
//! A hundred million players a day who look at their rank five times and score three times are a thousand million operations,
//! 11,600 a second on average. What is kept is small, a name and a score for each player, and all of it is wanted at any
//! moment: the board is a matter of memory, not of disks.
//!
//! On the way, a rank by counting is a walk along everybody who is better: half of the board, for the average player, whose
//! index pages lie in memory. In a tree it is some nodes that are in no cache, twice over, since a rank knows both how many
//! come before and how many of these have more. In Redis it is a script, a round trip with two look-ups of a position.

use super::{AROUND, NAMES, RANK, READ_P99_MS, REPORT, TOP, WEIGHTS, WRITE_P99_MS};
use crate::estimate::{Action, Assumption, Assumptions, Capacity, Envelope, Kinds, Resource, Stage, Term};

/// The envelope.
pub const ENVELOPE: Envelope = Envelope {
    assumptions: &ASSUMPTIONS,
    actions,
    stages,
};

const ALL: Kinds = &NAMES;
const REPORTS: Kinds = &[NAMES[REPORT]];
/// Those that ask for a position.
const POSITIONS: Kinds = &[NAMES[REPORT], NAMES[RANK], NAMES[AROUND]];
const TOPS: Kinds = &[NAMES[TOP]];
/// Those that answer a list.
const LISTS: Kinds = &[NAMES[TOP], NAMES[AROUND]];

const ASSUMPTIONS: [Assumption; 7] = [
    amount("reports-per-user", 3.0, "a user a day", "a score after each game"),
    amount("ranks-per-user", 5.0, "a user a day", "where do I stand?"),
    amount("tops-per-user", 1.0, "a user a day", "who is best?"),
    amount("arounds-per-user", 1.0, "a user a day", "who is right above me?"),
    amount(
        "request-bytes",
        400.0,
        "bytes",
        "a request and its answer, headers included",
    ),
    amount(
        "member-bytes",
        120.0,
        "bytes",
        "stored for a player: a name, a score, when it was reached, twice over",
    ),
    amount(
        "players",
        1_000_000.0,
        "players",
        "on the board that is climbed: what a rank is counted along",
    ),
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
    let action = |index: usize, per_user: &str, stored: f64, slo_ms: u64| Action {
        kind: NAMES[index],
        per_user_day: assume.get(per_user),
        workload_share: WEIGHTS[index] / WEIGHTS.iter().sum::<f64>(),
        wire_bytes: assume.get("request-bytes"),
        stored_bytes: stored,
        slo_p99_s: slo_ms as f64 / 1e3,
    };
    vec![
        // A player's line is kept once, however often he scores: it grows with players, of whom a thousandth is new each day.
        action(
            REPORT,
            "reports-per-user",
            assume.get("member-bytes") / 3_000.0,
            WRITE_P99_MS,
        ),
        action(RANK, "ranks-per-user", 0.0, READ_P99_MS),
        action(TOP, "tops-per-user", 0.0, READ_P99_MS),
        action(AROUND, "arounds-per-user", 0.0, READ_P99_MS),
    ]
}

fn stages(assume: &Assumptions) -> Vec<Stage> {
    // An entry of the index is some 20 bytes; half of the board stands before the average player.
    let counted_kb = assume.get("players") / 2.0 * 20.0 / 1e3;
    let counting = || {
        vec![
            Term::waited(POSITIONS, 1.0, "sqlite_read", "the player is looked up"),
            Term::waited(
                POSITIONS,
                counted_kb,
                "memory_copy_kb",
                "half of the board is walked along",
            ),
        ]
    };
    vec![
        Stage {
            stage: "count_query",
            resources: vec![
                cpu([
                    requests(),
                    counting(),
                    vec![
                        Term::waited(
                            REPORTS,
                            4.0,
                            "sqlite_read",
                            "statements of a transaction, each about a look-up",
                        ),
                        Term::waited(LISTS, 1.0, "sqlite_read", "lines from the index"),
                    ],
                ]
                .concat()),
                Resource {
                    resource: "sqlite_writer",
                    capacity: Capacity::Fixed(1.0),
                    terms: vec![
                        Term::waited(REPORTS, 1.0, "sqlite_insert", "a transaction of its own, and its fsync"),
                        Term::waited(
                            REPORTS,
                            counted_kb,
                            "memory_copy_kb",
                            "the position that its answer tells",
                        ),
                    ],
                },
            ],
        },
        Stage {
            stage: "ordered_tree",
            resources: vec![
                cpu([
                    requests(),
                    vec![
                        Term::waited(
                            POSITIONS,
                            10.0,
                            "memory_latency",
                            "name, place, and two ways down the tree",
                        ),
                        Term::waited(REPORTS, 6.0, "memory_latency", "the key taken out and put in"),
                        Term::waited(
                            REPORTS,
                            2.0,
                            "thread_wakeup",
                            "to the thread that waits for the disk and back, shared",
                        ),
                    ],
                ]
                .concat()),
                Resource {
                    resource: "group_commit",
                    capacity: Capacity::Fixed(1.0),
                    terms: vec![Term::waited(
                        REPORTS,
                        1.0 / 50.0,
                        "fdatasync",
                        "one fsync for some dozens",
                    )],
                },
            ],
        },
        Stage {
            stage: "sorted_set",
            resources: vec![cpu([
                requests(),
                vec![
                    Term::waited(
                        ALL,
                        1.0,
                        "redis_zrevrank",
                        "a script: a round trip to Redis, on the same core",
                    ),
                    Term::waited(
                        POSITIONS,
                        1.0,
                        "redis_zrevrank_pipelined",
                        "and a second position in it",
                    ),
                    Term::waited(
                        REPORTS,
                        2.0,
                        "redis_zadd_pipelined",
                        "the old place goes, the new one comes",
                    ),
                ],
            ]
            .concat())],
        },
        Stage {
            stage: "sharded",
            resources: vec![cpu([
                requests(),
                vec![
                    Term::waited(
                        POSITIONS,
                        2.0,
                        "redis_zrevrank",
                        "the record, then the shard: two round trips to Redis, on the same core",
                    ),
                    Term::waited(TOPS, 1.0, "redis_zrevrank", "the highest shard alone"),
                    Term::waited(
                        POSITIONS,
                        3.0,
                        "redis_zrevrank_pipelined",
                        "the second position, and the sizes of two other shards",
                    ),
                    Term::waited(
                        REPORTS,
                        4.0,
                        "redis_zadd_pipelined",
                        "the record, that it is pending, the old place and the new one",
                    ),
                ],
            ]
            .concat())],
        },
    ]
}

/// What every operation costs before it does anything, and the JSON of its answer.
fn requests() -> Vec<Term> {
    vec![
        Term::waited(ALL, 1.0, "http_request", "a request, read and answered"),
        Term::waited(REPORTS, 0.05, "json_decode_kb", "a report, read"),
        Term::waited(LISTS, 0.5, "json_encode_kb", "ten lines, written"),
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
    fn every_demand_is_of_what_there_is() {
        listed::of_what_there_is(&stages(&assumptions()), &NAMES);
    }

    #[test]
    fn the_average_of_the_essay_is_that_of_the_assumptions() {
        let all: f64 = actions(&assumptions()).iter().map(|action| action.per_user_day).sum();
        assert!((all * 100e6 / 86_400.0 - 11_574.0).abs() < 1.0);
    }
}
