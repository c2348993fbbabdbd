//! A circuit breaker: after a few failures in a row nobody asks for a while, but for one who looks whether it is over.
//!
//! A store that hangs costs each caller the whole of its wait, and the callers pile up behind it. Once a few in a row have
//! failed the next ones are told so at once, and can do without. The pattern is Michael Nygard's (*Release It!*, 2007).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that are taken for chance.
const TOLERATED: u32 = 3;

/// How long nobody asks; also how often one looks again.
const REST: Duration = Duration::from_millis(500);

/// Whether to ask a store at all.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// In a row, up to now.
    failures: AtomicU32,
    /// Until when nobody asks, in milliseconds since `born`.
    rests_until: AtomicU64,
    born: Instant,
}

impl Breaker {
    /// Closed: everybody may ask.
    pub(crate) fn new() -> Self {
        Self {
            failures: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// Whether this caller may ask. Whoever may and then gives up half-way need not say so: the next may ask after another
    /// rest.
    pub(crate) fn admits(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) <= TOLERATED {
            return true;
        }
        let until = self.rests_until.load(Ordering::Relaxed);
        let now = self.now();
        // Of those who find the rest over, one gets through.
        now >= until
            && self
                .rests_until
                .compare_exchange(until, now + rest(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The store answered, whatever it said.
    pub(crate) fn answered(&self) {
        // Read first: the line stays shared between cores as long as all is well.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// The store did not answer. Says whether this opened the breaker.
    pub(crate) fn failed(&self) -> bool {
        self.rests_until.fetch_max(self.now() + rest(), Ordering::Relaxed);
        // Saturating, though it would take a year of nothing but failures.
        let before = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |failures| failures.checked_add(1));
        before == Ok(TOLERATED)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn rest() -> u64 {
    u64::try_from(REST.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Breaker {
        let breaker = Breaker::new();
        for failure in 0..=TOLERATED {
            assert!(breaker.admits());
            assert_eq!(breaker.failed(), failure == TOLERATED);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_are_chance_and_one_more_opens_it() {
        let breaker = open();
        assert!(!breaker.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_between_starts_the_count_anew() {
        let breaker = Breaker::new();
        for _ in 0..10 * TOLERATED {
            assert!(!breaker.failed());
            breaker.answered();
        }
        assert!(breaker.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn after_each_rest_one_looks_and_an_answer_lets_all_in() {
        let breaker = open();
        for _ in 0..3 {
            tokio::time::advance(REST).await;
            assert!(breaker.admits() && !breaker.admits());
            assert!(!breaker.failed());
        }
        tokio::time::advance(REST).await;
        assert!(breaker.admits());
        breaker.answered();
        assert!(breaker.admits() && breaker.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_looks_and_never_says_what_came_of_it_blocks_nobody_for_long() {
        let breaker = open();
        tokio::time::advance(REST).await;
        assert!(breaker.admits());
        tokio::time::advance(REST).await;
        assert!(breaker.admits());
    }
}
