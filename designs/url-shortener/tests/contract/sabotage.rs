//! The controls: adapters that break a contract, each in one way, and the contract that catches them. A check that never
//! failed has shown nothing.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ledger::Ledger;
use service::Lifecycle;
use stores::Blocks;
use testkit::contract::run;
use url_shortener::adapters::number_ranges::PermutedRange;
use url_shortener::adapters::{Memory, Pooled};
use url_shortener::domain::{Alias, Code, Error, Idempotency, Link, NewLink, Place, Slug};
use url_shortener::ports::{Clicks, Keys, Links};

use crate::adapters::permutation;
use crate::keys::Shop;
use crate::{clicks, keys, links};

/// Whether a contract's case fails.
fn fails(case: impl Future<Output = ()>) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(case))).is_err()
}

/// The ways in which links can be broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Acknowledges an insert and does not do it.
    ForgetsAnInsert,
    /// Takes `My-link` for `my-link`.
    IgnoresCase,
    /// Gives the name of a deleted link to the next who asks.
    ReassignsDeleted,
    /// Knows no idempotency keys.
    ForgetsKeys,
}

/// A good store, and one flaw.
#[derive(Clone)]
struct Broken {
    inner: Memory,
    flaw: Flaw,
    /// For each name that was deleted, under which it stands now.
    moved: Arc<Mutex<HashMap<Slug, Slug>>>,
}

impl Broken {
    fn with(flaw: Flaw) -> Self {
        Self {
            inner: Memory::default(),
            flaw,
            moved: Arc::default(),
        }
    }

    fn inside(&self, slug: &Slug) -> Slug {
        match slug {
            Slug::Alias(alias) if self.flaw == Flaw::IgnoresCase => {
                Slug::Alias(Alias::new(&alias.as_str().to_lowercase()).unwrap())
            }
            _ => self.moved.lock().unwrap().get(slug).unwrap_or(slug).clone(),
        }
    }
}

impl Links for Broken {
    async fn insert(&self, mut links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        for link in &mut links {
            if self.flaw == Flaw::ForgetsKeys {
                link.idempotency = None;
            }
            let inside = match &link.place {
                Place::At(code) => self.inside(&Slug::Code(*code)),
                Place::Named(alias) => self.inside(&Slug::Alias(alias.clone())),
                Place::Next => continue,
            };
            link.place = match inside {
                Slug::Code(code) => Place::At(code),
                Slug::Alias(alias) => Place::Named(alias),
            };
        }
        if self.flaw == Flaw::ForgetsAnInsert {
            return Memory::default().insert(links).await;
        }
        self.inner.insert(links).await
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let found = self.inner.find(&self.inside(slug)).await?;
        Ok(found.map(|link| Link {
            slug: slug.clone(),
            ..link
        }))
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        let deleted = self.inner.delete(&self.inside(slug), at).await?;
        if self.flaw == Flaw::ReassignsDeleted {
            let free = Slug::Code(Code::new(1_000_000).unwrap());
            self.moved.lock().unwrap().insert(slug.clone(), free);
        }
        Ok(deleted)
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

#[test]
fn a_store_that_forgets_an_acknowledged_link_is_caught() {
    let broken = Broken::with(Flaw::ForgetsAnInsert);
    assert!(fails(links::an_inserted_link_is_found_as_it_was_inserted(&broken)));
}

#[test]
fn a_store_that_ignores_case_is_caught() {
    let broken = Broken::with(Flaw::IgnoresCase);
    assert!(fails(links::names_are_compared_byte_by_byte(&broken)));
}

#[test]
fn a_store_that_gives_a_deleted_name_again_is_caught() {
    let broken = Broken::with(Flaw::ReassignsDeleted);
    assert!(fails(links::a_name_is_given_once_and_never_again_after_a_delete(
        &broken
    )));
}

#[test]
fn a_store_that_forgets_idempotency_keys_is_caught() {
    let broken = Broken::with(Flaw::ForgetsKeys);
    assert!(fails(links::a_known_key_gets_the_link_made_then_and_makes_none(
        &broken
    )));
}

/// Clicks that count one twice.
struct Eager(Memory);

impl Clicks for Eager {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.0.add(&[(slug.clone(), 2)]).await
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        self.0.add(clicks).await
    }

    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        self.0.count(slug).await
    }
}

#[test]
fn clicks_that_count_one_twice_are_caught() {
    assert!(fails(clicks::each_link_has_its_own_count(&Eager(Memory::default()))));
}

/// A shop whose servers start counting at zero again: the mark is not durable.
struct Forgetful;

/// Its claims.
struct FromZero(AtomicU64);

impl Blocks for FromZero {
    type Item = Code;
    type Block = PermutedRange;
    type Error = Error;

    async fn claim(&self) -> Result<PermutedRange, Error> {
        let start = self.0.fetch_add(u64::from(keys::BLOCK), Ordering::SeqCst);
        Ok(PermutedRange::new(start..start + u64::from(keys::BLOCK), permutation()))
    }
}

impl Shop for Forgetful {
    type Keys = Pooled<FromZero>;

    async fn open(&self) -> Pooled<FromZero> {
        Pooled::new(FromZero(AtomicU64::new(0)), &Lifecycle::new(), &Ledger::new())
    }

    async fn claimed(&self) -> u64 {
        0
    }

    async fn put_next(&self, _: Code) {}

    async fn empty(&self) {}

    async fn refill(&self) {}
}

/// A shop whose servers hand out each place twice.
struct Doubling;

/// Its places.
struct Twice(AtomicU64);

impl Keys for Twice {
    async fn next(&self) -> Result<Place, Error> {
        let half = self.0.fetch_add(1, Ordering::SeqCst) / 2;
        Ok(Place::At(Code::new(half).unwrap()))
    }
}

impl Shop for Doubling {
    type Keys = Twice;

    async fn open(&self) -> Twice {
        Twice(AtomicU64::new(0))
    }

    async fn claimed(&self) -> u64 {
        0
    }

    async fn put_next(&self, _: Code) {}

    async fn empty(&self) {}

    async fn refill(&self) {}
}

#[test]
fn keys_that_are_handed_out_twice_are_caught() {
    assert!(fails(keys::no_place_is_given_twice_by_one_server(&Doubling)));
}

#[test]
fn a_mark_that_a_restart_forgets_is_caught() {
    assert!(!fails(keys::no_place_is_given_twice_by_one_server(&Forgetful)));
    assert!(fails(keys::a_server_that_starts_again_gives_new_places(&Forgetful)));
    assert!(fails(keys::two_servers_never_give_the_same_place(&Forgetful)));
}
