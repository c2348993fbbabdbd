//! The word and the table in every interleaving: loom runs `src/gcra.rs` and `src/table.rs` themselves, with atomics and
//! locks of its own in place of the standard library's.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "../src/domain.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "it is a public module of the design, and a private one here"
)]
mod domain;

#[path = "../src/gcra.rs"]
#[allow(unreachable_pub, dead_code, reason = "as above")]
mod gcra;

#[path = "../src/table.rs"]
#[allow(unreachable_pub, dead_code, reason = "as above")]
mod table;

/// What the idea files take their atomics and locks from here.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }
}

use domain::{Limit, Unit};
use gcra::{Cell, Rate};
use loom::sync::Arc;
use loom::thread;
use table::Slots;

const SECOND: u64 = 1_000_000_000;

fn rate(burst: u32) -> Rate {
    let limit = Limit {
        requests: 1,
        unit: Unit::Second,
        burst,
    };
    Rate::new(limit).unwrap()
}

#[test]
fn two_threads_that_charge_twice_each_get_no_more_than_the_bucket_holds() {
    loom::model(|| {
        let (cell, rate) = (Arc::new(Cell::new()), rate(3));
        let charge = move |cell: &Cell| (0..2).filter(|_| cell.take(&rate, 0, 1).allowed).count();
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || charge(&cell))
        };
        let ours = charge(&cell);
        assert_eq!(ours + other.join().unwrap(), 3);
    });
}

/// What a thread does with a table: how many of its charges are admitted.
type Charges = fn(&Slots) -> usize;

/// Lets two threads charge a table, and then looks at it, and at how many were admitted by both.
///
/// Each of them goes first once. Of those who read a word loom remembers the last: where the thread that runs first only
/// reads it, and the other reads it too and then writes, loom does not see that the order of the two matters, and leaves
/// out those in which the writer comes first.
fn together(made: fn() -> Slots, one: Charges, other: Charges, then: fn(&Slots, usize)) {
    for (first, second) in [(one, other), (other, one)] {
        loom::model(move || {
            let slots = Arc::new(made());
            let thread = {
                let slots = Arc::clone(&slots);
                thread::spawn(move || second(&slots))
            };
            let admitted = first(&slots);
            then(&slots, admitted + thread.join().unwrap());
        });
    }
}

fn admitted(slots: &Slots, now_ns: u64, hash: u64) -> usize {
    usize::from(slots.take(&rate(1), now_ns, hash, 1).is_ok_and(|taken| taken.allowed))
}

#[test]
fn a_key_that_two_bring_at_once_gets_one_bucket() {
    let once = |slots: &Slots| admitted(slots, 0, 7);
    together(
        || Slots::new(1, 2, 1),
        once,
        once,
        |_, admitted| assert_eq!(admitted, 1),
    );
}

#[test]
fn a_key_gets_one_bucket_while_the_slot_before_it_is_being_taken() {
    // Two locks, so that keys 7 and 8 do not wait for each other. While key 8 is on its way into the first slot, key 7 goes
    // past it into the second, and must be found there.
    together(
        || Slots::new(1, 3, 2),
        |slots| admitted(slots, 0, 8),
        |slots| admitted(slots, 0, 7) + admitted(slots, 0, 7),
        |_, admitted| assert_eq!(admitted, 2),
    );
}

/// A table in which key 7 has spent what it had at 0, and is full again after a second.
fn used(slots: usize, locks: usize) -> Slots {
    let slots = Slots::new(1, slots, locks);
    assert_eq!(admitted(&slots, 0, 7), 1);
    slots
}

#[test]
fn whoever_read_the_clock_before_its_bucket_was_given_away_gets_no_second_burst() {
    // Key 9 takes the slot of key 7 at 1 s, while a charge of key 7 is on its way that read the clock before, at 0. If it
    // comes after key 9, it may pass, as late as it is; but then there is no other until 2 s.
    together(
        || used(2, 2),
        |slots| admitted(slots, 0, 7),
        |slots| admitted(slots, SECOND, 9),
        |slots, both| assert_eq!(both + admitted(slots, SECOND, 7), 2),
    );
}

#[test]
fn a_bucket_that_is_charged_is_not_given_away_meanwhile() {
    // The only slot is that of key 7, and full again. Its owner charges it while key 9 wants it. Whoever is first has it; the
    // owner must not be told twice that he may, in that slot or in none.
    together(
        || used(1, 1),
        |slots| admitted(slots, 2 * SECOND, 7) + admitted(slots, 2 * SECOND, 7),
        |slots| admitted(slots, 2 * SECOND, 9),
        |_, admitted| assert_eq!(admitted, 1),
    );
}

#[test]
fn whoever_loses_its_slot_meanwhile_is_not_judged_by_the_bucket_of_the_next() {
    // As above, but with a second slot: both are full, so both are let in.
    together(
        || used(2, 2),
        |slots| admitted(slots, 2 * SECOND, 7),
        |slots| admitted(slots, 2 * SECOND, 9),
        |_, admitted| assert_eq!(admitted, 2),
    );
}
