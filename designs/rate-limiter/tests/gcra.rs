//! The bucket in one word, held against an exact model: rational numbers, no ticks, no words.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use proptest::prelude::*;
use rate_limiter::adapters::TokenBuckets;
use rate_limiter::domain::{FailureMode, Limit, Rule, Unit};
use rate_limiter::gcra::{Cell, Rate};
use rate_limiter::table::Table;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

fn limit(requests: u32, unit: Unit, burst: u32) -> Limit {
    Limit { requests, unit, burst }
}

/// What is still to be made up for, in requests times nanoseconds of a window, and when that was so.
struct Model {
    limit: Limit,
    window_ns: i128,
    backlog: i128,
    at_ns: u64,
}

impl Model {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            window_ns: i128::from(limit.unit.seconds()) * i128::from(SECOND),
            backlog: 0,
            at_ns: 0,
        }
    }

    /// By how much a charge is above what fits, in the same unit; 0 or less fits.
    fn above(&mut self, now_ns: u64, cost: u64) -> i128 {
        let gone = i128::from(now_ns.saturating_sub(self.at_ns));
        self.backlog = (self.backlog - gone * i128::from(self.limit.requests)).max(0);
        self.at_ns = self.at_ns.max(now_ns);
        self.backlog + (i128::from(cost) - i128::from(self.limit.burst)) * self.window_ns
    }

    fn charge(&mut self, cost: u64) {
        self.backlog += i128::from(cost) * self.window_ns;
    }
}

fn units() -> impl Strategy<Value = Unit> {
    prop::sample::select(vec![
        Unit::Second,
        Unit::Minute,
        Unit::Hour,
        Unit::Day,
        Unit::Week,
        Unit::Month,
        Unit::Year,
    ])
}

fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![
        1..=1u32,
        1..100u32,
        1..1_000_000u32,
        Just(1_000_000_000),
        Just(999_999_937),
        Just(u32::MAX)
    ]
}

/// Plays a script to both: pauses as shares of what a request takes to be made up for, and costs.
fn agrees(limit: Limit, script: &[(u64, u64)], model_limit: Limit) -> Result<(), String> {
    let Ok(rate) = Rate::new(limit) else { return Ok(()) };
    let (cell, mut model) = (Cell::new(), Model::new(model_limit));
    let window_ns = limit.unit.seconds() * SECOND;
    // A tick of the clock on either side: it is rounded, once.
    let tick = i128::from(limit.requests) + i128::from(window_ns.div_ceil(1 << 30)) * 2 + 2;
    let mut now_ns = 0u64;
    for (pause, cost) in script {
        let pause_ns = u128::from(*pause) * u128::from(window_ns) / u128::from(limit.requests) / 1_000;
        now_ns = (now_ns + u64::try_from(pause_ns).unwrap_or(u64::MAX / 4)).min(1 << 59);
        let above = model.above(now_ns, *cost);
        let taken = cell.take(&rate, now_ns, *cost);
        if taken.allowed && above > tick && *cost > 0 {
            return Err(format!("admitted {cost} at {now_ns}, {above} above the model"));
        }
        if !taken.allowed && above < -tick {
            return Err(format!("refused {cost} at {now_ns}, {} below the model", -above));
        }
        if taken.allowed {
            model.charge(*cost);
        }
    }
    Ok(())
}

/// An admission: when the clock was read, the latest that anybody had read by the time of the answer, and what was charged.
type Admission = (u64, u64, u64);

/// The promise, for every interval: of what was asked and answered within it, no more than the burst and what fills up.
/// Whoever had read the clock long before may be late, but not add to what the others got.
fn keeps_its_promise(limit: Limit, admissions: &[Admission]) -> Result<(), String> {
    let window_ns = u128::from(limit.unit.seconds() * SECOND);
    let requests = u128::from(limit.requests);
    for &(from, ..) in admissions {
        for &(_, until, _) in admissions.iter().filter(|(_, until, _)| *until >= from) {
            let within = |(read, answered, _): &&Admission| *read >= from && *answered <= until;
            let admitted: u64 = admissions.iter().filter(within).map(|(.., cost)| cost).sum();
            // A nanosecond more for the clock, which is rounded.
            let owed = u128::from(limit.burst) * window_ns + requests * u128::from(until - from + 1);
            if u128::from(admitted) * window_ns > owed {
                return Err(format!("{admitted} admitted from {from} to {until}"));
            }
        }
    }
    Ok(())
}

/// One step of a script for a table: how far ahead of zero the clock is, in thousandths of what a request takes to be made
/// up for; who asks; what it costs.
type Step = (u64, Who, u64);

#[derive(Clone, Copy, Debug)]
enum Who {
    Regular(usize),
    /// Never seen before, so that it takes the place of somebody whose bucket is full.
    Stranger,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = prop_oneof![(0..2usize).prop_map(Who::Regular), Just(Who::Stranger)];
    prop::collection::vec((0..12_000u64, who, 1..4u64), 1..40)
}

/// What a table of one key admits of a script, in which the clock goes to and fro: by whom and when.
fn played(limit: Limit, steps: &[Step]) -> [Vec<Admission>; 2] {
    let rate = Rate::new(limit).unwrap();
    let table = Table::new(1);
    let mut admissions = [Vec::new(), Vec::new()];
    let mut latest = 0;
    let interval_ns = limit.unit.seconds() * SECOND / u64::from(limit.requests);
    for (nth, &(at, who, cost)) in steps.iter().enumerate() {
        let now_ns = at * interval_ns / 1_000;
        latest = latest.max(now_ns);
        let key = match who {
            Who::Regular(regular) => format!("regular-{regular}"),
            Who::Stranger => format!("stranger-{nth}"),
        };
        let allowed = table.take(&rate, now_ns, &key, cost).is_ok_and(|taken| taken.allowed);
        if let (true, Who::Regular(regular)) = (allowed, who) {
            admissions[regular].push((now_ns, latest, cost));
        }
    }
    admissions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// varnish/libvmod-vsthrottle, issue 4, as far as it can happen by a clock that never goes back: a thread that has read
    /// it may come late, after others with later times and after its bucket was given away.
    #[test]
    fn in_no_interval_is_more_admitted_than_promised_however_late_somebody_is(
        requests in prop_oneof![1..=1u32, Just(3u32), Just(7u32), Just(1_000u32)],
        burst in 3..8u32,
        steps in steps(),
    ) {
        let limit = limit(requests, Unit::Second, burst);
        for admissions in played(limit, &steps) {
            keeps_its_promise(limit, &admissions).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn decides_as_the_exact_model_does(
        requests in numbers(),
        unit in units(),
        burst in numbers(),
        script in prop::collection::vec((prop_oneof![Just(0u64), 0..3_000u64], prop_oneof![0..3u64, Just(u64::MAX), 0..100u64]), 1..60),
    ) {
        let limit = limit(requests, unit, burst);
        agrees(limit, &script, limit).map_err(TestCaseError::fail)?;
    }

    /// Waiting exactly as long as is said lets the charge in, and not a tick less.
    #[test]
    fn the_wait_is_true(
        requests in 1..2_000_000_000u32,
        unit in units(),
        burst in 1..100_000u32,
        used in 1..100_000u64,
        cost in 1..1_000u64,
        at_ns in 0..DAY,
    ) {
        prop_assume!(cost <= u64::from(burst));
        let Ok(rate) = Rate::new(limit(requests, unit, burst)) else { return Ok(()) };
        let cell = Cell::new();
        cell.take(&rate, at_ns, used.min(u64::from(burst)));
        let probe = |now_ns| {
            let copy = Cell::new();
            copy.take(&rate, at_ns, used.min(u64::from(burst)));
            copy.take(&rate, now_ns, cost)
        };
        let first = probe(at_ns);
        if let Some(wait) = first.retry_in_ns {
            prop_assert!(wait > 0);
            prop_assert!(probe(at_ns + wait).allowed);
            prop_assert!(!probe(at_ns + wait - 1).allowed);
        } else {
            prop_assert!(first.allowed);
        }
    }

    /// What remains is what one more charge can take, and no more.
    #[test]
    fn what_remains_is_true(requests in numbers(), burst in 1..10_000u32, costs in prop::collection::vec(1..200u64, 1..20)) {
        let Ok(rate) = Rate::new(limit(requests, Unit::Minute, burst)) else { return Ok(()) };
        let cell = Cell::new();
        for cost in costs {
            let remaining = cell.take(&rate, 0, cost).remaining;
            prop_assert!(!cell.take(&rate, 0, remaining + 1).allowed);
        }
        let left = cell.take(&rate, 0, 0).remaining;
        prop_assert!(left == 0 || cell.take(&rate, 0, left).allowed);
    }
}

#[test]
fn the_model_sees_a_limit_that_is_one_too_high() {
    let script: Vec<(u64, u64)> = (0..40).map(|_| (0, 1)).collect();
    agrees(limit(10, Unit::Second, 10), &script, limit(10, Unit::Second, 10)).unwrap();
    assert!(agrees(limit(10, Unit::Second, 11), &script, limit(10, Unit::Second, 10)).is_err());
}

#[test]
fn the_check_of_the_promise_sees_one_request_too_many() {
    let five = limit(5, Unit::Second, 5);
    let at_once = |count| (0..count).map(|_| (SECOND, SECOND, 1)).collect::<Vec<_>>();
    keeps_its_promise(five, &at_once(5)).unwrap();
    assert!(keeps_its_promise(five, &at_once(6)).is_err());
    let mut a_fifth_later = at_once(5);
    a_fifth_later.push((SECOND + SECOND / 5, SECOND + SECOND / 5, 1));
    keeps_its_promise(five, &a_fifth_later).unwrap();
    a_fifth_later.push((SECOND + SECOND / 5, SECOND + SECOND / 5, 1));
    assert!(keeps_its_promise(five, &a_fifth_later).is_err());
}

#[test]
fn a_bucket_that_was_given_away_is_not_full_again_for_whoever_is_late() {
    let rate = Rate::new(limit(5, Unit::Second, 5)).unwrap();
    let table = Table::new(1);
    assert!(table.take(&rate, 0, "late", 5).unwrap().allowed);
    // Full again, so that the place is free.
    assert!(table.take(&rate, SECOND, "stranger", 5).unwrap().allowed);
    // By a clock that was read before; it is as late as the stranger, and charged as such.
    assert!(table.take(&rate, 0, "late", 5).unwrap().allowed);
    assert!(!table.take(&rate, SECOND, "late", 1).unwrap().allowed);
    assert!(table.take(&rate, SECOND + SECOND / 5, "late", 1).unwrap().allowed);
}

#[test]
fn at_the_end_of_the_clock_a_refusal_still_says_how_long() {
    let rate = Rate::new(limit(1, Unit::Day, 1)).unwrap();
    let cell = Cell::new();
    assert!(cell.take(&rate, u64::MAX, 1).allowed);
    // Not zero: whoever is told so asks again and again.
    assert_eq!(cell.take(&rate, u64::MAX, 1).retry_in_ns, Some(DAY));
}

#[test]
fn the_ends_of_all_ranges_neither_panic_nor_overflow() {
    for requests in [1, 2, 3, 7, 1_000_000_000, u32::MAX] {
        for unit in [Unit::Second, Unit::Day, Unit::Year] {
            for burst in [1, 2, 1_000_000, u32::MAX] {
                let Ok(rate) = Rate::new(limit(requests, unit, burst)) else {
                    continue;
                };
                for now_ns in [0, 1, SECOND, DAY, 1 << 59, u64::MAX] {
                    let cell = Cell::new();
                    assert!(cell.take(&rate, now_ns, 0).allowed);
                    assert!(cell.take(&rate, now_ns, 1).allowed);
                    assert!(!cell.take(&rate, now_ns, u64::MAX).allowed);
                    assert!(
                        cell.take(&rate, now_ns, u64::MAX).retry_in_ns.is_none(),
                        "no wait helps"
                    );
                    assert!(cell.take(&rate, now_ns, u64::from(burst) - 1).allowed);
                }
            }
        }
    }
}

#[test]
fn one_a_day_and_a_thousand_million_a_second_are_exact() {
    let daily = Rate::new(limit(1, Unit::Day, 1)).unwrap();
    let cell = Cell::new();
    for day in 0..1_000 {
        assert!(cell.take(&daily, day * DAY, 1).allowed, "day {day}");
        assert!(!cell.take(&daily, (day + 1) * DAY - 1, 1).allowed, "day {day}");
    }
    let fast = Rate::new(limit(1_000_000_000, Unit::Second, 1)).unwrap();
    let cell = Cell::new();
    for ns in 0..1_000 {
        assert!(cell.take(&fast, ns, 1).allowed, "{ns} ns");
        assert!(!cell.take(&fast, ns, 1).allowed, "{ns} ns");
    }
}

#[test]
fn thirds_of_a_second_do_not_drift() {
    // A burst of two, so that a bucket is never full when whoever waits comes a part of a nanosecond late.
    let rate = Rate::new(limit(3, Unit::Second, 2)).unwrap();
    let cell = Cell::new();
    let mut admitted = 0u64;
    let mut now_ns = 0;
    // Each as early as it is let in.
    while now_ns < 1_000_000 * SECOND {
        let taken = cell.take(&rate, now_ns, 1);
        if taken.allowed {
            admitted += 1;
        }
        if !taken.allowed {
            now_ns += taken.retry_in_ns.unwrap();
        }
        if admitted == 30_000 {
            break;
        }
    }
    let exact = (admitted - 2) * SECOND / 3;
    assert!(now_ns.abs_diff(exact) <= 1, "{now_ns} instead of {exact}");
}

#[test]
fn a_limit_that_fits_into_no_word_is_refused_with_the_reason() {
    let refused = Rate::new(limit(1, Unit::Year, u32::MAX)).unwrap_err().to_string();
    assert!(refused.contains("4294967295 years"), "{refused}");
    assert!(Rate::new(limit(0, Unit::Second, 1)).is_err());
    assert!(Rate::new(limit(1, Unit::Second, 0)).is_err());
}

/// varnish/libvmod-vsthrottle, issue 4: a clock that went back by two days shut people out for two days. One word cannot tell
/// that from a bucket that was emptied two days ahead, so it must be given a clock that never goes back, as `Local` does.
#[test]
fn a_clock_that_goes_back_gives_no_burst_and_is_waited_for() {
    let rate = Rate::new(limit(10, Unit::Second, 10)).unwrap();
    let cell = Cell::new();
    let now_ns = 10 * DAY;
    assert!(cell.take(&rate, now_ns, 10).allowed);
    let back = cell.take(&rate, now_ns - 2 * DAY, 1);
    assert!(!back.allowed, "no burst");
    // True, if the clock goes on from there.
    assert_eq!(back.retry_in_ns, Some(2 * DAY + SECOND / 10));
    assert!(cell.take(&rate, now_ns + SECOND, 10).allowed);
}

/// antifuchs/ratelimit_meter, issue 36: the wait ignored the burst.
#[test]
fn the_wait_is_until_there_is_room_and_not_until_the_bucket_is_full() {
    let rate = Rate::new(limit(10, Unit::Second, 5)).unwrap();
    let cell = Cell::new();
    cell.take(&rate, 0, 5);
    let refused = cell.take(&rate, 0, 1);
    assert_eq!(refused.retry_in_ns, Some(SECOND / 10));
    assert_eq!(refused.full_in_ns, SECOND / 2);
}

#[test]
fn a_table_keeps_those_that_are_active_and_forgets_those_that_are_full() {
    let rate = Rate::new(limit(1, Unit::Second, 1)).unwrap();
    let table = Table::new(100);
    let mut taken = Vec::new();
    for nth in 0..10_000 {
        let key = format!("user-{nth}");
        if let Ok(decided) = table.take(&rate, SECOND, &key, 1) {
            assert!(decided.allowed);
            taken.push(key);
        }
    }
    assert!((100..=300).contains(&taken.len()), "{}", taken.len());
    for key in &taken {
        assert!(
            !table.take(&rate, SECOND, key, 1).unwrap().allowed,
            "{key} got a second burst"
        );
    }
    // Two seconds later all are full, and there is room for as many new ones.
    let later = (20_000..20_100).filter(|nth| table.take(&rate, 3 * SECOND, &format!("user-{nth}"), 1).is_ok());
    assert_eq!(later.count(), 100);
}

#[test]
fn a_question_takes_no_room() {
    let rate = Rate::new(limit(1, Unit::Second, 1)).unwrap();
    let table = Table::new(100);
    for nth in 0..10_000 {
        assert_eq!(table.take(&rate, 0, &format!("user-{nth}"), 0).unwrap().remaining, 1);
    }
    let fits = (0..100).filter(|nth| table.take(&rate, 0, &format!("other-{nth}"), 1).is_ok());
    assert_eq!(fits.count(), 100);
}

#[test]
fn of_many_threads_no_more_get_in_than_a_burst_has() {
    let rule = Rule {
        name: String::from("five"),
        limit: limit(5, Unit::Year, 5),
        algorithm: None,
        failure: FailureMode::Local,
        shadow: false,
        single: false,
    };
    for round in 0..1_000 {
        let buckets = TokenBuckets::open(&rule, 10).unwrap();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..50)
                            .filter(|_| buckets.take(round, "key", 1).unwrap().allowed)
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 5, "round {round}");
    }
}
