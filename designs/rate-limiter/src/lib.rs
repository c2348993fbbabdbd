//! A rate limiter, six times over: from a counter that forgets to shares of a limit that all servers keep together.
//!
//! # The question
//!
//! Let every user make so many requests a second and no more, whoever of a hundred servers he reaches; say no within a
//! millisecond, and go on when the store that counts is gone.
//!
//! # What makes it hard
//!
//! ```text
//! a window has edges       twice the limit passes across one   -> remember every request      stage `sliding_log`
//! remembering costs        as much as the limit is high        -> one word: when it is full   stage `token_bucket`
//! there are two servers    each admits the whole limit         -> one bucket, in Redis        stage `racy`
//! two ask at once          both read, both pass                -> decide where the bucket is  stage `atomic`
//! every request asks       and the store is full               -> take shares, owe a bound    stage `leased`
//! ```
//!
//! Each stage takes away what was in the way in the one before, and says what it paid. `README.md` has the measured ladder.
//!
//! # Reading order
//!
//! [`gcra`] and [`table`] the idea worth an interview; [`domain`] what is asked and decided; [`ports`] what the use cases
//! need; [`rules`] which limit is meant; [`service`] the use cases; [`adapters`] what keeps the buckets; [`stages`] how they
//! are put together; [`http`], [`grpc`] and [`layer`] the three faces; [`config`] the flags.

pub mod gcra;
pub mod table;
mod sync;
pub mod domain;
pub mod ports;
pub mod rules;
pub mod service;
pub mod adapters;
pub mod stages;
pub mod http;
pub mod grpc;
pub mod layer;
pub mod config;
