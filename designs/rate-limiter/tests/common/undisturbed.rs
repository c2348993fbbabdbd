//! For tests that count exactly, on a face that gives a store 10 ms: whether a busy machine was slower than that is not what
//! they are about.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use testkit::server::{Server, metric};

use super::common::Site;

/// How often something is played before the machine is said to be too slow.
const ROUNDS: usize = 10;

/// Plays something to a server on a site of its own. If it fails, and the server has decided without its store meanwhile, it
/// is played again, to another server on another site; any other failure is one.
pub(crate) fn undisturbed(start: impl Fn(&Site) -> Server, play: impl Fn(&Site, &Server)) {
    for _ in 0..ROUNDS {
        let site = Site::new();
        let server = start(&site);
        let Err(failure) = catch_unwind(AssertUnwindSafe(|| play(&site, &server))) else {
            return;
        };
        if metric(&server, "resource_operations_total", &["resource=\"degraded\""]) == 0.0 {
            resume_unwind(failure);
        }
        eprintln!("the store was slow, and the server decided without it: played again");
    }
    panic!("in {ROUNDS} rounds, the store was too slow in each");
}
