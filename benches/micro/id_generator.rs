//! The generator's word beside the crates that a user would take instead.
//!
//! `cargo bench -p micro --bench id_generator`. Two questions:
//!
//! - *cost*: what does one id cost where there are always numbers left? All generators get the same clock, one that costs
//!   nothing and moves on every 1,000 ids, so that only the algorithm is measured.
//! - *pace*: how many ids does a thread get by the real clock, and two threads together, when they take as many as they can?
//!   A layout has 4,096 a millisecond; whoever finds none left sleeps until there are some. ferroid's own clock is a thread
//!   that counts milliseconds; ours asks the system.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferroid::generator::{AtomicSnowflakeGenerator, Poll};
use ferroid::id::SnowflakeTwitterId;
use ferroid::time::{MonotonicClock, TWITTER_EPOCH, TimeSource};
use id_generator::layout::Layout;
use id_generator::snowflake::{Refused, Snowflake};

/// How many ids a clock of no cost stays at one millisecond.
const IDS_A_TICK: u64 = 1_000;

/// Counts ids instead of time: so many come of each look.
struct CountingClock {
    ids: Cell<u64>,
    each: u64,
}

impl CountingClock {
    fn new(each: u64) -> Self {
        Self {
            ids: Cell::new(IDS_A_TICK),
            each,
        }
    }

    fn look(&self) -> u64 {
        self.ids.set(self.ids.get() + self.each);
        self.ids.get() / IDS_A_TICK
    }
}

impl TimeSource<u64> for CountingClock {
    fn current_millis(&self) -> u64 {
        self.look()
    }
}

fn cost(c: &mut Criterion) {
    let mut group = c.benchmark_group("cost");
    let layout = Layout::TWITTER.since(0);
    let ours = Snowflake::new(layout, 1, 0).expect("the node id fits");
    let clock = CountingClock::new(1);
    group.bench_function("one id", |b| {
        b.iter(|| {
            black_box(&ours)
                .take(1, || clock.look())
                .ok()
                .and_then(|taken| taken.ids().next())
        });
    });
    let ours = Snowflake::new(layout, 1, 0).expect("the node id fits");
    let clock = CountingClock::new(100);
    group.bench_function("one id of a hundred", |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times.div_ceil(100) {
                let taken = black_box(&ours).take(100, || clock.look());
                black_box(taken.map(|taken| taken.ids().fold(0, |all, id| all ^ id)).ok());
            }
            start.elapsed()
        });
    });
    let theirs = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, CountingClock::new(1));
    group.bench_function("ferroid, one id", |b| b.iter(|| black_box(&theirs).poll_id()));
    group.bench_function("uuid v7, one id, with its clock", |b| b.iter(uuid::Uuid::now_v7));
    group.finish();
}

/// Milliseconds since 1970, from the system.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How much of the present millisecond is over.
fn into_the_millisecond() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000))
}

/// How long `threads` take to make `times` ids together, each by calls of `make`, which says how many it got.
fn together(threads: u64, times: u64, make: impl Fn() -> u64 + Sync) -> Duration {
    let slowest = Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let start = Instant::now();
                let mut made = 0;
                while made < times.div_ceil(threads) {
                    made += make();
                }
                let mut slowest = slowest.lock().expect("no thread panics");
                *slowest = start.elapsed().max(*slowest);
            });
        }
    });
    slowest.into_inner().expect("no thread panics")
}

/// Takes as many as this and waits until they may be told.
fn take(generator: &Snowflake, count: u32) -> u64 {
    match generator.take(count, wall) {
        Ok(taken) => {
            let mut wait = taken.wait();
            while !wait.is_zero() {
                // To where the tick begins: a part of the present one is over.
                thread::sleep(wait.saturating_sub(into_the_millisecond()));
                wait = taken.wait_at(wall());
            }
            black_box(taken.ids().fold(0, |all, id| all ^ id));
            u64::from(count)
        }
        Err(Refused::Exhausted(wait) | Refused::Behind(wait)) => {
            thread::sleep(wait);
            0
        }
        Err(Refused::Over | Refused::Closed) => unreachable!("the layout lasts until 2080, and nobody closes it"),
    }
}

fn pace(c: &mut Criterion) {
    let mut group = c.benchmark_group("pace");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for threads in [1, 2] {
        for count in [1, 100] {
            let ours = Snowflake::new(Layout::TWITTER, 1, 0).expect("the node id fits");
            group.bench_function(format!("{threads} threads, {count} at once"), |b| {
                b.iter_custom(|times| together(threads, times, || take(&ours, count)));
            });
        }
        let clock = MonotonicClock::<1>::with_epoch(TWITTER_EPOCH);
        let theirs = AtomicSnowflakeGenerator::<SnowflakeTwitterId, _>::new(1, clock);
        group.bench_function(format!("{threads} threads, ferroid, sleeping"), |b| {
            b.iter_custom(|times| {
                together(threads, times, || match theirs.poll_id() {
                    Poll::Ready { id } => {
                        black_box(id);
                        1
                    }
                    Poll::Pending { yield_for } => {
                        let wait = Duration::from_millis(yield_for);
                        thread::sleep(wait.saturating_sub(into_the_millisecond()));
                        0
                    }
                })
            });
        });
        group.bench_function(format!("{threads} threads, uuid v7"), |b| {
            b.iter_custom(|times| {
                together(threads, times, || {
                    black_box(uuid::Uuid::now_v7());
                    1
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cost, pace);
criterion_main!(benches);
