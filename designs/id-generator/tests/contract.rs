//! The contracts of the ports, kept by every adapter; and broken ones, to see that the contract notices.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "contract/ids.rs"]
mod ids;
#[path = "contract/node_ids.rs"]
mod node_ids;
