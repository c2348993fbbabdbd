//! The use cases, written once for all stages: create, follow, look up, delete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service::Clock;
use sha2::{Digest, Sha256};

use crate::domain::{Alias, Error, Idempotency, Link, NewLink, Place, Refusal, Slug};
use crate::ports::{Clicks, Keys, Links};
use crate::target::Rules;

/// The longest life that a link may be given: a hundred years.
const LONGEST_LIFE_S: u64 = 100 * 365 * 24 * 60 * 60;

/// A URL shortener on whatever its ports are: the type of a stage says what they are.
pub struct Shortener<L, K, C> {
    links: L,
    keys: K,
    clicks: C,
    rules: Rules,
    clock: Arc<dyn Clock>,
    turns: Turns,
}

/// What somebody wants: a link to `url`.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Where it shall lead.
    pub url: String,
    /// What it shall be called, if that matters.
    pub alias: Option<String>,
    /// How many seconds it shall live, if not for ever.
    pub expires_in_s: Option<u64>,
}

impl<L: Links, K: Keys, C: Clicks> Shortener<L, K, C> {
    /// A shortener over these ports. A request whose idempotency key is in use waits at most `patience` for its turn.
    pub fn new(links: L, keys: K, clicks: C, rules: Rules, clock: Arc<dyn Clock>, patience: Duration) -> Self {
        Self {
            links,
            keys,
            clicks,
            rules,
            clock,
            turns: Turns::new(patience),
        }
    }

    /// Makes one link. Under an idempotency key, the same wish again gets the same link.
    ///
    /// # Errors
    /// Any but [`Error::NotFound`] and [`Error::Gone`].
    pub async fn create(&self, wish: Wish, key: Option<Box<str>>) -> Result<Link, Error> {
        let idempotency = key.map(|key| Idempotency {
            key,
            fingerprint: fingerprint(&wish),
        });
        // Requests with one key go one after the other, so that those who come later find the answer, and take no key.
        let _turn = match &idempotency {
            Some(idempotency) => {
                let turn = self.turns.take(&idempotency.key).await?;
                if let Some(link) = self.links.replay(idempotency).await? {
                    return Ok(link);
                }
                Some(turn)
            }
            None => None,
        };
        let mut link = self.plan(wish)?;
        link.idempotency = idempotency;
        if link.place == Place::Next {
            link.place = self.keys.next().await?;
        }
        let mut answers = self.links.insert(vec![link]).await;
        answers.pop().unwrap_or_else(|| Err(no_answer()))
    }

    /// Makes many links in one transaction; answers each in order.
    pub async fn create_all(&self, wishes: Vec<Wish>) -> Vec<Result<Link, Error>> {
        let mut answers: Vec<Option<Error>> = Vec::with_capacity(wishes.len());
        let mut links = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let planned = match self.plan(wish) {
                Ok(mut link) if link.place == Place::Next => match self.keys.next().await {
                    Ok(place) => {
                        link.place = place;
                        Ok(link)
                    }
                    Err(error) => Err(error),
                },
                planned => planned,
            };
            match planned {
                Ok(link) => {
                    links.push(link);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(error)),
            }
        }
        let inserted = if links.is_empty() {
            Vec::new()
        } else {
            self.links.insert(links).await
        };
        let mut inserted = inserted.into_iter();
        answers
            .into_iter()
            .map(|refused| match refused {
                Some(error) => Err(error),
                None => inserted.next().unwrap_or_else(|| Err(no_answer())),
            })
            .collect()
    }

    /// Where a link leads; counts the visit if `counted`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Gone`], or the store's.
    pub async fn follow(&self, slug: &Slug, counted: bool) -> Result<Link, Error> {
        let link = self.live(slug).await?;
        if counted {
            self.clicks.record(slug).await?;
        }
        Ok(link)
    }

    /// A link and how often it was followed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Gone`], or the store's.
    pub async fn look_up(&self, slug: &Slug) -> Result<(Link, u64), Error> {
        let link = self.live(slug).await?;
        let clicks = self.clicks.count(slug).await?;
        Ok((link, clicks))
    }

    /// Deletes a link; its name is never given to another.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Gone`] if it was deleted before, or the store's.
    pub async fn delete(&self, slug: &Slug) -> Result<(), Error> {
        self.live(slug).await?;
        match self.links.delete(slug, self.clock.now_ms()).await? {
            true => Ok(()),
            false => Err(Error::Gone),
        }
    }

    /// The time of day by which links expire, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    async fn live(&self, slug: &Slug) -> Result<Link, Error> {
        let link = self.links.find(slug).await?.ok_or(Error::NotFound)?;
        // The clock is read only for links that end: it costs more than the look-up.
        match link.expires_at {
            None if !link.deleted => Ok(link),
            _ if link.is_live(self.clock.now_ms()) => Ok(link),
            _ => Err(Error::Gone),
        }
    }

    /// A wish as a link that could be inserted, once it has a place.
    fn plan(&self, wish: Wish) -> Result<NewLink, Error> {
        let target = self.rules.check(&wish.url)?;
        let place = match wish.alias {
            Some(alias) => Place::Named(Alias::new(&alias)?),
            None => Place::Next,
        };
        let created_at = self.clock.now_ms();
        let life = wish.expires_in_s;
        if life.is_some_and(|seconds| !(1..=LONGEST_LIFE_S).contains(&seconds)) {
            return Err(Refusal::new("/expires_in_s", "must be from one second to a hundred years").into());
        }
        Ok(NewLink {
            place,
            target,
            created_at,
            expires_at: life.map(|seconds| created_at.saturating_add(seconds.saturating_mul(1_000))),
            idempotency: None,
        })
    }
}

/// What two requests must have in common to be the same wish. Each part is preceded by its length, so that no two wishes
/// run together into one text.
fn fingerprint(wish: &Wish) -> [u8; 32] {
    let mut hash = Sha256::new();
    let life = wish.expires_in_s.map(|seconds| seconds.to_string());
    for part in [Some(wish.url.as_str()), wish.alias.as_deref(), life.as_deref()] {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}

/// An adapter broke its contract.
fn no_answer() -> Error {
    Error::Unknown(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "the store gave no answer for a link",
    )))
}

/// One at a time for each idempotency key. Holds at most as many keys as there are requests under way.
struct Turns {
    waiting: Waiting,
    patience: Duration,
}

/// A lock for each key that somebody holds or waits for.
type Waiting = Arc<Mutex<HashMap<Box<str>, Arc<tokio::sync::Mutex<()>>>>>;

/// The right to go on with a key; dropping it lets the next one.
struct Turn {
    waiting: Waiting,
    key: Box<str>,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Turns {
    fn new(patience: Duration) -> Self {
        Self {
            waiting: Arc::default(),
            patience,
        }
    }

    async fn take(&self, key: &str) -> Result<Turn, Error> {
        let lock = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(waiting.entry(key.into()).or_default())
        };
        // Made before the wait: also one that gives up has to take its key out of the map, if it is the last.
        let mut turn = Turn {
            waiting: Arc::clone(&self.waiting),
            key: key.into(),
            held: None,
        };
        let held = tokio::time::timeout(self.patience, lock.lock_owned()).await;
        turn.held = Some(held.map_err(|_| Error::KeyInFlight)?);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.held.take());
        // Nobody but the map has it: nobody waits. New ones come only through the map, which is locked.
        if waiting.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(url: &str, alias: Option<&str>, expires_in_s: Option<u64>) -> Wish {
        Wish {
            url: url.to_owned(),
            alias: alias.map(str::to_owned),
            expires_in_s,
        }
    }

    #[test]
    fn different_wishes_have_different_fingerprints() {
        let wishes = [
            wish("http://a.example", None, None),
            wish("http://a.exampl", Some("e"), None),
            wish("http://a.example", Some(""), None),
            wish("http://a.example", Some("1"), None),
            wish("http://a.example", None, Some(1)),
        ];
        let prints: std::collections::HashSet<_> = wishes.iter().map(fingerprint).collect();
        assert_eq!(prints.len(), wishes.len());
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_with_a_key_waits_its_turn_but_not_for_ever() {
        let turns = Turns::new(Duration::from_secs(1));
        let first = turns.take("k").await.unwrap();
        assert!(matches!(turns.take("k").await, Err(Error::KeyInFlight)));
        let (second, ()) = tokio::join!(turns.take("k"), async { drop(first) });
        assert!(second.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_nobody_waits_for_are_forgotten() {
        let turns = Turns::new(Duration::from_secs(1));
        let first = turns.take("k").await.unwrap();
        let _ = turns.take("k").await;
        drop(first);
        drop(turns.take("other").await);
        assert!(turns.waiting.lock().unwrap().is_empty());
    }
}
