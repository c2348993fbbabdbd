//! The shortener's envelope: how much its users ask for, and what each stage does for it, counted from its architecture.
//!
//! One action a user a day, in the shares of the workload: a hundred million users then make eight million links a day. The
//! demands count elementary things (requests, commits, rows, look-ups, round trips) as the code of a stage
//! does them. No figure here was taken from a climb.
//!
//! Three rules are the same for all stages on SQLite. A commit of its own holds the writer for one `sqlite_insert`, nearly
//! all of it waiting for the disk; of the core it takes the row alone, `sqlite_insert_grouped` (which has a hundredth of an
//! fsync in it that is none of the core's). SQLite runs in a thread of its own: a statement that writes nothing goes there and
//! back like a `sqlite_read`. And a random row dirties a page of its own, which is written to the log and later to the table.
//!
//! `group_commit` is not listed beside `sqlite_writer`: it holds the writer whenever it is busy, so it is never fuller.

use super::{CREATE, NAMES, REDIRECT, UNKNOWN, WEIGHTS};
use crate::estimate::{Action, Assumption, Assumptions, Capacity, Envelope, Kinds, Resource, Stage, Term};

/// The envelope.
pub const ENVELOPE: Envelope = Envelope {
    assumptions: &ASSUMPTIONS,
    actions,
    stages,
};

const ALL: Kinds = &NAMES;
const REDIRECTS: Kinds = &[NAMES[REDIRECT]];
const CREATES: Kinds = &[NAMES[CREATE]];
const UNKNOWNS: Kinds = &[NAMES[UNKNOWN]];
/// Those that ask for a link.
const LOOK_UPS: Kinds = &[NAMES[REDIRECT], NAMES[UNKNOWN]];

const ASSUMPTIONS: [Assumption; 10] = [
    amount("redirects-per-user", 0.9, "a user a day", "links followed"),
    amount(
        "creates-per-user",
        0.08,
        "a user a day",
        "links made: one for eleven followed",
    ),
    amount("unknown-per-user", 0.02, "a user a day", "codes mistyped or guessed"),
    amount(
        "link-bytes",
        58.0,
        "bytes",
        "a stored link: 38 of URL (mean of data/homepages.txt), 20 of row",
    ),
    amount(
        "redirect-bytes",
        800.0,
        "bytes",
        "a redirect on the wire: 500 from a browser, 300 back",
    ),
    amount(
        "create-bytes",
        1_000.0,
        "bytes",
        "a create on the wire: 700 there, 300 back",
    ),
    share("hit-rate", 0.95, "of the redirects", "found in the cache"),
    share(
        "sums-per-redirect",
        0.5,
        "rows a redirect",
        "click sums written: of 10,000 redirects a second over 100,000 links by Zipf, about half meet a link first",
    ),
    at_least_one("key-block", 1_000.0, "keys", "claimed at once, with a commit"),
    amount(
        "create-json-kb",
        0.3,
        "KiB",
        "JSON read and written for one create: body, answer, row",
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

const fn share(key: &'static str, value: f64, unit: &'static str, why: &'static str) -> Assumption {
    let mut assumption = amount(key, value, unit, why);
    assumption.most = 1.0;
    assumption
}

const fn at_least_one(key: &'static str, value: f64, unit: &'static str, why: &'static str) -> Assumption {
    let mut assumption = amount(key, value, unit, why);
    assumption.least = 1.0;
    assumption
}

fn actions(assume: &Assumptions) -> Vec<Action> {
    let action = |index: usize, per_user: &str, wire: &str, stored_bytes: f64| Action {
        kind: NAMES[index],
        per_user_day: assume.get(per_user),
        workload_share: WEIGHTS[index] / WEIGHTS.iter().sum::<f64>(),
        wire_bytes: assume.get(wire),
        stored_bytes,
        slo_p99_s: super::SLO_P99_MS[index] as f64 / 1e3,
    };
    vec![
        action(REDIRECT, "redirects-per-user", "redirect-bytes", 0.0),
        action(CREATE, "creates-per-user", "create-bytes", assume.get("link-bytes")),
        action(UNKNOWN, "unknown-per-user", "redirect-bytes", 0.0),
    ]
}

fn stages(assume: &Assumptions) -> Vec<Stage> {
    let misses = 1.0 - assume.get("hit-rate");
    let sums = assume.get("sums-per-redirect");
    let claims = 1.0 / assume.get("key-block");
    let json = assume.get("create-json-kb");
    vec![
        Stage {
            stage: "single_table",
            resources: vec![
                one("sqlite_writer", [click(), own_commit()].concat()),
                readers(look_up(LOOK_UPS, 1.0)),
                cpu([
                    requests(json),
                    look_up(LOOK_UPS, 1.0),
                    click_on_core(),
                    own_commit_on_core(),
                ]),
            ],
        },
        Stage {
            stage: "cached",
            resources: vec![
                one("sqlite_writer", [own_commit(), sum_rows(sums)].concat()),
                readers(missed(misses)),
                cpu([requests(json), missed(misses), own_commit_on_core(), sum_rows(sums)]),
            ],
        },
        Stage {
            stage: "pregenerated",
            resources: vec![
                one(
                    "sqlite_writer",
                    [random_create(), new_key(), claim(claims), sum_rows(sums)].concat(),
                ),
                readers(missed(misses)),
                cpu([
                    requests(json),
                    missed(misses),
                    random_create(),
                    new_key(),
                    sum_rows(sums),
                ]),
            ],
        },
        Stage {
            stage: "permuted",
            resources: vec![
                one(
                    "sqlite_writer",
                    [grouped_create(), claim(claims), sum_rows(sums)].concat(),
                ),
                readers(missed(misses)),
                cpu([requests(json), missed(misses), grouped_create(), sum_rows(sums)]),
            ],
        },
        shared(misses, sums, json),
    ]
}

/// Client, kernel and engine share the cores, so a round trip to an engine is work of the core from end to end.
fn shared(misses: f64, sums: f64, json: f64) -> Stage {
    let fetched = |kinds, times| {
        vec![
            Term::waited(kinds, times, "postgres_read", "not in Redis: asks Postgres"),
            Term::waited(kinds, times, "redis_set", "and puts the answer into Redis"),
        ]
    };
    let created = || {
        vec![
            Term::waited(
                CREATES,
                1.0,
                "postgres_insert_grouped",
                "its row, in a group with others",
            ),
            Term::waited(
                CREATES,
                1.0,
                "redis_set_pipelined",
                "and into Redis, in one call for the group",
            ),
        ]
    };
    Stage {
        stage: "shared",
        resources: vec![
            cpu([
                requests(json),
                vec![Term::waited(
                    LOOK_UPS,
                    1.0,
                    "redis_get",
                    "asks Redis, which is another process",
                )],
                fetched(REDIRECTS, misses),
                fetched(UNKNOWNS, 1.0),
                created(),
                vec![
                    Term::later(
                        REDIRECTS,
                        sums,
                        "redis_zadd_pipelined",
                        "its click sum into a hash, about the work of a sorted set",
                    ),
                    Term::later(REDIRECTS, sums, "postgres_insert_grouped", "and from there into a row"),
                ],
            ]),
            one("group_commit", created()),
            Resource {
                resource: "postgres_pool",
                capacity: Capacity::Fixed(8.0),
                terms: vec![
                    Term::waited(REDIRECTS, misses, "postgres_read", "not in Redis"),
                    Term::waited(UNKNOWNS, 1.0, "postgres_read", "not in Redis"),
                    Term::waited(
                        CREATES,
                        1.0,
                        "postgres_insert_grouped",
                        "its row, in a group with others",
                    ),
                    Term::later(REDIRECTS, sums, "postgres_insert_grouped", "its click sum"),
                ],
            },
        ],
    }
}

fn one(resource: &'static str, terms: Vec<Term>) -> Resource {
    Resource {
        resource,
        capacity: Capacity::Fixed(1.0),
        terms,
    }
}

/// Four connections; the cores that they run on are in `cpu`.
fn readers(terms: Vec<Term>) -> Resource {
    Resource {
        resource: "sqlite_readers",
        capacity: Capacity::Fixed(4.0),
        terms,
    }
}

fn cpu<const N: usize>(terms: [Vec<Term>; N]) -> Resource {
    Resource {
        resource: "cpu",
        capacity: Capacity::Cores,
        terms: terms.concat(),
    }
}

/// What every operation costs before it does anything, and a create's JSON.
fn requests(json: f64) -> Vec<Term> {
    vec![
        Term::waited(ALL, 1.0, "http_request", "a request, read and answered"),
        Term::waited(CREATES, json, "json_decode_kb", "its JSON, read"),
        Term::waited(CREATES, json, "json_encode_kb", "its JSON, written"),
    ]
}

/// One SELECT on a reader, for this share of the operations.
fn look_up(kinds: Kinds, times: f64) -> Vec<Term> {
    vec![Term::waited(kinds, times, "sqlite_read", "looked up in the table")]
}

/// What the cache does not have: some of the links, and each unknown code, which is never the same.
fn missed(misses: f64) -> Vec<Term> {
    [look_up(REDIRECTS, misses), look_up(UNKNOWNS, 1.0)].concat()
}

/// A redirect's own UPDATE, as the writer sees it.
fn click() -> Vec<Term> {
    vec![Term::waited(
        REDIRECTS,
        1.0,
        "sqlite_insert",
        "its click: one UPDATE, committed with an fsync",
    )]
}

/// The same as the core sees it.
fn click_on_core() -> Vec<Term> {
    let mut terms = vec![
        Term::waited(
            REDIRECTS,
            1.0,
            "sqlite_read",
            "its click: the UPDATE, to SQLite's thread and back",
        ),
        Term::waited(
            REDIRECTS,
            1.0,
            "sqlite_insert_grouped",
            "and the row, without the wait for its fsync",
        ),
    ];
    terms.extend(random_page(REDIRECTS, 1.0, Term::waited));
    terms
}

/// A create that commits alone, as the writer sees it.
fn own_commit() -> Vec<Term> {
    vec![
        Term::waited(CREATES, 1.0, "sqlite_insert", "its row, committed with an fsync"),
        Term::waited(
            CREATES,
            3.0,
            "sqlite_read",
            "BEGIN, highest number, COMMIT: to SQLite's thread and back",
        ),
    ]
}

/// The same as the core sees it.
fn own_commit_on_core() -> Vec<Term> {
    vec![
        Term::waited(
            CREATES,
            4.0,
            "sqlite_read",
            "four statements, to SQLite's thread and back",
        ),
        Term::waited(
            CREATES,
            1.0,
            "sqlite_insert_grouped",
            "and the row, without the wait for its fsync",
        ),
    ]
}

/// A create that commits with others, at the end of the table.
fn grouped_create() -> Vec<Term> {
    vec![Term::waited(
        CREATES,
        1.0,
        "sqlite_insert_grouped",
        "its row, in a group with others",
    )]
}

/// The same somewhere in the table.
fn random_create() -> Vec<Term> {
    [grouped_create(), random_page(CREATES, 1.0, Term::waited)].concat()
}

type Make = fn(Kinds, f64, &'static str, &'static str) -> Term;

/// A row among others that have nothing to do with it: 4 KiB into the log and, at the checkpoint, into the table.
fn random_page(kinds: Kinds, times: f64, term: Make) -> Vec<Term> {
    vec![
        term(
            kinds,
            8.0 * times,
            "memory_copy_kb",
            "a page of its own: 4 KiB to the log, 4 KiB to the table",
        ),
        term(
            kinds,
            4.0 * times,
            "syscall",
            "by four calls: to the log twice, from the log, to the table",
        ),
    ]
}

/// The key that is made ahead for each that is used: a row with a unique index.
fn new_key() -> Vec<Term> {
    let row = Term::later(
        CREATES,
        1.0,
        "sqlite_insert_grouped",
        "a new key in the place of the one used",
    );
    [vec![row], random_page(CREATES, 1.0, Term::later)].concat()
}

fn claim(claims: f64) -> Vec<Term> {
    vec![Term::waited(
        CREATES,
        claims,
        "sqlite_insert",
        "a block claimed, with an fsync",
    )]
}

fn sum_rows(sums: f64) -> Vec<Term> {
    let row = Term::later(
        REDIRECTS,
        sums,
        "sqlite_insert_grouped",
        "its click sum, in a group with others",
    );
    [vec![row], random_page(REDIRECTS, sums, Term::later)].concat()
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
    fn a_link_is_as_long_as_the_real_ones_are() {
        let urls: Vec<&str> = include_str!("../../../data/homepages.txt").lines().collect();
        let mean = urls.iter().map(|url| url.len() as f64).sum::<f64>() / urls.len() as f64;
        assert!((assumptions().get("link-bytes") - (mean + 20.0)).abs() < 1.0, "{mean}");
    }

    /// Distinct links among 10,000 draws from Zipf's law over 100,000.
    #[test]
    fn half_of_the_redirects_of_a_second_meet_their_link_first() {
        let harmonic: f64 = (1..=100_000).map(|rank| 1.0 / f64::from(rank)).sum();
        let distinct: f64 = (1..=100_000)
            .map(|rank| 1.0 - (1.0 - 1.0 / (harmonic * f64::from(rank))).powi(10_000))
            .sum();
        let share = distinct / 10_000.0;
        assert!((share - assumptions().get("sums-per-redirect")).abs() < 0.1, "{share}");
    }

    #[test]
    fn every_demand_is_of_what_there_is() {
        listed::of_what_there_is(&stages(&assumptions()), &NAMES);
    }
}
