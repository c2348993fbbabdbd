//! What the ledger costs on a hot path, beside what its clock costs alone.
//!
//! `cargo bench -p micro --bench ledger`. A hold reads the clock twice, a hold after a wait three times; what is left
//! beyond the clock's own cost is the ledger's. `two threads` lets a second thread hold the same resource all the while.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use ledger::Ledger;

fn clock(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("clock ({})", ledger::clock_source()));
    let clock = quanta::Clock::new();
    group.bench_function("one reading", |b| b.iter(|| black_box(clock.raw())));
    group.bench_function("std Instant, for comparison", |b| {
        b.iter(|| black_box(std::time::Instant::now()));
    });
    group.finish();
}

fn hold(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    let ledger = Ledger::new();
    let resource = ledger.resource("writer", "connections", 1.0);
    group.bench_function("enter and leave", |b| b.iter(|| drop(black_box(&resource).enter())));
    group.bench_function("enter, ask what is owed, and leave", |b| {
        b.iter(|| {
            let mut held = black_box(&resource).enter();
            black_box(held.owes());
        });
    });
    group.bench_function("wait, enter and leave", |b| {
        b.iter(|| drop(black_box(&resource).wait().enter()));
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(black_box(&resource).enter());
            }
        });
        group.bench_function("enter and leave, two threads", |b| {
            b.iter(|| drop(black_box(&resource).enter()));
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

criterion_group!(benches, clock, hold);
criterion_main!(benches);
