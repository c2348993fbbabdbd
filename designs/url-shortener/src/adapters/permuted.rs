//! Codes outside, sequence numbers inside: a permutation around links and clicks.
//!
//! Whoever calls sees codes that cannot be guessed; the store behind sees numbers in order, and fills its pages one after
//! the other. Aliases pass through unchanged.

use crate::domain::{Code, Error, Idempotency, Link, NewLink, Place, Slug};
use crate::permutation::Permutation;
use crate::ports::{Clicks, Links};

/// A store whose codes are permuted.
#[derive(Clone, Debug)]
pub struct Permuted<S> {
    inner: S,
    permutation: Permutation,
}

impl<S> Permuted<S> {
    /// Puts a permutation around a store.
    pub fn new(inner: S, permutation: Permutation) -> Self {
        Self { inner, permutation }
    }

    fn inside(&self, slug: &Slug) -> Slug {
        self.map(slug, Permutation::number_of)
    }

    fn outside(&self, mut link: Link) -> Link {
        link.slug = self.map(&link.slug, Permutation::code_of);
        link
    }

    fn map(&self, slug: &Slug, permute: impl Fn(&Permutation, Code) -> Code) -> Slug {
        match slug {
            Slug::Code(code) => Slug::Code(permute(&self.permutation, *code)),
            Slug::Alias(alias) => Slug::Alias(alias.clone()),
        }
    }
}

impl<S: Links> Links for Permuted<S> {
    async fn insert(&self, mut links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        for link in &mut links {
            if let Place::At(code) = &mut link.place {
                *code = self.permutation.number_of(*code);
            }
        }
        let inserted = self.inner.insert(links).await;
        inserted
            .into_iter()
            .map(|answer| answer.map(|link| self.outside(link)))
            .collect()
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        let found = self.inner.find(&self.inside(slug)).await?;
        Ok(found.map(|link| self.outside(link)))
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        self.inner.delete(&self.inside(slug), at).await
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        let found = self.inner.replay(idempotency).await?;
        Ok(found.map(|link| self.outside(link)))
    }
}

impl<S: Clicks> Clicks for Permuted<S> {
    async fn record(&self, slug: &Slug) -> Result<(), Error> {
        self.inner.record(&self.inside(slug)).await
    }

    async fn add(&self, clicks: &[(Slug, u64)]) -> Result<(), Error> {
        let inside: Vec<_> = clicks.iter().map(|(slug, n)| (self.inside(slug), *n)).collect();
        self.inner.add(&inside).await
    }

    fn position(&self, slug: &Slug) -> u64 {
        self.inner.position(&self.inside(slug))
    }

    async fn count(&self, slug: &Slug) -> Result<u64, Error> {
        self.inner.count(&self.inside(slug)).await
    }
}
