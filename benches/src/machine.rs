//! What a result was measured on.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::platform;

/// The facts that decide whether two runs can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Main memory.
    pub memory_bytes: u64,
    /// Name and version of the kernel.
    pub kernel: String,
    /// The compiler found on this machine; what the servers were most likely built with.
    pub rustc: String,
    /// What the kernel tells time by.
    pub clock_source: String,
}

impl Machine {
    /// Looks around.
    pub fn detect() -> Self {
        Self {
            cpu: platform::cpu_model(),
            cores: platform::allowed_cores().len(),
            memory_bytes: platform::memory_bytes(),
            kernel: platform::kernel(),
            rustc: rustc(),
            clock_source: platform::clock_source(),
        }
    }

    /// What makes two results not comparable, a phrase each. A few MiB of memory more or less come with every start.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let gib = |machine: &Self| format!("{} GiB", (machine.memory_bytes + (1 << 29)) >> 30);
        let cores = |machine: &Self| format!("{} cores", machine.cores);
        [
            (self.cpu.clone(), other.cpu.clone()),
            (cores(self), cores(other)),
            (gib(self), gib(other)),
            (self.kernel.clone(), other.kernel.clone()),
            (self.rustc.clone(), other.rustc.clone()),
            (self.clock_source.clone(), other.clock_source.clone()),
        ]
        .into_iter()
        .filter(|(one, two)| one != two)
        .map(|(one, two)| format!("{one} and {two}"))
        .collect()
    }
}

fn rustc() -> String {
    Command::new("rustc")
        .arg("--version")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
