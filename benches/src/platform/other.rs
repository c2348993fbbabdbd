//! Systems other than Linux: no pinning, no quota, and timers that tick in milliseconds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use mio::{Events, Poll, Token};

/// How the layout line speaks of pinning on this system.
pub const PINNING: Option<&str> = Some("this system cannot pin: generator and server share all cores");

/// Wakes a `Poll` by its own timeout.
#[derive(Debug)]
pub struct Timer;

impl Timer {
    /// Needs nothing here.
    ///
    /// # Errors
    /// None.
    pub fn new(_: &Poll, _: Token) -> io::Result<Self> {
        Ok(Self)
    }

    /// Sleeps until something happens, at most for `wait`, rounded up to the system's tick.
    ///
    /// # Errors
    /// As of `Poll::poll`, except that an interruption by a signal is no error.
    pub fn wait(&mut self, poll: &mut Poll, events: &mut Events, wait: Duration) -> io::Result<()> {
        match poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// One entry a core; the numbers have no use without pinning.
pub fn allowed_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, |n| n.get())).collect()
}

/// Does nothing.
///
/// # Errors
/// None.
pub fn pin(_: &[usize]) -> io::Result<()> {
    Ok(())
}

/// CPU time of a process and of all that it has started: not asked for here.
pub fn tree_cpu(_: u32) -> Option<Duration> {
    None
}

/// CPU time of a process in user code and in the kernel: not asked for here.
pub fn cpu_split(_: u32) -> Option<[Duration; 2]> {
    None
}

/// The processor's name: not asked for here.
pub fn cpu_model() -> String {
    std::env::consts::ARCH.to_owned()
}

/// Bytes of main memory: 0, not asked for here.
pub fn memory_bytes() -> u64 {
    0
}

/// What the kernel tells time by: not asked for here.
pub fn clock_source() -> String {
    "unknown".to_owned()
}

/// The type of the file system that holds a path: not asked for here.
pub fn filesystem(_: &Path) -> String {
    "unknown".to_owned()
}

/// CPU quotas need Linux control groups.
#[derive(Debug)]
pub struct Quota;

impl Quota {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &str, _: f64) -> Result<Self> {
        bail!("--server-cpu needs Linux control groups")
    }

    /// Never reached: there is no value of this type.
    pub fn cores(&self) -> f64 {
        0.0
    }

    /// Never reached: there is no value of this type.
    pub fn procs(&self) -> PathBuf {
        PathBuf::new()
    }
}
