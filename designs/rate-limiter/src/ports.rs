//! What the use cases need from the world: something that keeps buckets.
//!
//! The methods return futures that are `Send`, and may be implemented with plain `async fn`; nothing is boxed.

use std::future::Future;

use crate::domain::{Charge, Decision, Error, Limit, Rule, Unfit};

/// Keeps buckets and decides by them.
pub trait Limiter: Send + Sync + 'static {
    /// What is kept for one rule. It lives as long as the rule: one that is unchanged after the file was read again keeps its
    /// buckets.
    type Buckets: Send + Sync + 'static;

    /// Makes room for the buckets of a rule. All of them are full.
    ///
    /// # Errors
    /// The rule cannot be kept exactly, or not at all.
    fn open(&self, rule: &Rule) -> Result<Self::Buckets, Unfit>;

    /// How much more than the promise allows one server may admit, in any interval. Nothing, unless it says so.
    fn excess(&self, limit: &Limit) -> u64 {
        let _ = limit;
        0
    }

    /// Admits a charge, or refuses it.
    ///
    /// # Contract
    /// - Charge and decision MUST be one atomic step: of charges that come at once, no more are admitted than the bucket
    ///   holds.
    /// - MUST NOT charge what it refuses, nor a cost of 0, which is always admitted and says what the bucket holds.
    /// - MUST NOT forget a bucket that is not full.
    /// - MUST answer within the time that the charge allows, and a little.
    ///
    /// # Errors
    /// Nothing was decided.
    fn take(&self, buckets: &Self::Buckets, charge: Charge<'_>)
    -> impl Future<Output = Result<Decision, Error>> + Send;
}
