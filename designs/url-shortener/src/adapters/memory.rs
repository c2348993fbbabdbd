//! Everything in a map behind a lock: the contract in its plainest form, for tests. Nothing survives the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Code, Error, Idempotency, Link, NewLink, Place, Slug};
use crate::ports::{Clicks, Links};

/// Links and clicks in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    links: HashMap<Slug, Link>,
    clicks: HashMap<Slug, u64>,
    answers: HashMap<Box<str>, ([u8; 32], Slug)>,
    counted: u64,
}

impl Memory {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn replay(&self, asked: &Idempotency) -> Result<Option<Link>, Error> {
        match self.answers.get(&asked.key) {
            None => Ok(None),
            Some((fingerprint, _)) if *fingerprint != asked.fingerprint => Err(Error::KeyReused),
            Some((_, slug)) => Ok(self.links.get(slug).cloned()),
        }
    }

    fn insert(&mut self, new: NewLink) -> Result<Link, Error> {
        if let Some(asked) = &new.idempotency
            && let Some(link) = self.replay(asked)?
        {
            return Ok(link);
        }
        let slug = match new.place {
            Place::Next => {
                self.counted += 1;
                Slug::Code(Code::new(self.counted).ok_or(Error::KeysExhausted)?)
            }
            Place::At(code) => Slug::Code(code),
            Place::Named(alias) => Slug::Alias(alias),
        };
        if self.links.contains_key(&slug) {
            return Err(match slug {
                Slug::Code(_) => Error::CodeTaken,
                Slug::Alias(_) => Error::AliasTaken,
            });
        }
        let link = Link {
            slug: slug.clone(),
            target: new.target,
            created_at: new.created_at,
            expires_at: new.expires_at,
            deleted: false,
        };
        if let Some(asked) = new.idempotency {
            self.answers.insert(asked.key, (asked.fingerprint, slug.clone()));
        }
        self.links.insert(slug, link.clone());
        Ok(link)
    }
}

impl Links for Memory {
    async fn insert(&self, links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        let mut tables = self.tables();
        links.into_iter().map(|link| tables.insert(link)).collect()
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        Ok(self.tables().links.get(slug).cloned())
    }

    async fn delete(&self, slug: &Slug, _at: u64) -> Result<bool, Error> {
        let mut tables = self.tables();
        let link = tables.links.get_mut(slug).filter(|link| !link.deleted);
        Ok(link.map(|link| link.deleted = true).is_some())
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.tables().replay(idempotency)
    }
}

impl Clicks for Memory {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.add(&[(slug.clone(), 1)]).await
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let mut tables = self.tables();
        for (slug, n) in clicks {
            *tables.clicks.entry(slug.clone()).or_default() += n;
        }
        Ok(())
    }

    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        Ok(self.tables().clicks.get(slug).copied().unwrap_or_default())
    }
}
