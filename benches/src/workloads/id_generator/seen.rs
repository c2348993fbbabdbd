//! Every key that was ever handed out, in little memory: a set that finds a repetition as it is put in.
//!
//! # The idea
//!
//! Keys of one node are nearly consecutive (see [`super::layout`]), and in which order answers arrive is anybody's guess. So
//! the numbers are cut into chunks of 65,536, and a chunk is either a sorted list of what is in it, while that is little, or
//! a bitmap. That is the shape of Roaring bitmaps (Lemire and others, 2016), less what is not needed here: a run of keys is
//! put in at once, and nothing is ever taken out.
//!
//! # The bound
//!
//! A bitmap is 8 KiB. A node of Twitter's layout that hands out all of its 4,096 numbers in each millisecond fills one in
//! 16 ms: a minute at 4 million ids a second is 3,662 of them, 30 MB. Where ids are few, a chunk is a list of two bytes an
//! id (four, while it is half empty) and 64 bytes beside. Plain numbers are always dense.
//!
//! A server that spreads its ids over all 64 bits costs 72 bytes an id. Beyond [`LIMIT`] nothing more is remembered, and
//! how many ids that concerns is said.

use std::collections::BTreeMap;

/// Memory that the keys of one stage may take, in bytes.
pub(super) const LIMIT: usize = 512 * 1024 * 1024;
/// Bits of a key that tell its place in its chunk.
const CHUNK_BITS: u32 = 16;
const WORDS: usize = 1 << (CHUNK_BITS - 6);
/// So many keys are as large in a list as in a bitmap.
const MOST_LISTED: usize = WORDS * 4;
/// What an entry of the map takes, beside what its chunk points to: 32 bytes, in nodes that are half full.
const ENTRY: usize = 64;

#[derive(Debug)]
enum Chunk {
    /// In order.
    List(Vec<u16>),
    Bitmap(Box<[u64; WORDS]>),
}

/// A set of keys.
#[derive(Debug)]
pub(super) struct Seen {
    chunks: BTreeMap<u64, Chunk>,
    /// About what they take.
    bytes: usize,
    limit: usize,
    /// Keys that are in it.
    pub(super) kept: u64,
    /// Keys that it had no room for.
    pub(super) forgotten: u64,
}

impl Seen {
    /// An empty set that takes at most about so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            chunks: BTreeMap::new(),
            bytes: 0,
            limit,
            kept: 0,
            forgotten: 0,
        }
    }

    /// Puts in all keys from `first` to `last`. One that was there already is given back.
    pub(super) fn insert(&mut self, first: u64, last: u64) -> Option<u64> {
        let mut twice = None;
        let mut from = first;
        loop {
            let number = from >> CHUNK_BITS;
            let to = last.min(from | ((1 << CHUNK_BITS) - 1));
            let found = self.insert_within(number, low(from), low(to));
            twice = twice.or(found.map(|place| number << CHUNK_BITS | u64::from(place)));
            if to == last {
                return twice;
            }
            from = to + 1;
        }
    }

    fn insert_within(&mut self, number: u64, first: u16, last: u16) -> Option<u16> {
        let keys = u64::from(last - first) + 1;
        if self.bytes >= self.limit {
            self.forgotten += keys;
            return None;
        }
        self.kept += keys;
        let bytes = &mut self.bytes;
        let chunk = self.chunks.entry(number).or_insert_with(|| {
            *bytes += ENTRY;
            Chunk::List(Vec::new())
        });
        let before = chunk.bytes();
        let twice = chunk.insert(first, last);
        self.bytes = self.bytes + chunk.bytes() - before;
        twice
    }
}

impl Chunk {
    fn bytes(&self) -> usize {
        match self {
            Self::List(list) => list.capacity() * size_of::<u16>(),
            Self::Bitmap(words) => size_of_val(&**words),
        }
    }

    fn insert(&mut self, first: u16, last: u16) -> Option<u16> {
        if let Self::List(list) = self
            && list.len() + usize::from(last - first) >= MOST_LISTED
        {
            *self = Self::Bitmap(spread(list));
        }
        match self {
            Self::List(list) => list_insert(list, first, last),
            Self::Bitmap(words) => bitmap_insert(words, first, last),
        }
    }
}

fn list_insert(list: &mut Vec<u16>, first: u16, last: u16) -> Option<u16> {
    // Ids come nearly in order: most go to the end.
    if list.last().is_none_or(|end| *end < first) {
        list.extend(first..=last);
        return None;
    }
    let from = list.partition_point(|key| *key < first);
    let to = from + list[from..].partition_point(|key| *key <= last);
    let twice = list[from..to].first().copied();
    list.splice(from..to, first..=last);
    twice
}

fn bitmap_insert(words: &mut [u64; WORDS], first: u16, last: u16) -> Option<u16> {
    let (from, to) = (first >> 6, last >> 6);
    let mut twice = None;
    for word in from..=to {
        let low = if word == from { first & 63 } else { 0 };
        let high = if word == to { last & 63 } else { 63 };
        let mask = u64::MAX >> (63 - (high - low)) << low;
        let bits = &mut words[usize::from(word)];
        let both = *bits & mask;
        if both != 0 && twice.is_none() {
            #[expect(clippy::cast_possible_truncation, reason = "below 64")]
            let bit = both.trailing_zeros() as u16;
            twice = Some(word << 6 | bit);
        }
        *bits |= mask;
    }
    twice
}

fn spread(list: &[u16]) -> Box<[u64; WORDS]> {
    let mut words = Box::new([0; WORDS]);
    for key in list {
        words[usize::from(key >> 6)] |= 1 << (key & 63);
    }
    words
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn low(key: u64) -> u16 {
    key as u16
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_put_in_twice_is_given_back_in_a_list_and_in_a_bitmap() {
        let mut seen = Seen::new(LIMIT);
        assert_eq!(seen.insert(100, 199), None);
        assert_eq!(seen.insert(50, 99), None);
        assert_eq!(seen.insert(150, 150), Some(150));
        assert_eq!(seen.insert(200, 60_000), None, "now it is a bitmap");
        assert_eq!(seen.insert(59_990, 60_010), Some(59_990));
        assert_eq!(seen.insert(60_011, 65_535), None);
    }

    #[test]
    fn a_run_across_chunks_is_in_both() {
        let mut seen = Seen::new(LIMIT);
        assert_eq!(seen.insert(65_000, 200_000), None);
        assert_eq!(seen.insert(200_000, 300_000), Some(200_000));
        assert_eq!(seen.insert(65_536, 65_536), Some(65_536));
        assert_eq!(seen.insert(u64::MAX - 5, u64::MAX), None);
        assert_eq!(seen.insert(u64::MAX, u64::MAX), Some(u64::MAX));
    }

    /// 240 million ids in answers of a thousand, of which each four come in the wrong order.
    #[test]
    fn a_minute_at_four_million_a_second_takes_the_memory_that_is_said() {
        let mut seen = Seen::new(LIMIT);
        for answer in 0..240_000u64 {
            let first = (answer ^ 3) * 1_000;
            assert_eq!(seen.insert(first, first + 999), None);
        }
        assert_eq!((seen.kept, seen.forgotten), (240_000_000, 0));
        assert!((29_000_000..31_000_000).contains(&seen.bytes), "{}", seen.bytes);
    }

    #[test]
    fn what_has_no_room_is_counted_and_not_remembered() {
        let mut seen = Seen::new(1_000_000);
        for key in 0..100_000 {
            assert_eq!(seen.insert(key << 40, key << 40), None);
        }
        assert_eq!(seen.kept + seen.forgotten, 100_000);
        assert!((13_000..15_000).contains(&seen.kept), "{}", seen.kept);
        assert!(seen.bytes < 1_000_100);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_set_finds(
            runs in prop::collection::vec((0u64..200_000, 0u64..3_000), 1..80), crowded in any::<bool>(),
        ) {
            let mut seen = Seen::new(LIMIT);
            let mut plain = BTreeSet::new();
            for (first, more) in runs {
                let (first, last) = if crowded { (first % 9_000, first % 9_000 + more) } else { (first, first + more % 7) };
                let twice = (first..=last).find(|key| plain.contains(key));
                prop_assert_eq!(seen.insert(first, last), twice);
                plain.extend(first..=last);
            }
        }
    }
}
