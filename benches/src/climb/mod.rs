//! A climb: every stage of a design, pushed to its knee by the same load, and what gave there.
//!
//! All stages are started first, each with its own data, and then searched in rounds: round by round, stage by stage. A
//! machine drifts (its disk, its neighbours), and drift that lies between two stages would look like a difference between
//! them; interleaved, it shows as the spread of each stage instead. The first round searches from scratch, the later ones
//! around what it found. Only one stage works at a time; the others are idle.

mod probe;
mod prove;
mod relief;
mod stage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::climb::stage::Running;
use crate::layout::Layout;
use crate::needs::{self, Need};
use crate::output::climb::{Phase, Skipped, StageReport};
use crate::output::progress::Progress;
use crate::server::{Binary, Server, Setup, Stage};
use crate::stop::Stop;
use crate::workloads;

pub use probe::Effort;

/// What to climb, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The design.
    pub design: String,
    /// Its stages to climb; empty for all.
    pub stages: Vec<String>,
    /// How much time to take.
    pub effort: Effort,
    /// How often each knee is searched for.
    pub rounds: u32,
    /// Items to make before the load.
    pub items: usize,
    /// Decides arrivals, data and order.
    pub seed: u64,
    /// Shares of the kinds of operations.
    pub mix: Option<String>,
    /// Flags passed on to the servers.
    pub set: Vec<(String, String)>,
    /// Cores that each stage may use, by quota.
    pub server_cpu: Option<f64>,
    /// Whether a missing engine is an error.
    pub engines: bool,
    /// Connections of the generator.
    pub connections: usize,
    /// A resource to slow all the while, and by which factor.
    pub slow: Option<(String, f64)>,
    /// Whether verdicts are to be proven.
    pub prove: bool,
    /// Where data directories are made.
    pub data_root: PathBuf,
    /// Where to write a flame graph a stage; `None` when nobody asked for profiles.
    pub profile: Option<PathBuf>,
}

/// Climbs, and returns a report a stage in the order of the ladder.
///
/// # Errors
/// A stage that cannot be started, prepared, asked, or ended; a server that dies; an interruption. Everything started is
/// gone by then.
pub fn run(request: &Request, layout: &Layout, progress: &Progress, stop: &Stop) -> Result<Vec<StageReport>> {
    let binary = Binary::find(&request.design)?;
    let description = binary.describe()?;
    let stages = select(&description.stages, &request.stages)?;
    let setup = Setup {
        binary: &binary,
        layout,
        set: &request.set,
        data_root: &request.data_root,
        quota_cores: request.server_cpu,
        lab: request.prove || request.slow.is_some() || request.profile.is_some(),
    };
    let mut reports = Vec::new();
    let mut running = Vec::new();
    for (place, stage) in stages.into_iter().enumerate() {
        stop.check()?;
        match needs::find(&stage.needs, &request.set, &request.data_root) {
            Ok(needs) => {
                let mut prepared = prepare(request, &setup, stage, &needs, progress, stop)?;
                if let Some((resource, factor)) = &request.slow {
                    prepared.slow_throughout(resource, *factor, stop)?;
                }
                running.push((place, needs, prepared));
            }
            Err(reason) if request.engines => bail!("stage {}: {reason}", stage.name),
            Err(reason) => {
                progress.line(&format!("{}: skipped, {reason}", stage.name));
                reports.push((place, StageReport::skipped(stage, Skipped(reason))));
            }
        }
    }
    ensure!(!running.is_empty(), "no stage can run: {}", reasons(&reports));
    let start = Instant::now();
    let mut done = 0;
    while done < request.rounds && fits(start.elapsed(), done, request.effort.budget(running.len())) {
        done += 1;
        for (_, _, stage) in &mut running {
            stage.search(done, progress, stop)?;
        }
    }
    if done < request.rounds {
        progress.line(&format!(
            "{done} of {} rounds: the others would not fit into the time",
            request.rounds
        ));
    }
    for (place, needs, mut stage) in running {
        stage.find_bottleneck(progress, stop)?;
        if let Some(directory) = &request.profile {
            stage.profile(&request.design, directory, progress, stop)?;
        }
        if request.prove {
            stage.prove(progress, stop)?;
        }
        let described = stage.described().clone();
        let mut report = stage.finish(progress, stop)?;
        relief::relieve(request, &setup, &described, &needs, &mut report, progress, stop)?;
        reports.push((place, report));
    }
    reports.sort_by_key(|(place, _)| *place);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

/// Whether one more round fits. The later ones take about half as long as the first.
fn fits(spent: Duration, done: u32, budget: Duration) -> bool {
    done == 0 || spent + spent / (done + 1) <= budget
}

fn prepare(
    request: &Request,
    setup: &Setup<'_>,
    stage: &Stage,
    needs: &[Need],
    progress: &Progress,
    stop: &Stop,
) -> Result<Running> {
    let engines = needs::to_start(needs).map_or_else(String::new, |engines| format!("{engines} and "));
    let servers = match stage.nodes {
        1 => "the server".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    progress.phase(
        &stage.name,
        Phase::Prepare,
        &format!("starting {engines}{servers}, then making {} items", request.items),
    );
    let server = Server::start(setup, stage, needs, stop)?;
    let workload = workloads::of(
        &request.design,
        &workloads::Options {
            target: server.first().public.clone(),
            key: None,
            seed: request.seed,
            items: request.items,
            mix: request.mix.clone(),
            nodes: server.nodes().len(),
        },
    )?;
    Running::new(server, stage, workload, request, setup.layout.shared_cores(), stop)
        .with_context(|| format!("stage {}", stage.name))
}

/// The stages asked for, in the order of the ladder.
fn select<'a>(all: &'a [Stage], wanted: &[String]) -> Result<Vec<&'a Stage>> {
    for name in wanted {
        if !all.iter().any(|stage| stage.name == *name) {
            let names: Vec<&str> = all.iter().map(|stage| stage.name.as_str()).collect();
            bail!("there is no stage `{name}`; there are: {}", names.join(", "));
        }
    }
    Ok(all
        .iter()
        .filter(|stage| wanted.is_empty() || wanted.contains(&stage.name))
        .collect())
}

fn reasons(reports: &[(usize, StageReport)]) -> String {
    let reasons: Vec<String> = reports
        .iter()
        .filter_map(|(_, report)| Some(format!("{} {}", report.stage, report.skipped.as_deref()?)))
        .collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, needs: &[&str]) -> Stage {
        Stage {
            name: name.to_owned(),
            idea: String::new(),
            needs: needs.iter().map(ToString::to_string).collect(),
            knobs: Vec::new(),
            nodes: 1,
            listens: Vec::new(),
        }
    }

    #[test]
    fn stages_are_taken_in_the_order_of_the_ladder() {
        let all = [stage("a", &[]), stage("b", &[]), stage("c", &[])];
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            select(&all, &wanted).map(|found| found.iter().map(|s| s.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["a", "b", "c"]);
        assert_eq!(names(&["c", "a"]).unwrap(), ["a", "c"]);
        assert_eq!(
            names(&["d"]).unwrap_err().to_string(),
            "there is no stage `d`; there are: a, b, c"
        );
    }

    #[test]
    fn rounds_stop_when_the_time_is_up() {
        let fits = |spent, done| fits(Duration::from_secs(spent), done, Duration::from_secs(220));
        assert!(fits(0, 0) && fits(999, 0), "there is always a first round");
        assert!(fits(140, 1), "the second takes half of the first");
        assert!(!fits(150, 1));
        assert!(fits(160, 2) && !fits(170, 2));
    }
}
