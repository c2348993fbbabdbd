//! A leaderboard, several times over: from a table that is counted along to a tree that knows positions, and to sorted sets
//! that any number of servers share.
//!
//! # The question
//!
//! Millions of players, thousands of new scores a second. Who are the best ten? Where do I stand? Who is right above me? All
//! three at once, of a board that never stands still, in a few milliseconds.
//!
//! # What makes it hard
//!
//! A rank is not a property of a player: one new score at the top changes everybody's. So it cannot be stored, it has to be
//! found, and an index does not help: it knows who comes *next*, not how many came *before*.
//!
//! ```text
//! every rank      is a count of all who are better   -> counts in the tree: a walk down     stage `ordered_tree`
//! every score     must be durable                    -> a log, and many share its fsync     stage `ordered_tree`
//! every server    has a memory of its own            -> a sorted set in Redis               stage `sorted_set`
//! every sorted set is on one thread               -> one for each range of scores       stage `sharded`
//! ```
//!
//! And then the small print, which is where boards differ: who is first of two with the same score (whoever reached it
//! first, on every stage), whether a worse score counts, whether the same event counts twice, what the largest score is.
//!
//! # Reading order
//!
//! [`domain`] what is ranked and what a submission does; [`ports`] what the use cases need; [`service`] the use cases;
//! [`ranked_tree`] the idea worth an interview; [`adapters`] what stands behind the port; [`stages`] how they are put
//! together; [`http`] the wire; [`config`] the flags.

pub mod domain;
pub mod ports;
pub mod service;
pub mod ranked_tree;
pub mod adapters;
pub mod stages;
pub mod http;
pub mod config;
