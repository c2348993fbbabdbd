//! The id generator's envelope: how many ids its users' actions need, and what each stage does for one, counted from its
//! architecture. Written before any climb of this design was seen, and before its code: from the interface alone.
//!
//! What a user posts, likes, sends and buys needs an id each, most of them alone, some by the hundred (an import, a message to
//! a group with a row for each member). A hundred million users then need eleven billion ids a day, 1.3 million a
//! second at the peak. Three figures follow that no measurement changes:
//!
//! - *Nodes.* A millisecond has 4,096 numbers in Twitter's layout, so a node gives out 4.1 million ids a second at the most.
//!   The peak is 31 % of one node's numbers: the layout's end is far, requests are what costs. Hence the batches.
//! - *Years.* 41 bits of milliseconds are 69.7 years. As plain numbers, eleven billion a day would last 64 bits for millions.
//! - *Bytes.* The service keeps no id. Whoever uses one keeps 8 bytes of it, in each row and in each index: that is what is
//!   listed as stored.
//!
//! A commit holds SQLite's writer for one `sqlite_insert`, nearly all of it waiting for the disk; of the core it takes the way
//! to SQLite's thread and back, a `sqlite_read`, and the row, `sqlite_insert_grouped`. An id made in memory reads the clock.
//! Decoding is arithmetic on every stage. `sqlite_writer` is not listed beside `id_block`: it is held only within it.

use super::{BATCH, BULK, DECODE, IDS, NAMES, SINGLE, SLO_P99_MS, WEIGHTS};
use crate::estimate::{Action, Assumption, Assumptions, Capacity, Envelope, Kinds, MILLISECOND, Resource, Stage, Term};

/// The envelope.
pub const ENVELOPE: Envelope = Envelope {
    assumptions: &ASSUMPTIONS,
    actions,
    stages,
};

const ALL: Kinds = &NAMES;
/// Those that ask for ids.
const ASKING: Kinds = &[NAMES[SINGLE], NAMES[BATCH], NAMES[BULK]];
/// The same, each with how many.
const GIVING: [(Kinds, usize); 3] = [
    (&[NAMES[SINGLE]], IDS[SINGLE]),
    (&[NAMES[BATCH]], IDS[BATCH]),
    (&[NAMES[BULK]], IDS[BULK]),
];
/// Numbers that a node has in a millisecond: 12 bits.
const NUMBERS_A_MS: f64 = 4_096.0;

const ASSUMPTIONS: [Assumption; 8] = [
    amount(
        "singles-per-user",
        8.5,
        "a user a day",
        "things made one by one: messages, likes, posts",
    ),
    amount(
        "batches-per-user",
        1.0,
        "a user a day",
        "a hundred things made at once: rows of a fan-out, of an import",
    ),
    amount(
        "decodes-per-user",
        0.5,
        "a user a day",
        "ids looked into: when was this, and where",
    ),
    amount("bulks-per-user", 0.0, "a user a day", "a thousand ids at once"),
    amount(
        "request-bytes",
        300.0,
        "bytes",
        "a request from a service beside it and its answer, without the ids",
    ),
    amount(
        "id-json-bytes",
        22.0,
        "bytes",
        "an id in an answer: 19 digits, two quotes, a comma",
    ),
    amount(
        "id-bytes",
        8.0,
        "bytes",
        "an id where it is used, once in each row and each index",
    ),
    Assumption {
        least: 1.0,
        ..amount("id-block", 1_000.0, "ids", "claimed at once, with a commit")
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
        wire_bytes: assume.get("request-bytes") + IDS[index] as f64 * assume.get("id-json-bytes"),
        stored_bytes: IDS[index] as f64 * assume.get("id-bytes"),
        slo_p99_s: SLO_P99_MS[index] as f64 / 1e3,
    };
    vec![
        action(SINGLE, "singles-per-user"),
        action(BATCH, "batches-per-user"),
        action(DECODE, "decodes-per-user"),
        action(BULK, "bulks-per-user"),
    ]
}

fn stages(assume: &Assumptions) -> Vec<Stage> {
    let json_kb = assume.get("id-json-bytes") / 1_024.0;
    let claims = 1.0 / assume.get("id-block");
    let in_memory = |stage, nodes| Stage {
        stage,
        resources: vec![
            cpu([
                requests(json_kb),
                ids(1.0, "clock_read", "an id each: the clock and a number"),
            ]),
            Resource {
                resource: "sequence",
                capacity: Capacity::Fixed(nodes),
                terms: ids(1.0 / NUMBERS_A_MS, MILLISECOND, "of the numbers that a millisecond has"),
            },
        ],
    };
    vec![
        Stage {
            stage: "ticket_row",
            resources: vec![
                one(
                    "sqlite_writer",
                    tickets("sqlite_insert", "the row raised, committed with an fsync"),
                ),
                cpu([
                    requests(json_kb),
                    tickets("sqlite_read", "a statement, to SQLite's thread and back"),
                    tickets("sqlite_insert_grouped", "and the row, without the wait for its fsync"),
                ]),
            ],
        },
        Stage {
            stage: "ranges",
            resources: vec![
                one(
                    "id_block",
                    ids(claims, "sqlite_insert", "a block claimed, with an fsync"),
                ),
                cpu([
                    requests(json_kb),
                    ids(claims, "sqlite_read", "a claim, to SQLite's thread and back"),
                    ids(
                        claims,
                        "sqlite_insert_grouped",
                        "and its row, without the wait for its fsync",
                    ),
                ]),
            ],
        },
        in_memory("snowflake", 1.0),
        // Two processes on the same cores. Their leases are renewed every few seconds, whatever is asked of them.
        in_memory("leased", 2.0),
    ]
}

fn one(resource: &'static str, terms: Vec<Term>) -> Resource {
    Resource {
        resource,
        capacity: Capacity::Fixed(1.0),
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

/// What every operation costs before it does anything, and the ids in its answer.
fn requests(json_kb: f64) -> Vec<Term> {
    let mut terms = vec![Term::waited(ALL, 1.0, "http_request", "a request, read and answered")];
    terms.extend(ids(json_kb, "json_encode_kb", "the ids, written as JSON"));
    terms
}

/// Something that is done so many times for each id.
fn ids(times: f64, number: &'static str, why: &'static str) -> Vec<Term> {
    GIVING
        .iter()
        .map(|(kinds, ids)| Term::waited(kinds, times * *ids as f64, number, why))
        .collect()
}

/// Something that is done once for a request, however many ids it asks for.
fn tickets(number: &'static str, why: &'static str) -> Vec<Term> {
    vec![Term::waited(ASKING, 1.0, number, why)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::listed;
    use crate::estimate::traffic::{Population, traffic};

    fn assumptions() -> Assumptions {
        Assumptions::new(&ASSUMPTIONS, &[]).unwrap()
    }

    #[test]
    fn users_do_what_the_workload_does() {
        listed::as_the_workload_does(&actions(&assumptions()), &NAMES);
        assert_eq!(actions(&assumptions())[DECODE].stored_bytes, 0.0);
    }

    #[test]
    fn the_figures_of_the_essay_are_those_of_the_assumptions() {
        let population = Population {
            daily_users: 100e6,
            peak_factor: 10.0,
            retention_years: 1.0,
            copies: 1.0,
        };
        let traffic = traffic(&population, &actions(&assumptions()));
        let ids_a_second: f64 = traffic
            .kinds
            .iter()
            .zip(IDS)
            .map(|(kind, ids)| kind.average_rps * ids as f64)
            .sum();
        assert!((ids_a_second * 86_400.0 - 10.85e9).abs() < 1e3, "eleven billion a day");
        let peak = ids_a_second * population.peak_factor;
        assert!((peak - 1.256e6).abs() < 1e3, "{peak}");
        assert!(
            (peak / (NUMBERS_A_MS * 1e3) - 0.31).abs() < 0.005,
            "of one node's numbers"
        );
        let years = 2f64.powi(41) / 1e3 / 86_400.0 / 365.25;
        assert!((years - 69.7).abs() < 0.05, "{years}");
        let years = 2f64.powi(64) / 10.85e9 / 365.25;
        assert!(years > 4e6, "{years}");
        assert!((traffic.stored_bytes_year - 10.85e9 * 365.0 * 8.0).abs() < 1e6);
    }

    #[test]
    fn every_demand_is_of_what_there_is() {
        listed::of_what_there_is(&stages(&assumptions()), &NAMES);
    }
}
