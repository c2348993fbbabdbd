//! The services with a planted fault: every request is the same but for its key, and nine of ten want the same one.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Options;
use super::get::status_text;
use crate::http::{Response, request};
use crate::workload::{Checked, Kind, Operation, Workload};

/// Keys that the others are spread over.
const KEYS: u64 = 10_000;
/// Long beside any one hold: the promise breaks by queueing, which is what a knee is about.
const SLO: Duration = Duration::from_millis(100);

/// GETs `/task/{key}`.
#[derive(Debug)]
pub struct Planted {
    host: String,
    random: SmallRng,
    kinds: [Kind; 1],
}

impl Planted {
    /// A workload for the target's host.
    pub fn new(options: &Options) -> Self {
        Self {
            host: options.target.host.clone(),
            random: SmallRng::seed_from_u64(options.seed),
            kinds: [Kind {
                name: "work",
                slo_p99: Some(SLO),
            }],
        }
    }
}

impl Workload for Planted {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn next(&mut self, bytes: &mut Vec<u8>) -> Option<Operation> {
        let key = if self.random.random_bool(0.9) {
            0
        } else {
            self.random.random_range(1..KEYS)
        };
        request::get(bytes, &self.host, format!("/task/{key}").as_bytes());
        Some(Operation {
            kind: 0,
            token: key,
            no_body: false,
        })
    }

    fn check(&mut self, _: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        match answer.status {
            200 => Checked::Done,
            status => Checked::Failed(status_text(status)),
        }
    }
}
