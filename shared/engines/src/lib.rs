//! A real Redis or Postgres as a local process, in a folder of its own, gone when its owner is.
//!
//! Tests start engines to prove that adapters work, the lab starts them to load what stands in
//! front of them. Both want the same: a server binary of this machine on a free port, with nobody
//! else's data, and nothing left behind, however they end.
//!
//! ```no_run
//! let postgres = engines::POSTGRES.find().ok_or("there is no postgres here")?;
//! let engine = postgres.start(&engines::Setup {
//!     root: &std::env::temp_dir(),
//!     args: &["-c", "max_connections=300"],
//!     group: None,
//! })?;
//! println!("{} at {}", postgres.version()?, engine.url());
//! # Ok::<(), String>(())
//! ```
//!
//! In reading order: `engine`, the one procedure that starts them all; `redis` and `postgres`, what is
//! particular to each, as data; `cluster`, three nodes of Redis that know each other; `machine`, what an engine needs from its surroundings; `keeper`, why
//! nothing is left behind.
//!
//! An engine is found, started, signalled and ended here, never spoken to: there is no client in this
//! crate, so that who uses it takes on no driver and no runtime.

mod cluster;
mod engine;
mod keeper;
mod machine;
mod postgres;
mod redis;

pub use cluster::Cluster;
pub use engine::{Engine, Installed, Kind, Setup};
pub use keeper::Keeper;
pub use postgres::POSTGRES;
pub use redis::{REDIS, REDIS_CLUSTER};
