//! A bounded map from keys to what is kept of them, in shards with a lock each: for algorithms that keep more than a word.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::Error;

/// The most locks: a few times as many as there are cores would do, since each is held for less than a microsecond.
const SHARDS: usize = 64;

/// A shard is for as many keys at least, so that they spread evenly.
const KEYS_A_SHARD: usize = 256;

/// A shard with fewer keys than this is not swept.
const SMALL: usize = 64;

/// What is kept of one key.
pub(super) trait State {
    /// Whether it says no more than a new one would at this time: then it may be forgotten.
    fn idle(&self, now_ns: u64) -> bool;
}

/// The map.
pub(super) struct Shards<S> {
    shards: Box<[Mutex<Shard<S>>]>,
    hasher: RandomState,
    /// Keys that a shard may have.
    most: usize,
    /// After a sweep that made little room, the next one is not before so long: whoever sends new keys must not make every
    /// request a sweep.
    rest_ns: u64,
}

struct Shard<S> {
    states: HashMap<Box<str>, S>,
    /// With so many keys it is swept.
    sweep_at: usize,
    /// But not before this time.
    sweep_from_ns: u64,
}

impl<S: State> Shards<S> {
    /// Room for so many keys, and up to a quarter more: a shard has its share of them and that much beyond it, since keys do
    /// not spread quite evenly.
    pub(super) fn new(max_keys: usize, window_ns: u64) -> Self {
        let shards = (max_keys / KEYS_A_SHARD).clamp(1, SHARDS);
        let share = max_keys.div_ceil(shards);
        let most = if shards == 1 { share } else { share + share / 4 };
        let shard = || Shard {
            states: HashMap::new(),
            sweep_at: SMALL.min(most),
            sweep_from_ns: 0,
        };
        Self {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            most,
            rest_ns: window_ns / 16,
        }
    }

    /// Looks at what is kept of a key, if anything is.
    pub(super) fn look<T>(&self, key: &str, look: impl FnOnce(Option<&S>) -> T) -> T {
        look(self.shard(key).states.get(key))
    }

    /// Changes what is kept of a key; of one that is not known, a `fresh` one.
    ///
    /// # Errors
    /// [`Error::Full`]: the key is new, there are as many as there may be, and none of them is idle.
    pub(super) fn change<T>(
        &self,
        key: &str,
        now_ns: u64,
        fresh: impl FnOnce() -> S,
        change: impl FnOnce(&mut S) -> T,
    ) -> Result<T, Error> {
        let mut shard = self.shard(key);
        if let Some(state) = shard.states.get_mut(key) {
            return Ok(change(state));
        }
        shard.make_room(now_ns, self.most, self.rest_ns)?;
        Ok(change(shard.states.entry(key.into()).or_insert_with(fresh)))
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard<S>> {
        let index = usize::try_from(self.hasher.hash_one(key) % self.shards.len() as u64).unwrap_or(0);
        // Whoever panicked with it has left at worst one charge undone.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: State> Shard<S> {
    fn make_room(&mut self, now_ns: u64, most: usize, rest_ns: u64) -> Result<(), Error> {
        if self.states.len() < self.sweep_at {
            return Ok(());
        }
        if now_ns >= self.sweep_from_ns {
            self.states.retain(|_, state| !state.idle(now_ns));
            let kept = self.states.len();
            // Each sweep is paid for by as many new keys as it has looked at old ones.
            self.sweep_at = (2 * kept).max(SMALL).min(most);
            if kept + kept / 8 >= most {
                self.sweep_from_ns = now_ns.saturating_add(rest_ns);
            }
            if self.states.capacity() > 4 * self.sweep_at {
                self.states.shrink_to(self.sweep_at);
            }
        }
        if self.states.len() < most {
            Ok(())
        } else {
            Err(Error::Full)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Idle from a time on.
    struct Until(u64);

    impl State for Until {
        fn idle(&self, now_ns: u64) -> bool {
            self.0 <= now_ns
        }
    }

    fn put(shards: &Shards<Until>, key: u32, now_ns: u64, until_ns: u64) -> bool {
        let put = shards.change(&key.to_string(), now_ns, || Until(until_ns), |_| ());
        assert!(matches!(put, Ok(()) | Err(Error::Full)));
        put.is_ok()
    }

    fn held(shards: &Shards<Until>) -> usize {
        let lengths = shards.shards.iter().map(|shard| shard.lock().unwrap().states.len());
        lengths.sum()
    }

    #[test]
    fn a_new_key_is_refused_when_all_are_active_and_none_of_them_is_forgotten() {
        let shards = Shards::new(1_000, 16);
        let taken: Vec<u32> = (0..5_000).filter(|key| put(&shards, *key, 0, 100)).collect();
        assert!((1_000..1_400).contains(&taken.len()), "{}", taken.len());
        let refused = (5_000..10_000).filter(|key| !put(&shards, *key, 99, 200)).count();
        assert_eq!(refused, 5_000);
        for key in &taken {
            assert!(shards.look(&key.to_string(), |state| state.is_some()), "{key}");
        }
    }

    #[test]
    fn idle_keys_make_room() {
        let shards = Shards::new(1_000, 16);
        let taken = (0..5_000).filter(|key| put(&shards, *key, 0, 100)).count();
        assert!(taken >= 1_000);
        let later = (10_000..10_800).filter(|key| put(&shards, *key, 100, 200)).count();
        assert_eq!(later, 800);
        assert!(held(&shards) <= taken, "{}", held(&shards));
    }

    #[test]
    fn a_shard_that_is_full_is_not_swept_for_every_new_key() {
        let mut shard = Shard {
            states: (0..100).map(|key: u32| (key.to_string().into(), Until(50))).collect(),
            sweep_at: 100,
            sweep_from_ns: 0,
        };
        assert!(matches!(shard.make_room(10, 100, 100), Err(Error::Full)));
        assert!(matches!(shard.make_room(60, 100, 100), Err(Error::Full)), "it rests");
        assert!(shard.make_room(110, 100, 100).is_ok());
        assert!(shard.states.is_empty());
    }
}
