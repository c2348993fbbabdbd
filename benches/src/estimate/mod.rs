//! Working out what a design carries before it is built: the envelope, and the utilisation law.
//!
//! # The envelope
//!
//! How much is asked of a system is a product of a few guesses: users, what each does a day, how much more of it comes in
//! the busiest hour, how large a thing is and for how long it is kept. Each guess may be off by two; the product still
//! tells a laptop from a data centre. [`traffic`] multiplies. A day has 86,400 s: a million actions a day are twelve a
//! second.
//!
//! # The utilisation law
//!
//! How much a system carries follows from what one operation takes. If an operation holds a resource for D seconds (its
//! *demand*), then X operations a second keep it busy for X x D seconds in each second, and c of the resource have c
//! seconds to give:
//!
//! ```text
//! U = X x D / c  <=  1      so      X  <=  c / D
//! ```
//!
//! The resource with the lowest ceiling c / D is the bottleneck, whatever the others are (Denning and Buzen, "The
//! Operational Analysis of Queueing Network Models", 1978). So an estimate needs no simulation, only a list: which
//! resources an operation touches, and how many elementary things it does there. A design writes that list beside its
//! workload (`workloads/<design>/envelope.rs`), reading its own architecture; `lab numbers` says how long an elementary
//! thing takes on this machine; [`knee`] multiplies and looks for the smallest ceiling.
//!
//! # The promise
//!
//! A resource that is busy all the time has an endless queue, so a promise of a p99 costs some of the ceiling. With random
//! arrivals and service times that vary like them (M/M/1), a response takes longer than t with the probability
//! exp(-(1 - U) t / s), where s is the mean service time. Setting that to 1 % at the promised t:
//!
//! ```text
//! U  <=  1 - ln(100) x s / t
//! ```
//!
//! Half a millisecond of work under a promise of 20 ms may be busy for 88 % of the time; ten microseconds, for 99.8 %.
//!
//! # What it cannot see
//!
//! - *What nobody listed.* A router, an allocator, a scheduler, the log line: each is a few microseconds, and together they
//!   may be more than what is listed. So an estimate of what a CPU carries is too high, often by a factor of two or more.
//! - *Resources that wait for each other.* Who holds the writer and waits for a core keeps the writer busy by waiting. Here
//!   each resource is alone in the world.
//! - *Bursts.* A background task that takes the core for 20 ms breaks a promise of 20 ms at any utilisation.
//! - *Demand that changes with the rate.* Groups grow and caches warm under load; here both are fixed assumptions.
//!
//! That is why the estimate is held against a climb, where there is one: the error is the size of what was not seen. Demands
//! are never fitted to a climb. An estimate that has seen the answer says nothing about the next design.

pub mod knee;
#[cfg(test)]
pub(crate) mod listed;
pub mod nines;
pub mod traffic;

use anyhow::{Result, bail};

/// How a design is estimated: its assumptions, and what follows from them.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// What is assumed, each under a key that `--set` changes.
    pub assumptions: &'static [Assumption],
    /// What users do.
    pub actions: fn(&Assumptions) -> Vec<Action>,
    /// What that takes of each resource, in each stage of the ladder.
    pub stages: fn(&Assumptions) -> Vec<Stage>,
}

/// One guess.
#[derive(Debug, Clone, Copy)]
pub struct Assumption {
    /// Its name for `--set`.
    pub key: &'static str,
    /// What it is unless somebody says otherwise.
    pub value: f64,
    /// The least that makes sense.
    pub least: f64,
    /// The most that makes sense.
    pub most: f64,
    /// What it counts.
    pub unit: &'static str,
    /// What it stands for, and where the value comes from.
    pub why: &'static str,
}

/// A design's assumptions with the values that hold.
#[derive(Debug, Clone)]
pub struct Assumptions {
    values: Vec<(Assumption, f64)>,
}

impl Assumptions {
    /// The design's own values, with those of `--set` in their places.
    ///
    /// # Errors
    /// A key that the design does not have, or a value that makes no sense for it.
    pub fn new(known: &[Assumption], set: &[(String, String)]) -> Result<Self> {
        let mut values: Vec<(Assumption, f64)> = known.iter().map(|one| (*one, one.value)).collect();
        for (key, text) in set {
            let Some((assumption, value)) = values.iter_mut().find(|(one, _)| one.key == key) else {
                let keys: Vec<&str> = known.iter().map(|one| one.key).collect();
                bail!("--set: there is no assumption `{key}`; there are: {}", keys.join(", "));
            };
            let (least, most) = (assumption.least, assumption.most);
            match text.parse::<f64>() {
                Ok(number) if (least..=most).contains(&number) => *value = number,
                _ => bail!("--set {key}={text}: a number from {least} to {most}"),
            }
        }
        Ok(Self { values })
    }

    /// The value under a key of the design's own; NaN for another, which no estimate survives unnoticed.
    pub fn get(&self, key: &str) -> f64 {
        let found = self.values.iter().find(|(one, _)| one.key == key);
        found.map_or(f64::NAN, |(_, value)| *value)
    }

    /// All of them with the values that hold, in the order of the design.
    pub fn iter(&self) -> impl Iterator<Item = (&Assumption, f64)> {
        self.values.iter().map(|(one, value)| (one, *value))
    }
}

/// What users do: a kind of operation of the design's workload, in the workload's order.
#[derive(Debug, Clone)]
pub struct Action {
    /// The name of the kind.
    pub kind: &'static str,
    /// How often a user does it in a day.
    pub per_user_day: f64,
    /// Its share of the operations in the design's own workload, from 0 to 1.
    pub workload_share: f64,
    /// Bytes on the wire for one, both directions.
    pub wire_bytes: f64,
    /// Bytes that one leaves behind, one copy.
    pub stored_bytes: f64,
    /// Its p99 response time must not exceed this many seconds.
    pub slo_p99_s: f64,
}

/// What the operations take of each resource in one stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name in the ladder.
    pub stage: &'static str,
    /// The resources that could be its bottleneck, by their names in the ledger.
    pub resources: Vec<Resource>,
}

/// One resource of a stage.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its name in the ledger.
    pub resource: &'static str,
    /// How many there are.
    pub capacity: Capacity,
    /// What is done there.
    pub terms: Vec<Term>,
}

/// How many of a resource there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Capacity {
    /// As many as the server and its engines have cores.
    Cores,
    /// So many, on any machine.
    Fixed(f64),
}

/// What takes as long on every machine: a demand that a format or a protocol fixes is a number of these.
pub const MILLISECOND: &str = "millisecond";

/// Names of kinds of operations.
pub type Kinds = &'static [&'static str];

/// Elementary things that one operation does with a resource.
#[derive(Debug, Clone)]
pub struct Term {
    /// The kinds of operations that do it.
    pub kinds: Kinds,
    /// How many of them.
    pub times: f64,
    /// What: a key of `lab numbers`, or [`MILLISECOND`].
    pub number: &'static str,
    /// Why.
    pub why: &'static str,
    /// Whether it is done after the answer: it takes from the resource, but nobody's answer waits for it.
    pub background: bool,
}

impl Term {
    /// Something whose end the user waits for.
    pub fn waited(kinds: Kinds, times: f64, number: &'static str, why: &'static str) -> Self {
        Self {
            kinds,
            times,
            number,
            why,
            background: false,
        }
    }

    /// Something that is done after the answer.
    pub fn later(kinds: Kinds, times: f64, number: &'static str, why: &'static str) -> Self {
        Self {
            background: true,
            ..Self::waited(kinds, times, number, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Assumption; 2] = [
        Assumption {
            key: "a",
            value: 0.5,
            least: 0.0,
            most: 1.0,
            unit: "of all",
            why: "a share",
        },
        Assumption {
            key: "b",
            value: 7.0,
            least: 1.0,
            most: 100.0,
            unit: "bytes",
            why: "a size",
        },
    ];

    fn set(key: &str, value: &str) -> Result<Assumptions> {
        Assumptions::new(&KNOWN, &[(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_is_not_set_is_as_the_design_has_it() {
        let assumptions = set("a", "0.25").unwrap();
        assert_eq!((assumptions.get("a"), assumptions.get("b")), (0.25, 7.0));
        assert!(assumptions.get("c").is_nan());
    }

    #[test]
    fn a_wrong_key_names_the_right_ones_and_a_wrong_value_its_range() {
        let error = set("c", "1").unwrap_err().to_string();
        assert!(error.contains("`c`") && error.contains("a, b"), "{error}");
        for bad in ["", "x", "nan", "inf", "-1", "1.01"] {
            let error = set("a", bad).unwrap_err().to_string();
            assert!(error.contains("from 0 to 1"), "{bad}: {error}");
        }
    }
}
