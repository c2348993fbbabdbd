//! The two pure ideas against others: layouts against an independent implementation, the generator against a model that
//! remembers everything.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::time::Duration;

use ferroid::id::{SnowflakeDiscordId, SnowflakeInstagramId, SnowflakeTwitterId};
use id_generator::layout::{Layout, Parts, Unfit};
use id_generator::snowflake::{Refused, Snowflake};
use proptest::prelude::*;

const LAYOUTS: [Layout; 4] = [Layout::TWITTER, Layout::DISCORD, Layout::INSTAGRAM, Layout::SONYFLAKE];

fn parts(layout: &Layout) -> impl Strategy<Value = (u64, u32, u64)> + use<> {
    (0..=layout.last_tick(), 0..=layout.last_node(), 0..layout.ids_a_tick())
}

/// Which layout, and the parts of one of its ids.
fn layout_and_parts() -> impl Strategy<Value = (Layout, (u64, u32, u64))> {
    (0..LAYOUTS.len()).prop_flat_map(|place| {
        let layout = LAYOUTS[place];
        (Just(layout), parts(&layout))
    })
}

proptest! {
    #[test]
    fn an_id_tells_exactly_what_it_was_made_of((layout, (tick, node, sequence)) in layout_and_parts()) {
        let id = layout.compose(tick, node, sequence).unwrap();
        let told = layout.decompose(id).unwrap();
        prop_assert_eq!(
            (told.time_ms, told.node, u64::from(told.sequence)),
            (layout.time_ms(tick), node, sequence)
        );
        prop_assert_eq!(layout.tick(told.time_ms), Some(tick));
        prop_assert_eq!(layout.tick_from(told.time_ms), tick);
    }

    #[test]
    fn a_later_tick_is_a_greater_id((layout, (tick, node, sequence)) in layout_and_parts(), other in any::<u32>()) {
        prop_assume!(tick > 0);
        let earlier = layout.compose(tick - 1, other & layout.last_node(), layout.ids_a_tick() - 1).unwrap();
        prop_assert!(earlier < layout.compose(tick, node, sequence).unwrap());
    }

    #[test]
    fn nothing_runs_into_its_neighbour((layout, (tick, node, sequence)) in layout_and_parts()) {
        prop_assert_eq!(layout.compose(layout.last_tick() + 1, node, sequence), None);
        prop_assert_eq!(layout.compose(tick, layout.last_node() + 1, sequence), None);
        prop_assert_eq!(layout.compose(tick, node, layout.ids_a_tick()), None);
    }

    /// ferroid's ids have the same bits, from other hands.
    #[test]
    fn ids_are_those_of_an_independent_implementation((layout, (tick, node, sequence)) in layout_and_parts()) {
        let (tick_of, node_of) = (tick, u64::from(node));
        let theirs = match layout.name() {
            "twitter" => SnowflakeTwitterId::from_components(tick_of, node_of, sequence).to_raw(),
            "discord" => SnowflakeDiscordId::from_components(tick_of, node_of, sequence).to_raw(),
            "instagram" => SnowflakeInstagramId::from_components(tick_of, node_of, sequence).to_raw(),
            _ => tick << 24 | sequence << 16 | node_of, // sonyflake's README: 39 time, 8 sequence, 16 machine
        };
        prop_assert_eq!(layout.compose(tick, node, sequence), Some(theirs));
    }

    /// Whatever the clock does and however many are asked for: ids come once, in order, never from the future by more than
    /// a second, and a refusal has changed nothing.
    #[test]
    fn a_walk_of_the_clock_never_makes_an_id_twice(
        place in 0..LAYOUTS.len(),
        steps in prop::collection::vec((-30_i64..60, prop_oneof![9 => 1_u32..20, 1 => 1_u32..=10_000]), 1..200),
    ) {
        let layout = LAYOUTS[place].since(0);
        let node = layout.last_node();
        let snowflake = Snowflake::new(layout, node, 0).unwrap();
        let (mut now, mut latest, mut last) = (1_000_000_i64, 0, None);
        for (step, count) in steps {
            now += step;
            let now = now.cast_unsigned();
            let tick = layout.tick(now).unwrap();
            match snowflake.take(count, || now) {
                Ok(taken) => {
                    prop_assert!(tick >= latest, "an id was made by a clock that had gone back");
                    let ids: Vec<u64> = taken.ids().collect();
                    prop_assert_eq!(ids.len(), count as usize);
                    for id in ids {
                        prop_assert!(last.is_none_or(|last| id > last), "ids come twice, or go back");
                        let Parts { time_ms, node: told, .. } = layout.decompose(id).unwrap();
                        prop_assert_eq!(told, node);
                        prop_assert!(layout.tick(time_ms).unwrap() >= tick, "an id from before it was asked for");
                        prop_assert!(time_ms <= now + 1_000, "an id from further ahead than a second");
                        last = Some(id);
                    }
                    latest = tick;
                }
                Err(Refused::Behind(by)) => {
                    prop_assert!(tick < latest);
                    prop_assert_eq!(by, layout.tick_length() * u32::try_from(latest - tick).unwrap());
                }
                Err(Refused::Exhausted(wait)) => {
                    prop_assert!(tick >= latest && wait > Duration::ZERO);
                    // What it says is enough.
                    let later = now + u64::try_from(wait.as_millis()).unwrap();
                    let after = Snowflake::new(layout, node, tick).unwrap();
                    prop_assert!(after.take(count, || later).is_ok());
                }
                Err(Refused::Over | Refused::Closed) => prop_assert!(false, "there are bits for this time"),
            }
        }
    }
}

/// twitter-archive/snowflake, issue 6.
#[test]
fn a_clock_that_goes_back_and_comes_again_repeats_nothing() {
    let snowflake = Snowflake::new(Layout::TWITTER.since(0), 1, 0).unwrap();
    let next = |now: u64| snowflake.take(1, || now).map(|taken| taken.ids().next().unwrap());
    let (a, b) = (next(100).unwrap(), next(100).unwrap());
    assert_eq!(next(99), Err(Refused::Behind(Duration::from_millis(1))));
    let (c, d) = (next(100).unwrap(), next(100).unwrap());
    assert!(a < b && b < c && c < d, "{a} {b} {c} {d}");
}

#[test]
fn a_sequence_that_is_used_up_goes_on_in_the_next_tick_and_never_wraps() {
    let layout = Layout::TWITTER.since(0);
    let snowflake = Snowflake::new(layout, 3, 0).unwrap();
    let taken = snowflake.take(5_000, || 7).unwrap();
    let ids: Vec<Parts> = taken.ids().map(|id| layout.decompose(id).unwrap()).collect();
    assert_eq!((ids[4_095].time_ms, ids[4_095].sequence), (7, 4_095));
    assert_eq!((ids[4_096].time_ms, ids[4_096].sequence), (8, 0));
    assert_eq!((taken.last_tick(), taken.wait()), (8, Duration::from_millis(1)));
    assert_eq!(
        (taken.wait_at(8), taken.wait_at(6)),
        (Duration::ZERO, Duration::from_millis(2))
    );
    assert_eq!(snowflake.reached(), 9);
}

#[test]
fn a_second_is_the_most_that_is_reserved_ahead() {
    let snowflake = Snowflake::new(Layout::TWITTER.since(0), 1, 0).unwrap();
    for _ in 0..409 {
        assert!(snowflake.take(10_000, || 7).is_ok());
    }
    // 4,090,000 of 4,096,000 are gone.
    assert!(matches!(snowflake.take(10_000, || 7), Err(Refused::Exhausted(wait)) if wait == Duration::from_millis(1)));
    assert!(snowflake.take(6_000, || 7).is_ok());
    assert!(snowflake.take(10_000, || 10).is_ok());
}

#[test]
fn at_the_end_of_time_the_last_ids_are_made_and_no_more() {
    for layout in LAYOUTS {
        let layout = layout.since(0);
        let last = layout.last_tick();
        for tick in last - 3..=last + 3 {
            let snowflake = Snowflake::new(layout, 0, last - 3).unwrap();
            let made = snowflake.take(1, || layout.time_ms(tick));
            match made {
                Ok(taken) => {
                    assert!(tick <= last);
                    let id = taken.ids().next().unwrap();
                    assert_eq!(layout.decompose(id).unwrap().time_ms, layout.time_ms(tick));
                }
                Err(refused) => assert!(tick > last && refused == Refused::Over, "{layout} {tick}: {refused:?}"),
            }
        }
        assert!(Snowflake::new(layout, 0, last + 1).is_none());
    }
}

/// sony/sonyflake, pull request 72.
#[test]
fn a_node_id_too_wide_an_epoch_to_come_and_a_time_that_is_over_are_refused() {
    let now = 1_764_000_000_000;
    for layout in LAYOUTS {
        assert_eq!(layout.check(layout.last_node(), now), Ok(()));
        let wide = layout.check(layout.last_node() + 1, now).unwrap_err();
        assert!(matches!(wide, Unfit::NodeTooWide { .. }), "{wide}");
        assert!(Snowflake::new(layout, layout.last_node() + 1, 0).is_none());
        let ahead = layout.since(now + 1).check(0, now).unwrap_err();
        assert!(matches!(ahead, Unfit::NotYet { .. }), "{ahead}");
        let first = layout.since(0);
        let over = first.check(0, first.time_ms(first.last_tick() + 1)).unwrap_err();
        assert!(matches!(over, Unfit::Over { .. }), "{over}");
    }
}

/// The example in Discord's reference: 175928847299117063 was made at 2016-04-30T11:18:25.796Z by worker 1, process 0, as 7th.
#[test]
fn a_known_id_is_read_as_its_makers_do() {
    let told = Layout::DISCORD.decompose(175_928_847_299_117_063).unwrap();
    assert_eq!((told.time_ms, told.node, told.sequence), (1_462_015_105_796, 1 << 5, 7));
}

#[test]
fn two_real_threads_make_every_id_once() {
    const EACH: usize = 200_000;
    let snowflake = Snowflake::new(Layout::TWITTER, 7, 0).unwrap();
    let clock = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(since.unwrap().as_millis()).unwrap()
    };
    let take = || {
        let mut ids = Vec::with_capacity(EACH);
        while ids.len() < EACH {
            match snowflake.take(1, clock) {
                Ok(taken) => ids.extend(taken.ids()),
                Err(Refused::Exhausted(wait)) => std::thread::sleep(wait),
                Err(refused) => panic!("{refused:?}"),
            }
        }
        assert!(ids.is_sorted());
        ids
    };
    let mut ids = std::thread::scope(|scope| {
        let other = scope.spawn(take);
        let mut ids = take();
        ids.extend(other.join().unwrap());
        ids
    });
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2 * EACH);
}
