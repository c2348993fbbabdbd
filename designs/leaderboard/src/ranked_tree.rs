//! A sorted set that knows positions: a counted B+tree.
//!
//! # The problem
//!
//! A leaderboard asks two things that a sorted set answers by counting: at which position does this key stand, and which key
//! stands at that position? Counting takes as long as the board is; and the board changes thousands of times a second.
//!
//! # The idea
//!
//! Keys stand in leaves, in order. Above them, each node says of each of its children how many keys are below it. The
//! position of a key is then the sum of the counts to the left of the way down to it: a tree with counts in it is an
//! *order-statistic tree* (Cormen et al., *Introduction to Algorithms*, chapter "Augmenting data structures").
//!
//! ```text
//!                        ┌───────────────┬───────────────┐
//!        inner           │ 3 keys        │ 4 keys, 40 up │          rank of 60 = 3 + 2 = 5
//!                        └──────┬────────┴───────┬───────┘
//!                               │                │                  select 4: not among the first 3,
//!                   ┌───────────▼───┐   ┌────────▼──────────┐       so 4 - 3 = 1 in the second: 50
//!        leaves     │ 10   20   30  │ → │ 40   50   60   70 │
//!                   └───────────────┘   └───────────────────┘
//! ```
//!
//! An insertion adds one to the counts on its way, a removal takes one off. (Nodes keep the counts added up from the left: what
//! comes before a child is then one number to read, and an insertion adds one to it and to all right of it.) A full node
//! splits in two; two neighbours under one parent that together fill three quarters of one or less become one as soon as one
//! of them loses a key. So two neighbours are seldom less than three eighths full on average, and the tree is as high as the
//! logarithm of its length, at the base of some dozens.
//!
//! # Why not a red-black tree, nor a skip list
//!
//! Both answer the same questions in as many comparisons, and comparisons cost nothing. What costs is memory that is not in
//! a cache: one or two hundred nanoseconds each time. A binary tree over ten million keys goes down two dozen nodes, each a
//! line of memory of its own, and a skip list some more than that; this tree goes down five, and the upper two or three of
//! these are often enough visited to stay in cache. `benches/micro/leaderboard.rs` has the measurement, and the design's
//! README the numbers.
//!
//! # Two ways down at once
//!
//! A new score is a removal and an insertion. Going down first for the one and then for the other waits for memory twice.
//! [`RankedTree::replace`] goes down for both, a level of each at a time: neither step depends on the other, so the
//! processor waits for both at once.

use std::fmt;

mod arena;
mod node;

use self::arena::Arena;
use self::node::{Inner, Leaf, NONE};

/// More levels than any tree has: 2^32 keys in nodes of 32 children and more are seven. (Tests have smaller nodes and fewer
/// keys.)
const HIGHEST: usize = 16;

/// A set of numbers of 128 bits in order, each with its position. Whatever is to be ranked packs its order into one.
///
/// `LEAF` keys fit into a leaf and `INNER` children into an inner node, both multiples of 8; the defaults were chosen by
/// measuring. Holds up to 2^32 - 1 keys.
pub struct RankedTree<const LEAF: usize = 64, const INNER: usize = 64> {
    leaves: Arena<Leaf<LEAF>>,
    inner: Arena<Inner<INNER>>,
    /// A leaf if `height` is 0, else an inner node.
    root: u32,
    /// Inner nodes on each way down.
    height: usize,
    len: usize,
}

/// The way from the root to a leaf: inner nodes, and which child of each was taken.
struct Way {
    steps: [(u32, u32); HIGHEST],
    leaf: u32,
}

impl<const LEAF: usize, const INNER: usize> RankedTree<LEAF, INNER> {
    /// No keys.
    #[must_use]
    pub fn new() -> Self {
        const {
            let lines = LEAF > 0 && LEAF.is_multiple_of(8) && INNER > 0 && INNER.is_multiple_of(8);
            assert!(lines, "nodes have whole lines");
        };
        let mut leaves = Arena::new();
        Self {
            root: leaves.add(Leaf::new()),
            leaves,
            inner: Arena::new(),
            height: 0,
            len: 0,
        }
    }

    /// These keys, in time proportional to their number.
    ///
    /// # Panics
    /// If they do not ascend strictly.
    #[must_use]
    pub fn from_sorted(keys: impl IntoIterator<Item = u128>) -> Self {
        let mut tree = Self::new();
        let mut level = tree.lay_leaves(keys);
        while level.len() > 1 {
            level = tree.lay_inner(&level);
            tree.height += 1;
        }
        if let Some(&(_, _, root)) = level.first() {
            tree.root = root;
        }
        tree
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains(&self, key: u128) -> bool {
        let leaf = &self.leaves[self.way(key).leaf];
        leaf.has(leaf.position(key), key)
    }

    /// How many keys are lower than `key`, whether it is there or not.
    #[must_use]
    pub fn rank(&self, key: u128) -> usize {
        let (before, leaf) = self.descend(key);
        before + leaf.position(key)
    }

    /// The position of a key that is there, from 0: its rank, found with less to read. Of one that is not there, this is the
    /// rank of some key beside it.
    #[must_use]
    pub fn position(&self, key: u128) -> usize {
        let (before, leaf) = self.descend(key);
        before + leaf.place(key)
    }

    /// The key at a position, from 0.
    #[must_use]
    pub fn select(&self, position: usize) -> Option<u128> {
        self.from(position).next()
    }

    /// The keys from a position on, in order.
    pub fn from(&self, position: usize) -> impl Iterator<Item = u128> {
        let (mut node, mut left) = (self.root, narrow(position.min(self.len)));
        for _ in 0..self.height {
            let inner = &self.inner[node];
            let at;
            (at, left) = inner.select(left);
            node = inner.child(at);
        }
        let first = &self.leaves[node];
        let rest = std::iter::successors(self.after(first), |leaf| self.after(leaf));
        let rest = rest.flat_map(Leaf::keys);
        first.keys().skip(left as usize).chain(rest)
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = u128> {
        self.from(0)
    }

    /// Puts a key in; says whether it was not there yet.
    pub fn insert(&mut self, key: u128) -> bool {
        let way = self.way(key);
        let leaf = &self.leaves[way.leaf];
        let at = leaf.position(key);
        if leaf.has(at, key) {
            return false;
        }
        self.put(&way, at, key);
        true
    }

    /// Takes a key out; says whether it was there.
    pub fn remove(&mut self, key: u128) -> bool {
        let way = self.way(key);
        let leaf = &self.leaves[way.leaf];
        let at = leaf.position(key);
        if !leaf.has(at, key) {
            return false;
        }
        self.take(&way, at);
        self.join(&way);
        true
    }

    /// Takes `old` out and puts `new` in, as one way down. Says whether it did so: if `old` is not there, or `new` is there
    /// already, nothing changes.
    pub fn replace(&mut self, old: u128, new: u128) -> bool {
        let (from, to) = self.ways(old, new);
        let (source, target) = (&self.leaves[from.leaf], &self.leaves[to.leaf]);
        let (at, goal) = (source.position(old), target.position(new));
        if !source.has(at, old) || target.has(goal, new) {
            return false;
        }
        if from.leaf == to.leaf {
            self.leaves[from.leaf].shift(at, goal, new);
            return true;
        }
        self.take(&from, at);
        if self.put(&to, goal, new) {
            // Nodes have been split: the way to the leaf that lost a key may be another one now.
            self.join(&self.way(old));
        } else {
            self.join(&from);
        }
        true
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.leaves.bytes() + self.inner.bytes()
    }

    /// The leaf where `key` is, or would be, and how many keys are in those before it.
    fn descend(&self, key: u128) -> (usize, &Leaf<LEAF>) {
        let (mut node, mut before) = (self.root, 0);
        for _ in 0..self.height {
            let inner = &self.inner[node];
            let at = inner.search(key);
            before += inner.before(at) as usize;
            node = inner.child(at);
        }
        (before, &self.leaves[node])
    }

    fn after(&self, leaf: &Leaf<LEAF>) -> Option<&Leaf<LEAF>> {
        (leaf.next != NONE).then(|| &self.leaves[leaf.next])
    }

    /// The way to the leaf where `key` is, or would be.
    fn way(&self, key: u128) -> Way {
        let mut way = Way::from(self.root);
        for level in 0..self.height {
            let inner = &self.inner[way.leaf];
            way.step(level, inner, inner.search(key));
        }
        way
    }

    /// Both ways, a level of each at a time.
    fn ways(&self, one: u128, other: u128) -> (Way, Way) {
        let (mut a, mut b) = (Way::from(self.root), Way::from(self.root));
        for level in 0..self.height {
            let (left, right) = (&self.inner[a.leaf], &self.inner[b.leaf]);
            let (i, j) = (left.search(one), right.search(other));
            a.step(level, left, i);
            b.step(level, right, j);
        }
        (a, b)
    }

    /// Takes out the key at `at` of the leaf at the end of `way`, and lets nodes be as empty as they are then.
    fn take(&mut self, way: &Way, at: usize) {
        self.len -= 1;
        for (node, child) in way.down(self.height) {
            self.inner[node].subtract(child);
        }
        self.leaves[way.leaf].remove(at);
    }

    /// Puts a key at `at` of the leaf at the end of `way`. Says whether nodes had to be split.
    fn put(&mut self, way: &Way, at: usize, key: u128) -> bool {
        self.len += 1;
        for (node, child) in way.down(self.height) {
            self.inner[node].add(child);
        }
        let leaf = &mut self.leaves[way.leaf];
        if !leaf.is_full() {
            leaf.insert(at, key);
            return false;
        }
        let mut upper = leaf.split();
        match at.checked_sub(leaf.len()) {
            Some(beyond) if beyond > 0 => upper.insert(beyond, key),
            _ => leaf.insert(at, key),
        }
        let (first, count) = (upper.first(), upper.count());
        let right = self.leaves.add(upper);
        self.leaves[way.leaf].next = right;
        self.link(way, first, count, right);
        true
    }

    /// Makes a new node known, to the right of the one at the end of `way`, of whose keys it got the upper `count`.
    fn link(&mut self, way: &Way, mut first: u128, mut count: u32, mut node: u32) {
        for (parent, child) in way.down(self.height).rev() {
            let inner = &mut self.inner[parent];
            if !inner.is_full() {
                inner.divide(child, first, count, node);
                return;
            }
            let (bound, mut upper) = inner.split();
            match child.checked_sub(inner.len()) {
                Some(child) => upper.divide(child, first, count, node),
                None => inner.divide(child, first, count, node),
            }
            (first, count) = (bound, upper.all());
            node = self.inner.add(upper);
        }
        let mut root = Inner::new();
        root.push(0, narrow(self.len) - count, self.root);
        root.push(first, count, node);
        self.root = self.inner.add(root);
        self.height += 1;
    }

    /// Joins neighbours that have become small enough, from the leaf at the end of `way` up.
    fn join(&mut self, way: &Way) {
        for (level, (parent, child)) in way.down(self.height).enumerate().rev() {
            let leaves = level + 1 == self.height;
            let Some(left) = self.small_pair(parent, child, leaves) else {
                break;
            };
            let bound = self.inner[parent].first(left + 1);
            let survivor = self.inner[parent].child(left);
            let gone = self.inner[parent].unite(left);
            if leaves {
                let right = self.leaves.take(gone);
                self.leaves[survivor].append(&right);
            } else {
                let right = self.inner.take(gone);
                self.inner[survivor].append(&right, bound);
            }
        }
        while self.height > 0 && self.inner[self.root].len() == 1 {
            self.root = self.inner.take(self.root).child(0);
            self.height -= 1;
        }
    }

    /// The left one of two children beside each other, of which `child` is one, that fit into three quarters of a node.
    fn small_pair(&self, parent: u32, child: usize, leaves: bool) -> Option<usize> {
        let inner = &self.inner[parent];
        let size = |at: usize| match leaves {
            true => inner.count(at) as usize,
            false => self.inner[inner.child(at)].len(),
        };
        let room = if leaves { LEAF } else { INNER } * 3 / 4;
        let lefts = child.checked_sub(1).into_iter().chain([child]);
        lefts
            .filter(|left| left + 1 < inner.len())
            .find(|left| size(*left) + size(left + 1) <= room)
    }

    /// Fills leaves to seven eighths; gives the first key, the count and the number of each.
    fn lay_leaves(&mut self, keys: impl IntoIterator<Item = u128>) -> Vec<(u128, u32, u32)> {
        let mut level: Vec<(u128, u32, u32)> = Vec::new();
        let mut last = None;
        for key in keys {
            assert!(last.is_none_or(|last| last < key), "keys must ascend");
            last = Some(key);
            if level
                .last()
                .is_none_or(|(_, count, _)| *count as usize >= LEAF - LEAF / 8)
            {
                // The first leaf is there already, since no tree is without.
                let leaf = match level.last() {
                    None => self.root,
                    Some(&(_, _, left)) => {
                        let leaf = self.leaves.add(Leaf::new());
                        self.leaves[left].next = leaf;
                        leaf
                    }
                };
                level.push((key, 0, leaf));
            }
            if let Some((_, count, leaf)) = level.last_mut() {
                self.leaves[*leaf].insert(*count as usize, key);
                *count += 1;
            }
            self.len += 1;
        }
        level
    }

    fn lay_inner(&mut self, below: &[(u128, u32, u32)]) -> Vec<(u128, u32, u32)> {
        let groups = below.chunks(INNER - INNER / 8);
        let nodes = groups.map(|group| {
            let mut inner = Inner::new();
            for &(first, count, node) in group {
                inner.push(first, count, node);
            }
            (group[0].0, inner.all(), self.inner.add(inner))
        });
        nodes.collect()
    }
}

impl Way {
    fn from(root: u32) -> Self {
        Self {
            steps: [(0, 0); HIGHEST],
            leaf: root,
        }
    }

    /// Goes on from the node where it ends to one of its children.
    fn step<const INNER: usize>(&mut self, level: usize, inner: &Inner<INNER>, at: usize) {
        self.steps[level] = (self.leaf, narrow(at));
        self.leaf = inner.child(at);
    }

    /// The inner nodes on the way, and the child that was taken of each.
    fn down(&self, height: usize) -> impl DoubleEndedIterator<Item = (u32, usize)> + ExactSizeIterator {
        self.steps[..height]
            .iter()
            .map(|(node, child)| (*node, *child as usize))
    }
}

/// A number of keys or of children.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("keys are counted by 32 bits")
}

impl<const LEAF: usize, const INNER: usize> Default for RankedTree<LEAF, INNER> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const LEAF: usize, const INNER: usize> fmt::Debug for RankedTree<LEAF, INNER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankedTree")
            .field("len", &self.len)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
