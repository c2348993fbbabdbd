//! Linux: timerfd, thread affinity, /proc.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How the layout line speaks of pinning on this system.
pub const PINNING: Option<&str> = None;

/// Wakes a `Poll` with the precision of the kernel's high-resolution timers. The timeout of `epoll_wait` itself counts in
/// milliseconds, and a generator that sleeps on it adds half a millisecond to each response time it reports.
///
/// Registered edge-triggered, the timer never needs to be read: one `timerfd_settime` is its whole cost.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer whose expiry shows as an event of `token`.
    ///
    /// # Errors
    /// The system gives no timer.
    pub fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let fd = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        poll.registry()
            .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd })
    }

    /// Sleeps until something happens, at most for `wait`.
    ///
    /// # Errors
    /// As of `Poll::poll`, except that an interruption by a signal is no error.
    pub fn wait(&mut self, poll: &mut Poll, events: &mut Events, wait: Duration) -> io::Result<()> {
        let timeout = if wait.is_zero() {
            Some(Duration::ZERO)
        } else {
            let value = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(wait.subsec_nanos()),
                },
            };
            rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &value)?;
            None
        };
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// The cores that this process may use.
pub fn allowed_cores() -> Vec<usize> {
    sched_getaffinity(None)
        .map(|set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
        .unwrap_or_default()
}

/// Binds the calling thread, and what it starts from now on, to these cores.
///
/// # Errors
/// The system refuses.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The processor's name.
pub fn cpu_model() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned())
}

/// Bytes of main memory; 0 when unknown.
pub fn memory_bytes() -> u64 {
    field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// What the kernel tells time by (`tsc` is the fast one).
pub fn clock_source() -> String {
    fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The type of the file system that holds a path (`ext4`, `tmpfs`).
pub fn filesystem(path: &Path) -> String {
    let Ok(path) = path.canonicalize() else {
        return "unknown".to_owned();
    };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
