//! The contract of clicks: never more than were recorded, all of them once flushed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use ledger::Ledger;
use service::Lifecycle;
use testkit::contract::Fixture;
use url_shortener::adapters::{Buffered, Memory, Permuted, RedisClicks, Sqlite};
use url_shortener::domain::{Error, Slug};
use url_shortener::ports::{Clicks, Links};

use crate::adapters::{alias, at, code, permutation};
use crate::{adapters, links};

/// Links that may be followed.
pub(crate) fn existing() -> [Slug; 3] {
    [code(1), code(2), alias("three")]
}

/// Makes them.
async fn stocked<L: Links>(links: Fixture<L>) -> Fixture<L> {
    for slug in existing() {
        links::insert(links.adapter(), at(&slug, "https://example.com/"))
            .await
            .unwrap();
    }
    links
}

async fn memory() -> Fixture<Memory> {
    stocked(adapters::memory().await).await
}

async fn sqlite() -> Fixture<Sqlite> {
    stocked(adapters::sqlite_counted().await).await
}

async fn permuted() -> Fixture<Permuted<Sqlite>> {
    stocked(adapters::permuted().await).await
}

async fn buffered() -> Fixture<Buffered<Sqlite>> {
    let kept = sqlite().await;
    let clicks = Buffered::new(kept.adapter().clone(), &Lifecycle::new(), &Ledger::new());
    Fixture::keeping(clicks, kept)
}

/// As stage `permuted` has them.
async fn buffered_permuted() -> Fixture<Buffered<Permuted<Sqlite>>> {
    let kept = adapters::sqlite_drawn().await;
    let inside = Permuted::new(kept.adapter().clone(), permutation());
    for slug in existing() {
        links::insert(&inside, at(&slug, "https://example.com/")).await.unwrap();
    }
    Fixture::keeping(Buffered::new(inside, &Lifecycle::new(), &Ledger::new()), kept)
}

async fn redis() -> Fixture<RedisClicks> {
    let links = adapters::new_postgres().await;
    for slug in existing() {
        links::insert(&links, at(&slug, "https://example.com/")).await.unwrap();
    }
    let redis = adapters::open_redis().await;
    Fixture::new(RedisClicks::new(redis, links, &Lifecycle::new(), &Ledger::new()))
}

/// As stage `shared` has them.
async fn buffered_permuted_redis() -> Fixture<Buffered<Permuted<RedisClicks>>> {
    let links = adapters::new_postgres().await;
    let inside = Permuted::new(links.clone(), permutation());
    for slug in existing() {
        links::insert(&inside, at(&slug, "https://example.com/")).await.unwrap();
    }
    let redis = adapters::open_redis().await;
    let clicks = RedisClicks::new(redis, links, &Lifecycle::new(), &Ledger::new());
    let clicks = Permuted::new(clicks, permutation());
    Fixture::new(Buffered::new(clicks, &Lifecycle::new(), &Ledger::new()))
}

/// Waits until a link has so many clicks; one too many ends the test at once.
async fn reaches(clicks: &impl Clicks, slug: &Slug, expected: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let count = clicks.count(slug).await.unwrap();
        assert!(
            count <= expected,
            "{slug} was followed {expected} times and has {count} clicks"
        );
        if count == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{slug} stays at {count} of {expected} clicks"
        );
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn each_link_has_its_own_count<C: Clicks>(clicks: &C) {
    let [one, two, three] = existing();
    for _ in 0..3 {
        clicks.record(&one).await.unwrap();
    }
    clicks.record(&three).await.unwrap();
    clicks
        .add(&[(one.clone(), 4), (two.clone(), 5), (three.clone(), 6)])
        .await
        .unwrap();
    reaches(clicks, &one, 7).await;
    reaches(clicks, &two, 5).await;
    reaches(clicks, &three, 7).await;
}

async fn a_link_that_was_never_followed_has_no_clicks<C: Clicks>(clicks: &C) {
    clicks.add(&[]).await.unwrap();
    for slug in [code(1), code(77), alias("nobody")] {
        assert_eq!(clicks.count(&slug).await.unwrap(), 0);
    }
}

async fn the_count_is_never_ahead_of_the_clicks_and_catches_up<C: Clicks>(clicks: &C) {
    let [one, ..] = existing();
    for round in 1..=20 {
        clicks.record(&one).await.unwrap();
        assert!(clicks.count(&one).await.unwrap() <= round);
    }
    reaches(clicks, &one, 20).await;
}

testkit::contract! {
    cases: [
        each_link_has_its_own_count,
        a_link_that_was_never_followed_has_no_clicks,
        the_count_is_never_ahead_of_the_clicks_and_catches_up,
    ],
    memory,
    sqlite,
    permuted,
    buffered,
    buffered_permuted,
    redis,
    buffered_permuted_redis,
}

#[test]
fn a_buffer_that_ends_has_written_every_click() {
    testkit::contract::run(async {
        let sqlite = sqlite().await;
        let life = Lifecycle::new();
        let clicks = Buffered::new(sqlite.adapter().clone(), &life, &Ledger::new());
        let clients = (0..8).map(|_| {
            let clicks = clicks.clone();
            tokio::spawn(async move {
                for slug in existing().iter().cycle().take(300) {
                    clicks.record(slug).await.unwrap();
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        assert!(life.stop(Duration::from_secs(20)).await);
        for slug in existing() {
            assert_eq!(sqlite.adapter().count(&slug).await.unwrap(), 800);
        }
    });
}

const DOWN: u8 = 1;
const NOBODY_KNOWS: u8 = 2;

/// Clicks whose store fails on request; when nobody knows whether it wrote, it did.
#[derive(Clone)]
struct Moody {
    inner: Memory,
    mood: Arc<AtomicU8>,
    failed: Arc<AtomicU8>,
}

impl Clicks for Moody {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.inner.record(slug).await
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let failure = match self.mood.load(Ordering::SeqCst) {
            DOWN => Err(stores::Error::unavailable("down").into()),
            NOBODY_KNOWS => {
                self.inner.add(clicks).await?;
                Err(stores::Error::unknown("broken off").into())
            }
            _ => return self.inner.add(clicks).await,
        };
        self.failed.fetch_add(u8::from(!clicks.is_empty()), Ordering::SeqCst);
        failure
    }

    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        self.inner.count(slug).await
    }
}

/// Records ten clicks while the store is in this mood, lets a flush fail, and gives what is counted in the end.
fn ten_clicks_while(mood: u8) -> u64 {
    let (send, receive) = std::sync::mpsc::channel();
    testkit::contract::run(async move {
        let store = Moody {
            inner: Memory::default(),
            mood: Arc::new(AtomicU8::new(mood)),
            failed: Arc::default(),
        };
        let life = Lifecycle::new();
        let clicks = Buffered::new(store.clone(), &life, &Ledger::new());
        for _ in 0..10 {
            clicks.record(&code(1)).await.unwrap();
        }
        while store.failed.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(clicks.count(&code(1)).await.unwrap() <= 10);
        store.mood.store(0, Ordering::SeqCst);
        assert!(life.stop(Duration::from_secs(20)).await);
        send.send(store.count(&code(1)).await.unwrap()).unwrap();
    });
    receive.recv().unwrap()
}

#[test]
fn clicks_wait_for_a_store_that_is_down() {
    assert_eq!(ten_clicks_while(DOWN), 10);
}

#[test]
fn clicks_that_were_perhaps_written_are_not_written_twice() {
    assert_eq!(ten_clicks_while(NOBODY_KNOWS), 10);
}
