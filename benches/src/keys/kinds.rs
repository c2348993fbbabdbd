//! The keys: five kinds, each as large and as ordered as it is in use.
//!
//! | kind | bits | what orders it |
//! |---|---|---|
//! | auto-increment | 64 | the database counts |
//! | `UUIDv4` | 128 | nothing: 122 random bits |
//! | `UUIDv7` | 128 | 48 of a millisecond, 12 of a sequence, 62 random (RFC 9562, section 6.2, method 1) |
//! | ULID | 128 | 48 of a millisecond, 80 random, one more for each in the same millisecond (as its specification has it) |
//! | Snowflake | 64 | 41 of a millisecond, 10 of a node, 12 of a sequence |
//!
//! The clock is not the machine's: it ticks after so many keys, so that a seed always gives the same keys, however fast the
//! database takes them.

use std::mem;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::{Builder, Uuid};

/// Keys in a millisecond: 100,000 a second, about what a database takes.
pub const KEYS_A_MS: u64 = 100;
/// When the clock begins, in milliseconds since 1970: 2026-01-01.
const BEGIN_MS: u64 = 1_767_225_600_000;
/// What a Snowflake's time counts from, in the same milliseconds: 2025-01-01.
const SNOWFLAKE_EPOCH_MS: u64 = 1_735_689_600_000;
/// The Snowflake's node; any.
const NODE: u64 = 5;

/// A kind of primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A number that the database gives.
    AutoIncrement,
    /// 122 random bits.
    UuidV4,
    /// Time first, then a sequence and random bits.
    UuidV7,
    /// Time first, then random bits, counted on within a millisecond.
    Ulid,
    /// A number of time, node and sequence.
    Snowflake,
}

impl Kind {
    /// All, in the order of tables.
    pub const ALL: [Self; 5] = [
        Self::AutoIncrement,
        Self::UuidV4,
        Self::UuidV7,
        Self::Ulid,
        Self::Snowflake,
    ];
}

/// The keys of one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// The database makes so many.
    Given(usize),
    Integers(Vec<i64>),
    Sixteen(Vec<Uuid>),
}

impl Group {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Given(count) => *count,
            Self::Integers(keys) => keys.len(),
            Self::Sixteen(keys) => keys.len(),
        }
    }
}

/// The keys of one table, in the order in which they are made.
#[derive(Debug)]
pub(super) struct Keys {
    kind: Kind,
    rng: SmallRng,
    made: u64,
    /// The last one, as the number that it is ordered by.
    last: u128,
    /// How many were larger than the one before.
    ascents: u64,
}

impl Keys {
    pub(super) fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            rng: SmallRng::seed_from_u64(seed),
            made: 0,
            last: 0,
            ascents: 0,
        }
    }

    /// The next keys.
    pub(super) fn group(&mut self, count: usize) -> Group {
        let keys: Vec<u128> = (0..count).map(|_| self.next()).collect();
        match self.kind {
            Kind::AutoIncrement => Group::Given(count),
            Kind::Snowflake => Group::Integers(keys.into_iter().map(|key| low(key).cast_signed()).collect()),
            _ => Group::Sixteen(keys.into_iter().map(Uuid::from_u128).collect()),
        }
    }

    /// The share of the keys that were larger than the one before; the first has none before it.
    pub(super) fn in_order(&self) -> f64 {
        let pairs = self.made.saturating_sub(1);
        if pairs == 0 {
            1.0
        } else {
            self.ascents as f64 / pairs as f64
        }
    }

    fn next(&mut self) -> u128 {
        let (ms, sequence) = (BEGIN_MS + self.made / KEYS_A_MS, self.made % KEYS_A_MS);
        let key = match self.kind {
            Kind::AutoIncrement => u128::from(self.made + 1),
            Kind::Snowflake => u128::from(snowflake(ms, sequence)),
            Kind::UuidV4 => Builder::from_random_bytes(self.rng.random()).into_uuid().as_u128(),
            Kind::UuidV7 => uuid_v7(ms, sequence, self.rng.random()),
            Kind::Ulid if sequence > 0 => match Ulid(self.last).increment() {
                // Where the random bits are used up, it goes on in the next millisecond.
                Ok(ulid) | Err(ulid) => ulid.0,
            },
            Kind::Ulid => Ulid::from_parts(ms, self.rng.random()).0,
        };
        let before = mem::replace(&mut self.last, key);
        self.ascents += u64::from(self.made > 0 && key > before);
        self.made += 1;
        key
    }
}

fn snowflake(ms: u64, sequence: u64) -> u64 {
    (ms - SNOWFLAKE_EPOCH_MS) << 22 | NODE << 12 | sequence
}

fn uuid_v7(ms: u64, sequence: u64, random: u64) -> u128 {
    // The builder puts version and variant over the first bits of the two parts.
    let rest = u128::from(sequence) << 64 | u128::from(random);
    let [_, _, _, _, _, _, rest @ ..] = rest.to_be_bytes();
    Builder::from_unix_timestamp_millis(ms, &rest).into_uuid().as_u128()
}

/// The lower half: all there is of a number of 64 bits.
fn low(key: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is empty")]
    let key = key as u64;
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: Kind, seed: u64, count: usize) -> Vec<u128> {
        let mut keys = Keys::new(kind, seed);
        (0..count).map(|_| keys.next()).collect()
    }

    #[test]
    fn all_kinds_but_the_random_one_increase_and_none_repeats() {
        for kind in Kind::ALL {
            let mut keys = made(kind, 7, 20_000);
            let sorted = keys.is_sorted();
            assert_eq!(sorted, kind != Kind::UuidV4, "{kind:?}");
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), 20_000, "{kind:?}");
        }
    }

    #[test]
    fn half_of_all_random_keys_are_larger_than_the_one_before() {
        let mut keys = Keys::new(Kind::UuidV4, 1);
        keys.group(100_000);
        assert!((keys.in_order() - 0.5).abs() < 0.01, "{}", keys.in_order());
        let mut keys = Keys::new(Kind::Ulid, 1);
        assert_eq!(keys.in_order(), 1.0);
        keys.group(1_000);
        assert_eq!(keys.in_order(), 1.0);
    }

    #[test]
    fn a_seed_decides_the_random_bits() {
        for kind in [Kind::UuidV4, Kind::UuidV7, Kind::Ulid] {
            assert_eq!(made(kind, 1, 300), made(kind, 1, 300));
            assert_ne!(made(kind, 1, 300), made(kind, 2, 300));
        }
    }

    #[test]
    fn uuids_say_their_version_and_their_time() {
        let key = |kind, at: usize| Uuid::from_u128(made(kind, 1, at + 1)[at]);
        assert_eq!(key(Kind::UuidV4, 0).get_version_num(), 4);
        let later = key(Kind::UuidV7, 250);
        assert_eq!(later.get_version_num(), 7);
        assert_eq!(later.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(later.get_timestamp().unwrap().to_unix(), (1_767_225_600, 2_000_000));
        // Twelve bits behind the version: the sequence, 250 - 2 x 100.
        assert_eq!(&later.to_string()[14..18], "7032");
    }

    #[test]
    fn a_ulid_is_one_more_within_its_millisecond() {
        let keys = made(Kind::Ulid, 1, 102);
        assert_eq!(keys[99], keys[0] + 99);
        assert_eq!(Ulid(keys[100]).timestamp_ms(), Ulid(keys[0]).timestamp_ms() + 1);
        assert_ne!(Ulid(keys[100]).random(), Ulid(keys[99]).random() + 1);
    }

    #[test]
    fn a_snowflake_is_time_node_and_sequence() {
        let key = low(made(Kind::Snowflake, 1, 251)[250]);
        assert_eq!(key >> 22, BEGIN_MS - SNOWFLAKE_EPOCH_MS + 2);
        assert_eq!((key >> 12 & 0x3ff, key & 0xfff), (NODE, 50));
    }

    #[test]
    fn groups_are_what_the_database_takes() {
        let group = |kind| Keys::new(kind, 1).group(3);
        assert_eq!(group(Kind::AutoIncrement), Group::Given(3));
        assert!(matches!(group(Kind::Snowflake), Group::Integers(keys) if keys.len() == 3 && keys[0] > 0));
        assert!(matches!(group(Kind::Ulid), Group::Sixteen(keys) if keys.len() == 3));
    }
}
