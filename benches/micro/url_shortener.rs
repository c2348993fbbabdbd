//! The shortener's permutation and what stands on its hot path. (Its other idea is measured in `block_pool.rs`.)
//!
//! `cargo bench -p micro --bench url_shortener`. A cached look-up stands beside the same look-up in the crate's own cache,
//! so that the difference is ours.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quick_cache::sync::Cache;
use tokio::runtime::Builder;
use url_shortener::adapters::{Cached, Memory};
use url_shortener::domain::{CODES, Code, NewLink, Place, Slug};
use url_shortener::permutation::Permutation;
use url_shortener::ports::Links as _;
use url_shortener::target::Rules;

fn code(number: u64) -> Code {
    Code::new(number % CODES).expect("below the number of codes")
}

fn base62(c: &mut Criterion) {
    let mut group = c.benchmark_group("base62");
    let text = code(2_718_281_828_459).to_string();
    group.bench_function("write a code", |b| {
        b.iter(|| black_box(code(2_718_281_828_459)).to_string());
    });
    group.bench_function("read a code", |b| b.iter(|| Code::parse(black_box(&text))));
    group.finish();
}

fn permutation(c: &mut Criterion) {
    let mut group = c.benchmark_group("permutation");
    let permutation = Permutation::new(*b"sixteen byte key");
    let number = code(123_456_789);
    group.bench_function("number to code", |b| b.iter(|| permutation.code_of(black_box(number))));
    group.bench_function("code to number", |b| {
        b.iter(|| permutation.number_of(black_box(number)));
    });
    group.finish();
}

fn cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache path");
    let runtime = Builder::new_current_thread()
        .build()
        .expect("a runtime needs nothing special");
    let target = Rules::default()
        .check("https://example.com/a/path")
        .expect("a plain address");
    let cached = Cached::new(Memory::default(), 10_000);
    let slug = Slug::Code(code(7));
    let link = NewLink {
        place: Place::At(code(7)),
        target,
        created_at: 0,
        expires_at: None,
        idempotency: None,
    };
    runtime.block_on(async {
        let inserted = cached.insert(vec![link]).await;
        assert!(inserted.iter().all(Result::is_ok));
        assert!(cached.find(&slug).await.is_ok_and(|link| link.is_some()));
    });
    let plain: Cache<u64, u64> = Cache::new(10_000);
    plain.insert(7, 7);
    group.bench_function("quick_cache alone", |b| b.iter(|| plain.get(black_box(&7))));
    group.bench_function("find a link that is cached", |b| {
        b.to_async(&runtime).iter(|| cached.find(black_box(&slug)));
    });
    group.finish();
}

criterion_group!(benches, base62, permutation, cache);
criterion_main!(benches);
