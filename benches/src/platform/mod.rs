//! Everything that only Linux offers: pinning, a precise timer, CPU quotas, CPU times and facts from /proc.
//!
//! Elsewhere the plain fallback works without them, and [`PINNING`] says so in the layout line. Nothing outside this
//! module asks which system it runs on.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod quota;
#[cfg(target_os = "linux")]
pub use linux::{
    PINNING, Timer, allowed_cores, clock_source, cpu_model, cpu_split, filesystem, memory_bytes, pin, tree_cpu,
};
#[cfg(target_os = "linux")]
pub use quota::Quota;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub use other::{
    PINNING, Quota, Timer, allowed_cores, clock_source, cpu_model, cpu_split, filesystem, memory_bytes, pin, tree_cpu,
};

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CPU time that the calling thread has used so far.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Raises the soft limit of open files to the hard one, so that many connections do not need `ulimit` first; the limit now.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        // When the system refuses, the old limit stands and a connection that does not fit says so.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Puts the calling thread, and what it starts from now on, ahead of other work on the machine. Whether that was allowed.
pub fn raise_priority() -> bool {
    rustix::process::nice(-10).is_ok()
}

/// The kernel's name and version.
pub fn kernel() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    )
}
