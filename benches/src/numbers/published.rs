//! The figures that are well known, each with its source, and of what it is where that is not quite the same.
//!
//! - *Dean/Norvig*: "Latency numbers every programmer should know", after Jeff Dean and Peter Norvig, as of 2012.
//! - *napkin-math*: the table of the project of that name by Simon Eskildsen, measured on a laptop of 2017, as of 2020.
//! - *SQLite FAQ*: its question 19, with a disk of 7200 rpm in mind. It has no date, and was quoted in 2010.
//! - *redis.io*: the benchmark page of the Redis documentation, Redis 2.6.14 of 2013, redis-benchmark with 50 clients (`-P 16`
//!   where pipelined) on a Xeon E5520.
//!
//! Where nothing is known well enough there is nothing here. Nobody is right for this machine: they are here to be compared.

use crate::output::numbers::Published;

const KNOWN: [(&str, f64, &str, u32); 12] = [
    ("memory_latency", 100e-9, "Dean/Norvig", 2012),
    // 250 us for a megabyte.
    ("memory_copy_kb", 256e-9, "Dean/Norvig (read only)", 2012),
    ("syscall", 500e-9, "napkin-math", 2020),
    ("mutex_handover", 25e-9, "Dean/Norvig (nobody waits)", 2012),
    ("loopback_round_trip", 10e-6, "napkin-math", 2020),
    ("fdatasync", 5e-3, "napkin-math (8 KiB)", 2020),
    ("sqlite_insert", 1.0 / 60.0, "SQLite FAQ (rotating)", 2010),
    ("sqlite_insert_grouped", 1.0 / 50_000.0, "SQLite FAQ (or more)", 2010),
    ("redis_get", 1.0 / 123_601.76, "redis.io (50 clients)", 2013),
    ("redis_set", 1.0 / 122_556.53, "redis.io (50 clients)", 2013),
    ("redis_get_pipelined", 1.0 / 707_463.75, "redis.io (by 16)", 2013),
    ("redis_set_pipelined", 1.0 / 552_028.75, "redis.io (by 16)", 2013),
];

/// What is well known of the number with this key.
pub(super) fn of(key: &str) -> Option<Published> {
    let (_, seconds, source, year) = KNOWN.iter().find(|(known, ..)| *known == key)?;
    Some(Published {
        seconds: *seconds,
        source: (*source).to_owned(),
        year: *year,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_belongs_to_a_number() {
        for (key, seconds, source, year) in KNOWN {
            assert!(crate::numbers::KEYS.contains(&key), "{key}");
            assert!(
                seconds > 0.0 && !source.is_empty() && (2000..2030).contains(&year),
                "{key}"
            );
        }
        assert_eq!(of("clock_read"), None);
    }
}
