//! A read-through cache around any links: the few links that most people follow are in memory.
//!
//! What makes it more than a map:
//! - *Negative entries.* Also "there is no such link" is kept, for a short while: people who guess codes ask for links that
//!   do not exist, and each guess would be a query.
//! - *One fetch per missing key.* When a hot link falls out, a thousand requests miss at once; one of them asks the store,
//!   the others wait for its answer.
//! - *Invalidation that wins against a fetch under way.* A fetch that began before a delete must not put the old link back
//!   after it. Removing a key also removes the placeholder of a fetch for it, whose result then counts for nobody else.
//!
//! Expiry is not the cache's business: a link carries its end, and whoever follows it looks. Bounded by the number of
//! entries; what is asked for once does not push out what is asked for often (the `quick_cache` crate's policy, S3-FIFO).

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::domain::{Error, Idempotency, Link, NewLink, Slug};
use crate::ports::Links;

/// How long a name that was not found counts as absent. One's own inserts end it at once; this is the bound for those of
/// other servers on the same store.
pub const ABSENT_FOR: Duration = Duration::from_secs(1);

/// How long a link counts as it was found. One's own deletes end it at once; this is the bound for those of other servers.
pub const PRESENT_FOR: Duration = Duration::from_secs(600);

/// Links with a cache in front. Clones share it.
#[derive(Debug)]
pub struct Cached<L> {
    inner: L,
    entries: Arc<Cache<Slug, Entry>>,
}

/// What the store said, and when.
#[derive(Clone, Debug)]
struct Entry {
    link: Option<Link>,
    since: Instant,
}

impl<L: Links> Cached<L> {
    /// Keeps up to `capacity` names.
    pub fn new(inner: L, capacity: usize) -> Self {
        Self {
            inner,
            entries: Arc::new(Cache::new(capacity)),
        }
    }

    /// Fills a missing entry: by the first who asks, for all who ask meanwhile.
    async fn fetch(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let missing = match self.entries.get_value_or_guard_async(slug).await {
            Ok(entry) => return Ok(entry.link),
            Err(missing) => missing,
        };
        // If this fails or is cut off, the guard is dropped and the next who waits tries.
        let link = self.inner.find(slug).await?;
        let entry = Entry {
            link: link.clone(),
            since: Instant::now(),
        };
        // Fails if the name was invalidated meanwhile: then this answer is ours alone.
        let _ = missing.insert(entry);
        Ok(link)
    }
}

impl Entry {
    fn is_stale(&self) -> bool {
        let good_for = if self.link.is_some() { PRESENT_FOR } else { ABSENT_FOR };
        self.since.elapsed() > good_for
    }
}

impl<L: Links> Links for Cached<L> {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        let answers = self.inner.insert(links).await;
        // Removed, not filled in: a delete may have come between the insert and here.
        for link in answers.iter().flatten() {
            self.entries.remove(&link.slug);
        }
        answers
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        match self.entries.get(slug) {
            Some(entry) if !entry.is_stale() => return Ok(entry.link),
            Some(_) => drop(self.entries.remove_if(slug, Entry::is_stale)),
            None => {}
        }
        self.fetch(slug).await
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        let (cached, slug) = (self.clone(), slug.clone());
        // In a task of its own: whoever asked may be gone before the store has answered, and the entry must go all the same.
        let task = tokio::spawn(async move {
            let deleted = cached.inner.delete(&slug, at).await;
            // Also after a failure: nobody knows then what the store holds.
            cached.entries.remove(&slug);
            deleted
        });
        task.await
            .unwrap_or_else(|error| Err(stores::Error::unknown(error).into()))
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

impl<L: Clone> Clone for Cached<L> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            entries: Arc::clone(&self.entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::adapters::Memory;
    use crate::domain::{Code, Place};
    use crate::target::Rules;

    /// A store that counts its reads, and lets each through only when told to.
    #[derive(Clone)]
    struct Slow {
        inner: Memory,
        reads: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl Links for Slow {
        async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
            self.inner.insert(links).await
        }

        async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
            let found = self.inner.find(slug).await;
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.gate.acquire().await.map_err(stores::Error::unavailable)?.forget();
            found
        }

        async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
            self.inner.delete(slug, at).await
        }

        async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
            self.inner.replay(idempotency).await
        }
    }

    fn slow() -> (Cached<Slow>, Slow) {
        let slow = Slow {
            inner: Memory::default(),
            reads: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        (Cached::new(slow.clone(), 100), slow)
    }

    fn slug(number: u64) -> Slug {
        Slug::Code(Code::new(number).unwrap())
    }

    fn link(number: u64) -> NewLink {
        NewLink {
            place: Place::At(Code::new(number).unwrap()),
            target: Rules::default().check("https://example.com/").unwrap(),
            created_at: 0,
            expires_at: None,
            idempotency: None,
        }
    }

    #[tokio::test]
    async fn many_who_miss_at_once_cause_one_fetch() {
        let (cached, slow) = slow();
        slow.inner.insert(vec![link(1)]).await;
        let readers: Vec<_> = (0..100)
            .map(|_| {
                let cached = cached.clone();
                tokio::spawn(async move { cached.find(&slug(1)).await.unwrap().is_some() })
            })
            .collect();
        while slow.reads.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        slow.gate.add_permits(100);
        for reader in readers {
            assert!(reader.await.unwrap());
        }
        assert_eq!(slow.reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_delete_wins_against_a_fetch_under_way() {
        let (cached, slow) = slow();
        slow.inner.insert(vec![link(1)]).await;
        let reader = tokio::spawn({
            let cached = cached.clone();
            async move { cached.find(&slug(1)).await }
        });
        while slow.reads.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(cached.delete(&slug(1), 1).await.unwrap());
        slow.gate.add_permits(2);
        // Who asked before the delete may see the link as it was; who asks after it may not.
        assert!(!reader.await.unwrap().unwrap().unwrap().deleted);
        assert!(cached.find(&slug(1)).await.unwrap().unwrap().deleted);
    }

    #[tokio::test]
    async fn an_absent_name_is_remembered_until_it_is_made() {
        let (cached, slow) = slow();
        slow.gate.add_permits(10);
        assert!(cached.find(&slug(1)).await.unwrap().is_none());
        assert!(cached.find(&slug(1)).await.unwrap().is_none());
        assert_eq!(slow.reads.load(Ordering::Relaxed), 1);
        assert!(cached.insert(vec![link(1)]).await[0].is_ok());
        assert!(cached.find(&slug(1)).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_server_changed_is_seen_once_the_bound_has_passed() {
        let (cached, slow) = slow();
        slow.gate.add_permits(10);
        assert!(cached.find(&slug(1)).await.unwrap().is_none());
        slow.inner.insert(vec![link(1)]).await;
        assert!(cached.find(&slug(1)).await.unwrap().is_none());
        tokio::time::advance(ABSENT_FOR * 2).await;
        assert!(!cached.find(&slug(1)).await.unwrap().unwrap().deleted);
        slow.inner.delete(&slug(1), 1).await.unwrap();
        assert!(!cached.find(&slug(1)).await.unwrap().unwrap().deleted);
        tokio::time::advance(PRESENT_FOR * 2).await;
        assert!(cached.find(&slug(1)).await.unwrap().unwrap().deleted);
    }

    #[tokio::test]
    async fn a_fetch_that_is_cut_off_lets_the_next_one_try() {
        let (cached, slow) = slow();
        slow.inner.insert(vec![link(1)]).await;
        let cut_off = tokio::time::timeout(Duration::from_millis(5), cached.find(&slug(1))).await;
        assert!(cut_off.is_err());
        slow.gate.add_permits(1);
        assert!(cached.find(&slug(1)).await.unwrap().is_some());
    }
}
