//! What is asked for and what is given: ids, how many, in which form, and every way in which asking can fail.
//!
//! No I/O, no wire formats, no status codes: those are the business of the adapters and of `http.rs`.

use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;
use uuid::Uuid;

use crate::layout::Parts;

/// The most ids in one answer.
pub const MOST: u32 = 10_000;

/// How many ids are asked for: 1 to [`MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u32);

impl Count {
    /// One.
    pub const ONE: Self = Self(1);

    /// Checks a number.
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        if count == 0 || count > MOST {
            return None;
        }
        Some(Self(count))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// How ids are made and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The stage's own numbers, in decimal digits.
    #[default]
    Snowflake,
    /// The same numbers in base62: 11 characters instead of 19.
    Base62,
    /// 122 random bits.
    UuidV4,
    /// Milliseconds and 74 bits, ordered within this process.
    UuidV7,
    /// Milliseconds and 80 bits, as 26 letters and digits.
    Ulid,
}

/// Ids that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Numbers, to be written in decimal digits.
    Decimal(Vec<u64>),
    /// Numbers, to be written in base62.
    Base62(Vec<u64>),
    /// UUIDs of either version.
    Uuids(Vec<Uuid>),
    /// ULIDs.
    Ulids(Vec<Ulid>),
}

/// What an id tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A number of a layout: when, where, which.
    Parts(&'static str, Parts),
    /// A number that was counted: which.
    Counted(u64),
    /// A UUID or ULID: its kind, and when it was made in milliseconds since 1970, if it says.
    Foreign(&'static str, Option<u64>),
}

/// Why there are no ids. Nothing was promised to anybody: numbers may be lost by it, none is doubled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The clock shows a time that ids were given out for already; it catches up in so long.
    #[error("the clock is {0:?} behind the ids given out")]
    ClockBehind(Duration),
    /// The layout's numbers are used up for so long.
    #[error("the sequence is exhausted for {0:?}")]
    SequenceExhausted(Duration),
    /// The layout has no bits for the time, or the store none for the number.
    #[error("the ids of this layout are used up")]
    Over,
    /// This server has no node id at the moment.
    #[error("no node id is held")]
    NoNode,
    /// No id has this form.
    #[error("not an id")]
    NotAnId,
    /// The store cannot be asked. Nothing was changed.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// There is no space left. Nothing was changed.
    #[error("the store is full: {0}")]
    Full(Arc<dyn std::error::Error + Send + Sync>),
}
