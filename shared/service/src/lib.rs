//! Run a design as a service: everything between a socket and a design's own routes, written once.
//!
//! A design brings [`Routes`] and the background tasks it starts through [`Host::lifecycle`]; this crate brings what makes them a server one may put on
//! a network. [`run`] is the whole of a design's `main`.
//!
//! # The way of a request
//!
//! ```text
//! socket ─ listener ─────── guard ───────────────────────────────────────────── handler
//!          connection cap   which route, so which class     401 no key
//!          peer cap         body read, within its bounds    408 413
//!          header timer     admission: permit, queue, shed  503 not_executed
//!          drain            deadline                        504 unknown
//!                           panic                           500
//!                           count, time, ledger
//! ```
//!
//! The guard is *one* hand-written function around the design's handlers, not a tower of layers, each of which would cost a
//! clone and a boxed future a request. It finds the route, so it also calls the handler; axum contributes handlers and
//! extractors, and routes what is not the design's. `make ratios` measures the guard beside a bare axum route. What it
//! promises is written at [`Class`] (bounds), [`Problem`] (errors) and [`Lifecycle`] (shutdown).
//!
//! A gRPC call goes the same way, on the same listener; only its refusals are written differently ([`mod@grpc`]). A stream's
//! place, its count and its deadline go on with the answer's body (`guard/stream.rs`).
//!
//! # Reading order
//!
//! [`config`] the flags every design shares; `run` from start to drain; `listener` the accept loop; `guard` the checks;
//! `admission` who gets in under overload; [`routes`] how a design states its routes and their class; [`problem`] and
//! [`extract`] how a refusal looks, [`mod@grpc`] how it looks over gRPC; `metrics`, `admin`, `health`, `auth`, `docs`,
//! [`mod@describe`] what stands beside; `slowing` and `profile` what a load lab may do to a server that was started for it.

mod admin;
mod admission;
mod auth;
pub mod clock;
pub mod config;
mod deadline;
pub mod describe;
mod docs;
pub mod extract;
pub mod grpc;
mod guard;
mod health;
mod lifecycle;
mod listener;
mod metrics;
pub mod problem;
mod profile;
pub mod routes;
mod run;
mod slowing;

pub use clock::{Clock, SystemClock};
pub use config::ServiceConfig;
pub use describe::{Knob, Traits, describe};
pub use lifecycle::{Lifecycle, Stopping};
pub use problem::{Outcome, Problem};
pub use routes::{Class, Routes};
pub use run::{Host, run};
pub use slowing::{hold, pay};
