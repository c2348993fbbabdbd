//! Counters that many threads add to without getting in each other's way.
//!
//! Each of the first [`PRIVATE`] threads that ever count has a cache line of its own in every resource. Nobody else writes
//! there, so adding is a load, an addition and a store, with no locked instruction: a reader on another thread sees some
//! recent value, and a value never goes back. Threads that come later share one further line and add atomically: slower,
//! never wrong. A line is not handed on when its thread ends, since a server's threads live as long as it does.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads have a line of their own: more than a laptop has cores.
const PRIVATE: usize = 16;

/// Threads that have counted so far, in this process.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's place in line; `usize::MAX` until it first counts.
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Operations, busy and wait ticks, spread over lines.
pub(crate) struct Counters {
    private: [Line; PRIVATE],
    shared: Line,
}

/// One thread's counters. Aligned so that neighbours do not share a cache line, nor the pair that processors fetch.
#[derive(Default)]
#[repr(align(128))]
struct Line {
    operations: AtomicU64,
    busy: AtomicU64,
    wait: AtomicU64,
    waits_begun: AtomicU64,
    waits_ended: AtomicU64,
}

/// The sum over all lines, in operations and clock ticks.
pub(crate) struct Totals {
    pub(crate) operations: u64,
    pub(crate) busy: u64,
    pub(crate) wait: u64,
    /// Waits begun and not ended. Begun on one thread and ended on another, a wait may be seen to end first: never below 0.
    pub(crate) backlog: u64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            private: Default::default(),
            shared: Line::default(),
        }
    }

    pub(crate) fn add_hold(&self, operations: u64, busy: u64) {
        self.add(|line| [(&line.operations, operations), (&line.busy, busy)]);
    }

    pub(crate) fn begin_wait(&self) {
        self.add(|line| [(&line.waits_begun, 1)]);
    }

    pub(crate) fn end_wait(&self, wait: u64) {
        self.add(|line| [(&line.waits_ended, 1), (&line.wait, wait)]);
    }

    fn add<'a, const N: usize>(&'a self, of: impl Fn(&'a Line) -> [(&'a AtomicU64, u64); N]) {
        match self.private.get(place()) {
            Some(line) => of(line).map(|(counter, amount)| add_alone(counter, amount)),
            None => of(&self.shared).map(|(counter, amount)| {
                counter.fetch_add(amount, Ordering::Relaxed);
            }),
        };
    }

    pub(crate) fn read(&self) -> Totals {
        let lines = || self.private.iter().chain([&self.shared]);
        let sum = |counter: fn(&Line) -> &AtomicU64| {
            lines().fold(0_u64, |sum, line| {
                sum.wrapping_add(counter(line).load(Ordering::Relaxed))
            })
        };
        Totals {
            operations: sum(|line| &line.operations),
            busy: sum(|line| &line.busy),
            wait: sum(|line| &line.wait),
            backlog: sum(|line| &line.waits_begun).saturating_sub(sum(|line| &line.waits_ended)),
        }
    }
}

/// Adds to a counter that only this thread writes.
fn add_alone(counter: &AtomicU64, amount: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(amount);
    counter.store(sum, Ordering::Relaxed);
}

/// This thread's place, taken at its first count.
fn place() -> usize {
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        place.get()
    })
}
