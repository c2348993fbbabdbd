//! The bits of an id: which of them are time, which name the node, which count.
//!
//! # The idea
//!
//! A 64-bit number has room for a time in milliseconds, the number of the machine that made it, and a counter for those
//! made in the same millisecond. Time stands highest, so ids sort by age, and an index takes them at its end.
//!
//! ```text
//! twitter    0 | 41 time, ms since 2010-11-04                 | 10 node  | 12 sequence
//! discord        42 time, ms since 2015-01-01                 | 10 node  | 12 sequence
//! instagram      41 time, ms since 2011-08-24                 | 13 node  | 10 sequence
//! sonyflake  0 | 39 time, 10 ms since 2014-09-01              | 8 sequence | 16 node
//! ```
//!
//! What a layout can give is arithmetic: `2^sequence` ids a tick and node, `2^node` nodes, `2^time` ticks of life.
//!
//! ```text
//!             ids a second and node    nodes     until
//! twitter                 4,096,000    1,024     2080
//! discord                 4,096,000    1,024     2154
//! instagram               1,024,000    8,192     2081
//! sonyflake                  25,600   65,536     2188
//! ```
//!
//! # What must never happen
//!
//! That a part runs into its neighbour. A node id one bit too wide, or a time past its last tick, gives ids that belong to
//! somebody else (sony/sonyflake, pull request 72). So whatever does not fit is refused, at the start where it can be
//! known; nothing is ever masked.
//!
//! Sources: twitter-archive/snowflake for the first; the API documentation of Discord; "Sharding & IDs at Instagram"
//! (2012); sony/sonyflake, version 1.

use std::fmt;
use std::time::Duration;

/// How an id is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    name: &'static str,
    epoch_ms: u64,
    tick_ms: u64,
    time_bits: u32,
    node_bits: u32,
    sequence_bits: u32,
    lowest: Part,
}

/// Which part stands in the lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Sequence,
    Node,
}

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// When it was made, in milliseconds since 1970; exact to a tick.
    pub time_ms: u64,
    /// Which node made it.
    pub node: u32,
    /// Which of the tick it was, from 0.
    pub sequence: u32,
}

/// Why a layout cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The node id has more bits than there are for it.
    #[error("node id {node} does not fit into the {bits} bits that layout {layout} has for it: at most {most}")]
    NodeTooWide {
        /// The layout.
        layout: &'static str,
        /// What was asked for.
        node: u32,
        /// How many bits there are.
        bits: u32,
        /// The widest that fits.
        most: u32,
    },
    /// Time is yet to begin.
    #[error("the epoch of layout {layout}, {}, lies in the future", rfc3339(*.epoch_ms))]
    NotYet {
        /// The layout.
        layout: &'static str,
        /// When it begins, in milliseconds since 1970.
        epoch_ms: u64,
    },
    /// Time is over.
    #[error("the {bits} bits that layout {layout} has for the time are used up since {}", rfc3339(*.since_ms))]
    Over {
        /// The layout.
        layout: &'static str,
        /// How many bits there are.
        bits: u32,
        /// When the last tick had passed, in milliseconds since 1970.
        since_ms: u64,
    },
}

impl Layout {
    /// 41 bits of milliseconds, 10 of node, 12 of sequence: the first Snowflake, and the default.
    pub const TWITTER: Self = Self {
        name: "twitter",
        epoch_ms: 1_288_834_974_657,
        tick_ms: 1,
        time_bits: 41,
        node_bits: 10,
        sequence_bits: 12,
        lowest: Part::Sequence,
    };

    /// 42 bits of milliseconds, 10 of node (which Discord calls worker and process), 12 of sequence.
    pub const DISCORD: Self = Self {
        name: "discord",
        epoch_ms: 1_420_070_400_000,
        time_bits: 42,
        ..Self::TWITTER
    };

    /// 41 bits of milliseconds, 13 of node (a logical shard), 10 of sequence.
    pub const INSTAGRAM: Self = Self {
        name: "instagram",
        epoch_ms: 1_314_220_021_721,
        node_bits: 13,
        sequence_bits: 10,
        ..Self::TWITTER
    };

    /// 39 bits of 10 ms, 8 of sequence, 16 of node: slower, for more machines and a longer life.
    pub const SONYFLAKE: Self = Self {
        name: "sonyflake",
        epoch_ms: 1_409_529_600_000,
        tick_ms: 10,
        time_bits: 39,
        node_bits: 16,
        sequence_bits: 8,
        lowest: Part::Node,
    };

    /// Its name, as in the flag.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The same bits, counted from another moment, in milliseconds since 1970.
    #[must_use]
    pub const fn since(self, epoch_ms: u64) -> Self {
        Self { epoch_ms, ..self }
    }

    /// What tells ids of this layout from those of others: two servers on one store must agree on it.
    #[must_use]
    pub fn meaning(&self) -> String {
        format!("{} since {}", self.name, rfc3339(self.epoch_ms))
    }

    /// Checks what can be checked before the first id is made: the node, and that `now_ms` is a time that can be written.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, node: u32, now_ms: u64) -> Result<(), Unfit> {
        let layout = self.name;
        if node > self.last_node() {
            return Err(Unfit::NodeTooWide {
                layout,
                node,
                bits: self.node_bits,
                most: self.last_node(),
            });
        }
        let Some(tick) = self.tick(now_ms) else {
            let epoch_ms = self.epoch_ms;
            return Err(Unfit::NotYet { layout, epoch_ms });
        };
        if tick > self.last_tick() {
            return Err(Unfit::Over {
                layout,
                bits: self.time_bits,
                since_ms: self.time_ms(self.last_tick() + 1),
            });
        }
        Ok(())
    }

    /// The widest node id.
    #[must_use]
    pub const fn last_node(&self) -> u32 {
        (1 << self.node_bits) - 1
    }

    /// The last tick that can be written.
    #[must_use]
    pub const fn last_tick(&self) -> u64 {
        (1 << self.time_bits) - 1
    }

    /// How many ids a node can make in a tick.
    #[must_use]
    pub const fn ids_a_tick(&self) -> u64 {
        1 << self.sequence_bits
    }

    /// How many bits count within a tick.
    #[must_use]
    pub const fn sequence_bits(&self) -> u32 {
        self.sequence_bits
    }

    /// How long a tick is.
    #[must_use]
    pub const fn tick_length(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }

    /// The tick of a time in milliseconds since 1970, counted from the epoch; `None` before the epoch.
    #[must_use]
    pub const fn tick(&self, now_ms: u64) -> Option<u64> {
        match now_ms.checked_sub(self.epoch_ms) {
            Some(since) if self.tick_ms == 1 => Some(since), // the usual case, and a division is slow
            Some(since) => Some(since / self.tick_ms),
            None => None,
        }
    }

    /// The first tick that begins at a time in milliseconds since 1970, or later.
    #[must_use]
    pub const fn tick_from(&self, time_ms: u64) -> u64 {
        time_ms.saturating_sub(self.epoch_ms).div_ceil(self.tick_ms)
    }

    /// When a tick begins, in milliseconds since 1970.
    #[must_use]
    pub const fn time_ms(&self, tick: u64) -> u64 {
        self.epoch_ms.saturating_add(tick.saturating_mul(self.tick_ms))
    }

    /// The id of a sequence number of a tick on a node; `None` if one of them does not fit.
    #[must_use]
    pub const fn compose(&self, tick: u64, node: u32, sequence: u64) -> Option<u64> {
        if tick > self.last_tick() || node > self.last_node() || sequence >= self.ids_a_tick() {
            return None;
        }
        let node = node as u64;
        let low = match self.lowest {
            Part::Sequence => node << self.sequence_bits | sequence,
            Part::Node => sequence << self.node_bits | node,
        };
        Some(tick << (self.node_bits + self.sequence_bits) | low)
    }

    /// What an id says; `None` for a number with bits above the time's.
    #[must_use]
    pub const fn decompose(&self, id: u64) -> Option<Parts> {
        let tick = id >> (self.node_bits + self.sequence_bits);
        if tick > self.last_tick() {
            return None;
        }
        let (node, sequence) = match self.lowest {
            Part::Sequence => (id >> self.sequence_bits, id),
            Part::Node => (id, id >> self.node_bits),
        };
        Some(Parts {
            time_ms: self.time_ms(tick),
            node: lowest_bits(node, self.node_bits),
            sequence: lowest_bits(sequence, self.sequence_bits),
        })
    }
}

/// The lowest `count` bits, at most 31.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is cut off is what is not asked for"
)]
const fn lowest_bits(number: u64, count: u32) -> u32 {
    number as u32 & ((1 << count) - 1)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A time in milliseconds since 1970, as RFC 3339.
fn rfc3339(ms: u64) -> impl fmt::Display {
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(ms))
}
