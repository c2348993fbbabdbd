//! What stands behind the port: a backend a file.
//!
//! | file            | is                                                              | used by        |
//! |-----------------|-----------------------------------------------------------------|----------------|
//! | `sqlite.rs`     | a table, and positions counted by it                            | `count_query`  |
//! | `ordered_tree/` | boards in memory, each in a tree that knows positions, and a log | `ordered_tree` |
//! | `sorted_set.rs` | sorted sets of Redis, asked by scripts                          | `sorted_set`   |
//! | `sharded/`      | the same over a Redis Cluster, cut into shards by score         | `sharded`      |

mod in_redis;
mod ordered_tree;
mod sharded;
mod sorted_set;
mod sqlite;
mod words;

pub use ordered_tree::{Bounds, OrderedTree};
pub use sharded::{Cuts, Sharded};
pub use sorted_set::SortedSet;
pub use sqlite::Sqlite;

use std::sync::Arc;

use crate::domain::Error;

impl From<stores::Error> for Error {
    fn from(error: stores::Error) -> Self {
        match error {
            stores::Error::Unavailable(cause) => Self::Unavailable(cause),
            stores::Error::Full(cause) => Self::Full(cause),
            stores::Error::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

/// There is no room, for a reason of our own.
fn full(reason: &str) -> Error {
    Error::Full(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(reason)))
}
