//! Unique ids without asking anybody: a time, a node and a counter in one number, and one atomic word behind it.
//!
//! # The problem
//!
//! An id that a database counts costs a question to that database, and its order is known to nobody but it. An id drawn at
//! random costs nothing and sorts nowhere. What lies between: an id that a machine makes alone, that no other machine
//! makes, and that sorts by age.
//!
//! # "Metadata plus time"
//!
//! The note that many designs begin with: write down who makes the id, and when. `(node, time)` is unique as long as a
//! node makes one id a tick. It makes many: at 100,000 requests a second, a hundred share each millisecond, and a hundred
//! ids would be one. A finer clock only shifts that (two threads read one nanosecond), and a clock that is set back, by
//! NTP or by hand, gives the same times a second time. So it takes a third part, a *sequence* that counts within the tick,
//! and something that remembers how far time had come. That is the whole of Twitter's Snowflake (2010); the bits are
//! `layout.rs`.
//!
//! # The idea
//!
//! Number the numbers: with 4,096 ids a tick, tick 7 owns 28,672 to 32,767. What is handed out next is then a single
//! count, and taking `n` of them moves it by `n`. The clock pushes it forward to the tick that has begun; nothing ever
//! pushes it back.
//!
//! One 64-bit word holds it, in two parts, because there is a second thing to remember, *the latest time seen*:
//!
//! ```text
//!   42 bits: the latest tick seen        22 bits: how many were taken, counted from that tick on
//! ```
//!
//! The second part may exceed what a tick has. Those numbers belong to the ticks to come: they are *reserved*, and whoever
//! took them waits for their tick before he tells them, so that no id is ever from the future. That is a leaky bucket:
//! demand that comes in bursts is served at the layout's pace, in order, by as many sleeping tasks as there are requests,
//! and nobody spins on the clock. A second is the most that is reserved ahead.
//!
//! # Walk-through
//!
//! Four ids a tick, one thread after the other:
//!
//! ```text
//! clock  asks for    word before   word after   numbers          told
//!   7       2           (0, 0)       (7, 2)     7.0 7.1          at once
//!   7       3           (7, 2)       (7, 5)     7.2 7.3 8.0      when the clock shows 8
//!   8       1           (7, 5)       (8, 2)     8.1              at once
//!   6       1           (8, 2)       (8, 2)     refused: the clock is 2 ticks behind
//!   8       1           (8, 2)       (8, 3)     8.2              as if nothing had happened
//! 100       1           (8, 3)     (100, 1)     100.0
//! ```
//!
//! # Why it is correct
//!
//! Every number is taken by exactly one compare-and-swap, each of which moves the count forward by what it takes: so no
//! number is taken twice, whatever the clocks say. A clock that shows less than the word changes nothing: looking at the
//! clock comes before touching the sequence (twitter-archive/snowflake, issue 6, had it the other way round and repeated
//! ids).
//!
//! The order of the two looks matters: *the word first, the clock second*. Then a clock that does not go back always shows
//! at least what the word holds, since whoever wrote the word had looked before. The other way round, a thread that is
//! interrupted between its two looks would find its own clock "behind" and refuse.
//!
//! `tests/loom.rs` runs this file through every interleaving of two threads with three calls each, by clocks that step back;
//! the properties in `tests/snowflake.rs` hold it against random walks of a clock.
//!
//! # What it does not do
//!
//! It forgets. After a restart, the word begins at what it is given, and the clock may have been set back in between: how
//! far the ids had come has to be written down *before* they are handed out. And two processes with one node id make the
//! same ids. Both are the business of `lease.rs`.

use std::time::Duration;

use crate::layout::Layout;
use crate::sync::{AtomicU64, Ordering};

/// Bits of the word that count what was taken.
const TAKEN_BITS: u32 = 22;

/// How long ahead of the clock numbers may be reserved.
const FURTHEST: Duration = Duration::from_secs(1);

/// The word once nothing is to be taken any more; no count of what was taken comes as far as its lower part.
const CLOSED: u64 = u64::MAX;

/// Hands out the numbers of one node.
#[derive(Debug)]
pub struct Snowflake {
    layout: Layout,
    node: u32,
    /// The most numbers that may be taken, counted from the tick on that has begun.
    most: u64,
    word: AtomicU64,
}

/// What was taken: consecutive numbers, which are ids once their tick has come.
#[derive(Clone, Copy, Debug)]
#[must_use = "nobody else gets these numbers"]
pub struct Taken<'a> {
    from: &'a Snowflake,
    /// The first, counted from the epoch on, with as many a tick as the layout has.
    first: u64,
    count: u32,
    /// The tick that the clock showed.
    now: u64,
}

/// Why no number was taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The clock shows a time that is over: it is this far behind the latest that was seen.
    Behind(Duration),
    /// All numbers of the second to come are taken; there is room again after this.
    Exhausted(Duration),
    /// The layout has no bits for such a time.
    Over,
    /// See [`Snowflake::close`].
    Closed,
}

impl Snowflake {
    /// The numbers of a node from `from_tick` on, a tick counted from the layout's epoch.
    ///
    /// `None` where the node id does not fit.
    #[must_use]
    pub fn new(layout: Layout, node: u32, from_tick: u64) -> Option<Self> {
        let fits = node <= layout.last_node() && from_tick <= layout.last_tick();
        fits.then(|| Self {
            layout,
            node,
            most: most(&layout),
            word: AtomicU64::new(from_tick << TAKEN_BITS),
        })
    }

    /// Takes `count` numbers that nobody else gets. `clock` tells the time in milliseconds since 1970; it is asked once a
    /// try, after the word was read.
    ///
    /// # Errors
    /// [`Refused`]: nothing was taken.
    pub fn take(&self, count: u32, clock: impl Fn() -> u64) -> Result<Taken<'_>, Refused> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word == CLOSED {
                return Err(Refused::Closed);
            }
            let now = self.layout.tick(clock()).unwrap_or(0);
            let (first, next) = self.step(word, u64::from(count), now)?;
            let swapped = self
                .word
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => {
                    return Ok(Taken {
                        from: self,
                        first,
                        count,
                        now,
                    });
                }
                Err(newer) => word = newer,
            }
        }
    }

    /// The first tick of which no number was taken.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached_by(self.word.load(Ordering::Acquire))
    }

    /// Ends it: from here on nobody takes a number. The first tick of which none was taken, and none will be. To be called
    /// once: before the node id is given back, or when it was lost.
    pub fn close(&self) -> u64 {
        self.reached_by(self.word.swap(CLOSED, Ordering::AcqRel))
    }

    fn reached_by(&self, word: u64) -> u64 {
        let (seen, taken) = unpack(word);
        seen + taken.div_ceil(self.layout.ids_a_tick())
    }

    /// The first number that a taker gets and the word that he leaves behind, by the clock and the word that he found.
    fn step(&self, word: u64, count: u64, now: u64) -> Result<(u64, u64), Refused> {
        let (seen, taken) = unpack(word);
        let Some(passed) = now.checked_sub(seen) else {
            return Err(Refused::Behind(self.ticks(seen - now)));
        };
        // What was reserved beyond the tick that has begun.
        let ahead = taken.saturating_sub(passed.saturating_mul(self.layout.ids_a_tick()));
        let next = ahead + count;
        let over = next.saturating_sub(self.most);
        if over > 0 {
            return Err(Refused::Exhausted(self.ticks(over.div_ceil(self.layout.ids_a_tick()))));
        }
        let first = (now << self.layout.sequence_bits()) + ahead;
        if self.tick_of(first + count) > self.layout.last_tick() {
            return Err(Refused::Over);
        }
        Ok((first, now << TAKEN_BITS | next))
    }

    fn tick_of(&self, number: u64) -> u64 {
        number >> self.layout.sequence_bits()
    }

    fn ticks(&self, count: u64) -> Duration {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.layout.tick_length().saturating_mul(count)
    }
}

impl Taken<'_> {
    /// The tick of the last of them: before the clock shows it, none may be told.
    #[must_use]
    pub fn last_tick(&self) -> u64 {
        self.from.tick_of(self.first + u64::from(self.count).saturating_sub(1))
    }

    /// How long to wait until they may be told, by the clock that was seen when they were taken.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.from.ticks(self.last_tick() - self.now)
    }

    /// The same by a clock that shows `now_ms`, in milliseconds since 1970.
    #[must_use]
    pub fn wait_at(&self, now_ms: u64) -> Duration {
        let now = self.from.layout.tick(now_ms).unwrap_or(0);
        self.from.ticks(self.last_tick().saturating_sub(now))
    }

    /// The ids, smallest first.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        let from = self.from;
        let layout = from.layout;
        let mask = layout.ids_a_tick() - 1;
        let numbers = self.first..self.first + u64::from(self.count);
        // Node and last tick were checked, so each number has an id.
        numbers.filter_map(move |number| layout.compose(from.tick_of(number), from.node, number & mask))
    }
}

/// As many as the layout has in the time that may be reserved, and as the word can count.
fn most(layout: &Layout) -> u64 {
    let ticks = FURTHEST.as_millis() / layout.tick_length().as_millis().max(1);
    let numbers = u64::try_from(ticks).unwrap_or(u64::MAX) << layout.sequence_bits();
    numbers.min((1 << TAKEN_BITS) - 1)
}

fn unpack(word: u64) -> (u64, u64) {
    (word >> TAKEN_BITS, word & ((1 << TAKEN_BITS) - 1))
}
