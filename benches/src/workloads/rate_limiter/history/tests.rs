//! Sabotaged histories are found, right ones never accused, and what is forgotten changes nothing.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const PROMISE: Promise = Promise {
    limit: 10,
    window_ns: 1_000 * MS,
    burst: 10,
    excess: 0,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Admitted,
    Refused,
    Lost,
    Dropped,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Decision {
    sent: u64,
    answered: u64,
    outcome: Outcome,
}

/// Tells a history all decisions of one user, in the order of their times, sendings first; what it complains about.
fn tell(promise: Promise, decisions: &[Decision]) -> (History, Vec<String>) {
    let mut history = History::new(promise, 1);
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (nth, decision) in decisions.iter().enumerate() {
        events.push((decision.sent, false, nth));
        events.push((decision.answered, true, nth));
    }
    events.sort_unstable();
    let mut tokens = vec![0; decisions.len()];
    let mut wrong = Vec::new();
    for (time, answered, nth) in events {
        let now_ns = time * MS;
        if !answered {
            tokens[nth] = history.sent(0, now_ns);
            continue;
        }
        match decisions[nth].outcome {
            Outcome::Admitted => wrong.extend(history.admitted(0, tokens[nth], now_ns).err()),
            Outcome::Refused => wrong.extend(history.refused(0, tokens[nth], now_ns).err()),
            Outcome::Lost => history.lost(0, tokens[nth], now_ns),
            Outcome::Dropped => history.dropped(0, tokens[nth], now_ns),
        }
    }
    (history, wrong)
}

fn at(time: u64, outcome: Outcome) -> Decision {
    Decision {
        sent: time,
        answered: time + 1,
        outcome,
    }
}

fn admitted(times: impl IntoIterator<Item = u64>) -> Vec<Decision> {
    times.into_iter().map(|time| at(time, Outcome::Admitted)).collect()
}

const NOTHING: Vec<String> = Vec::new();

#[test]
fn a_whole_burst_and_then_its_rate_is_what_was_promised() {
    let times = (0..10).chain((1..50).map(|nth| 9 + nth * 100));
    let (history, wrong) = tell(PROMISE, &admitted(times));
    assert_eq!(wrong, NOTHING);
    // The burst of ten and nine of those that come after it.
    assert_eq!(history.most_in_a_window(), 19.0 / 20.0);
}

#[test]
fn twice_the_limit_across_an_edge_is_found() {
    let (history, wrong) = tell(PROMISE, &admitted(990..1_010));
    // In 20 ms a fifth of a request leaks.
    assert_eq!(wrong.len(), 10, "{wrong:?}");
    assert_eq!(
        wrong[0],
        "11 were admitted within 0.011 s, 10 at the most were promised"
    );
    assert_eq!(history.counts().too_many, 10);
}

/// What is left out once does not accuse those that come after it.
#[test]
fn one_too_many_is_counted_once() {
    let mut times: Vec<u64> = (0..11).collect();
    times.extend((1..50).map(|nth| 10 + nth * 100));
    let (history, wrong) = tell(PROMISE, &admitted(times));
    assert_eq!((wrong.len(), history.counts().too_many), (1, 1), "{wrong:?}");
}

#[test]
fn a_lost_update_is_found() {
    // Eleven at once, of which two were counted as one.
    let (_, wrong) = tell(PROMISE, &admitted(std::iter::repeat_n(0, 11)));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert_eq!(tell(PROMISE, &admitted(std::iter::repeat_n(0, 10))).1, NOTHING);
}

#[test]
fn what_servers_hold_may_be_admitted_beyond() {
    let promise = Promise { excess: 2, ..PROMISE };
    assert_eq!(tell(promise, &admitted(std::iter::repeat_n(0, 12))).1, NOTHING);
    assert_eq!(tell(promise, &admitted(std::iter::repeat_n(0, 13))).1.len(), 1);
}

#[test]
fn answers_that_come_late_accuse_nobody() {
    // Twenty that were all under way for a second: half of them may have been decided at its end.
    let decisions = [Decision {
        sent: 0,
        answered: 1_000,
        outcome: Outcome::Admitted,
    }; 20];
    assert_eq!(tell(PROMISE, &decisions).1, NOTHING);
}

/// A slow answer makes its own interval longer, and nobody else's.
#[test]
fn a_request_that_is_under_way_all_the_while_hides_nothing() {
    let mut decisions = vec![Decision {
        sent: 0,
        answered: 9_000,
        outcome: Outcome::Admitted,
    }];
    decisions.extend(admitted((2_000..2_012).chain(5_000..5_012)));
    assert_eq!(tell(PROMISE, &decisions).1.len(), 4);
}

#[test]
fn a_refusal_with_room_is_wrong_and_one_without_is_right() {
    let refused = |before: Vec<Decision>, time| {
        let mut decisions = before;
        decisions.push(at(time, Outcome::Refused));
        tell(PROMISE, &decisions).0.counts().refused_wrongly
    };
    assert_eq!(refused(Vec::new(), 0), 1);
    assert_eq!(refused(admitted(0..9), 20), 1);
    assert_eq!(refused(admitted(0..10), 20), 0);
    assert_eq!(refused(admitted(0..10), 900), 0, "a log has all ten in its window");
    assert_eq!(refused(admitted(0..10), 1_020), 1);
    // A bucket that is emptied and used at its rate is empty, and so is its window full.
    assert_eq!(refused(admitted((0..10).chain([110, 210, 310])), 320), 0);
}

/// A burst below the limit is at its end before the window is.
#[test]
fn a_small_bucket_may_refuse_what_the_window_has_room_for() {
    let promise = Promise { burst: 1, ..PROMISE };
    let refused = |time| {
        let decisions = [at(0, Outcome::Admitted), at(time, Outcome::Refused)];
        tell(promise, &decisions).0.counts().refused_wrongly
    };
    assert_eq!((refused(50), refused(120)), (0, 1));
}

#[test]
fn what_is_under_way_or_lost_may_have_been_charged_and_what_was_dropped_was_not() {
    let refused_after = |outcome, answered| {
        let mut decisions = vec![
            Decision {
                sent: 0,
                answered,
                outcome
            };
            10
        ];
        decisions.push(at(5, Outcome::Refused));
        tell(PROMISE, &decisions).0.counts().refused_wrongly
    };
    assert_eq!(refused_after(Outcome::Admitted, 100), 0, "under way");
    assert_eq!(refused_after(Outcome::Lost, 1), 0);
    assert_eq!(refused_after(Outcome::Dropped, 1), 1);
}

#[test]
fn an_answer_is_taken_down_once() {
    let mut history = History::new(PROMISE, 1);
    let which = history.sent(0, 0);
    history.lost(0, which, MS);
    assert_eq!(history.refused(0, which, 2 * MS), Ok(()));
    let counts = history.counts();
    assert_eq!((counts.unknown, counts.refused), (1, 0));
}

/// However long a run is, a user takes no more than his window.
#[test]
fn memory_is_bounded_by_the_window() {
    let mut history = History::new(PROMISE, 1);
    for nth in 0..100_000 {
        let now_ns = nth * 100 * MS;
        let which = history.sent(0, now_ns);
        history.admitted(0, which, now_ns + MS).unwrap();
    }
    let user = &history.users[0];
    let kept = [
        user.flights.queue.len(),
        user.beginnings.open.len(),
        user.in_sight.len(),
        user.pours.answers.len(),
    ];
    assert!(kept.iter().all(|kept| *kept <= 12), "{kept:?}");
    assert_eq!(history.counts().admitted, 100_000);
    assert!(size_of::<User>() <= 256, "{}", size_of::<User>());
}

// The naive checkers: by the definition, over everything, forgetting nothing.

/// Whether in any interval from a sending to an answer more were admitted than was promised.
fn broken(promise: &Promise, admitted: &[Decision]) -> bool {
    admitted.iter().any(|first| {
        admitted.iter().any(|last| {
            let inside = admitted
                .iter()
                .filter(|one| one.sent >= first.sent && one.answered <= last.answered)
                .count() as u64;
            let length_ns = (last.answered.saturating_sub(first.sent)) * MS + TICK_NS;
            last.answered >= first.sent
                && promise.requests(inside)
                    > promise.requests(promise.burst + promise.excess) + promise.leaked_fast(length_ns)
        })
    })
}

/// How many were too many: each is left out of what is looked at afterwards.
fn too_many(promise: &Promise, decisions: &[Decision]) -> u64 {
    let mut kept: Vec<Decision> = Vec::new();
    let mut too_many = 0;
    for decision in in_order_of_answers(decisions).filter(|one| one.outcome == Outcome::Admitted) {
        kept.push(decision);
        if broken(promise, &kept) {
            kept.pop();
            too_many += 1;
        }
    }
    too_many
}

fn in_order_of_answers(decisions: &[Decision]) -> impl Iterator<Item = Decision> {
    let mut all: Vec<(usize, Decision)> = decisions.iter().copied().enumerate().collect();
    all.sort_by_key(|(nth, one)| (one.answered, *nth));
    all.into_iter().map(|(_, one)| one)
}

/// The most that was admitted from some sending on, for no longer than a window.
fn most_in_a_window(promise: &Promise, decisions: &[Decision]) -> u64 {
    let admitted = || decisions.iter().filter(|one| one.outcome == Outcome::Admitted);
    let within = |last: &Decision| {
        let from = last.answered.saturating_sub(promise.window_ns / MS);
        let inside = admitted().filter(|one| one.sent >= from && one.answered <= last.answered);
        inside.count() as u64
    };
    admitted().map(within).max().unwrap_or(0)
}

/// How many were refused although the bucket was not empty from whatever time on one counts, nor the window full.
fn refused_wrongly(promise: &Promise, decisions: &[Decision]) -> u64 {
    let order: Vec<Decision> = in_order_of_answers(decisions).collect();
    let refused = order
        .iter()
        .enumerate()
        .filter(|(_, one)| one.outcome == Outcome::Refused);
    let wrong = refused.filter(|(nth, refusal)| {
        let charges: Vec<u64> = order
            .iter()
            .enumerate()
            .filter_map(|(other, one)| {
                let answered_before = other < *nth;
                match one.outcome {
                    // Until it is answered, nobody knows what will become of it.
                    _ if !answered_before && other != *nth && one.sent <= refusal.answered => Some(refusal.sent),
                    Outcome::Admitted if answered_before => Some(one.answered.min(refusal.sent)),
                    Outcome::Lost if answered_before => Some(refusal.sent),
                    _ => None,
                }
            })
            .collect();
        let from = charges.iter().copied().chain([refusal.sent]);
        let level = from.map(|from| {
            let since = charges.iter().filter(|time| **time >= from).count() as u64;
            promise.requests(since) - promise.leaked_slowly(((refusal.sent - from) * MS).saturating_sub(TICK_NS))
        });
        let level = level.max().unwrap_or(0) + promise.requests(promise.excess);
        let from_ns = promise.window_before(refusal.sent * MS);
        let window = charges.iter().filter(|time| **time * MS >= from_ns).count() as u64 + promise.excess;
        level + promise.request() <= promise.requests(promise.burst) && window < promise.limit
    });
    wrong.count() as u64
}

fn promises() -> impl Strategy<Value = Promise> {
    (
        1u64..12,
        1u64..12,
        prop::sample::select(vec![100u64, 1_000, 7_000]),
        0u64..3,
    )
        .prop_map(|(limit, burst, window, excess)| Promise {
            limit,
            burst,
            excess,
            window_ns: window * MS,
        })
}

/// Decisions that overlap as they like, of whatever outcome.
fn histories() -> impl Strategy<Value = Vec<Decision>> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Admitted),
        3 => Just(Outcome::Refused),
        1 => Just(Outcome::Lost),
        1 => Just(Outcome::Dropped),
    ];
    let took = prop_oneof![8 => 0u64..30, 1 => 0u64..2_000];
    let gap = prop_oneof![8 => 0u64..40, 1 => 0u64..3_000];
    prop::collection::vec((gap, took, outcome), 1..60).prop_map(|steps| {
        let mut now = 0;
        let mut decide = |(gap, took, outcome)| {
            now += gap;
            Decision {
                sent: now,
                answered: now + took,
                outcome,
            }
        };
        steps.into_iter().map(&mut decide).collect()
    })
}

/// What limiters do that keep the promise, one decision after the other.
#[derive(Debug, Clone, Copy)]
enum Limiter {
    Bucket,
    Log,
    /// Which does not keep it, but refuses nobody wrongly.
    Counter,
}

impl Limiter {
    /// Whether it admits at this time, in nanoseconds, after these.
    fn admits(self, promise: &Promise, before: &[u64], now: u64) -> bool {
        let (window, limit) = (promise.window_ns, promise.limit);
        let since = |from: u64| before.iter().filter(|time| **time >= from).count() as u64;
        match self {
            Self::Bucket => before.iter().copied().chain([now]).all(|from| {
                let leaked = i128::from(limit) * i128::from(now - from);
                i128::from(since(from) + 1) * i128::from(window)
                    <= i128::from(promise.burst) * i128::from(window) + leaked
            }),
            Self::Log => (before.iter().filter(|time| **time + window > now).count() as u64) < limit,
            Self::Counter => since(now - now % window) < limit,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// What is forgotten changes nothing: as many are found as by the definition, over all intervals of the whole log.
    #[test]
    fn too_many_are_exactly_those_of_the_definition(promise in promises(), decisions in histories()) {
        let (history, _) = tell(promise, &decisions);
        prop_assert_eq!(history.counts().too_many, too_many(&promise, &decisions));
        let most = most_in_a_window(&promise, &decisions) as f64 / promise.most_in_a_window() as f64;
        prop_assert_eq!(history.most_in_a_window(), most);
    }

    #[test]
    fn refused_wrongly_are_exactly_those_of_the_definition(promise in promises(), decisions in histories()) {
        let (history, _) = tell(promise, &decisions);
        prop_assert_eq!(history.counts().refused_wrongly, refused_wrongly(&promise, &decisions));
    }

    /// Wherever between sending and answer a limiter decided, it is not accused of what it has not done.
    #[test]
    fn a_right_limiter_is_never_accused(
        limiter in prop::sample::select(vec![Limiter::Bucket, Limiter::Log, Limiter::Counter]),
        promise in promises(),
        steps in prop::collection::vec((0u64..60, 0.0f64..1.0, 0u64..40), 1..80),
        small_burst in any::<bool>(),
    ) {
        let burst = match limiter {
            Limiter::Bucket if small_burst => promise.burst,
            _ => promise.limit,
        };
        let promise = Promise { burst, excess: 0, ..promise };
        let mut now = 0;
        let mut asked: Vec<(u64, usize)> = Vec::new();
        let mut decisions = Vec::new();
        for (nth, (gap, when, took)) in steps.into_iter().enumerate() {
            now += gap;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within an answer's time")]
            let decided = now * MS + (took as f64 * MS as f64 * when) as u64;
            asked.push((decided, nth));
            decisions.push(Decision { sent: now, answered: now + took, outcome: Outcome::Refused });
        }
        asked.sort_unstable();
        let mut before = Vec::new();
        for (time, nth) in asked {
            if limiter.admits(&promise, &before, time) {
                before.push(time);
                decisions[nth].outcome = Outcome::Admitted;
            }
        }
        let counts = tell(promise, &decisions).0.counts();
        prop_assert_eq!(counts.refused_wrongly, 0);
        if !matches!(limiter, Limiter::Counter) {
            prop_assert_eq!(counts.too_many, 0);
        }
    }
}
