//! The result of a climb: what `--json` writes and `lab report` reads back.
//!
//! A run says all that is needed to repeat it (command, seed, machine, layout) and all that its verdicts were made from
//! (`recorded`: the ledger around the probe past the knee), so that a printed number can be held against its run.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::machine::Machine;
use crate::proof::Proof;
use crate::server::Stage;
use crate::verdict::{Evidence, Reason, Usage, Verdict};
use crate::workload::{Accuracy, Kind};

/// One climb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClimbReport {
    /// Version of this shape.
    pub schema: u32,
    /// The design.
    pub design: String,
    /// When it ended, in UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// The seed of arrivals, data and order.
    pub seed: u64,
    /// Items made before the load.
    pub items: usize,
    /// Shares of the operations, where they are not the design's own.
    pub mix: Option<String>,
    /// Flags passed to the servers, without passwords.
    pub set: Vec<(String, String)>,
    /// Cores that each server was allowed to use by quota; null without one.
    pub server_cpu_cores: Option<f64>,
    /// The resource that was slowed all the while and by which factor; left out without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed: Option<(String, f64)>,
    /// How often each knee was searched for.
    pub rounds: usize,
    /// Whether probes were shortened.
    pub quick: bool,
    /// What it ran on.
    pub machine: Machine,
    /// Which core did what.
    pub layout: Layout,
    /// The file system of the data directories.
    pub data_filesystem: String,
    /// The promises.
    pub slo: Slo,
    /// How long the climb took.
    pub elapsed_s: f64,
    /// The stages in the order of the ladder.
    pub stages: Vec<StageReport>,
}

impl ClimbReport {
    /// Where the last whole climb of a design on this machine is kept for `lab estimate`: beside the lab's executable.
    ///
    /// # Errors
    /// The system does not say where that is.
    pub fn kept(design: &str) -> Result<PathBuf> {
        let own = std::env::current_exe().context("cannot find the lab's own executable")?;
        Ok(own.with_file_name(format!("lab-climb-{design}.json")))
    }
}

/// What had to hold for a rate to count as served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// Limits of the p99 response time.
    pub kinds: Vec<KindSlo>,
    /// Errors at most, in percent of the arrivals.
    pub max_errors_percent: f64,
    /// Completed at least, in percent of the arrivals.
    pub min_completed_percent: f64,
}

/// The limit of one kind of operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSlo {
    /// Its name.
    pub kind: String,
    /// Its p99 response time must not exceed this; null where nothing is promised.
    pub p99_ms: Option<f64>,
}

impl Slo {
    /// The promises of these kinds.
    pub fn of(kinds: &[Kind]) -> Self {
        Self {
            kinds: kinds
                .iter()
                .map(|kind| KindSlo {
                    kind: kind.name.to_owned(),
                    p99_ms: kind.slo_p99.map(|limit| limit.as_secs_f64() * 1e3),
                })
                .collect(),
            max_errors_percent: crate::slo::MAX_ERRORS * 100.0,
            min_completed_percent: crate::slo::MIN_COMPLETED * 100.0,
        }
    }
}

/// One stage of a climb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// Its idea.
    pub idea: String,
    /// Why it was not run; null when it was.
    pub skipped: Option<String>,
    /// How many processes it was, beside each other on the same cores; left out where it was one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub nodes: u32,
    /// The engines beside its server; left out when there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineReport>,
    /// The knee: the median over the rounds. Null when skipped.
    pub knee_rps: Option<f64>,
    /// The lowest of the rounds.
    pub knee_min_rps: Option<f64>,
    /// The highest of the rounds.
    pub knee_max_rps: Option<f64>,
    /// One knee a round, in order of size.
    pub knees_rps: Vec<f64>,
    /// The rig was at its end before the server: the knee lies at `knee_rps` or above.
    pub rig_limited: bool,
    /// Median response time at 95 % of the knee.
    pub p50_ms: Option<f64>,
    /// p99 response time at 95 % of the knee.
    pub p99_ms: Option<f64>,
    /// What gave first; null when skipped, or where the server has no ledger.
    pub bottleneck: Option<Bottleneck>,
    /// Every resource just past the knee, the fullest first, of all nodes together. With local engines `cpu` is that of all processes under test,
    /// and `cpu/server`, `cpu/postgres` what each of them took of it.
    pub ledger: Vec<Usage>,
    /// What the verdict was made from.
    pub recorded: Option<Evidence>,
    /// Broken promises over the whole history.
    pub violations: u64,
    /// The first few of them.
    pub violation_examples: Vec<String>,
    /// What was verified.
    pub verified: String,
    /// How well what the design limits was kept; left out where it limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// All probes in order.
    pub probes: Vec<ProbeReport>,
    /// What slowing the fullest resources has shown; left out where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What the CPU of the server, or of its first node, did at the knee; left out where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileReport>,
}

/// Most stages are one process.
fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(nodes: &u32) -> bool {
    *nodes == 1
}

/// What a server's CPU did at its knee; of several nodes, the first one's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileReport {
    /// The file that it was written to.
    pub file: String,
    /// The flame graph itself.
    pub svg: String,
    /// Samples taken on a CPU.
    pub samples: u64,
    /// Share of the server's CPU time spent in code of ours and of its libraries, from 0 to 1.
    pub server: f64,
    /// Share of it spent in the kernel.
    pub kernel: f64,
    /// Share of it spent in the asynchronous runtime.
    pub runtime: f64,
    /// The hottest functions of our own, the hottest first.
    pub hottest: Vec<HotFunction>,
}

/// A function, and how much of the CPU time passes in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotFunction {
    /// Its path.
    pub function: String,
    /// Share of the samples with it on the stack, from 0 to 1.
    pub total: f64,
    /// Share of the samples with it as the innermost function of our own: itself and what libraries and kernel do for it.
    pub own: f64,
}

/// Why a stage was not run.
#[derive(Debug)]
pub struct Skipped(pub String);

impl StageReport {
    /// A stage that was not run.
    pub fn skipped(stage: &Stage, reason: Skipped) -> Self {
        Self {
            stage: stage.name.clone(),
            idea: stage.idea.clone(),
            skipped: Some(reason.0),
            nodes: stage.nodes,
            engines: Vec::new(),
            knee_rps: None,
            knee_min_rps: None,
            knee_max_rps: None,
            knees_rps: Vec::new(),
            rig_limited: false,
            p50_ms: None,
            p99_ms: None,
            bottleneck: None,
            ledger: Vec::new(),
            recorded: None,
            violations: 0,
            violation_examples: Vec::new(),
            verified: String::new(),
            accuracy: None,
            probes: Vec::new(),
            proof: None,
            profile: None,
        }
    }
}

/// An engine that a stage ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineReport {
    /// Its name, as in `--describe`.
    pub engine: String,
    /// Its version; null for one that somebody else runs.
    pub version: Option<String>,
    /// `local` for a process that the lab started on the server's cores, else its URL, without password.
    pub place: String,
}

impl EngineReport {
    /// The place of an engine that the lab started.
    pub const LOCAL: &str = "local";
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{} {version} ({})", self.engine, self.place),
            None => write!(f, "{} at {}", self.engine, self.place),
        }
    }
}

/// What gave first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bottleneck {
    /// The resource.
    pub resource: String,
    /// Its utilisation, from 0 to 1.
    pub utilisation: f64,
    /// Full, latency-bound or rig-limited.
    pub reason: Reason,
    /// One sentence with the numbers.
    pub evidence: String,
    /// What does not add up.
    pub warnings: Vec<String>,
}

impl From<&Verdict> for Bottleneck {
    fn from(verdict: &Verdict) -> Self {
        Self {
            resource: verdict.resource.clone(),
            utilisation: verdict.utilisation,
            reason: verdict.reason,
            evidence: verdict.evidence.clone(),
            warnings: verdict.warnings.clone(),
        }
    }
}

/// One probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeReport {
    /// The round, from 1; 0 for what comes after the rounds.
    pub round: u32,
    /// What it was for.
    pub phase: Phase,
    /// Arrivals a second that were asked for.
    pub offered_rps: f64,
    /// Operations completed a second.
    pub achieved_rps: f64,
    /// Median response time.
    pub p50_ms: f64,
    /// p99 response time.
    pub p99_ms: f64,
    /// p99 service time.
    pub service_p99_ms: f64,
    /// Arrivals of the schedule.
    pub planned: u64,
    /// Operations sent.
    pub issued: u64,
    /// Operations answered as promised.
    pub completed: u64,
    /// Failed operations.
    pub errors: u64,
    /// Sent by the generator more than 5 ms after their time although a connection was free.
    pub late: u64,
    /// Arrivals that found the queue full.
    pub dropped: u64,
    /// Operations without an answer in time.
    pub timed_out: u64,
    /// Operations without an answer when the drain window ended.
    pub unfinished: u64,
    /// Answers that violate an invariant.
    pub violations: u64,
    /// The generator's CPU time over the wall time, from 0 to 1.
    pub generator_cpu: f64,
    /// Whether all promises were kept.
    pub passed: bool,
    /// What was not kept, a sentence each.
    pub missed: Vec<String>,
}

/// What a part of a climb is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Starting the server and making its data.
    Prepare,
    /// A closed loop before the first round.
    WarmUp,
    /// Looking for the knee.
    Search,
    /// Holding 95 % of the knee.
    Confirm,
    /// Just past the knee.
    Past,
    /// Looking for the knee with a resource slowed, and without.
    Prove,
    /// Looking at response times with a resource slowed, and without.
    Compare,
    /// Sampling the server's CPU at the knee.
    Profile,
    /// Checking the history.
    Verify,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prepare => "prepare",
            Self::WarmUp => "warm up",
            Self::Search => "search",
            Self::Confirm => "confirm",
            Self::Past => "past knee",
            Self::Prove => "prove",
            Self::Compare => "compare",
            Self::Profile => "profile",
            Self::Verify => "verify",
        })
    }
}
