//! From users to operations a second, bytes a year and bytes a second. Nothing here but multiplication.

use serde::{Deserialize, Serialize};

use super::Action;

/// Seconds in a day.
pub const DAY_S: f64 = 86_400.0;
/// Days in a year, as on a whiteboard.
pub const YEAR_DAYS: f64 = 365.0;

/// What is assumed of any design.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Users that come on a day.
    pub daily_users: f64,
    /// How many times the average comes at the busiest time.
    pub peak_factor: f64,
    /// For how many years what is stored is kept.
    pub retention_years: f64,
    /// Copies of everything stored.
    pub copies: f64,
}

/// What comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Each kind of operation, in the order of the workload.
    pub kinds: Vec<KindTraffic>,
    /// Operations a second on average.
    pub average_rps: f64,
    /// Operations a second at the busiest time.
    pub peak_rps: f64,
    /// Bytes stored in a year, all copies.
    pub stored_bytes_year: f64,
    /// Bytes stored when the first are thrown away, all copies.
    pub stored_bytes: f64,
    /// Bytes a second on the wire on average, both directions.
    pub average_bytes_s: f64,
    /// The same at the busiest time.
    pub peak_bytes_s: f64,
}

/// What comes of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindTraffic {
    /// Its name.
    pub kind: String,
    /// How often a user does it in a day.
    pub per_user_day: f64,
    /// Operations a second on average.
    pub average_rps: f64,
    /// Its share of all operations, from 0 to 1.
    pub share: f64,
    /// Bytes on the wire for one.
    pub wire_bytes: f64,
    /// Bytes that one leaves behind, one copy.
    pub stored_bytes: f64,
}

/// Multiplies.
pub fn traffic(population: &Population, actions: &[Action]) -> Traffic {
    let actions_a_day: f64 = actions.iter().map(|action| action.per_user_day).sum();
    let kinds: Vec<KindTraffic> = actions
        .iter()
        .map(|action| KindTraffic {
            kind: action.kind.to_owned(),
            per_user_day: action.per_user_day,
            average_rps: population.daily_users * action.per_user_day / DAY_S,
            share: action.per_user_day / actions_a_day,
            wire_bytes: action.wire_bytes,
            stored_bytes: action.stored_bytes,
        })
        .collect();
    let sum = |of: fn(&KindTraffic) -> f64| kinds.iter().map(of).sum::<f64>();
    let average_rps = sum(|kind| kind.average_rps);
    let average_bytes_s = sum(|kind| kind.average_rps * kind.wire_bytes);
    let stored_bytes_year = sum(|kind| kind.average_rps * kind.stored_bytes) * DAY_S * YEAR_DAYS * population.copies;
    Traffic {
        average_rps,
        peak_rps: average_rps * population.peak_factor,
        stored_bytes_year,
        stored_bytes: stored_bytes_year * population.retention_years,
        average_bytes_s,
        peak_bytes_s: average_bytes_s * population.peak_factor,
        kinds,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn action(kind: &'static str, per_user_day: f64, stored_bytes: f64) -> Action {
        Action {
            kind,
            per_user_day,
            workload_share: 0.5,
            wire_bytes: 1_000.0,
            stored_bytes,
            slo_p99_s: 0.1,
        }
    }

    #[test]
    fn a_million_actions_a_day_are_twelve_a_second() {
        let population = Population {
            daily_users: 1e6,
            peak_factor: 10.0,
            retention_years: 5.0,
            copies: 3.0,
        };
        let traffic = traffic(&population, &[action("write", 0.25, 100.0), action("read", 0.75, 0.0)]);
        assert!((traffic.average_rps - 11.574).abs() < 1e-3);
        assert!((traffic.peak_rps - 115.74).abs() < 1e-2);
        assert_eq!(traffic.kinds[0].share, 0.25);
        // 250,000 a day x 365 x 100 bytes x 3 copies.
        assert!((traffic.stored_bytes_year - 27.375e9).abs() < 1.0);
        assert!((traffic.stored_bytes - 5.0 * 27.375e9).abs() < 10.0);
        assert!((traffic.average_bytes_s - 11_574.07).abs() < 1e-1);
    }

    proptest! {
        #[test]
        fn twice_the_users_are_twice_of_everything_and_the_same_shares(
            users in 1.0..1e10f64, writes in 0.001..100.0f64, reads in 0.0..1e4f64, peak in 1.0..100.0f64,
        ) {
            let actions = [action("write", writes, 64.0), action("read", reads, 0.0)];
            let population = Population { daily_users: users, peak_factor: peak, retention_years: 2.0, copies: 1.0 };
            let one = traffic(&population, &actions);
            let two = traffic(&Population { daily_users: 2.0 * users, ..population }, &actions);
            let double = |a: f64, b: f64| (b - 2.0 * a).abs() <= 1e-9 * b;
            prop_assert!(double(one.peak_rps, two.peak_rps) && double(one.stored_bytes, two.stored_bytes));
            prop_assert!(double(one.peak_bytes_s, two.peak_bytes_s));
            prop_assert_eq!(one.kinds[0].share, two.kinds[0].share);
            prop_assert!((one.kinds.iter().map(|kind| kind.share).sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(one.peak_rps >= one.average_rps);
        }
    }
}
