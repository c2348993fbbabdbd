//! A bucket as one number: the generic cell rate algorithm.
//!
//! # The idea
//!
//! A token bucket has a level and the time at which it was looked at last. Both are one number. Say that a request takes the
//! time `T` to be made up for: at a limit of 5 a second, 200 ms. Then keep the time at which the bucket will be full again,
//! the *theoretical arrival time*, TAT. A request moves it on by `T`. It may pass as long as TAT does not lie further ahead
//! of the clock than a whole burst takes.
//!
//! ```text
//! limit 5 a second, burst 3: T = 200 ms, a burst takes 600 ms
//!
//! clock ms   0         200        400        600        800
//!            |----------|----------|----------|----------|-----
//! at   0     now ──────> TAT                                       passes, 2 left
//! at  50       now ───────────────> TAT                            passes, 1 left
//! at 100         now ────────────────────────> TAT                 passes, 0 left
//! at 150           now ─────────────────────────────────> TAT      650 ms ahead: refused, in 50 ms it passes
//! at 200             now ───────────────────────────────> TAT      600 ms ahead: passes
//! ```
//!
//! A TAT in the past says nothing: the bucket is full, as that of somebody who was never seen. So whatever forgets such a
//! bucket loses nothing, and nothing has to fill buckets up.
//!
//! ATM switches policed their cells so: ITU-T I.371 has it as the *virtual scheduling algorithm*, and the same thing as a
//! *leaky bucket*, which holds TAT minus the clock, and proves that both decide alike. `adapters/atomic.rs` is that one.
//!
//! # One word, and exact
//!
//! `T` is seldom a whole number of nanoseconds: a third of a second is not. Rounded, a limit would drift. So each limit has a
//! tick of its own, [`Rate`]: `T` is exactly `k` of them, with `k` such that a tick is a nanosecond or up to one half less.
//! (Where `T` itself is less than that, above two thousand million a second, it is the tick.)
//! Times of buckets are whole ticks, and what is added to them is a multiple of `k`; nothing that is kept is ever rounded.
//! Rounded is only the clock, when it is read: down, by a tick at most, and never twice.
//!
//! One a day and a thousand million a second both fit into 64 bits so, for 36 years from the start of the process; then the
//! clock is taken to stand still, and what is empty stays so. Where a burst takes so long that its end does not fit, ticks
//! are made longer; a limit that would need ticks above a millisecond is refused.
//!
//! One word is one compare-and-swap: charges from any number of threads take turns at it, and no lock is there to be held.

use crate::domain::{Limit, Unfit};
use crate::sync::{AtomicU64, Ordering};

/// Ticks that a whole burst may take.
const LONGEST_BURST: u64 = 1 << 62;

/// Beyond this the clock stands still, and nothing fills up any more: 36 years.
const LAST_NS: u64 = 1 << 60;

/// The longest tick, in nanoseconds.
const LONGEST_TICK_NS: u64 = 1_000_000;

/// One tick a nanosecond, as [`Rate::ticks_per_ns`] writes it.
const ONE: u128 = 1 << 64;

/// A limit in ticks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Ticks that make up for one request: `k`.
    interval: u64,
    /// Ticks that a whole burst takes.
    capacity: u64,
    /// With 64 binary places, rounded down: over the whole range of the clock that makes less than a tick.
    ticks_per_ns: u128,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether it was admitted, and so charged.
    pub allowed: bool,
    /// The highest cost that would be admitted now.
    pub remaining: u64,
    /// Nanoseconds until the bucket is full, if nothing is charged until then.
    pub full_in_ns: u64,
    /// Nanoseconds until the same charge is admitted, if nothing else is until then. `None` where it was, and where the cost
    /// is more than a burst.
    pub retry_in_ns: Option<u64>,
}

impl Rate {
    /// The ticks of a limit.
    ///
    /// # Errors
    /// It has no requests or no burst, or a burst takes so long to be made up for that its end fits into no word.
    pub fn new(limit: Limit) -> Result<Self, Unfit> {
        let (requests, burst) = (u64::from(limit.requests), u64::from(limit.burst));
        if requests == 0 || burst == 0 {
            return Err(Unfit(String::from("a limit of zero has no rate")));
        }
        let window_ns = limit.unit.seconds() * 1_000_000_000;
        let interval = window_ns.div_ceil(requests).min(LONGEST_BURST / burst);
        if window_ns > LONGEST_TICK_NS.saturating_mul(requests).saturating_mul(interval) {
            let years = u128::from(burst) * u128::from(limit.unit.seconds()) / u128::from(requests) / 31_536_000;
            return Err(Unfit(format!(
                "a burst of {burst} at {requests} in {} s takes {years} years to fill up: that does not fit into a word",
                limit.unit.seconds()
            )));
        }
        Ok(Self {
            interval,
            capacity: burst * interval,
            ticks_per_ns: (u128::from(requests * interval) << 64) / u128::from(window_ns),
        })
    }

    /// The clock in ticks, rounded down.
    pub(crate) fn ticks(&self, now_ns: u64) -> u64 {
        let now_ns = now_ns.min(LAST_NS);
        if self.ticks_per_ns == ONE {
            return now_ns;
        }
        // Up to 2^60 times up to 2^67, without the 64 places: it fits.
        u64::try_from((u128::from(now_ns) * self.ticks_per_ns) >> 64).unwrap_or(u64::MAX)
    }

    /// The first nanosecond at which the clock shows so many ticks.
    fn first_ns(&self, ticks: u64) -> u64 {
        if self.ticks_per_ns == ONE {
            return ticks;
        }
        let ns = (u128::from(ticks) << 64).div_ceil(self.ticks_per_ns);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// What a bucket with this TAT decides, and its TAT afterwards.
    pub(crate) fn decide(&self, tat: u64, now_ns: u64, cost: u64) -> (u64, Taken) {
        let now_ns = now_ns.min(LAST_NS);
        let now = self.ticks(now_ns);
        let begin = tat.max(now);
        let after = begin.saturating_add(cost.saturating_mul(self.interval));
        let allowed = after - now <= self.capacity || cost == 0;
        let kept = if allowed { after } else { begin };
        let taken = Taken {
            allowed,
            remaining: self.capacity.saturating_sub(kept - now) / self.interval,
            full_in_ns: self.first_ns(kept).saturating_sub(now_ns),
            retry_in_ns: (!allowed && cost <= self.capacity / self.interval)
                .then(|| self.first_ns(after - self.capacity).saturating_sub(now_ns)),
        };
        (kept, taken)
    }
}

/// A bucket: its TAT, in ticks of whoever it belongs to.
#[derive(Debug, Default)]
pub struct Cell(pub(crate) AtomicU64);

impl Cell {
    /// A full one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits a charge, or refuses it. `now_ns` may go back: a bucket never does, and so gives nothing twice.
    pub fn take(&self, rate: &Rate, now_ns: u64, cost: u64) -> Taken {
        // No other memory hangs on this word, so no order but its own is needed.
        let mut tat = self.0.load(Ordering::Relaxed);
        loop {
            let (after, taken) = rate.decide(tat, now_ns, cost);
            if !taken.allowed || cost == 0 {
                return taken;
            }
            match self
                .0
                .compare_exchange_weak(tat, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return taken,
                Err(other) => tat = other,
            }
        }
    }
}
