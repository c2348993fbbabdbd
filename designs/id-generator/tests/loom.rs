//! The word behind the ids in every interleaving: loom runs `src/snowflake.rs` itself, with atomics of its own in place of
//! the standard library's.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "../src/layout.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "it is a public module of the design, and a private one here"
)]
mod layout;

#[path = "../src/snowflake.rs"]
#[allow(unreachable_pub, dead_code, reason = "as above")]
mod snowflake;

/// What the idea file takes its atomic from here.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use layout::Layout;
use loom::sync::Arc;
use loom::thread;
use snowflake::Snowflake;

/// Counted from 1970, so that tick 5 is tick 5. Of all layouts the one with the fewest ids a tick, 256: they are compared in
/// every interleaving.
const LAYOUT: Layout = Layout::SONYFLAKE.since(0);

/// Takes so many numbers at each of these ticks.
fn takes(snowflake: &Snowflake, ticks: &[(u64, u32)]) -> Vec<u64> {
    let taken = ticks.iter().filter_map(|(tick, count)| {
        let taken = snowflake.take(*count, || LAYOUT.time_ms(*tick)).ok()?;
        Some(taken.ids().collect::<Vec<_>>())
    });
    let ids: Vec<u64> = taken.flatten().collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "one taker's ids go back: {ids:?}");
    ids
}

/// Two threads, three calls each, by these clocks: whatever they show, no id comes twice.
fn never_doubles(ours: [(u64, u32); 3], theirs: [(u64, u32); 3]) {
    loom::model(move || {
        let snowflake = Arc::new(Snowflake::new(LAYOUT, 1, 0).unwrap());
        let other = {
            let snowflake = Arc::clone(&snowflake);
            thread::spawn(move || takes(&snowflake, &theirs))
        };
        let mut ids = takes(&snowflake, &ours);
        ids.extend(other.join().unwrap());
        let made = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), made, "an id came twice");
        assert!(ids.iter().all(|id| LAYOUT.decompose(*id).unwrap().node == 1));
    });
}

#[test]
fn two_threads_by_one_clock_never_make_one_id_twice() {
    never_doubles([(5, 1), (5, 1), (6, 1)], [(5, 1), (6, 1), (6, 1)]);
}

#[test]
fn a_clock_that_steps_back_never_makes_one_id_twice() {
    never_doubles([(5, 1), (4, 1), (5, 1)], [(5, 1), (6, 1), (3, 1)]);
}

#[test]
fn numbers_that_run_over_into_the_next_tick_never_meet_those_taken_there() {
    never_doubles([(5, 255), (5, 2), (6, 1)], [(5, 3), (6, 256), (6, 1)]);
}

/// Whoever gives a node id back says how far its ids have come: no taker may go further, whenever he looked.
#[test]
fn nothing_is_taken_beyond_what_was_reached_when_it_was_closed() {
    loom::model(|| {
        let snowflake = Arc::new(Snowflake::new(LAYOUT, 1, 0).unwrap());
        let taker = {
            let snowflake = Arc::clone(&snowflake);
            thread::spawn(move || takes(&snowflake, &[(5, 1), (6, 1), (7, 1)]))
        };
        let reached = snowflake.close();
        let ids = taker.join().unwrap();
        let ticks = ids
            .iter()
            .map(|id| LAYOUT.tick(LAYOUT.decompose(*id).unwrap().time_ms).unwrap());
        assert!(
            ticks.max().is_none_or(|last| last < reached),
            "an id after it was closed"
        );
    });
}

/// The threads ask one clock, which moves on at each look and never back: then nobody may be refused for his clock.
#[test]
fn a_clock_that_does_not_go_back_is_never_found_behind() {
    loom::model(|| {
        let clock = Arc::new(sync::AtomicU64::new(1));
        let snowflake = Arc::new(Snowflake::new(LAYOUT, 1, 0).unwrap());
        let take_two = |snowflake: &Snowflake, clock: &sync::AtomicU64| {
            for _ in 0..2 {
                let now = || LAYOUT.time_ms(clock.fetch_add(1, sync::Ordering::SeqCst));
                let taken = snowflake.take(1, now);
                assert!(taken.is_ok(), "refused: {:?}", taken.err());
            }
        };
        let other = {
            let (snowflake, clock) = (Arc::clone(&snowflake), Arc::clone(&clock));
            thread::spawn(move || take_two(&snowflake, &clock))
        };
        take_two(&snowflake, &clock);
        other.join().unwrap();
    });
}

/// The control: the same question put to a generator that reads and writes in two steps must find an id made twice.
#[test]
#[should_panic(expected = "twice")]
fn a_generator_that_reads_and_writes_in_two_steps_is_caught() {
    use sync::{AtomicU64, Ordering};
    loom::model(|| {
        let next = Arc::new(AtomicU64::new(0));
        let careless = |next: &AtomicU64| {
            let id = next.load(Ordering::Acquire);
            next.store(id + 1, Ordering::Release);
            id
        };
        let other = {
            let next = Arc::clone(&next);
            thread::spawn(move || careless(&next))
        };
        let mine = careless(&next);
        assert_ne!(mine, other.join().unwrap(), "one id was made twice");
    });
}

/// The control: the bug of twitter-archive/snowflake, issue 6. The sequence is reset before the clock is looked at, so a
/// refusal leaves it at 0, and the tick that comes again begins anew.
#[test]
#[should_panic(expected = "twice")]
fn a_generator_that_resets_its_sequence_before_it_looks_at_the_clock_is_caught() {
    struct Reset {
        last: u64,
        sequence: u64,
    }
    let mut reset = Reset { last: 0, sequence: 0 };
    let mut next = |now: u64| {
        reset.sequence = if now == reset.last { reset.sequence + 1 } else { 0 };
        if now < reset.last {
            return None;
        }
        reset.last = now;
        LAYOUT.compose(now, 1, reset.sequence)
    };
    let ids: Vec<u64> = [5, 5, 4, 5].into_iter().filter_map(&mut next).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(ids.len(), once.len(), "an id came twice: {ids:?}");
}
