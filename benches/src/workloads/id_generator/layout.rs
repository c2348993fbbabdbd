//! What the bits of an id mean: the layouts that services have published, and the arithmetic to take an id apart.
//!
//! The lab knows no design's types, so it has its own table. A server says which layout it uses when the workload decodes
//! its first id; from then on the node is read from each id itself. A plain number (`sequence`) is of one node and has no time.
//!
//! An id's *key* is the same fields in another order: node, time, sequence. What one node hands out one after the other
//! then differs by one, whichever layout it is in, also from one time unit to the next. That is what makes a history of
//! millions of ids small.

/// Bits of an id that mean one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    /// How many bits lie below.
    shift: u32,
    /// How many there are.
    bits: u32,
}

impl Field {
    const fn of(self, id: u64) -> u64 {
        (id >> self.shift) & self.most()
    }

    const fn most(self) -> u64 {
        (1 << self.bits) - 1
    }
}

/// Where time, node and sequence lie in an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits {
    /// The instant of time zero, in milliseconds since 1970.
    epoch_ms: u64,
    /// Milliseconds in a unit of time.
    unit_ms: u64,
    time: Field,
    node: Field,
    sequence: Field,
}

/// One layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its name in `GET /ids/{id}`.
    pub(super) name: &'static str,
    /// `None` for plain numbers.
    pub(super) bits: Option<Bits>,
}

/// Ids are numbers and nothing else.
pub(super) const SEQUENCE: Layout = Layout {
    name: "sequence",
    bits: None,
};

/// All that are known.
pub(super) const LAYOUTS: [Layout; 5] = [
    SEQUENCE,
    // 2010, announced as Snowflake: 41 bits of milliseconds, 10 of machine, 12 of sequence.
    layout("twitter", 1_288_834_974_657, 1, (22, 41), (12, 10), (0, 12)),
    // The first second of 2015; worker and process are 5 bits each.
    layout("discord", 1_420_070_400_000, 1, (22, 42), (12, 10), (0, 12)),
    // "Sharding & IDs at Instagram", 2012: 41 bits of milliseconds, 13 of shard, 10 of sequence.
    layout("instagram", 1_314_220_021_721, 1, (23, 41), (10, 13), (0, 10)),
    // 2014-09-01T00:00:00Z: 39 bits of 10 ms, 8 of sequence, and below them 16 of machine.
    layout("sonyflake", 1_409_529_600_000, 10, (24, 39), (0, 16), (16, 8)),
];

/// Each field is given as the bits below it and its own.
const fn layout(
    name: &'static str,
    epoch_ms: u64,
    unit_ms: u64,
    time: (u32, u32),
    node: (u32, u32),
    sequence: (u32, u32),
) -> Layout {
    const fn field((shift, bits): (u32, u32)) -> Field {
        Field { shift, bits }
    }
    Layout {
        name,
        bits: Some(Bits {
            epoch_ms,
            unit_ms,
            time: field(time),
            node: field(node),
            sequence: field(sequence),
        }),
    }
}

impl Layout {
    /// The layout of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        LAYOUTS.into_iter().find(|layout| layout.name == name)
    }

    /// Whether the bits that the layout leaves unused are zero.
    pub(super) fn fits(&self, id: u64) -> bool {
        self.bits.is_none_or(|bits| {
            let used = bits.time.shift + bits.time.bits;
            id.checked_shr(used).unwrap_or(0) == 0
        })
    }

    /// Which node an id says it is of.
    pub(super) fn node(&self, id: u64) -> u64 {
        self.bits.map_or(0, |bits| bits.node.of(id))
    }

    /// The fields of an id as node, time, sequence.
    pub(super) fn key(&self, id: u64) -> u64 {
        self.bits.map_or(id, |bits| {
            let node_and_time = bits.node.of(id) << bits.time.bits | bits.time.of(id);
            node_and_time << bits.sequence.bits | bits.sequence.of(id)
        })
    }

    /// The id of a key.
    pub(super) fn id(&self, key: u64) -> u64 {
        self.bits.map_or(key, |bits| {
            let time = key >> bits.sequence.bits & bits.time.most();
            let node = key >> (bits.sequence.bits + bits.time.bits) & bits.node.most();
            time << bits.time.shift | node << bits.node.shift | (key & bits.sequence.most()) << bits.sequence.shift
        })
    }

    /// The id with these fields; `None` where there is none, because a field is too large, missing, or one too many, or the
    /// time lies before time zero or between two units.
    pub(super) fn compose(&self, time_ms: Option<u64>, node: Option<u64>, sequence: u64) -> Option<u64> {
        let Some(bits) = self.bits else {
            return (time_ms.is_none() && node.is_none()).then_some(sequence);
        };
        let (since, node) = (time_ms?.checked_sub(bits.epoch_ms)?, node?);
        let time = since / bits.unit_ms;
        let fits = since % bits.unit_ms == 0
            && time <= bits.time.most()
            && node <= bits.node.most()
            && sequence <= bits.sequence.most();
        fits.then_some(time << bits.time.shift | node << bits.node.shift | sequence << bits.sequence.shift)
    }
}

#[cfg(test)]
impl Layout {
    /// When an id says it was made, in milliseconds since 1970.
    pub(super) fn time_ms(&self, id: u64) -> Option<u64> {
        self.bits.map(|bits| bits.epoch_ms + bits.time.of(id) * bits.unit_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ids that others have published with what they mean.
    #[test]
    fn known_ids_decode_to_what_is_known_of_them() {
        let twitter = Layout::named("twitter").unwrap();
        // The example of Wikipedia's page on snowflake ids: a post of 2022-06-28T16:07:40.105Z.
        let post = 1_541_815_603_606_036_480;
        assert_eq!(twitter.time_ms(post), Some(1_656_432_460_105));
        assert_eq!(twitter.node(post), 378);
        assert_eq!(twitter.compose(Some(1_656_432_460_105), Some(378), 0), Some(post));
        // The example of Discord's reference: worker 1, process 0, increment 7.
        let discord = Layout::named("discord").unwrap();
        let message = 175_928_847_299_117_063;
        assert_eq!(discord.time_ms(message), Some(1_462_015_105_796));
        assert_eq!(discord.compose(Some(1_462_015_105_796), Some(1 << 5), 7), Some(message));
        // The example of Instagram's article: the 5,001st id of shard 1341, 1,387,263,000 ms after time zero.
        let instagram = Layout::named("instagram").unwrap();
        let time = instagram.bits.unwrap().epoch_ms + 1_387_263_000;
        let photo = 1_387_263_000 << 23 | 1_341 << 10 | (5_001 % 1_024);
        assert_eq!(instagram.compose(Some(time), Some(1_341), 5_001 % 1_024), Some(photo));
    }

    #[test]
    fn the_fields_of_a_layout_fill_it_without_a_gap() {
        for bits in LAYOUTS.iter().filter_map(|layout| layout.bits) {
            let mask = |field: Field| field.most() << field.shift;
            let (time, node, sequence) = (mask(bits.time), mask(bits.node), mask(bits.sequence));
            assert_eq!(time & node | node & sequence | time & sequence, 0);
            let all = bits.time.bits + bits.node.bits + bits.sequence.bits;
            assert_eq!(
                all,
                bits.time.shift + bits.time.bits,
                "time is above all, so ids sort by it"
            );
            assert_eq!((time | node | sequence).count_ones(), all);
        }
    }

    #[test]
    fn what_no_id_can_say_composes_to_none() {
        let sonyflake = Layout::named("sonyflake").unwrap();
        let zero = sonyflake.bits.unwrap().epoch_ms;
        assert_eq!(
            sonyflake.compose(Some(zero + 20), Some(3), 5),
            Some(2 << 24 | 5 << 16 | 3)
        );
        assert_eq!(
            sonyflake.compose(Some(zero + 21), Some(3), 5),
            None,
            "between two units"
        );
        assert_eq!(sonyflake.compose(Some(zero - 10), Some(3), 5), None, "before time zero");
        assert_eq!(
            sonyflake.compose(Some(zero), Some(3), 256),
            None,
            "a sequence too large"
        );
        assert_eq!(sonyflake.compose(Some(zero), None, 5), None, "no node");
        assert_eq!(SEQUENCE.compose(None, None, 5), Some(5));
        assert_eq!(SEQUENCE.compose(Some(zero), None, 5), None, "a number has no time");
        assert!(!Layout::named("twitter").unwrap().fits(1 << 63));
        assert!(Layout::named("discord").unwrap().fits(1 << 63));
        assert_eq!(Layout::named("no-such"), None);
    }

    #[test]
    fn the_sequence_after_the_last_of_a_unit_is_the_first_of_the_next_by_key() {
        for layout in LAYOUTS.into_iter().filter(|layout| layout.bits.is_some()) {
            let bits = layout.bits.unwrap();
            let at = |time, sequence| layout.compose(Some(bits.epoch_ms + time * bits.unit_ms), Some(5), sequence);
            let last = at(7, bits.sequence.most()).unwrap();
            let first = at(8, 0).unwrap();
            assert_eq!(layout.key(last) + 1, layout.key(first), "{}", layout.name);
        }
    }

    proptest! {
        #[test]
        fn an_id_is_its_key_and_its_fields(id: u64) {
            for layout in LAYOUTS {
                let id = if layout.fits(id) { id } else { id >> 1 };
                prop_assert_eq!(layout.id(layout.key(id)), id);
                let sequence = layout.bits.map_or(id, |bits| bits.sequence.of(id));
                let node = layout.bits.map(|_| layout.node(id));
                prop_assert_eq!(layout.compose(layout.time_ms(id), node, sequence), Some(id));
            }
        }
    }
}
