//! Time that moves when the test says so.
//!
//! A test of an expiry that sleeps is slow and, on a busy machine, wrong. It gives
//! the code under test a [`VirtualClock`] instead and moves the hand itself. Clones
//! share one hand: the test keeps one, the service owns another.
//!
//! A whole process is given a clock that is off by [`off`].
//!
//! The hand may also go back. Real clocks do (a leap, a bad NTP server, a resumed
//! virtual machine), and code that cannot bear it should learn so in a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use service::clock::Clock;

/// A clock that stands still until it is told to move.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    now_ms: Arc<AtomicU64>,
}

impl VirtualClock {
    /// A clock that shows `now_ms`, in milliseconds since the Unix epoch.
    pub fn at(now_ms: u64) -> Self {
        Self {
            now_ms: Arc::new(AtomicU64::new(now_ms)),
        }
    }

    /// Sets every clone to `now_ms`, forwards or backwards.
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Moves every clone forwards by `step` (whole milliseconds count).
    pub fn advance(&self, step: Duration) {
        let step_ms = u64::try_from(step.as_millis()).expect("a test does not wait for 500 million years");
        self.now_ms.fetch_add(step_ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// Makes the wall clock of a process wrong by so much (`-1h`, `+3s`), and leaves it the right monotonic one.
///
/// # Panics
/// When libfaketime is not here: the test fails.
pub fn off(command: &mut Command, by: &str) {
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME", by)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// The library that lies about the time to whom it is loaded into.
fn faketime() -> PathBuf {
    let below = |folder: &Path| folder.join("faketime/libfaketime.so.1");
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let inside = |root: &PathBuf| {
        std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let nested = roots.iter().flat_map(inside);
    let mut found = roots.iter().cloned().chain(nested).map(|folder| below(&folder));
    found
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("this test needs libfaketime, and it is not here: run `make deps`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_still_until_moved() {
        let clock = VirtualClock::at(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        clock.advance(Duration::from_millis(250));
        assert_eq!(clock.now_ms(), 1_250);
    }

    #[test]
    fn clones_share_one_hand_and_it_may_go_back() {
        let held_by_test = VirtualClock::at(5_000);
        let held_by_service = held_by_test.clone();
        held_by_test.set(10);
        assert_eq!(held_by_service.now_ms(), 10);
    }
}
