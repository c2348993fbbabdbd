//! Several servers on one Postgres and one Redis: what one does while another is in the middle of something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::engines;
use tokio::sync::Semaphore;
use url_shortener::adapters::{Memory, Postgres, RedisCached};
use url_shortener::domain::{Error, Idempotency, Link, NewLink, Slug};
use url_shortener::ports::Links;

use crate::adapters::{alias, at, code, open_postgres, open_redis, under};
use crate::links::insert;

/// A store whose reads are done at once, and whose answers to them come when they are let through.
#[derive(Clone)]
struct Slow {
    inner: Memory,
    read: Arc<Semaphore>,
    answer: Arc<Semaphore>,
}

impl Links for Slow {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        self.inner.insert(links).await
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let found = self.inner.find(slug).await;
        self.read.add_permits(1);
        self.answer
            .acquire()
            .await
            .map_err(stores::Error::unavailable)?
            .forget();
        found
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        self.inner.delete(slug, at).await
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

/// Two servers on one store and one Redis. The reads of the first are slow.
async fn two_servers() -> (Slow, RedisCached<Slow>, RedisCached<Memory>) {
    two_servers_on(open_redis().await)
}

fn two_servers_on(redis: stores::Redis) -> (Slow, RedisCached<Slow>, RedisCached<Memory>) {
    let slow = Slow {
        inner: Memory::default(),
        read: Arc::new(Semaphore::new(0)),
        answer: Arc::new(Semaphore::new(0)),
    };
    let here = RedisCached::new(slow.clone(), redis.clone(), "test");
    let there = RedisCached::new(slow.inner.clone(), redis, "test");
    (slow, here, there)
}

#[tokio::test]
async fn a_delete_on_another_server_wins_against_a_fetch_under_way() {
    let (slow, here, there) = two_servers().await;
    insert(&slow, at(&code(1), "https://example.com/")).await.unwrap();
    let fetch = tokio::spawn({
        let here = here.clone();
        async move { here.find(&code(1)).await }
    });
    slow.read.acquire().await.unwrap().forget();
    assert!(there.delete(&code(1), 1).await.unwrap());
    slow.answer.add_permits(10);
    // Who asked before the delete may see the link as it was; who asks after it may not, here or there.
    assert!(!fetch.await.unwrap().unwrap().unwrap().deleted);
    assert!(here.find(&code(1)).await.unwrap().unwrap().deleted);
    assert!(there.find(&code(1)).await.unwrap().unwrap().deleted);
}

#[tokio::test]
async fn an_insert_on_another_server_wins_against_a_fetch_that_found_nothing() {
    let (slow, here, there) = two_servers().await;
    let fetch = tokio::spawn({
        let here = here.clone();
        async move { here.find(&code(1)).await }
    });
    slow.read.acquire().await.unwrap().forget();
    insert(&there, at(&code(1), "https://example.com/")).await.unwrap();
    slow.answer.add_permits(10);
    assert_eq!(fetch.await.unwrap().unwrap(), None);
    assert!(here.find(&code(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn of_many_who_miss_at_once_one_asks_the_store_and_nothing_stays_behind() {
    let redis = open_redis().await;
    let (slow, here, there) = two_servers_on(redis.clone());
    insert(&slow, at(&code(1), "https://example.com/")).await.unwrap();
    let find = || {
        let here = here.clone();
        tokio::spawn(async move { here.find(&code(1)).await })
    };
    let cut_off = find();
    slow.read.acquire().await.unwrap().forget();
    cut_off.abort();
    let readers: Vec<_> = (0..50).map(|_| find()).collect();
    slow.read.acquire().await.unwrap().forget();
    slow.answer.add_permits(1);
    for reader in readers {
        assert!(reader.await.unwrap().unwrap().is_some());
    }
    assert_eq!(
        slow.read.available_permits(),
        0,
        "somebody else asked the store as well"
    );
    // The server itself remembers nothing: without Redis, it is the store that says what another has changed.
    assert!(there.delete(&code(1), 1).await.unwrap());
    let () = redis.write(&redis::cmd("FLUSHDB")).await.unwrap();
    slow.answer.add_permits(1);
    assert!(here.find(&code(1)).await.unwrap().unwrap().deleted);
}

#[tokio::test]
async fn a_second_delete_tells_the_cache_what_the_first_could_not() {
    let (slow, here, there) = two_servers().await;
    insert(&there, at(&code(1), "https://example.com/")).await.unwrap();
    // As by a server that died between its store and Redis.
    assert!(slow.inner.delete(&code(1), 1).await.unwrap());
    assert!(!there.find(&code(1)).await.unwrap().unwrap().deleted);
    slow.answer.add_permits(10);
    assert!(!here.delete(&code(1), 2).await.unwrap());
    assert!(there.find(&code(1)).await.unwrap().unwrap().deleted);
}

#[tokio::test]
async fn a_request_that_is_sent_again_to_another_server_gets_the_first_ones_answer() {
    let url = engines::postgres();
    let db = open_postgres(&url).await;
    let here = Postgres::new(db.clone(), "test", 1).await.unwrap();
    // The first server is in the middle of its transaction.
    let mut first = db.connection().await.unwrap();
    for statement in [
        "BEGIN",
        "INSERT INTO aliases (alias) VALUES ('mine')",
        "INSERT INTO links (id, url, created_at) SELECT -number, 'https://example.com/', 1000 FROM aliases",
        "INSERT INTO idempotency (key, fingerprint, id, alias, created_at)
         SELECT 'key', decode(repeat('01', 32), 'hex'), -number, 'mine', 1000 FROM aliases",
    ] {
        sqlx::query(statement).execute(&mut *first).await.unwrap();
    }
    let again = tokio::spawn(async move {
        let link = under("key", 1, at(&alias("mine"), "https://example.com/"));
        insert(&here, link).await
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut looking = db.connection().await.unwrap();
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
                .fetch_one(&mut *looking)
                .await
                .unwrap();
        if waiting > 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the second server never waited for the first"
        );
    }
    sqlx::query("COMMIT").execute(&mut *first).await.unwrap();
    let link = again.await.unwrap().unwrap();
    assert_eq!(link.slug, alias("mine"));
}
