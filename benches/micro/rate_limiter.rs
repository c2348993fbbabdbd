//! The limiter's table beside the crate that a user would take instead.
//!
//! `cargo bench -p micro --bench rate_limiter`. Keyed checks with `String` keys, drawn at random from a list: a hundred
//! thousand keys, which fit into a processor's cache or nearly so, and ten million, which do not; by one thread, and by two.
//! Both ask their own clock. governor keeps keys in a sharded hash map, whole; ours keeps their fingerprints.
//!
//! A key is drawn and read first, from a list that fits into no cache either, and that is in both times. So what this takes
//! by itself is measured too: less that, they are what a limiter costs whose caller has the key at hand.
//!
//! Then the two stages on Redis, without HTTP: `atomic`, which asks it for each decision, and `leased`, which asks for a share;
//! 64 at once, a thousand users by turns, a limit that nobody reaches. Redis is a local process; without its program, this
//! part is left out.
//!
//! Before the times it prints what ten million keys take of memory, the keys of the list not counted.

use std::cell::Cell;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use engines::{REDIS, Setup};
use futures_util::future::join_all;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::Ledger;
use rate_limiter::adapters::{Atomic, Leased};
use rate_limiter::domain::{Charge, FailureMode, Limit, Rule, Unit};
use rate_limiter::gcra::Rate;
use rate_limiter::ports::Limiter;
use rate_limiter::table::Table;
use stores::Redis;
use tokio::runtime::{Builder, Runtime};

const REQUESTS: u32 = 1_000_000;

/// The key lists' lengths.
const FEW: usize = 100_000;
const MANY: usize = 10_000_000;

struct Ours {
    rate: Rate,
    table: Table,
    clock: quanta::Clock,
    zero: quanta::Instant,
}

impl Ours {
    fn new(keys: usize) -> Self {
        let limit = Limit {
            requests: REQUESTS,
            unit: Unit::Hour,
            burst: REQUESTS,
        };
        let clock = quanta::Clock::new();
        Self {
            rate: Rate::new(limit).expect("it fits"),
            table: Table::new(keys),
            zero: clock.now(),
            clock,
        }
    }

    fn check(&self, key: &str) -> bool {
        let now_ns = self.clock.now().duration_since(self.zero).as_nanos();
        let now_ns = u64::try_from(now_ns).unwrap_or(u64::MAX);
        self.table
            .take(&self.rate, now_ns, key, 1)
            .is_ok_and(|taken| taken.allowed)
    }
}

fn theirs() -> DefaultKeyedRateLimiter<String> {
    RateLimiter::keyed(Quota::per_hour(NonZeroU32::new(REQUESTS).expect("above zero")))
}

fn list(keys: usize) -> Vec<String> {
    (0..keys).map(|nth| format!("shop/user={nth:016x}")).collect()
}

/// Draws from the list; the same numbers for everybody (Marsaglia's xorshift).
struct Draw(u64);

impl Draw {
    fn next(&mut self, keys: &[String]) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((u128::from(self.0) * keys.len() as u128) >> 64).unwrap_or(0)
    }
}

/// How long it takes when each of so many threads makes its part of the checks.
fn by(threads: u64, iterations: u64, keys: &[String], check: impl Fn(&String) -> bool + Sync) -> Duration {
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let check = &check;
            scope.spawn(move || {
                let mut draw = Draw(0x9e37_79b9_7f4a_7c15 + thread);
                for _ in 0..iterations / threads {
                    black_box(check(&keys[draw.next(keys)]));
                }
            });
        }
    });
    began.elapsed()
}

/// Resident memory of this process, in bytes; 0 where the system does not say so.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[expect(clippy::print_stdout, reason = "what is measured beside the times is a result too")]
fn checks(c: &mut Criterion) {
    for (name, count) in [("100,000 keys", FEW), ("10 million keys", MANY)] {
        let keys = list(count);
        let before = resident();
        let ours = Ours::new(count);
        let kept = keys.iter().filter(|key| ours.check(key)).count();
        let between = resident();
        let theirs = theirs();
        for key in &keys {
            let _ = theirs.check_key(key);
        }
        let after = resident();
        let each = |bytes: u64| bytes as f64 / count as f64;
        println!(
            "{name}: ours keeps {kept} of them in {:.1} bytes each, governor all in {:.1}",
            each(between.saturating_sub(before)),
            each(after.saturating_sub(between))
        );
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        group.sample_size(20);
        for threads in [1, 2] {
            group.bench_function(format!("no limiter, {threads} thread(s)"), |b| {
                b.iter_custom(|iterations| by(threads, iterations, &keys, |key| key.ends_with('0')));
            });
            group.bench_function(format!("ours, {threads} thread(s)"), |b| {
                b.iter_custom(|iterations| by(threads, iterations, &keys, |key| ours.check(key)));
            });
            group.bench_function(format!("governor, {threads} thread(s)"), |b| {
                b.iter_custom(|iterations| by(threads, iterations, &keys, |key| theirs.check_key(key).is_ok()));
            });
        }
        group.finish();
    }
}

/// How many ask at once.
const AT_ONCE: u64 = 64;

/// Decisions of a limiter on Redis, by turns about a thousand users.
fn decisions<L: Limiter>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, runtime: &Runtime, limiter: &L) {
    let rule = Rule {
        name: String::from("rule"),
        limit: Limit {
            requests: 100_000,
            unit: Unit::Second,
            burst: 100_000,
        },
        algorithm: None,
        failure: FailureMode::Closed,
        shadow: false,
        single: false,
    };
    let buckets = limiter.open(&rule).expect("it fits");
    let keys: Vec<String> = (0..1_000).map(|nth| format!("shop/user={nth}")).collect();
    let turn = Cell::new(0);
    let decide = async |times: u64| {
        for _ in 0..times {
            turn.set((turn.get() + 1) % keys.len());
            let charge = Charge {
                key: &keys[turn.get()],
                cost: 1,
                within: Duration::from_secs(5),
            };
            let decision = limiter.take(&buckets, charge).await;
            assert!(
                decision.is_ok_and(|decision| decision.allowed),
                "a limit that nobody reaches"
            );
        }
    };
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let began = Instant::now();
            runtime.block_on(join_all((0..AT_ONCE).map(|_| decide(iterations.div_ceil(AT_ONCE)))));
            began.elapsed()
        });
    });
}

#[expect(clippy::print_stdout, reason = "what was left out belongs to the results")]
fn on_redis(c: &mut Criterion) {
    let Some(installed) = REDIS.find() else {
        println!("redis-server is not installed: atomic and leased were not measured");
        return;
    };
    let setup = Setup {
        root: &std::env::temp_dir(),
        args: &["--save", ""],
        group: None,
    };
    let engine = installed.start(&setup).expect("Redis starts");
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing special");
    let ledger = Ledger::new();
    let redis = runtime
        .block_on(Redis::open(engine.url(), &ledger))
        .expect("Redis answers");
    let mut group = c.benchmark_group("on Redis");
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);
    let atomic = Atomic::new(redis);
    decisions(&mut group, "atomic, 64 at once", &runtime, &atomic);
    let leased = Leased::new(atomic, 10, 10_000, &ledger);
    decisions(&mut group, "leased, 64 at once", &runtime, &leased);
    group.finish();
}

criterion_group!(benches, checks, on_redis);
criterion_main!(benches);
