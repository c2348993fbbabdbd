//! Where a server breaks: the search for the highest arrival rate that it serves within its promises.
//!
//! # The problem
//!
//! Below some rate every promise is kept; above it a queue grows without end, whatever the average says. The edge is
//! called the *knee*, after the bend of the latency curve. Each look at one rate costs seconds and is noisy: one hiccup
//! of the machine fails a rate that the server carries.
//!
//! # The idea
//!
//! ```text
//! rate   1000  2000  4000  8000  8000 | 5657  6727  7336  7336  7025  7025 | 6391  6391  6391
//! seen   pass  pass  pass  fail  fail | pass  pass  fail  fail  fail  fail | pass  pass  pass
//!        double until it breaks       | halve the bracket                  | confirm
//! ```
//!
//! 1. *Double* until a probe fails (from a first guess; if that fails already, halve until one passes). A failed probe is
//!    looked at once more before it is believed, unless it failed by a factor that no hiccup explains.
//! 2. *Bisect* between the highest rate that passed and the lowest that failed until they are within 5 %.
//! 3. *Confirm*: 95 % of the highest passed rate has to pass three times. If it does not, it becomes the new upper edge, and
//!    the search steps down from it: by 5 %, then 10 %, then 20 %, until a rate passes that can be confirmed.
//!
//! The result is the highest rate that passed, with 95 % of it confirmed. [`Search`] is a pure state machine: it is told
//! what was seen and says which rate to look at next. A later round that knows the neighbourhood searches in steps of 10 %
//! and confirms once.
//!
//! # What it does not do
//!
//! It does not decide what passes (that is `slo` and the climb), and it does not average: repeated rounds do.

/// What a probe at one rate has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// All promises kept.
    Passed,
    /// At least one broken, by the server.
    Failed,
    /// Broken by so much that no hiccup explains it: not worth a second look.
    Collapsed,
    /// The generator could not make this load: nothing is known about the server here, and nothing will be above.
    RigLimited,
}

/// The result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// The highest rate that passed; 0 when none did.
    pub rate: f64,
    /// The rate was not limited by the server: its knee lies at `rate` or above.
    pub rig_limited: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Look at this rate.
    Probe(f64),
    /// The search is over.
    Done(Knee),
}

/// The bracket is narrow enough when its edges are within this factor.
const RESOLUTION: f64 = 1.05;
const CONFIRM_AT: f64 = 0.95;
/// Below this rate a server counts as serving nothing.
const MIN_RATE: f64 = 5.0;
const MAX_RATE: f64 = 5e6;
/// No search takes longer than this many probes, a later round not longer than a quarter of it; a server that changes its
/// mind all the time gets the best rate seen.
const MAX_PROBES: u32 = 48;

/// The search for one knee.
#[derive(Debug, Clone)]
pub struct Search {
    start: f64,
    factor: f64,
    confirmations: u32,
    passed: Vec<f64>,
    /// The lowest rate that is known to be too high, and whether the rig was to blame.
    upper: Option<(f64, bool)>,
    /// A rate that failed once.
    doubted: Option<f64>,
    confirmed: u32,
    /// After a failed confirmation: how far below the upper edge to look next.
    step_down: Option<f64>,
    probes: u32,
    limit: u32,
}

impl Search {
    /// A search that knows nothing but a first guess: doubles, and confirms three times.
    pub fn new(start: f64) -> Self {
        Self::with(start, 2.0, 3, MAX_PROBES)
    }

    /// The same with one confirmation, for those in a hurry.
    pub fn quick(start: f64) -> Self {
        Self::with(start, 2.0, 1, MAX_PROBES)
    }

    /// A short search around a knee that was found before: steps of 10 %, and one confirmation.
    pub fn around(knee: f64) -> Self {
        Self::with(knee, 1.1, 1, MAX_PROBES / 4)
    }

    /// The knee as it is now, expected near `guess`: the same steps, and no confirmation. `shift` from 0 to 1 says where
    /// within a step below it to begin.
    pub fn near(guess: f64, shift: f64) -> Self {
        const STEP: f64 = 1.1;
        Self::with(guess / STEP.powf(shift), STEP, 0, MAX_PROBES / 2)
    }

    fn with(start: f64, factor: f64, confirmations: u32, limit: u32) -> Self {
        Self {
            start: start.clamp(MIN_RATE, MAX_RATE),
            factor,
            confirmations,
            passed: Vec::new(),
            upper: None,
            doubted: None,
            confirmed: 0,
            step_down: None,
            probes: 0,
            limit,
        }
    }

    /// The rate to look at next, or the result.
    pub fn next(&self) -> Step {
        if self.probes >= self.limit {
            return self.done();
        }
        if let Some(rate) = self.doubted {
            return Step::Probe(rate);
        }
        match (self.lower(), self.upper) {
            (None, None) => Step::Probe(self.start),
            (None, Some((upper, _))) if upper <= MIN_RATE => self.done(),
            (None, Some((upper, _))) => Step::Probe((upper / self.factor).max(MIN_RATE)),
            (Some(lower), None) if lower >= MAX_RATE => self.done(),
            (Some(lower), None) => Step::Probe((lower * self.factor).min(MAX_RATE)),
            (Some(lower), Some((upper, _))) if upper / lower > RESOLUTION => {
                let half = (lower * upper).sqrt();
                Step::Probe(self.step_down.map_or(half, |step| half.max(upper / step)))
            }
            _ if self.confirmed >= self.confirmations => self.done(),
            (Some(lower), _) => Step::Probe((lower * CONFIRM_AT).max(MIN_RATE)),
        }
    }

    /// Tells what was seen at the rate that [`Search::next`] asked for.
    pub fn record(&mut self, seen: Seen) {
        let Step::Probe(rate) = self.next() else {
            return;
        };
        let confirming = self.is_confirming(rate);
        self.probes += 1;
        match seen {
            Seen::Passed => {
                self.doubted = None;
                if confirming {
                    self.confirmed += 1;
                } else {
                    self.step_down = None;
                    self.passed.push(rate);
                }
            }
            Seen::Failed | Seen::RigLimited if self.doubted.is_none() => self.doubted = Some(rate),
            Seen::Failed | Seen::Collapsed | Seen::RigLimited => {
                self.step_down = match self.step_down {
                    Some(step) => Some(step * step),
                    None => confirming.then_some(RESOLUTION),
                };
                self.lower_to(rate, seen == Seen::RigLimited);
            }
        }
    }

    /// Whether the next probe is one of those that confirm the result.
    pub fn confirming(&self) -> bool {
        matches!(self.next(), Step::Probe(rate) if self.is_confirming(rate))
    }

    fn is_confirming(&self, rate: f64) -> bool {
        match (self.lower(), self.upper) {
            (Some(lower), Some((upper, _))) => upper / lower <= RESOLUTION && rate <= lower,
            _ => false,
        }
    }

    /// This rate, and all above it, are too high.
    fn lower_to(&mut self, rate: f64, rig: bool) {
        self.doubted = None;
        self.confirmed = 0;
        self.upper = Some((rate, rig));
        self.passed.retain(|passed| *passed < rate);
    }

    fn lower(&self) -> Option<f64> {
        self.passed.iter().copied().reduce(f64::max)
    }

    fn done(&self) -> Step {
        let rig = self.upper.is_none_or(|(_, rig)| rig);
        Step::Done(Knee {
            rate: self.lower().unwrap_or(0.0),
            rig_limited: rig && self.lower().is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a search against a server that answers what `see` says; returns the knee and the rates looked at.
    fn climb(mut search: Search, mut see: impl FnMut(f64) -> Seen) -> (Knee, Vec<f64>) {
        let mut rates = Vec::new();
        loop {
            match search.next() {
                Step::Done(knee) => return (knee, rates),
                Step::Probe(rate) => {
                    rates.push(rate);
                    search.record(see(rate));
                }
            }
        }
    }

    fn carries(capacity: f64) -> impl FnMut(f64) -> Seen {
        move |rate| if rate <= capacity { Seen::Passed } else { Seen::Failed }
    }

    #[test]
    fn the_example_above() {
        let (knee, rates) = climb(Search::new(1000.0), carries(7000.0));
        let rounded: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        assert_eq!(
            rounded.join(" "),
            "1000 2000 4000 8000 8000 5657 6727 7336 7336 7025 7025 6391 6391 6391"
        );
        assert!((knee.rate - 6727.2).abs() < 0.1);
        assert!(!knee.rig_limited);
    }

    #[test]
    fn a_guess_that_is_too_high_is_halved() {
        let (knee, rates) = climb(Search::new(32_000.0), carries(900.0));
        assert!((850.0..=900.0).contains(&knee.rate), "{knee:?}");
        assert!(rates.len() <= 24, "{}", rates.len());
    }

    #[test]
    fn a_server_that_serves_nothing_has_no_knee() {
        let (knee, _) = climb(Search::new(1000.0), |_| Seen::Failed);
        assert_eq!(
            knee,
            Knee {
                rate: 0.0,
                rig_limited: false
            }
        );
    }

    #[test]
    fn one_hiccup_is_forgiven() {
        let mut hiccup = true;
        let (knee, _) = climb(Search::new(1000.0), |rate| {
            if rate > 3000.0 && std::mem::take(&mut hiccup) {
                return Seen::Failed;
            }
            carries(7000.0)(rate)
        });
        assert!(knee.rate > 6600.0, "{knee:?}");
    }

    #[test]
    fn a_collapse_needs_no_second_look() {
        let (_, rates) = climb(Search::new(1000.0), |rate| match rate {
            rate if rate <= 7000.0 => Seen::Passed,
            _ => Seen::Collapsed,
        });
        assert_eq!(rates.len(), 11, "{rates:?}");
    }

    #[test]
    fn a_server_that_carries_only_the_least_rate_is_confirmed_there() {
        let (knee, rates) = climb(Search::new(1000.0), carries(MIN_RATE));
        assert_eq!(knee.rate, MIN_RATE);
        assert!(rates.iter().all(|rate| *rate >= MIN_RATE), "{rates:?}");
        assert!(rates.len() < MAX_PROBES as usize, "{rates:?}");
        assert_eq!(rates[rates.len() - 3..], [MIN_RATE; 3]);
    }

    #[test]
    fn a_limited_rig_gives_a_lower_bound() {
        let rig = |rate| if rate <= 5000.0 { Seen::Passed } else { Seen::RigLimited };
        let (knee, _) = climb(Search::new(1000.0), rig);
        assert!(knee.rig_limited);
        assert!((4700.0..=5000.0).contains(&knee.rate), "{knee:?}");
    }

    #[test]
    fn a_knee_that_is_not_confirmed_comes_down() {
        // The server gets slower with age: after twelve probes it carries only 5000.
        let mut probes = 0;
        let (knee, _) = climb(Search::new(1000.0), |rate| {
            probes += 1;
            carries(if probes <= 12 { 7000.0 } else { 5000.0 })(rate)
        });
        assert!((4700.0..=5000.0).contains(&knee.rate), "{knee:?}");
    }

    #[test]
    fn a_later_round_is_short() {
        let (knee, rates) = climb(Search::around(7000.0), carries(7400.0));
        assert!((7000.0..=7400.0).contains(&knee.rate), "{knee:?}");
        assert!(rates.len() <= 9, "{rates:?}");
    }

    proptest! {
        #[test]
        fn a_steady_server_is_found_within_the_resolution(
            capacity in 6.0f64..2e6,
            guess in 10.0f64..1e5,
        ) {
            let (knee, rates) = climb(Search::new(guess), carries(capacity));
            prop_assert!(knee.rate <= capacity);
            prop_assert!(knee.rate * RESOLUTION >= capacity, "{} of {}", knee.rate, capacity);
            prop_assert!(rates.len() < MAX_PROBES as usize);
            prop_assert!(rates.iter().all(|rate| *rate <= capacity.max(guess) * 2.0));
        }

        #[test]
        fn a_noisy_server_is_found_nearby(capacity in 100.0f64..1e5, noise in prop::collection::vec(-0.05f64..0.05, 64)) {
            let mut noise = noise.into_iter().cycle();
            let (knee, _) = climb(Search::new(1000.0), |rate| carries(capacity * (1.0 + noise.next().unwrap()))(rate));
            prop_assert!(knee.rate > capacity * 0.85 && knee.rate < capacity * 1.06, "{} of {}", knee.rate, capacity);
        }

        #[test]
        fn any_server_at_all_ends_the_search(seen in prop::collection::vec(0u8..4, 1..40), guess in 1.0f64..1e7) {
            let mut seen = seen.into_iter().cycle();
            let (_, rates) = climb(Search::new(guess), |_| match seen.next().unwrap() {
                0 => Seen::Passed,
                1 => Seen::Failed,
                2 => Seen::Collapsed,
                _ => Seen::RigLimited,
            });
            prop_assert!(rates.len() <= MAX_PROBES as usize);
            prop_assert!(rates.iter().all(|rate| rate.is_finite() && *rate >= MIN_RATE && *rate <= MAX_RATE));
        }
    }
}
