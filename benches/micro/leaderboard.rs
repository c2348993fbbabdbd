//! The leaderboard's tree beside what one would take instead: `indexset`, a B-tree that knows positions in a different way,
//! and `skiplist`, a skip list with the widths of its links. And beside a binary tree with counts: a perfectly balanced one
//! that never changes, so that nothing has to be said about rotations. No red-black tree is shallower than that.
//!
//! A million and ten million members; members are drawn by Zipf's law, as players come; scores are up to a million at first,
//! and rise by up to a thousand. *Update* takes the old key out and puts the new one in, *rank* finds the position of a
//! member's key. Keys are those of the boards in memory: 16 bytes, the score first, then when it was reached, then whose.
//!
//! All structures are built by inserting in random order, so that their nodes lie in memory as they do after a while.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use leaderboard::ranked_tree::RankedTree;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Zipf};
use skiplist::OrderedSkipList;

const MILLION: usize = 1_000_000;

/// A sorted set that knows positions.
trait Ranked {
    fn put(&mut self, key: u128);
    fn replace(&mut self, old: u128, new: u128);
    fn rank(&self, key: u128) -> usize;
}

impl Ranked for RankedTree {
    fn put(&mut self, key: u128) {
        self.insert(key);
    }

    fn replace(&mut self, old: u128, new: u128) {
        let _ = Self::replace(self, old, new);
    }

    fn rank(&self, key: u128) -> usize {
        self.position(key)
    }
}

impl Ranked for indexset::BTreeSet<u128> {
    fn put(&mut self, key: u128) {
        self.insert(key);
    }

    fn replace(&mut self, old: u128, new: u128) {
        self.remove(&old);
        self.insert(new);
    }

    fn rank(&self, key: u128) -> usize {
        Self::rank(self, &key)
    }
}

impl Ranked for OrderedSkipList<u128> {
    fn put(&mut self, key: u128) {
        self.insert(key);
    }

    fn replace(&mut self, old: u128, new: u128) {
        self.take_first(&old);
        self.insert(new);
    }

    fn rank(&self, key: u128) -> usize {
        Self::rank(self, &key).unwrap_or_default()
    }
}

/// std's B-tree, which knows no positions: what an update costs without them.
struct NoPositions(BTreeSet<u128>);

impl Ranked for NoPositions {
    fn put(&mut self, key: u128) {
        self.0.insert(key);
    }

    fn replace(&mut self, old: u128, new: u128) {
        self.0.remove(&old);
        self.0.insert(new);
    }

    fn rank(&self, _: u128) -> usize {
        0
    }
}

/// A binary tree with counts, as shallow as one can be.
struct Balanced {
    nodes: Vec<Node>,
    root: u32,
}

#[derive(Clone, Copy, Default)]
struct Node {
    key: u128,
    children: [u32; 2],
    /// Keys below and to the left.
    left: u32,
}

const NONE: u32 = u32::MAX;

impl Balanced {
    fn of(mut keys: Vec<u128>, rng: &mut SmallRng) -> Self {
        keys.sort_unstable();
        let mut places: Vec<u32> = (0..).take(keys.len()).collect();
        places.shuffle(rng);
        let mut tree = Self {
            nodes: vec![Node::default(); keys.len()],
            root: NONE,
        };
        tree.root = tree.build(&keys, &mut places.into_iter());
        tree
    }

    fn build(&mut self, keys: &[u128], places: &mut impl Iterator<Item = u32>) -> u32 {
        if keys.is_empty() {
            return NONE;
        }
        let middle = keys.len() / 2;
        let place = places.next().expect("there is one for each key");
        let children = [
            self.build(&keys[..middle], places),
            self.build(&keys[middle + 1..], places),
        ];
        self.nodes[place as usize] = Node {
            key: keys[middle],
            children,
            left: u32::try_from(middle).expect("fewer than 2^32 keys"),
        };
        place
    }

    fn rank(&self, key: u128) -> usize {
        let (mut node, mut rank) = (self.root, 0);
        while node != NONE {
            let Node {
                key: here,
                children,
                left,
            } = self.nodes[node as usize];
            if key <= here {
                node = children[0];
            } else {
                rank += left as usize + 1;
                node = children[1];
            }
        }
        rank
    }
}

/// Who is on the board, and who comes next.
struct Players {
    keys: Vec<u128>,
    reached: u128,
    popularity: Zipf<f64>,
    /// The most popular players are not neighbours in any list.
    order: Vec<u32>,
    rng: SmallRng,
}

impl Players {
    fn new(count: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        let key = |member: usize| Self::key(rng_score(member), member as u128 + 1, member);
        let keys = (0..count).map(key).collect();
        let mut order: Vec<u32> = (0..).take(count).collect();
        order.shuffle(&mut rng);
        Self {
            keys,
            reached: count as u128 + 1,
            popularity: Zipf::new(count as f64, 1.0).expect("there are some"),
            order,
            rng,
        }
    }

    fn key(below: u128, reached: u128, member: usize) -> u128 {
        (below << 46 | reached) << 28 | member as u128
    }

    fn draw(&mut self) -> usize {
        let rank = self.popularity.sample(&mut self.rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to the number of players"
        )]
        let rank = rank as usize;
        self.order[rank.clamp(1, self.order.len()) - 1] as usize
    }

    /// Somebody's score rises: his old key and his new one.
    fn update(&mut self) -> (u128, u128) {
        let member = self.draw();
        let old = self.keys[member];
        let below = (old >> 74).saturating_sub(self.rng.random_range(1..1_000));
        let new = Self::key(below, self.reached, member);
        self.reached += 1;
        self.keys[member] = new;
        (old, new)
    }
}

/// How far below the highest somebody's score is at first.
fn rng_score(member: usize) -> u128 {
    let mixed = (member as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    (1 << 40) + mixed % 1_000_000
}

fn measure<S: Ranked>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    count: usize,
    mut structure: S,
    ranks: bool,
) {
    let mut players = Players::new(count);
    for member in players.order.clone() {
        structure.put(players.keys[member as usize]);
    }
    group.bench_function(format!("update, {name}"), |b| {
        b.iter(|| {
            let (old, new) = players.update();
            structure.replace(old, new);
        });
    });
    if ranks {
        group.bench_function(format!("rank, {name}"), |b| {
            b.iter(|| {
                let member = players.draw();
                black_box(structure.rank(players.keys[member]))
            });
        });
    }
}

fn boards(c: &mut Criterion) {
    for count in [MILLION, 10 * MILLION] {
        let mut group = c.benchmark_group(format!("{count} members"));
        group.throughput(Throughput::Elements(1));
        group.sample_size(20);
        group.warm_up_time(Duration::from_secs(1));
        group.bench_function("drawing a member", |b| {
            let mut players = Players::new(count);
            b.iter(|| players.draw());
        });
        measure(&mut group, "ours", count, RankedTree::new(), true);
        measure(&mut group, "indexset", count, indexset::BTreeSet::new(), true);
        measure(&mut group, "skiplist", count, OrderedSkipList::new(), true);
        measure(
            &mut group,
            "std's BTreeSet, no positions",
            count,
            NoPositions(BTreeSet::new()),
            false,
        );
        let mut players = Players::new(count);
        let balanced = Balanced::of(players.keys.clone(), &mut players.rng);
        group.bench_function("rank, a perfect binary tree", |b| {
            b.iter(|| {
                let member = players.draw();
                black_box(balanced.rank(players.keys[member]))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, boards);
criterion_main!(benches);
