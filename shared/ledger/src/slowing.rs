//! Holding a resource for longer than its work takes, so that one can see what depends on it.
//!
//! # The problem
//!
//! Whether a resource sets the pace of a server is proven by slowing it, and nothing else: if it does, the server slows with
//! it. A hold of 30 microseconds that has to take twice as long cannot sleep for the other 30, because timers tick in
//! milliseconds. It must not spin for them either: on the server's own core that would be work for the CPU, and prove a
//! bottleneck that is not there.
//!
//! # The idea
//!
//! A slowed resource keeps a *debt*. Each hold adds `(f - 1) x` its own time; nobody waits for that yet. The next holder
//! that finds a millisecond or more of it pays: it takes the resource, keeps still for the whole milliseconds, and only then
//! begins. What it slept too long is a credit to the next. The mean hold is stretched by exactly `f`, in lumps:
//!
//! ```text
//! holds of 400 us at f = 2      [==][==][==][== pays 1 ms ==......][==][==]
//! debt after each, in us        400 800 1200 ->       200 + 400    1000 ...
//! ```
//!
//! Nobody pays for more than two holds: where many hold at once, the debt of all of them would otherwise stop one for long.
//! The debt is the resource's, not a holder's: of many locks under one name, the one that is entered most pays most.
//!
//! # What it costs
//!
//! Off, which is always outside of a proof: one relaxed load when a hold begins and one when it ends, of a value that
//! nobody writes.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Debts smaller than this are left to grow: a timer cannot keep them.
const LEAST: Duration = Duration::from_millis(1);
/// No single hold pays more than this.
const MOST: Duration = Duration::from_millis(100);
/// The unit in which a stretch is kept.
const MILLI: f64 = 1e3;

/// By how much one resource is slowed, and what its holders owe.
#[derive(Default)]
pub(crate) struct Slowing {
    /// The factor less one, in thousandths; 0 is off.
    stretch: AtomicU32,
    /// Ticks owed; below zero they are a credit.
    debt: AtomicI64,
    /// What the last hold added to them.
    last: AtomicU64,
}

impl Slowing {
    /// Stretches every hold from now on by `factor`; 1 is off. Debts are forgotten.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked by the caller, and saturating"
    )]
    pub(crate) fn set(&self, factor: f64) {
        self.stretch
            .store(((factor - 1.0) * MILLI).round() as u32, Ordering::Relaxed);
        self.debt.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.stretch.load(Ordering::Relaxed) > 0
    }

    /// A hold of so many ticks has ended.
    pub(crate) fn owe(&self, ticks: u64) {
        let owed = ticks.saturating_mul(u64::from(self.stretch.load(Ordering::Relaxed))) / 1000;
        self.last.store(owed, Ordering::Relaxed);
        self.debt.fetch_add(signed(owed), Ordering::Relaxed);
    }

    /// Takes what is owed, in whole milliseconds; `tick` is the length of one tick.
    ///
    /// Two holders may take the same debt at once. The second then leaves a credit, which later holds use up.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a few milliseconds"
    )]
    pub(crate) fn take(&self, ticks_a_second: f64) -> Option<(u64, Duration)> {
        let owed = self.debt.load(Ordering::Relaxed);
        if !self.is_on() || owed <= 0 {
            return None;
        }
        let owed = Duration::from_secs_f64(owed as f64 / ticks_a_second);
        let most = Duration::from_secs_f64(2.0 * self.last.load(Ordering::Relaxed) as f64 / ticks_a_second);
        let pause = Duration::from_millis(owed.min(most.clamp(LEAST, MOST)).as_millis() as u64);
        if pause < LEAST {
            return None;
        }
        #[expect(clippy::cast_sign_loss, reason = "a duration")]
        let ticks = (pause.as_secs_f64() * ticks_a_second) as u64;
        self.debt.fetch_sub(signed(ticks), Ordering::Relaxed);
        Some((ticks, pause))
    }

    /// Who took `taken` ticks of debt kept still for `kept`: more is a credit, less goes back.
    pub(crate) fn settle(&self, taken: u64, kept: u64) {
        if self.is_on() {
            self.debt
                .fetch_add(signed(taken).saturating_sub(signed(kept)), Ordering::Relaxed);
        }
    }
}

fn signed(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: f64 = 1e9;
    const MS: u64 = 1_000_000;

    #[test]
    fn nothing_is_owed_unless_slowed() {
        let slowing = Slowing::default();
        slowing.owe(50 * MS);
        assert_eq!(slowing.take(SECOND), None);
    }

    #[test]
    fn short_holds_pay_together_and_to_the_tick() {
        let slowing = Slowing::default();
        slowing.set(2.0);
        let mut paid = 0;
        for _ in 0..1_000 {
            if let Some((ticks, pause)) = slowing.take(SECOND) {
                assert!(pause >= LEAST);
                // Every sleep is too long, by a third.
                let kept = ticks + ticks / 3;
                slowing.settle(ticks, kept);
                paid += kept;
            }
            slowing.owe(400_000);
        }
        let owed = 1_000 * 400_000;
        assert!(paid <= owed + MS && paid + 3 * MS >= owed, "{paid} of {owed}");
    }

    #[test]
    fn who_gives_up_paying_gives_back_the_rest() {
        let slowing = Slowing::default();
        slowing.set(1.5);
        slowing.owe(10 * MS);
        let (taken, pause) = slowing.take(SECOND).unwrap();
        assert_eq!((taken, pause), (5 * MS, Duration::from_millis(5)));
        slowing.settle(taken, 2 * MS);
        assert_eq!(slowing.take(SECOND), Some((3 * MS, Duration::from_millis(3))));
    }

    #[test]
    fn turned_off_it_forgets() {
        let slowing = Slowing::default();
        slowing.set(3.0);
        slowing.owe(10 * MS);
        slowing.set(1.0);
        slowing.set(2.0);
        assert_eq!(slowing.take(SECOND), None);
    }

    #[test]
    fn the_debt_of_many_short_holds_never_stops_one_for_long() {
        let slowing = Slowing::default();
        slowing.set(1.5);
        for _ in 0..100 {
            slowing.owe(4 * MS);
        }
        let pauses: Vec<u128> = std::iter::from_fn(|| slowing.take(SECOND))
            .map(|(_, pause)| pause.as_millis())
            .collect();
        assert_eq!(pauses, [4; 50], "200 ms are owed");
    }

    #[test]
    fn no_hold_pays_for_longer_than_a_tenth_of_a_second() {
        let slowing = Slowing::default();
        slowing.set(10.0);
        slowing.owe(1_000 * MS);
        assert_eq!(slowing.take(SECOND).unwrap().1, MOST);
    }
}
