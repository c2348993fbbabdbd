//! The key pool in every interleaving: loom runs `src/key_pool.rs` itself, with locks of its own in place of the
//! standard library's.

#[path = "../src/key_pool.rs"]
#[allow(
    unreachable_pub,
    reason = "it is a public module of the design, and a private one here"
)]
mod key_pool;

/// What the pool takes its locks from here.
mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

use std::ops::Range;

use key_pool::KeyPool;
use loom::sync::Arc;
use loom::thread;

type Pool = KeyPool<Range<u32>>;

/// Takes up to `most` names.
fn take(pool: &Pool, most: usize) -> Vec<u32> {
    (0..most).filter_map(|_| pool.take()).collect()
}

#[test]
fn two_takers_and_one_who_adds_a_block_never_double_nor_lose_a_name() {
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
        let mut names: Vec<u32> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        assert_eq!(names.len() + pool.left(), 3);
        names.extend(take(&pool, 4));
        names.sort_unstable();
        assert_eq!(names, [0, 10, 11]);
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

/// The control: the same question put to a pool whose look and take are two steps must find a name handed out twice.
#[test]
#[should_panic(expected = "twice")]
fn a_pool_that_looks_and_takes_in_two_steps_is_caught() {
    loom::model(|| {
        let cursor = Arc::new(sync::Mutex::new(0_u32));
        let careless = |cursor: &sync::Mutex<u32>| {
            let name = *cursor.lock().unwrap();
            *cursor.lock().unwrap() = name + 1;
            name
        };
        let other = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || careless(&cursor))
        };
        let mine = careless(&cursor);
        assert_ne!(mine, other.join().unwrap(), "one name was handed out twice");
    });
}
