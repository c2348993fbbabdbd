//! Waiting for a condition, and never for time alone.

use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds.
///
/// # Panics
/// When it still does not after 20 s; `what` says in the message what was waited for.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?}, still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
