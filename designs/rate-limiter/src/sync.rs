//! Where the idea files take their atomics and locks from: the standard library here, loom's in `tests/loom.rs`, which
//! includes those files by path beside a `sync` module of its own and runs them through every interleaving.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Locks. What is behind these locks is never left half done, so one that panicked with it has spoilt nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Lets others go on: whoever is waited for needs a moment, unless there is no core for it but this one.
pub(crate) fn spin() {
    std::thread::yield_now();
}
