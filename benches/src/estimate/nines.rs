//! What an availability allows, and how many replicas reach it.
//!
//! Replicas that fail independently are all down at once with the product of their probabilities: two that are up for 99 %
//! of the time make 99.99 %. The catch is the word *independent*. Replicas share a rack, a release, a configuration, a
//! database, and the one who deploys to all of them at once; so the number below is the least that could do, and never a
//! promise.

/// The shares of time that people ask for.
pub const TARGETS: [f64; 2] = [0.9999, 0.999_99];

/// Seconds that something may be down within `period_s` seconds.
pub fn downtime_s(availability: f64, period_s: f64) -> f64 {
    (1.0 - availability) * period_s
}

/// How many independent replicas, each up for the share `replica` of the time (above 0, below 1), of which one is enough,
/// are up for the share `target`: the least n with 1 - (1 - a)^n >= target.
pub fn replicas(replica: f64, target: f64) -> f64 {
    // 1 - 0.9999 is not quite 0.0001: what is equal on paper must not cost a replica.
    ((1.0 - target).ln() / (1.0 - replica).ln() - 1e-9).ceil().max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_that_everybody_knows() {
        let year = 365.0 * 86_400.0;
        assert!((downtime_s(0.9999, year) / 60.0 - 52.56).abs() < 1e-6);
        assert!((downtime_s(0.999_99, year) / 60.0 - 5.256).abs() < 1e-6);
        for (replica, target, n) in [
            (0.99, 0.9999, 2.0),
            (0.99, 0.999_99, 3.0),
            (0.999, 0.9999, 2.0),
            (0.9, 0.9999, 4.0),
            (0.9, 0.999_99, 5.0),
            (0.999_99, 0.9999, 1.0),
        ] {
            assert_eq!(replicas(replica, target), n, "{replica} for {target}");
        }
    }

    proptest! {
        #[test]
        fn so_many_replicas_are_enough_and_one_less_is_not(replica in 0.01..0.99999f64, target in 0.5..0.999999f64) {
            let n = replicas(replica, target);
            let up = |n: f64| 1.0 - (1.0 - replica).powf(n);
            prop_assert!(up(n) >= target - 1e-9);
            prop_assert!(n == 1.0 || up(n - 1.0) < target + 1e-9);
        }
    }
}
