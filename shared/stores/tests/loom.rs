//! The block pool in every interleaving: loom runs `src/block_pool/claimed.rs` itself, with locks of its own in place of
//! the standard library's.

#[path = "../src/block_pool/claimed.rs"]
mod claimed;

/// What the pool takes its locks from here.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use std::ops::Range;

use claimed::Claimed;
use loom::sync::Arc;
use loom::thread;

type Pool = Claimed<Range<u32>>;

/// Takes up to `most` items.
fn take(pool: &Pool, most: usize) -> Vec<u32> {
    (0..most).filter_map(|_| pool.take()).collect()
}

/// Takes up to `most` items under one lock.
fn fill(pool: &Pool, most: usize) -> Vec<u32> {
    let mut items = Vec::new();
    pool.fill(&mut items, most);
    items
}

#[test]
fn two_takers_and_one_who_adds_a_block_never_double_nor_lose_an_item() {
    loom::model(|| {
        let pool = Arc::new(Pool::new());
        pool.add(0..1);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || take(&pool, 2))
            })
            .collect();
        pool.add(10..12);
        let mut items: Vec<u32> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        assert_eq!(items.len() + pool.left(), 3);
        items.extend(take(&pool, 4));
        items.sort_unstable();
        assert_eq!(items, [0, 10, 11]);
        assert_eq!(pool.left(), 0);
    });
}

#[test]
fn two_who_take_several_at_once_get_them_in_order_and_none_twice() {
    loom::model(|| {
        let pool = Arc::new(Pool::new());
        pool.add(0..1);
        pool.add(1..3);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || fill(&pool, 2))
        };
        let mine = fill(&pool, 2);
        let theirs = other.join().unwrap();
        // One lock for all: whoever is first gets both, from two blocks.
        assert!(
            matches!((&mine[..], &theirs[..]), ([0, 1], [2]) | ([2], [0, 1])),
            "{mine:?} {theirs:?}"
        );
        assert_eq!(pool.left(), 0);
    });
}

#[test]
fn what_is_left_is_never_more_than_was_added_nor_less_than_was_not_taken() {
    loom::model(|| {
        let pool = Arc::new(Pool::new());
        pool.add(0..2);
        let taker = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || take(&pool, 1).len())
        };
        let left = pool.left();
        assert!((1..=2).contains(&left), "{left}");
        assert_eq!(taker.join().unwrap() + pool.left(), 2);
    });
}

/// The control: the same question put to a pool whose look and take are two steps must find an item handed out twice.
#[test]
#[should_panic(expected = "twice")]
fn a_pool_that_looks_and_takes_in_two_steps_is_caught() {
    loom::model(|| {
        let cursor = Arc::new(sync::Mutex::new(0_u32));
        let careless = |cursor: &sync::Mutex<u32>| {
            let item = *cursor.lock().unwrap();
            *cursor.lock().unwrap() = item + 1;
            item
        };
        let other = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || careless(&cursor))
        };
        let mine = careless(&cursor);
        assert_ne!(mine, other.join().unwrap(), "one item was handed out twice");
    });
}
