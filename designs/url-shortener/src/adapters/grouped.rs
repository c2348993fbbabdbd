//! Group commit around any links: inserts that arrive together share one transaction, and so one fsync.

use ledger::Ledger;
use service::Lifecycle;
use stores::{GroupCommit, Refused};

use crate::domain::{Error, Idempotency, Link, NewLink, Slug};
use crate::ports::Links;

/// The most links in one transaction: keeps the writer free for others (claims, clicks) every few milliseconds.
const BATCH: usize = 512;

/// Links whose inserts are committed in groups. Reads and deletes go straight through.
#[derive(Clone, Debug)]
pub struct Grouped<L> {
    inner: L,
    commit: GroupCommit<NewLink, Result<Link, Error>>,
}

impl<L: Links> Grouped<L> {
    /// Starts the committer.
    pub fn new(inner: L, lifecycle: &Lifecycle, ledger: &Ledger) -> Self {
        let links = inner.clone();
        let commit = GroupCommit::start(BATCH, lifecycle, ledger, move |batch| {
            let links = links.clone();
            async move { links.insert(batch).await }
        });
        Self { inner, commit }
    }
}

impl<L: Links> Links for Grouped<L> {
    async fn insert(&self, mut links: Vec<NewLink>) -> Vec<Result<Link, Error>> {
        match (links.pop(), links.is_empty()) {
            (Some(link), true) => vec![
                self.commit
                    .submit(link)
                    .await
                    .unwrap_or_else(|refused| Err(refused.into())),
            ],
            // A batch is a group already.
            (last, _) => {
                links.extend(last);
                self.inner.insert(links).await
            }
        }
    }

    async fn find(&self, slug: &Slug) -> Result<Option<Link>, Error> {
        self.inner.find(slug).await
    }

    async fn delete(&self, slug: &Slug, at: u64) -> Result<bool, Error> {
        self.inner.delete(slug, at).await
    }

    async fn replay(&self, idempotency: &Idempotency) -> Result<Option<Link>, Error> {
        self.inner.replay(idempotency).await
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Ending => stores::Error::unavailable(refused).into(),
            Refused::BrokenOff => stores::Error::unknown(refused).into(),
        }
    }
}
