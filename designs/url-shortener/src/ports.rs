//! What the use cases need from the world: somewhere to keep links, something that gives codes, something that counts.
//!
//! Ports are cut where the stages differ. The methods return futures that are `Send`, and may be implemented with plain
//! `async fn`; nothing is boxed. Adapters are cheap to clone, and all clones are the same store.

use std::future::Future;

use crate::domain::{Error, Idempotency, Link, NewLink, Place, Slug};

/// Keeps links.
///
/// # Contract
/// - A link that was inserted is found for ever after, by its name and with its exact target: also deleted and expired,
///   since no name is ever given again.
/// - An acknowledged change survives the death of the process, on every adapter that says it is durable.
/// - Finding may lag behind a change made by *another* server by a bound that the adapter states; one's own changes are
///   seen at once.
pub trait Links: Clone + Send + Sync + 'static {
    /// Inserts links in one transaction and answers each in order.
    ///
    /// # Contract
    /// - MUST be all or nothing where the store fails: then every answer is that failure.
    /// - MUST NOT let one refused link stop the others: an alias that is taken ([`Error::AliasTaken`]), a code that is in
    ///   use ([`Error::CodeTaken`]), a key reused ([`Error::KeyReused`]) is an answer to that link alone.
    /// - A link whose idempotency key is known, with the same fingerprint, is answered with the link made then, and nothing
    ///   is inserted. Key and link are written together or not at all.
    fn insert(&self, links: Vec<NewLink>) -> impl Future<Output = Vec<Result<Link, Error>>> + Send;

    /// The link of this name, whether it still leads anywhere or not.
    fn find(&self, slug: &Slug) -> impl Future<Output = Result<Option<Link>, Error>> + Send;

    /// Marks a link as deleted at a time in milliseconds since 1970; says whether there was a live one to delete.
    fn delete(&self, slug: &Slug, at: u64) -> impl Future<Output = Result<bool, Error>> + Send;

    /// What was answered under an idempotency key: the link, or [`Error::KeyReused`] if it was asked for something else.
    fn replay(&self, idempotency: &Idempotency) -> impl Future<Output = Result<Option<Link>, Error>> + Send;
}

/// Gives each new link a place of its own.
pub trait Keys: Send + Sync + 'static {
    /// A place that was never given before and never will be again, by any server on the same store, however often they
    /// crash. Places may be lost; they are never doubled.
    ///
    /// # Errors
    /// [`Error::KeysExhausted`] when none is left for now; redirects go on.
    fn next(&self) -> impl Future<Output = Result<Place, Error>> + Send;
}

/// Counts how often a link was followed.
///
/// # Contract
/// At any time, `count` is at most the number of `record` calls. It reaches that number once the adapter has flushed; if
/// the process is killed, clicks that were not flushed are lost, and nothing else is.
pub trait Clicks: Send + Sync + 'static {
    /// Counts one redirect of a link that exists.
    fn record(&self, slug: &Slug) -> impl Future<Output = Result<(), Error>> + Send;

    /// Adds many at once, in one transaction.
    fn add(&self, clicks: &[(Slug, u64)]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Where a link stands in the store. Sums are best added in this order: neighbours share a page, which is then written
    /// once and not once for each of them.
    fn position(&self, slug: &Slug) -> u64 {
        match slug {
            Slug::Code(code) => code.number(),
            Slug::Alias(_) => 0,
        }
    }

    /// How often a link was followed, as far as it was counted yet.
    fn count(&self, slug: &Slug) -> impl Future<Output = Result<u64, Error>> + Send;
}
