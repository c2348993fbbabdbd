//! What it costs to take an item that was claimed ahead.
//!
//! `cargo bench -p micro --bench block_pool`. One at a time, alone and with a second thread taking all the while, and a
//! hundred under one lock. The block never ends, so nobody waits for a claim.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ledger::Ledger;
use service::Lifecycle;
use stores::{BlockPool, Blocks, Error};
use tokio::runtime::{Builder, Runtime};

/// One block, of all numbers.
struct Endless;

impl Blocks for Endless {
    type Item = usize;
    type Block = Range<usize>;
    type Error = Error;

    async fn claim(&self) -> Result<Range<usize>, Error> {
        Ok(0..usize::MAX)
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .build()
        .expect("a runtime needs nothing special")
}

/// A pool whose block is claimed already.
fn pool(runtime: &Runtime) -> BlockPool<Endless> {
    runtime.block_on(async {
        let pool = BlockPool::start("numbers", Endless, &Lifecycle::new(), &Ledger::new());
        assert!(pool.next().await.is_ok());
        pool
    })
}

fn block_pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("block pool");
    let runtime = runtime();
    let pool = pool(&runtime);
    group.bench_function("take one", |b| b.to_async(&runtime).iter(|| black_box(&pool).next()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            self::runtime().block_on(async {
                while !stop.load(Ordering::Relaxed) {
                    black_box(pool.next().await.is_ok());
                }
            });
        });
        group.bench_function("take one, two threads", |b| {
            b.to_async(&runtime).iter(|| black_box(&pool).next());
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("take a hundred at once", |b| {
        b.to_async(&runtime).iter(|| black_box(&pool).take(100));
    });
    group.finish();
}

criterion_group!(benches, block_pool);
criterion_main!(benches);
