//! Where the idea file takes its atomic from: the standard library here, loom's in `tests/loom.rs`, which includes that
//! file by path beside a `sync` module of its own and runs it through every interleaving.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
