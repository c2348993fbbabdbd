//! Where the concurrency cores take their locks from: the standard library here, loom's in `tests/loom.rs`, which includes
//! those files by path beside a `sync` module of its own and runs them through every interleaving.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
