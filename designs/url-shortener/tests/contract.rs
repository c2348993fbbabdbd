//! The contracts of `ports.rs`, run against every adapter that stands behind them.
//!
//! `adapters` makes the adapters, each on a store of its own; `links`, `clicks` and `keys` are the contracts; `cancelled`
//! cuts requests off in the middle; `servers` has several servers on one store; `sabotage` shows that adapters which break
//! a contract are caught. An adapter of a later stage joins by one function and one line.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "contract/adapters.rs"]
mod adapters;
#[path = "contract/cancelled.rs"]
mod cancelled;
#[path = "contract/clicks.rs"]
mod clicks;
#[path = "contract/keys.rs"]
mod keys;
#[path = "contract/links.rs"]
mod links;
#[path = "contract/sabotage.rs"]
mod sabotage;
#[path = "contract/servers.rs"]
mod servers;
