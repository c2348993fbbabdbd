//! What stands behind the ports: a backend a file.
//!
//! | file            | is                                                           | used by                     |
//! |-----------------|--------------------------------------------------------------|-----------------------------|
//! | `memory.rs`     | a counter, and node ids lent from memory; forget all         | tests                       |
//! | `ticket_row.rs` | a row in SQLite that every request moves forward             | `ticket_row`                |
//! | `ranges.rs`     | blocks of numbers, claimed ahead from such a row             | `ranges`                    |
//! | `flake.rs`      | Snowflake ids under a node id on loan, and who renews it     | `snowflake`, `leased`       |
//! | `fixed_node.rs` | one node id of one's own, and how far its ids may have come  | `snowflake`                 |
//! | `postgres.rs`   | node ids lent by Postgres                                    | `leased`                    |
//! | `redis.rs`      | node ids lent by Redis                                       | `leased`, `--leases redis`  |

pub mod fixed_node;
pub mod flake;
pub mod memory;
pub mod postgres;
pub mod ranges;
pub mod redis;
pub mod ticket_row;

pub use fixed_node::FixedNode;
pub use flake::Flake;
pub use memory::{Counter, MemoryNodes};
pub use postgres::PostgresNodes;
pub use ranges::Ranges;
pub use redis::RedisNodes;
pub use ticket_row::TicketRow;

use stores::NotDone;

use crate::domain::Error;
use crate::lease::Lease;

/// Where a store breaks off, it may have moved its mark: that costs numbers. Nobody was told one, so for whoever asked,
/// nothing has happened.
impl From<stores::Error> for Error {
    fn from(error: stores::Error) -> Self {
        match error {
            stores::Error::Unavailable(cause) | stores::Error::Unknown(cause) => Self::Unavailable(cause),
            stores::Error::Full(cause) => Self::Full(cause),
        }
    }
}

/// A claim whose outcome is unknown is no claim already, see above.
impl NotDone for Error {
    fn not_done(self) -> Self {
        self
    }
}

/// A lease as a store's row gives it: node, epoch, from, until.
fn lease((node, epoch, from_ms, until_ms): (i64, i64, i64, i64)) -> Result<Lease, Error> {
    let read = || {
        Some(Lease {
            node: u32::try_from(node).ok()?,
            epoch: u64::try_from(epoch).ok()?,
            from_ms: u64::try_from(from_ms).ok()?,
            until_ms: u64::try_from(until_ms).ok()?,
        })
    };
    read().ok_or_else(|| stores::Error::unavailable("a stored lease has no valid numbers").into())
}

/// Why a store is refused whose ids are of another layout.
fn another_layout(found: &str, ours: &str) -> Error {
    stores::Error::unavailable(format!(
        "ids of `{found}` were made with this store, and this server would make ids of `{ours}`, which may be the same: \
         start it on another store, or with the layout and epoch that made these"
    ))
    .into()
}
