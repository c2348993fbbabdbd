//! Requests that are cut off, by a client that hangs up or by their deadline, while the store is at work.

use std::sync::Arc;

use tokio::sync::Semaphore;
use url_shortener::adapters::{Cached, Memory};
use url_shortener::domain::{Error, Idempotency, Link, NewLink, Slug};
use url_shortener::ports::Links;

use crate::adapters::{at, code};
use crate::links::insert;

/// A store that takes its time over a delete: until it is told to go on.
#[derive(Clone)]
struct Slow {
    inner: Memory,
    asked: Arc<Semaphore>,
    go_on: Arc<Semaphore>,
}

impl Links for Slow {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        self.inner.insert(links).await
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        self.inner.find(slug).await
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        // As a statement that was sent: it is done whether or not anybody waits for the answer.
        let (store, slug) = (self.clone(), slug.clone());
        let statement = tokio::spawn(async move {
            store.asked.add_permits(1);
            store.go_on.acquire().await.unwrap().forget();
            let deleted = store.inner.delete(&slug, at).await;
            store.asked.add_permits(1);
            deleted
        });
        statement.await.unwrap()
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

#[test]
fn a_delete_that_nobody_waits_for_is_seen_all_the_same() {
    testkit::contract::run(async {
        let slow = Slow {
            inner: Memory::default(),
            asked: Arc::new(Semaphore::new(0)),
            go_on: Arc::new(Semaphore::new(0)),
        };
        let cached = Cached::new(slow.clone(), 10);
        insert(&cached, at(&code(1), "https://example.com/")).await.unwrap();
        assert!(!cached.find(&code(1)).await.unwrap().unwrap().deleted);
        let request = tokio::spawn({
            let cached = cached.clone();
            async move { cached.delete(&code(1), 1).await }
        });
        slow.asked.acquire().await.unwrap().forget();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        slow.go_on.add_permits(1);
        slow.asked.acquire().await.unwrap().forget();
        // The store has it. What is in memory follows without anybody asking for it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !cached.find(&code(1)).await.unwrap().unwrap().deleted {
            assert!(
                std::time::Instant::now() < deadline,
                "the deleted link is served for ever"
            );
            tokio::task::yield_now().await;
        }
    });
}
