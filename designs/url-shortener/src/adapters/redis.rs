//! Redis in front of links, and on the way of clicks: what all servers of a stage share, and what may be lost.
//!
//! # The cache
//!
//! [`RedisCached`] is `cached.rs` outside the process: one copy for all servers, warm when a server starts. Two servers on
//! one cache bring a race that one process alone can rule out: a fetch reads a link, another server deletes it, the fetch
//! puts the old link into the cache. So a fetch only *adds* an entry, and a delete *writes* the deleted link over whatever
//! is there: in either order, the delete is what stays. An insert writes over "there is no such link", and over nothing
//! else.
//!
//! How stale can it be? A change that was acknowledged is seen by all servers at once. Only a delete that could not reach
//! Redis leaves an old link there, for at most [`PRESENT_FOR`]; and an insert that could not, an absence, for at most
//! [`ABSENT_FOR`]. Expiry needs no invalidation: a link carries its end, and whoever follows it looks.
//!
//! Redis never fails a request. What it does not answer, or not in time, the store behind is asked.
//!
//! # The clicks
//!
//! [`RedisClicks`] adds up the clicks of all servers in hashes, and moves them to Postgres once in a while, each hash as a
//! whole: a link that is hot on ten servers is one row written, not ten. Every step can be repeated without counting twice:
//!
//! 1. A server adds its sums under a fresh key, which Redis forgets after a minute. An addition whose answer was lost is
//!    sent again under the same key.
//! 2. A hash gets an id with its first click, and keeps it when it is renamed to be moved.
//! 3. Postgres adds a hash and remembers its id in one transaction, and ignores an id that it knows.
//! 4. Then the hash is removed, if it still has that id.
//!
//! A crash between any two steps repeats the step. If Redis itself crashes and comes back with the state of a second ago, a
//! hash that was moved is there once more, with the id that Postgres knows: clicks can be lost, and are not counted twice.
//! Only if Redis forgets, within the seconds in which an addition is repeated, both that addition and the hash it went to,
//! which had been moved already, is it counted again.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ledger::Ledger;
use quick_cache::sync::Cache;
use redis::Script;
use service::{Clock as _, Lifecycle, SystemClock};
use stores::Redis;
use tokio::time::Instant;
use uuid::Uuid;

use super::Postgres;
use crate::domain::{Error, Idempotency, Link, NewLink, Slug};
use crate::ports::{Clicks, Links};
use crate::target::Target;

/// How long a name that was not found counts as absent.
pub const ABSENT_FOR: Duration = Duration::from_secs(1);

/// How long an entry lives: the bound on how long a deleted link may be followed when Redis could not be told.
pub const PRESENT_FOR: Duration = Duration::from_secs(60);

/// Names that are fetched at one time, about: more are fetched all the same, some perhaps twice.
const FLIGHTS: usize = 4_096;

/// Links with Redis in front. Clones share it.
#[derive(Debug)]
pub struct RedisCached<L> {
    inner: L,
    redis: Redis,
    /// What the keys begin with.
    prefix: Arc<str>,
    /// One fetch per missing name: the others who want it wait for its result, which is forgotten as soon as they have it.
    flights: Arc<Cache<Slug, Option<Link>>>,
}

/// What Redis holds for a name.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Present(Link),
    Absent,
    Missing,
}

/// Puts new links in, over absences and over nothing else.
/// KEYS: the names. ARGV: milliseconds to live, then an entry for each name.
static INSERTED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"for i, key in ipairs(KEYS) do
            local entry = redis.call('GET', key)
            if not entry or entry == '' then redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
          end",
    )
});

impl<L: Links> RedisCached<L> {
    /// Puts `redis` in front. `site` tells the links of this store from those of others in the same Redis.
    pub fn new(inner: L, redis: Redis, site: &str) -> Self {
        Self {
            inner,
            redis,
            prefix: format!("link:{site}:").into(),
            flights: Arc::new(Cache::new(FLIGHTS)),
        }
    }

    fn key(&self, slug: &Slug) -> String {
        format!("{}{slug}", self.prefix)
    }

    async fn entry(&self, slug: &Slug) -> Entry {
        let found: Result<Option<String>, _> = self.redis.read(redis::cmd("GET").arg(self.key(slug))).await;
        match found {
            Ok(Some(text)) if text.is_empty() => Entry::Absent,
            // An entry that cannot be read is as good as none.
            Ok(Some(text)) => decode(&text, slug).map_or(Entry::Missing, Entry::Present),
            Ok(None) => Entry::Missing,
            Err(error) => {
                tracing::debug!(%error, "a link is looked up without the cache");
                Entry::Missing
            }
        }
    }

    /// Asks the store: once for all who ask at the same time.
    async fn fetch(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let flight = match self.flights.get_value_or_guard_async(slug).await {
            Ok(link) => return Ok(link),
            Err(flight) => flight,
        };
        // If this fails or is cut off, the guard is dropped and the next who waits tries.
        let link = self.inner.find(slug).await?;
        self.add(slug, link.as_ref()).await;
        // Given to those who wait, and forgotten, in one breath: an entry that stayed would be a second cache, which no
        // delete on another server reaches. Fails if the name was deleted meanwhile: then this answer is ours alone.
        let _ = flight.insert(link.clone());
        self.flights.remove(slug);
        Ok(link)
    }

    /// Adds what was fetched, unless there is an entry by now.
    async fn add(&self, slug: &Slug, link: Option<&Link>) {
        let (entry, good_for) = match link {
            Some(link) => (encode(link), PRESENT_FOR),
            None => (String::new(), ABSENT_FOR),
        };
        let mut set = redis::cmd("SET");
        set.arg(self.key(slug))
            .arg(entry)
            .arg("NX")
            .arg("PX")
            .arg(milliseconds(good_for));
        let _: Result<Option<String>, _> = self.redis.write(&set).await;
    }

    /// Writes the deleted link over whatever is there. A link that is not deleted is not written: nobody was told that it
    /// is, and another server's delete may be under way.
    async fn invalidate(&self, slug: &Slug) {
        let found = tokio::time::timeout(Duration::from_secs(1), self.inner.find(slug)).await;
        let told = match found {
            Ok(Ok(Some(link))) if link.deleted => {
                let mut set = redis::cmd("SET");
                set.arg(self.key(slug))
                    .arg(encode(&link))
                    .arg("PX")
                    .arg(milliseconds(PRESENT_FOR));
                self.redis.write::<String>(&set).await.map(drop)
            }
            Ok(Ok(_)) => Ok(()),
            // Better nothing there than something that may be old.
            Ok(Err(_)) | Err(_) => self
                .redis
                .write::<u64>(redis::cmd("UNLINK").arg(self.key(slug)))
                .await
                .map(drop),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "the cache was not told of a delete: the link may be followed for {PRESENT_FOR:?} more");
        }
    }
}

impl<L: Links> Links for RedisCached<L> {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        let answers = self.inner.insert(links).await;
        let mut inserted = INSERTED.arg(milliseconds(PRESENT_FOR));
        let mut any = false;
        for link in answers.iter().flatten() {
            // A fetch under way may have seen that there was no such link.
            self.flights.remove(&link.slug);
            inserted.key(self.key(&link.slug)).arg(encode(link));
            any = true;
        }
        if any && let Err(error) = self.redis.run::<()>(&inserted).await {
            tracing::debug!(%error, "the cache was not told of new links");
        }
        answers
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        match self.entry(slug).await {
            Entry::Present(link) => Ok(Some(link)),
            Entry::Absent => Ok(None),
            Entry::Missing => self.fetch(slug).await,
        }
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        let (cached, slug) = (self.clone(), slug.clone());
        // In a task of its own: whoever asked may be gone before the store has answered, and Redis must be told all the same.
        let task = tokio::spawn(async move {
            let deleted = cached.inner.delete(&slug, at).await;
            // A fetch under way may have read the link as it was: nobody else shall get its result.
            cached.flights.remove(&slug);
            // Also when there was nothing left to delete: whoever deleted it may not have come to say so.
            cached.invalidate(&slug).await;
            deleted
        });
        task.await
            .unwrap_or_else(|error| Err(stores::Error::unknown(error).into()))
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

impl<L: Clone> Clone for RedisCached<L> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            redis: self.redis.clone(),
            prefix: Arc::clone(&self.prefix),
            flights: Arc::clone(&self.flights),
        }
    }
}

/// A link as it stands in Redis: created, expires or `-`, `d` if deleted or `-`, URL.
fn encode(link: &Link) -> String {
    let expires = link.expires_at.map_or_else(|| "-".to_owned(), |end| end.to_string());
    let deleted = if link.deleted { "d" } else { "-" };
    format!("{} {expires} {deleted} {}", link.created_at, link.target.as_str())
}

fn decode(text: &str, slug: &Slug) -> Option<Link> {
    let mut parts = text.splitn(4, ' ');
    let created_at = parts.next()?.parse().ok()?;
    let expires_at = match parts.next()? {
        "-" => None,
        end => Some(end.parse().ok()?),
    };
    let deleted = match parts.next()? {
        "-" => false,
        "d" => true,
        _ => return None,
    };
    Some(Link {
        slug: slug.clone(),
        target: Target::stored(parts.next()?.to_owned())?,
        created_at,
        expires_at,
        deleted,
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How often the clicks of a hash are moved to Postgres.
pub const MOVE_EVERY: Duration = Duration::from_secs(1);

/// Hashes that clicks are spread over, by their links: each is moved by itself, so that neither Redis nor Postgres stands
/// still for all of them.
const HASHES: u32 = 16;

/// Links that each hash holds; while Postgres is down and one is full, servers keep what comes on top.
const MOST_LINKS: usize = 16_384;

/// How long an addition that may have been made is repeated.
const REPEAT_FOR: Duration = Duration::from_secs(10);

/// How long a server has to move a hash before another one may. Only saves work: two at once are harmless.
const MOVE_WITHIN: Duration = Duration::from_secs(2);

/// Clicks through Redis to Postgres. Clones share both.
#[derive(Clone, Debug)]
pub struct RedisClicks {
    redis: Redis,
    postgres: Postgres,
}

/// Adds sums to hashes, unless it did so before.
/// KEYS: the addition, then all hashes. ARGV: a new id, the most fields, then hash, field and sum in turn.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"for i = 2, #KEYS do
            if redis.call('HLEN', KEYS[i]) > tonumber(ARGV[2]) then
              return redis.error_reply('FULL clicks wait for postgres')
            end
          end
          if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 60) then return end
          for i = 3, #ARGV, 3 do
            local hash = KEYS[2 + ARGV[i]]
            redis.call('HSETNX', hash, 'id', ARGV[1] .. ':' .. ARGV[i])
            redis.call('HINCRBY', hash, ARGV[i + 1], ARGV[i + 2])
          end",
    )
});

/// Takes a hash to be moved, or the one whose move was not finished.
/// KEYS: the hash, the hash being moved, who moves. ARGV: milliseconds for the move.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return {} end
          if not redis.call('SET', KEYS[3], '', 'NX', 'PX', ARGV[1]) then return {} end
          if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('RENAME', KEYS[1], KEYS[2]) end
          return redis.call('HGETALL', KEYS[2])",
    )
});

/// Removes a hash that was moved. KEYS: the hash being moved, who moves. ARGV: its id.
static MOVED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
          redis.call('DEL', KEYS[2])",
    )
});

/// The sum of a link in the hash and in the one being moved, each with the hash's id. KEYS: both. ARGV: the field.
static WAITING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local found = {}
          for _, key in ipairs(KEYS) do
            local both = redis.call('HMGET', key, 'id', ARGV[1])
            if both[1] and both[2] then
              table.insert(found, both[1])
              table.insert(found, both[2])
            end
          end
          return found",
    )
});

impl RedisClicks {
    /// Starts the task that moves clicks. In the ledger: `click_move`, busy while a hash is moved.
    pub fn new(redis: Redis, postgres: Postgres, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let clicks = Self { redis, postgres };
        let (mover, moves) = (clicks.clone(), ledger.resource("click_move", "moves", 1.0));
        lifecycle.spawn("click move", |stopping| async move {
            // What is in Redis when this server stops, another one moves, or this one when it is back.
            let mut failing = false;
            loop {
                for hash in 0..HASHES {
                    if !stopping.pause(MOVE_EVERY / HASHES).await {
                        return;
                    }
                    let mut held = service::hold(&moves).await;
                    match mover.move_hash(hash).await {
                        Ok(links) => {
                            held.serves(links);
                            failing = false;
                        }
                        // Once for each time that it begins to fail, not sixteen times a second.
                        Err(error) if !failing => {
                            tracing::warn!(%error, "clicks stay in redis for the moment");
                            failing = true;
                        }
                        Err(_) => {}
                    }
                }
            }
        });
        clicks
    }

    /// A key of this site. What stands in braces keeps all of them on one node, as scripts demand.
    fn key(&self, role: &str, name: impl std::fmt::Display) -> String {
        format!("{{clicks:{}}}:{role}:{name}", self.postgres.site())
    }

    /// Moves a hash to Postgres; the number of its links.
    async fn move_hash(&self, hash: u32) -> Result<u64, Error> {
        let (moving, mover) = (self.key("moving", hash), self.key("mover", hash));
        let mut take = TAKE.key(self.key("hash", hash));
        take.key(&moving).key(&mover).arg(milliseconds(MOVE_WITHIN));
        let fields: Vec<(String, String)> = self.redis.run(&take).await?;
        let mut batch = None;
        let mut sums = Vec::with_capacity(fields.len());
        for (field, value) in fields {
            if field == "id" {
                batch = Some(value);
            } else if let (Some(slug), Ok(sum)) = (Slug::parse(&field), value.parse()) {
                sums.push((slug, sum));
            }
        }
        let Some(batch) = batch else {
            return Ok(0);
        };
        self.postgres.add_batch(&batch, SystemClock.now_ms(), &sums).await?;
        let mut moved = MOVED.key(moving);
        moved.key(mover).arg(batch);
        let () = self.redis.run(&moved).await?;
        Ok(sums.len() as u64)
    }
}

impl Clicks for RedisClicks {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.add(&[(slug.clone(), 1)]).await
    }

    /// Adds them once, however often it has to be said.
    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let mut add = ADD.key(self.key("addition", Uuid::now_v7()));
        for hash in 0..HASHES {
            add.key(self.key("hash", hash));
        }
        add.arg(Uuid::now_v7().to_string()).arg(MOST_LINKS);
        for (slug, sum) in clicks {
            add.arg(hash_of(slug)).arg(slug.to_string()).arg(sum);
        }
        let begun = Instant::now();
        let mut doubtful = false;
        loop {
            match self.redis.run::<()>(&add).await {
                Ok(()) => return Ok(()),
                Err(stores::Error::Unknown(_)) => doubtful = true,
                // Not made this time; but perhaps at the time before.
                Err(error) if !doubtful => return Err(error.into()),
                Err(_) => {}
            }
            if begun.elapsed() > REPEAT_FOR {
                return Err(stores::Error::unknown("redis did not say whether clicks were added").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Redis first, then Postgres, which knows what of it has arrived. Without Redis, what has arrived.
    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        let hash = hash_of(slug);
        let mut waiting = WAITING.key(self.key("hash", hash));
        waiting.key(self.key("moving", hash)).arg(slug.to_string());
        let waiting: Vec<(String, u64)> = self.redis.run(&waiting).await.unwrap_or_default();
        self.postgres.count_with(slug, &waiting).await
    }
}

/// Which hash a link's clicks are in: always the same, whichever server asks.
fn hash_of(slug: &Slug) -> u32 {
    let spread = match slug {
        Slug::Code(code) => code.number(),
        Slug::Alias(alias) => alias.as_str().bytes().map(u64::from).sum(),
    };
    u32::try_from(spread % u64::from(HASHES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Code;
    use crate::target::Rules;

    #[test]
    fn an_entry_reads_back_as_the_link_it_was() {
        let slug = Slug::Code(Code::new(7).unwrap());
        for url in ["https://example.com/", "https://example.com/a%20b?q=-%20d&r=d+-#f-d"] {
            for (expires_at, deleted) in [(None, false), (Some(0), true), (Some(u64::MAX), false)] {
                let link = Link {
                    slug: slug.clone(),
                    target: Rules::default().check(url).unwrap(),
                    created_at: 1_000,
                    expires_at,
                    deleted,
                };
                assert_eq!(decode(&encode(&link), &slug), Some(link));
            }
        }
    }

    #[test]
    fn an_entry_that_is_none_of_ours_is_no_link() {
        let slug = Slug::Code(Code::new(7).unwrap());
        for text in [
            "x",
            "1 - -",
            "1 - x https://a.example/",
            "1 - - nonsense",
            "-1 - - https://a.example/",
        ] {
            assert_eq!(decode(text, &slug), None, "{text}");
        }
    }
}
