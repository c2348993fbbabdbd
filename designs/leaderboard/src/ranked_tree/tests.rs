//! The tree beside a sorted vector, and what holds inside it.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;

/// Nodes so small that a hundred steps split and join them on several levels.
type Small = RankedTree<8, 8>;

/// Numbers as keys of which some differ in the lower half only.
fn key(number: u16) -> u128 {
    u128::from(number / 20) << 64 | u128::from(number % 20)
}

fn keys(numbers: impl IntoIterator<Item = u16>) -> impl Iterator<Item = u128> {
    numbers.into_iter().map(key)
}

impl<const LEAF: usize, const INNER: usize> RankedTree<LEAF, INNER> {
    /// Holds everything that is true of a tree at rest.
    fn check(&self) {
        let mut leaves = Vec::new();
        let mut inner = 0;
        let count = self.check_node(self.root, self.height, None, None, &mut leaves, &mut inner);
        assert_eq!(count, self.len);
        assert_eq!(
            (self.leaves.in_use(), self.inner.in_use()),
            (leaves.len(), inner),
            "no node is lost"
        );
        let nexts = leaves.iter().skip(1).copied().chain([NONE]);
        for (leaf, next) in leaves.iter().zip(nexts) {
            assert_eq!(self.leaves[*leaf].next, next, "leaves know their neighbours");
        }
        assert!(
            self.height == 0 || self.inner[self.root].len() > 1,
            "a root of one child is none"
        );
    }

    fn check_node(
        &self,
        node: u32,
        height: usize,
        from: Option<u128>,
        to: Option<u128>,
        leaves: &mut Vec<u32>,
        inners: &mut usize,
    ) -> usize {
        if height == 0 {
            let keys: Vec<u128> = self.leaves[node].keys().collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
            assert!(
                keys.iter().all(|key| from.is_none_or(|from| from <= *key)),
                "{keys:?} from {from:?}"
            );
            assert!(
                keys.iter().all(|key| to.is_none_or(|to| *key < to)),
                "{keys:?} up to {to:?}"
            );
            leaves.push(node);
            return keys.len();
        }
        *inners += 1;
        let inner = &self.inner[node];
        let mut sum = 0;
        for child in 0..inner.len() {
            let from = if child == 0 { from } else { Some(inner.first(child)) };
            let to = if child + 1 < inner.len() {
                Some(inner.first(child + 1))
            } else {
                to
            };
            let count = self.check_node(inner.child(child), height - 1, from, to, leaves, inners);
            assert_eq!(count, inner.count(child) as usize, "counts are right");
            sum += count;
        }
        sum
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u128),
    Remove(u128),
    Replace(u128, u128),
    Rank(u128),
    From(usize),
    /// As after a restart.
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = || (0..300_u16).prop_map(key);
    let step = prop_oneof![
        6 => any().prop_map(Step::Insert),
        4 => any().prop_map(Step::Remove),
        4 => (any(), any()).prop_map(|(old, new)| Step::Replace(old, new)),
        2 => any().prop_map(Step::Rank),
        2 => (0..300_usize).prop_map(Step::From),
        1 => Just(Step::Rebuild),
    ];
    proptest::collection::vec(step, 100)
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn does_what_a_sorted_vector_does(start in proptest::collection::btree_set(0..300_u16, 0..200), steps in steps()) {
        let mut model = Vec::from_iter(keys(start));
        let mut tree = Small::from_sorted(model.iter().copied());
        for step in steps {
            match step {
                Step::Insert(key) => {
                    let at = model.binary_search(&key);
                    prop_assert_eq!(tree.insert(key), at.is_err());
                    if let Err(at) = at {
                        model.insert(at, key);
                    }
                }
                Step::Remove(key) => {
                    let at = model.binary_search(&key);
                    prop_assert_eq!(tree.remove(key), at.is_ok());
                    if let Ok(at) = at {
                        model.remove(at);
                    }
                }
                Step::Replace(old, new) => {
                    let can = model.contains(&old) && !model.contains(&new);
                    prop_assert_eq!(tree.replace(old, new), can);
                    if can {
                        model.retain(|key| *key != old);
                        let at = model.partition_point(|key| *key < new);
                        model.insert(at, new);
                    }
                }
                Step::Rank(key) => {
                    prop_assert_eq!(tree.rank(key), model.partition_point(|other| *other < key));
                    prop_assert_eq!(tree.contains(key), model.contains(&key));
                    if let Ok(at) = model.binary_search(&key) {
                        prop_assert_eq!(tree.position(key), at);
                    }
                }
                Step::From(position) => {
                    prop_assert_eq!(tree.select(position), model.get(position).copied());
                    let rest = model.get(position..).unwrap_or_default();
                    prop_assert_eq!(Vec::from_iter(tree.from(position)), rest);
                }
                Step::Rebuild => tree = Small::from_sorted(tree.iter()),
            }
            prop_assert_eq!(tree.len(), model.len());
        }
        tree.check();
        prop_assert_eq!(Vec::from_iter(tree.iter()), model);
    }
}

#[test]
fn every_key_has_the_position_at_which_it_is_found() {
    let mut tree: RankedTree = RankedTree::new();
    let mut key = 1_u128;
    for _ in 0..50_000 {
        key = key
            .wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645)
            .wrapping_add(1);
        assert!(tree.insert(key));
    }
    tree.check();
    assert_eq!(tree.height, 2, "more than one level");
    assert!(
        tree.bytes() < 40 * tree.len(),
        "{} bytes a key",
        tree.bytes() / tree.len()
    );
    for (position, key) in tree.iter().enumerate() {
        assert_eq!(
            (tree.rank(key), tree.position(key), tree.select(position)),
            (position, position, Some(key))
        );
    }
}

#[test]
fn a_tree_that_shrinks_gives_its_nodes_back() {
    let mut tree = Small::from_sorted(keys(0..10_000));
    for key in keys((0..10_000).filter(|number| number % 100 > 0)) {
        assert!(tree.remove(key));
    }
    tree.check();
    assert_eq!(tree.len(), 100);
    // No two neighbours fit into three quarters of one, unless they have no parent in common.
    assert!(
        tree.leaves.in_use() <= 40,
        "{} leaves for 100 keys",
        tree.leaves.in_use()
    );
    for key in keys((0..10_000).step_by(100)) {
        assert!(tree.remove(key));
    }
    tree.check();
    assert_eq!((tree.height, tree.select(0)), (0, None));
}

#[test]
fn a_key_that_moves_by_one_moves_no_other() {
    let mut tree = Small::from_sorted(keys((0..1_000).map(|number| number * 2)));
    for number in (0..1_000).map(|number| number * 2) {
        assert!(tree.replace(key(number), key(number + 1)));
    }
    tree.check();
    assert!(tree.iter().eq(keys((0..1_000).map(|number| number * 2 + 1))));
    assert!(!tree.replace(key(1), key(1)), "what is there is not put in twice");
    assert!(!tree.replace(key(2), key(4)), "what is not there is not replaced");
}

#[test]
fn the_ends_of_all_numbers_are_keys_too() {
    let ends = [0, 1, u128::MAX >> 64, 1 << 64, u128::MAX - 1, u128::MAX];
    let mut tree = Small::new();
    for key in ends {
        assert!(tree.insert(key));
    }
    tree.check();
    for (position, key) in ends.into_iter().enumerate() {
        assert_eq!(
            (tree.rank(key), tree.position(key), tree.select(position)),
            (position, position, Some(key))
        );
    }
}

#[test]
#[should_panic(expected = "keys must ascend")]
fn keys_out_of_order_are_no_tree() {
    let _ = Small::from_sorted([1, 3, 2]);
}

/// The control: a checker that cannot fail proves nothing.
#[test]
#[should_panic(expected = "counts are right")]
fn a_wrong_count_is_found() {
    let mut tree = Small::from_sorted(keys(0..1_000));
    tree.inner[tree.root].miscount();
    tree.check();
}
