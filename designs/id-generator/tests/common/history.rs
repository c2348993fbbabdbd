//! What clients heard, and what must be true of it afterwards.
//!
//! Clients write down every answer with ids: from whom, when they asked, when they had it. Afterwards the checker holds all
//! of them against each other. Ids that follow each other are kept as a run, so ten million of them are some thousand runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::http::Answer;

/// From how far apart on requests are compared over all servers.
const APART: Duration = Duration::from_secs(1);

/// An answer with ids.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Whose it was: those with one number go on where each other stopped, as a server does that was started again.
    pub(crate) by: usize,
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    /// Ids that follow each other, as first and last, in the order in which they came.
    runs: Vec<(u64, u64)>,
}

impl Given {
    pub(crate) fn new(by: usize, asked: Instant, ids: impl IntoIterator<Item = u64>) -> Self {
        let answered = Instant::now();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for id in ids {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
                _ => runs.push((id, id)),
            }
        }
        assert!(!runs.is_empty(), "an answer without ids");
        Self {
            by,
            asked,
            answered,
            runs,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    pub(crate) fn first(&self) -> u64 {
        self.runs.iter().map(|(first, _)| *first).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn last(&self) -> u64 {
        self.runs.iter().map(|(_, last)| *last).max().unwrap_or(0)
    }
}

/// The ids of an answer, one a line.
pub(crate) fn numbers(answer: &Answer) -> impl Iterator<Item = u64> {
    let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| {
        line.iter().fold(0, |number, digit| {
            assert!(digit.is_ascii_digit(), "not a number: {line:?}");
            number * 10 + u64::from(digit - b'0')
        })
    })
}

/// Every answer of a test, of all servers and through all crashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) given: Vec<Given>,
    /// Answers that said that nothing was made.
    pub(crate) refused: usize,
    /// Requests whose end nobody told the client.
    pub(crate) unknown: usize,
}

impl History {
    pub(crate) fn ids(&self) -> u64 {
        let runs = self.given.iter().flat_map(|given| &given.runs);
        runs.map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.given.extend(other.given);
        self.refused += other.refused;
        self.unknown += other.unknown;
    }

    /// What is wrong with numbers that are counted: one that came twice, or one that is not greater than those that the
    /// same server had given before it was asked.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = self.disordered();
        violations.extend(self.doubled());
        let mut by_server: BTreeMap<usize, Vec<&Given>> = BTreeMap::new();
        for given in &self.given {
            by_server.entry(given.by).or_default().push(given);
        }
        violations.extend(by_server.values().flat_map(|given| gone_back(given, Duration::ZERO)));
        violations
    }

    /// The same for ids that carry their time: beside that, those of requests that were more than a second apart are in
    /// the order of time, whichever servers made them.
    pub(crate) fn violations_of_time(&self) -> Vec<String> {
        let mut violations = self.violations();
        violations.extend(gone_back(&self.given.iter().collect::<Vec<_>>(), APART));
        violations
    }

    fn disordered(&self) -> Vec<String> {
        let bad = self
            .given
            .iter()
            .filter(|given| !given.runs.is_sorted_by(|a, b| a.1 < b.0));
        bad.map(|given| format!("an answer of server {} is not in order", given.by))
            .collect()
    }

    fn doubled(&self) -> Vec<String> {
        let runs = self
            .given
            .iter()
            .flat_map(|given| given.runs.iter().map(move |run| (*run, given.by)));
        let mut runs: Vec<((u64, u64), usize)> = runs.collect();
        runs.sort_unstable();
        let mut violations = Vec::new();
        let mut reached: Option<(u64, usize)> = None;
        for ((first, last), by) in runs {
            if let Some((before, other)) = reached
                && first <= before
            {
                let count = last.min(before) - first + 1;
                violations.push(format!(
                    "{count} ids from {first} on came twice: from server {other} and from server {by}"
                ));
            }
            if reached.is_none_or(|(before, _)| last > before) {
                reached = Some((last, by));
            }
        }
        violations
    }
}

/// Answers that are not greater than all those that had come this long before they were asked for.
fn gone_back(given: &[&Given], apart: Duration) -> Vec<String> {
    let mut asked = given.to_vec();
    asked.sort_by_key(|given| given.asked);
    let mut answered = given.to_vec();
    answered.sort_by_key(|given| given.answered);
    let mut before = answered.into_iter().peekable();
    let mut greatest: Option<&Given> = None;
    let mut violations = Vec::new();
    for given in asked {
        while let Some(earlier) = before.next_if(|earlier| earlier.answered + apart < given.asked) {
            if greatest.is_none_or(|greatest| earlier.last() > greatest.last()) {
                greatest = Some(earlier);
            }
        }
        if let Some(greatest) = greatest.filter(|greatest| greatest.last() >= given.first()) {
            violations.push(format!(
                "server {} gave {} after server {} had given {}, {:?} before it was asked",
                given.by,
                given.first(),
                greatest.by,
                greatest.last(),
                given.asked - greatest.answered
            ));
        }
    }
    violations
}
