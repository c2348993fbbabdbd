//! When operations arrive: a schedule that is known before the first request is sent.
//!
//! A Poisson process is what many independent users amount to. Conditioned on its count, its arrivals are sorted uniform
//! draws over the duration: so both the count and the duration are exact, and "issued equals planned" can be checked
//! to the last arrival. The draws come out in order and one at a time, without memory: of `m` uniform points left in
//! `[t, end)` the first lies at `t + (end - t) * (1 - U^(1/m))`.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How arrivals are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent users: a Poisson process.
    Poisson,
    /// One at each tick.
    Constant,
}

/// An iterator over arrival instants in nanoseconds from time zero, in order.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    left: u64,
    issued: u64,
    planned: u64,
    at: f64,
    end: f64,
    rng: SmallRng,
}

impl Schedule {
    /// `rate` arrivals a second for `duration`; the same seed gives the same instants.
    pub fn new(arrivals: Arrivals, rate: f64, duration: Duration, seed: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of arrivals; the float-to-integer cast saturates"
        )]
        let planned = (rate * duration.as_secs_f64()).round().max(1.0) as u64;
        Self {
            arrivals,
            left: planned,
            issued: 0,
            planned,
            at: 0.0,
            end: duration.as_secs_f64() * 1e9,
            rng: SmallRng::seed_from_u64(seed ^ 0x6172_7269_7661_6c73),
        }
    }

    /// How many arrivals there are in all.
    pub fn planned(&self) -> u64 {
        self.planned
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.left == 0 {
            return None;
        }
        self.at = match self.arrivals {
            Arrivals::Poisson => {
                // 1 - U^(1/m), written so that it keeps its precision for large m.
                let uniform = 1.0 - self.rng.random::<f64>();
                self.at + (self.end - self.at) * -(uniform.ln() / self.left as f64).exp_m1()
            }
            Arrivals::Constant => self.end * self.issued as f64 / self.planned as f64,
        };
        self.left -= 1;
        self.issued += 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "nanoseconds of a run: positive, far below 2^53"
        )]
        Some(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_has_exactly_the_planned_count_in_order_and_in_time() {
        let schedule = Schedule::new(Arrivals::Poisson, 1234.0, Duration::from_secs(7), 1);
        assert_eq!(schedule.planned(), 8638);
        let at: Vec<u64> = schedule.collect();
        assert_eq!(at.len(), 8638);
        assert!(at.windows(2).all(|w| w[0] <= w[1]));
        assert!(*at.last().unwrap() < 7_000_000_000);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        // For exponential gaps the standard deviation equals the mean, and a share of 1/e lies above the mean.
        let at: Vec<u64> = Schedule::new(Arrivals::Poisson, 10_000.0, Duration::from_secs(10), 7).collect();
        let gaps: Vec<f64> = at.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        let above = gaps.iter().filter(|&&g| g > mean).count() as f64 / gaps.len() as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((deviation / mean - 1.0).abs() < 0.03, "deviation {deviation}");
        assert!((above - (-1.0f64).exp()).abs() < 0.01, "above {above}");
    }

    #[test]
    fn poisson_is_even_over_time_and_repeats_with_its_seed() {
        let of = |seed| Schedule::new(Arrivals::Poisson, 1000.0, Duration::from_secs(10), seed).collect::<Vec<_>>();
        let first_half = of(3).iter().filter(|&&at| at < 5_000_000_000).count();
        assert!((4700..5300).contains(&first_half), "{first_half}");
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn constant_ticks() {
        let at: Vec<u64> = Schedule::new(Arrivals::Constant, 4.0, Duration::from_secs(1), 1).collect();
        assert_eq!(at, [0, 250_000_000, 500_000_000, 750_000_000]);
    }
}
