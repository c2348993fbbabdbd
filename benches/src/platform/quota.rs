//! A CPU quota for a server, by control group: version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`).
//!
//! It makes a fast stage slow enough that a small machine's generator can saturate it. The group is removed with the
//! value; its processes must be gone by then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

const PERIOD_US: u64 = 10_000;

/// A control group that may use a share of one core.
#[derive(Debug)]
pub struct Quota {
    path: PathBuf,
    cores: f64,
}

impl Quota {
    /// Makes a group named after this process and `name` that may use `cores` cores (0.5: half of one).
    ///
    /// # Errors
    /// No permission, or no cpu controller to be found.
    pub fn new(name: &str, cores: f64) -> Result<Self> {
        let refused = |error: io::Error| {
            anyhow!("--server-cpu needs the right to make a cpu control group (root, or a delegated group): {error}")
        };
        let Some((parent, second)) = find() else {
            bail!("--server-cpu: no cpu control group is mounted under /sys/fs/cgroup");
        };
        let path = parent.join(format!("lab-{}-{name}", std::process::id()));
        fs::create_dir(&path).map_err(refused)?;
        let quota = Self { path, cores };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a core, checked positive"
        )]
        let micros = ((cores * PERIOD_US as f64) as u64).max(1_000);
        if second {
            fs::write(quota.path.join("cpu.max"), format!("{micros} {PERIOD_US}")).map_err(refused)?;
        } else {
            fs::write(quota.path.join("cpu.cfs_period_us"), PERIOD_US.to_string()).map_err(refused)?;
            fs::write(quota.path.join("cpu.cfs_quota_us"), micros.to_string()).map_err(refused)?;
        }
        Ok(quota)
    }

    /// The cores that the group may use.
    pub fn cores(&self) -> f64 {
        self.cores
    }

    /// The file that takes the id of a process to join.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The kernel empties a group a moment after its last process is reaped.
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
    }
}

/// The group to make ours in, and whether it is version 2.
fn find() -> Option<(PathBuf, bool)> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    if controllers.split_whitespace().any(|word| word == "cpu") {
        return Some((root.to_owned(), true));
    }
    ["cpu", "cpu,cpuacct"]
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.join("cpu.cfs_quota_us").exists() || path.join("cgroup.procs").exists())
        .map(|path| (path, false))
}
