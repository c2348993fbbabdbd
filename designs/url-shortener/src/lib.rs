//! A URL shortener, five times over: from one table to any number of servers on shared stores.
//!
//! # The question
//!
//! Turn a long URL into a short one, send whoever follows it to the long one, and do so for far more people than one disk
//! can serve. Reads outnumber writes ten to one or a hundred to one; a few links get most of the visits; a link that was
//! handed out must work for ever, and must never lead to somebody else's page.
//!
//! # What makes it hard
//!
//! Three things want the disk, and the disk says "done" perhaps two thousand times a second:
//!
//! ```text
//! every click       is counted        -> count in memory, write sums now and then      stage `cached`
//! every read        is a query        -> keep the few hot links in memory              stage `cached`
//! every create      must be durable   -> let creates share a commit                    stage `pregenerated`
//! every code        must be unique    -> claim names ahead, a block at a time          stage `pregenerated`
//!                   and unguessable   -> permute numbers instead of storing keys       stage `permuted`
//! every server      has a disk        -> keep nothing on it: Postgres and Redis        stage `shared`
//! ```
//!
//! Each stage takes away what was full in the one before, and says what it paid. `README.md` has the measured ladder.
//!
//! # Reading order
//!
//! [`domain`] what a link is; [`target`] which URLs it may lead to; [`ports`] what the use cases need; [`service`] the use
//! cases; [`permutation`] and [`stores::BlockPool`] the two ideas worth an interview, the second of them shared with other
//! designs; [`adapters`] what stands behind the ports; [`stages`] how they are put together; [`http`] the wire; [`config`]
//! the flags.

pub mod domain;
pub mod target;
pub mod ports;
pub mod service;
pub mod permutation;
pub mod adapters;
pub mod stages;
pub mod http;
pub mod config;
