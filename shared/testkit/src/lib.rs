//! What the tests of this house share. Nothing here ships in a server.
//!
//! In reading order:
//!
//! | module | what a test gets from it |
//! |---|---|
//! | [`engines`] | the URL of a real Redis or Postgres, found, started or refused; engines of one's own to kill and freeze |
//! | [`server`] | a design's binary as a child process: ready, killed, stopped, continued, terminated |
//! | [`http`] | a small HTTP client that can also send bytes that no client would send |
//! | [`scripts`] | recorded conversations: a readable file of requests and the answers they must get |
//! | [`disk`] | a small disk to be filled |
//! | [`browser`] | what a real browser makes of a page |
//! | [`problems`] | the shape that every error has |
//! | [`mod@contract`] | the same async functions run against every adapter of a port, each as its own test; the same for stages |
//! | [`wait`] | waiting for a condition, with a bound |
//! | [`clock`] | time that moves when the test says so |
//!
//! What starts an engine, and sees that nothing is left of it, is the crate `engines` (`shared/engines`): the lab needs
//! it too.
//!
//! Helpers here panic when a test cannot go on: in a test, a panic with one clear
//! sentence *is* the error message. What a test may want to look at comes as a `Result`.
//!
//! The house rules that no compiler checks are tests too: `tests/tidy` in this crate.

pub mod browser;
pub mod clock;
pub mod contract;
pub mod disk;
pub mod engines;
pub mod http;
pub mod problems;
pub mod scripts;
pub mod server;
pub mod wait;
