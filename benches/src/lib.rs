//! The load lab of Loadbearing: black box over HTTP.
//!
//! It knows no design's types, only the wire, so that what it finds out is what a user gets. Read in this order:
//!
//! 1. [`workload`]: what a design is loaded with, and who judges the answers. [`workloads`] has one a design.
//! 2. [`generator`]: how load is made without coordinated omission.
//! 3. [`knee`]: where to look for the highest rate that is served.
//! 4. [`ledger`] and [`verdict`]: what was full there, and how that is known.
//! 5. [`climb`]: all of it together, for every stage of a design, on servers started by [`server`], with the engines that
//!    they need ([`needs`]).
//! 6. [`estimate`]: the same question answered by arithmetic, before anything runs. [`compare`]: two answers.
//!
//! [`numbers`] measures the machine itself, and knows nothing of the above but the generator. [`keys`] measures what a primary
//! key costs on it.
//!
//! Around them: [`commands`] and [`cli`] (what a user may ask), [`output`] (what a user gets), [`http`] (bytes on the
//! wire), [`platform`] (what only Linux has), [`profile`] (what a server's CPU does at its knee).

pub mod cli;
pub mod climb;
pub mod commands;
pub mod compare;
pub mod data_root;
pub mod estimate;
pub mod generator;
pub mod http;
pub mod keys;
pub mod knee;
pub mod layout;
pub mod ledger;
pub mod machine;
pub mod needs;
pub mod numbers;
pub mod output;
pub mod planted;
pub mod platform;
pub mod profile;
pub mod proof;
pub mod rig;
pub mod server;
pub mod slo;
pub mod stop;
pub mod verdict;
pub mod workload;
pub mod workloads;
