//! An id generator, four times over: from a row that counts to any number of servers that ask nobody.
//!
//! # The question
//!
//! Give every order, message and picture a number that no other has, for all servers of a site, a million times a second;
//! and let the numbers sort by age, fit into 64 bits, and never come twice: not after a crash, not when a clock is set
//! back, not when a server that everybody took for dead wakes up.
//!
//! # What makes it hard
//!
//! ```text
//! somebody must count       one row, one fsync a request   -> claim a thousand at a time     stage `ranges`
//! counting needs asking     and says nothing of age        -> time, node, sequence           stage `snowflake`
//! a process forgets         what it gave before a crash    -> write ahead how far it goes    stage `snowflake`
//! a clock goes back         and shows a time twice         -> remember the latest, refuse    stage `snowflake`
//! somebody must number      the nodes, and take back       -> lend node ids, and the time    stage `leased`
//! ```
//!
//! Each stage takes away what was in the way in the one before, and says what it paid. `README.md` has the measured ladder.
//!
//! # Reading order
//!
//! [`layout`] the bits; [`snowflake`] and [`lease`] the two ideas worth an interview; [`domain`] what is asked for and
//! given; [`ports`] what the use cases need; [`service`] the use cases; [`adapters`] what stands behind the ports, with
//! [`adapters::flake`] where the two ideas meet; [`stages`] how they are put together; [`http`] and [`grpc`] the wire;
//! [`config`] the flags.

pub mod layout;
pub mod snowflake;
pub mod lease;
mod sync;
pub mod domain;
pub mod ports;
pub mod service;
pub mod adapters;
pub mod stages;
pub mod http;
pub mod grpc;
pub mod config;
