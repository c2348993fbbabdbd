//! What stands behind the ports: a backend a file, and decorators around a backend.
//!
//! | file               | is                                                        | used by                  |
//! |--------------------|-----------------------------------------------------------|--------------------------|
//! | `memory.rs`        | everything in a map; forgets all when it ends             | tests                    |
//! | `sqlite.rs`        | links and clicks in one SQLite file                       | every embedded stage     |
//! | `postgres.rs`      | links and clicks in Postgres, for many servers            | `shared`                 |
//! | `auto_increment.rs`| lets the table count                                      | `single_table`, `cached` |
//! | `cached.rs`        | a read-through cache around links                         | `cached` to `permuted`   |
//! | `redis.rs`         | the same cache for all servers, and clicks on their way   | `shared`                 |
//! | `buffered.rs`      | clicks off the request path                               | from `cached` on         |
//! | `grouped.rs`       | many inserts, one fsync                                   | from `pregenerated` on   |
//! | `pooled.rs`        | hands out places from claimed blocks                      | from `pregenerated` on   |
//! | `key_table.rs`     | blocks of random keys made ahead                          | `pregenerated`           |
//! | `number_ranges.rs` | blocks of consecutive numbers                             | from `permuted` on       |
//! | `permuted.rs`      | codes outside, numbers inside, around links and clicks    | from `permuted` on       |

pub mod auto_increment;
pub mod buffered;
pub mod cached;
pub mod grouped;
pub mod key_table;
pub mod memory;
pub mod number_ranges;
pub mod permuted;
pub mod pooled;
pub mod postgres;
pub mod redis;
pub mod sqlite;

pub use auto_increment::AutoIncrement;
pub use buffered::Buffered;
pub use cached::Cached;
pub use grouped::Grouped;
pub use key_table::KeyTable;
pub use memory::Memory;
pub use number_ranges::NumberRanges;
pub use permuted::Permuted;
pub use pooled::Pooled;
pub use postgres::Postgres;
pub use redis::{RedisCached, RedisClicks};
pub use sqlite::{Numbering, Sqlite};

use crate::domain::{Alias, Code, Error, Link, NewLink, Place, Slug};

impl From<stores::Error> for Error {
    fn from(error: stores::Error) -> Self {
        match error {
            stores::Error::Unavailable(cause) => Self::Unavailable(cause),
            stores::Error::Full(cause) => Self::Full(cause),
            stores::Error::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

impl stores::NotDone for Error {
    fn not_done(self) -> Self {
        match self {
            Self::Unknown(cause) => Self::Unavailable(cause),
            known => known,
        }
    }
}

/// The link that a store has made of a new one, under the number that it gave it.
fn stored(id: i64, link: &NewLink) -> Result<Link, Error> {
    let slug = match &link.place {
        Place::Named(alias) => Slug::Alias(alias.clone()),
        Place::Next | Place::At(_) => {
            let code = u64::try_from(id).ok().and_then(Code::new);
            Slug::Code(code.ok_or(Error::KeysExhausted)?)
        }
    };
    Ok(Link {
        slug,
        target: link.target.clone(),
        created_at: link.created_at,
        expires_at: link.expires_at,
        deleted: false,
    })
}

/// The name that stands in a store: an alias, or else the code of a number.
fn slug_of(id: i64, alias: Option<&str>) -> Result<Slug, stores::Error> {
    let slug = match alias {
        Some(alias) => Alias::new(alias).ok().map(Slug::Alias),
        None => u64::try_from(id).ok().and_then(Code::new).map(Slug::Code),
    };
    slug.ok_or_else(|| stores::Error::unavailable("a stored answer has no valid name"))
}
