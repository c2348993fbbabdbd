//! What the use cases need from the world: something that gives ids, and, for ids that carry a node, something that lends
//! node ids.
//!
//! The methods return futures that are `Send`, and may be implemented with plain `async fn`; nothing is boxed. The clock is
//! `service::Clock`, since it is nothing of this design's own.

use std::future::Future;
use std::time::Duration;

use crate::domain::{Count, Error};
use crate::lease::Lease;

/// Gives numbers that were never given before.
pub trait Ids: Send + Sync + 'static {
    /// Exactly `count` ids, smallest first.
    ///
    /// # Contract
    /// - MUST NOT give a number that was ever given before: by this process or any other on the same store, before or after
    ///   any crash, whatever the clocks show.
    /// - MUST be greater than all that this process gave before this call began.
    /// - Numbers may be lost, where a process or a request ends early; none is doubled.
    ///
    /// # Errors
    /// No id was given.
    fn next(&self, count: Count) -> impl Future<Output = Result<Vec<u64>, Error>> + Send;
}

/// Lends node ids. What the terms mean is written in `lease.rs`.
pub trait NodeIds: Send + Sync + 'static {
    /// How long a loan lasts from the moment at which it was asked for; `None` where nobody else can get the node id.
    fn lasts(&self) -> Option<Duration>;

    /// Lends a node id, for ids from `clock_ms` on, the caller's clock, and for `reach_ms` from there; `None` when all are
    /// lent.
    ///
    /// # Contract
    /// - MUST be durable before it returns, and MUST be one atomic step.
    /// - The span MUST NOT overlap with any that was lent before with this node id.
    /// - The epoch MUST be greater than that of any loan of this node id before.
    fn claim(&self, clock_ms: u64, reach_ms: u64) -> impl Future<Output = Result<Option<Lease>, Error>> + Send;

    /// Lends it for another while and up to `until_ms`, if it was not lent to another since; `None` if it was.
    ///
    /// # Contract
    /// - MUST be durable before it returns.
    /// - The span never becomes shorter.
    fn renew(&self, lease: &Lease, until_ms: u64) -> impl Future<Output = Result<Option<Lease>, Error>> + Send;

    /// Gives it back: no id with a time of `until_ms` or later was made or will be. Of a lease that was lost, nothing
    /// happens.
    fn release(&self, lease: &Lease, until_ms: u64) -> impl Future<Output = Result<(), Error>> + Send;
}
