//! Where things are: which shard has a score, which partition a shard or a member's record, and which slot a partition.
//!
//! A board is cut into shards by score, and the cluster into partitions by name. There are more partitions than nodes, each
//! a hash tag of its own, and their slots are as far from each other as can be: however many nodes share the slots evenly,
//! up to [`PARTITIONS`], they share the partitions evenly too. A board's shards lie on partitions far from each other, and
//! those of the next board on others.

use std::sync::LazyLock;

use crate::domain::{Edition, Member, Score};

/// Into how many parts the cluster is divided.
pub(super) const PARTITIONS: usize = 64;

/// The most shards of a board: a set of them is a number of 31 bits, which scripts can count with.
pub(super) const MOST_SHARDS: usize = 31;

/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// For each partition, what its keys have in braces: the smallest number whose slot is in its part of all slots.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tags = vec![String::new(); PARTITIONS];
    let mut left = PARTITIONS;
    for number in 0_u32.. {
        let name = number.to_string();
        let tag = &mut tags[slot(&name) * PARTITIONS / SLOTS];
        if tag.is_empty() {
            *tag = name;
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    tags
});

/// The slot of a tag, as the specification of Redis Cluster has it: a checksum, CRC-16 of the kind called XMODEM.
fn slot(tag: &str) -> usize {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    usize::from(crc) % SLOTS
}

/// What the keys of a partition have in braces.
pub(super) fn tag(partition: usize) -> &'static str {
    &TAGS[partition]
}

/// The partition that a member's record is in.
pub(super) fn home(member: &Member) -> usize {
    crc32fast::hash(member.as_str().as_bytes()) as usize % PARTITIONS
}

/// How boards are cut: the scores at which the shards above the lowest begin.
#[derive(Clone, Debug)]
pub struct Cuts(Vec<Score>);

impl Cuts {
    /// Cuts at these scores, in ascending order, 30 at most.
    #[must_use]
    pub fn new(scores: &[i64]) -> Option<Self> {
        let scores: Vec<Score> = scores.iter().map(|score| Score::new(*score)).collect::<Option<_>>()?;
        (scores.len() < MOST_SHARDS && scores.is_sorted_by(|x, y| x < y)).then_some(Self(scores))
    }

    /// How many shards a board has.
    pub(super) fn shards(&self) -> usize {
        self.0.len() + 1
    }

    /// The shard of a score, the lowest being 0.
    pub(super) fn shard(&self, score: Score) -> usize {
        self.0.partition_point(|cut| *cut <= score)
    }

    pub(super) fn scores(&self) -> &[Score] {
        &self.0
    }

    /// The partition that a shard of an edition is in.
    pub(super) fn partition(&self, edition: &Edition, shard: usize) -> usize {
        let first = crc32fast::hash(format!("{}/{}", edition.board, edition.number).as_bytes()) as usize;
        (first + shard * PARTITIONS / self.shards()) % PARTITIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BoardName, HIGHEST_SCORE};

    #[test]
    fn partitions_divide_the_slots_evenly_among_any_nodes() {
        assert_eq!(slot("123456789"), 0x31c3, "the check value of the specification");
        for nodes in [3, 4, 16] {
            let mut count = vec![0; nodes];
            (0..PARTITIONS).for_each(|partition| count[slot(tag(partition)) * nodes / SLOTS] += 1);
            let (least, most) = (count.iter().min().unwrap(), count.iter().max().unwrap());
            assert!(most - least <= 1, "{count:?}");
        }
    }

    #[test]
    fn the_shards_of_a_board_are_on_different_nodes_and_each_score_is_in_one() {
        let cuts = Cuts::new(&[-5, 0, 100]).unwrap();
        let shard = |score| cuts.shard(Score::new(score).unwrap());
        let scores = [-HIGHEST_SCORE, -6, -5, -1, 0, 99, 100, HIGHEST_SCORE];
        assert_eq!(scores.map(shard), [0, 0, 1, 1, 2, 2, 3, 3]);
        for name in ["a", "chess", "run-12345678"] {
            let edition = Edition {
                board: BoardName::new(name).unwrap(),
                number: 0,
                forgotten_at: None,
            };
            let mut nodes: Vec<usize> = (0..4)
                .map(|shard| slot(tag(cuts.partition(&edition, shard))) * 4 / SLOTS)
                .collect();
            nodes.sort_unstable();
            assert_eq!(nodes, [0, 1, 2, 3], "{name}");
        }
    }

    #[test]
    fn cuts_that_are_none_are_refused() {
        assert!(Cuts::new(&[]).is_some() && Cuts::new(&[1, 2]).is_some());
        for wrong in [vec![2, 1], vec![1, 1], vec![HIGHEST_SCORE + 1], (0..31).collect()] {
            assert!(Cuts::new(&wrong).is_none(), "{wrong:?}");
        }
    }
}
