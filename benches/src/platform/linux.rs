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

/// CPU time of a process and of all that it has started, what has ended included; `None` when it is not there. Counted by
/// the kernel in ticks of 10 ms a process.
pub fn tree_cpu(root: u32) -> Option<Duration> {
    let processes: Vec<Process> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| Process::parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    processes.iter().find(|process| process.id == root)?;
    let mut ticks = 0;
    let mut tree = vec![root];
    while let Some(id) = tree.pop() {
        ticks += processes
            .iter()
            .filter(|process| process.id == id)
            .map(|process| process.ticks)
            .sum::<u64>();
        tree.extend(
            processes
                .iter()
                .filter(|process| process.parent == id)
                .map(|process| process.id),
        );
    }
    Some(of_ticks(ticks))
}

/// CPU time of a process so far, in user code and in the kernel for it; `None` when it is not there. In ticks of 10 ms.
pub fn cpu_split(process: u32) -> Option<[Duration; 2]> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(Process::parse(&stat)?.split.map(of_ticks))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A line of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    /// utime + stime + cutime + cstime: its own, and that of the children that it has waited for.
    ticks: u64,
    /// utime and stime.
    split: [u64; 2],
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may hold anything.
        let (id, rest) = stat.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_whitespace().collect();
        let times = fields.get(11..15)?.iter().map(|ticks| ticks.parse().unwrap_or(0));
        let times: Vec<u64> = times.collect();
        Some(Self {
            id: id.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: times.iter().sum(),
            split: [times[0], times[1]],
        })
    }
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        let process = Process {
            id: 42,
            parent: 7,
            ticks: 124,
            split: [100, 20],
        };
        assert_eq!(Process::parse(line), Some(process));
        assert_eq!(Process::parse("no process"), None);
    }

    #[test]
    fn the_time_of_children_counts_while_they_live_and_when_they_are_gone() {
        let script = "while :; do :; done & read line; kill $!; wait $!; echo gone; read line";
        let mut parent = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = parent.id();
        let used = || tree_cpu(id).unwrap();
        while used() < Duration::from_millis(100) {
            thread::sleep(Duration::from_millis(1));
        }
        let alive = used();
        let mut orders = parent.stdin.take().unwrap();
        orders.write_all(b"end\n").unwrap();
        let mut answer = String::new();
        BufReader::new(parent.stdout.as_mut().unwrap())
            .read_line(&mut answer)
            .unwrap();
        assert_eq!(answer, "gone\n");
        assert!(used() >= alive, "{:?} is less than {alive:?}", used());
        drop(orders);
        parent.wait().unwrap();
        assert_eq!(tree_cpu(id), None);
    }
}
