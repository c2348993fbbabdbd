//! One stage under load: its nodes, its workload with all that it remembers, and what has been found out so far.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Request;
use super::probe::{Around, Effort, Probe, settle};
use crate::generator::{Generator, Outcome, Plan, Watch};
use crate::http::Client;
use crate::knee::{Knee, Search, Seen, Step};
use crate::ledger::{self, Rows};
use crate::output::climb::{Bottleneck, Phase, ProfileReport, StageReport};
use crate::output::progress::Progress;
use crate::profile;
use crate::proof::Proof;
use crate::server::{Server, Stage};
use crate::stop::Stop;
use crate::verdict;
use crate::workload::Workload;

/// Operations in flight while warming up.
pub(super) const WARM_UP: usize = 64;
/// The knee under arrivals that come when they like, as a share of what a closed loop carries: a guess to begin with.
const GUESS: f64 = 0.75;
/// How many looks that were disturbed from outside are repeated in all: on a busy machine time must not run away.
const REPEATS: u32 = 6;
/// How far past the knee the bottleneck is looked for.
const PAST: f64 = 1.15;
/// How long the idle server's CPU is watched.
const BACKGROUND: Duration = Duration::from_millis(300);
/// At which share of the knee its CPU is sampled: where the latencies of the table were measured.
const SAMPLED: f64 = 0.95;
/// How long the load runs before the first sample and after the last.
const MARGIN: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(20);

/// A prepared stage.
pub(super) struct Running {
    stage: Stage,
    // Before the server: its connections are closed first, so that nothing holds up the drain.
    generator: Generator,
    /// Of the first node: it prepares and verifies.
    public: Client,
    /// One a node.
    pub(super) admins: Vec<Client>,
    server: Server,
    workload: Box<dyn Workload>,
    pub(super) effort: Effort,
    pub(super) seed: u64,
    /// The ledger of the prepared and idle server.
    pub(super) idle: Rows,
    /// Cores in use when no request comes.
    background_cores: f64,
    /// How many cores generator and server share, where they are not apart.
    shared_cores: Option<f64>,
    knees: Vec<Knee>,
    pub(super) probes: Vec<Probe>,
    pub(super) proof: Option<Proof>,
    /// Repeats left for looks that were disturbed.
    repeats: u32,
    /// Runs outside the probes (warming up), for what they violated.
    pub(super) others: Vec<Outcome>,
    profile: Option<ProfileReport>,
}

impl Running {
    pub(super) fn new(
        server: Server,
        stage: &Stage,
        mut workload: Box<dyn Workload>,
        request: &Request,
        shared_cores: Option<f64>,
        stop: &Stop,
    ) -> Result<Self> {
        let mut public = Client::new(server.first().public.clone(), None);
        let admins = server.nodes().iter().map(|node| Client::new(node.admin.clone(), None));
        let mut admins: Vec<Client> = admins.collect();
        workload.prepare(&mut public, stop)?;
        let generator = Generator::connect(&server.targets(), request.connections)?;
        let idle = quiet(&mut admins)?;
        Ok(Self {
            stage: stage.clone(),
            generator,
            public,
            admins,
            server,
            workload,
            effort: request.effort,
            seed: request.seed,
            idle,
            background_cores: 0.0,
            shared_cores,
            knees: Vec::new(),
            probes: Vec::new(),
            proof: None,
            repeats: REPEATS,
            others: Vec::new(),
            profile: None,
        })
    }

    /// One round: searches the knee, from scratch in the first, around what is known in the later ones.
    pub(super) fn search(&mut self, round: u32, progress: &Progress, stop: &Stop) -> Result<()> {
        let mut search = match self.knee() {
            Some(known) if known > 0.0 => Search::around(known),
            _ => self.effort.search(self.warm_up(progress, stop)? * GUESS),
        };
        loop {
            match search.next() {
                Step::Probe(rate) => {
                    let phase = if search.confirming() {
                        Phase::Confirm
                    } else {
                        Phase::Search
                    };
                    search.record(self.probe(rate, phase, round, progress, stop)?);
                }
                Step::Done(knee) => {
                    self.knees.push(knee);
                    return Ok(());
                }
            }
        }
    }

    /// Looks at the stage just past its knee, where whatever gives first gives.
    pub(super) fn find_bottleneck(&mut self, progress: &Progress, stop: &Stop) -> Result<()> {
        let knee = self.knee().unwrap_or(0.0);
        if knee > 0.0 {
            let past = if self.rig_limited() { 1.0 } else { PAST };
            // Now, and not when it had just started: what it made ready then is no background.
            self.watch_background()?;
            self.probe(knee * past, Phase::Past, 0, progress, stop)?;
        }
        Ok(())
    }

    /// Looks at what the idle server's CPU does.
    pub(super) fn watch_background(&mut self) -> Result<()> {
        self.background_cores = background(&mut self.admins, &self.server)?;
        Ok(())
    }

    /// A new part begins, with as many repeats for looks that are disturbed.
    pub(super) fn forgive_disturbances(&mut self) {
        self.repeats = REPEATS;
    }

    /// Lets the server sample its CPU under the load of its knee, and writes the flame graph. Of several nodes the first does:
    /// they are the same program under the same load.
    pub(super) fn profile(&mut self, design: &str, directory: &Path, progress: &Progress, stop: &Stop) -> Result<()> {
        let rate = self.knee().unwrap_or(0.0) * SAMPLED;
        if rate <= 0.0 {
            return Ok(());
        }
        progress.phase(&self.stage.name, Phase::Profile, &format!("{rate:.0}/s"));
        let time = self.effort.profile();
        let seed = self.seed.wrapping_add(1 + self.probes.len() as u64);
        let plan = Plan::open(rate, time + 2 * MARGIN, seed);
        let (admin, process) = (self.server.first().admin.clone(), self.server.first().id());
        let (load, sampled) = thread::scope(|scope| {
            let sampled = scope.spawn(|| {
                thread::sleep(MARGIN);
                profile::sample(&admin, process, time)
            });
            let load = self.load(&plan, stop);
            if load.is_err() {
                self.server.kill(); // else the sampler would wait for its answer
            }
            (load, sampled.join())
        });
        self.others.push(load?.0);
        let sampled = sampled.map_err(|_| anyhow!("the thread that takes a profile panicked"))?;
        let name = &self.stage.name;
        let report = sampled.and_then(|sampled| profile::write(&sampled, directory, design, name, rate));
        self.profile = Some(report.with_context(|| format!("stage {name}: profile"))?);
        self.settle(stop)?;
        Ok(())
    }

    /// Verifies the history, ends the server, and puts everything into a report.
    pub(super) fn finish(mut self, progress: &Progress, stop: &Stop) -> Result<StageReport> {
        let name = self.stage.name.clone();
        progress.phase(&name, Phase::Verify, "checking every promise over the whole history");
        let verified = self
            .workload
            .verify(&mut self.public, &mut self.generator, stop)
            .with_context(|| format!("stage {name}: verifying"))?;
        let report = self.report(&verified);
        let Self {
            server,
            generator,
            public,
            admins,
            ..
        } = self;
        drop((generator, public, admins));
        server.stop()?;
        Ok(report)
    }

    fn report(&self, verified: &crate::workload::Verified) -> StageReport {
        let mut rates: Vec<f64> = self.knees.iter().map(|knee| knee.rate).collect();
        let confirmed: Vec<&Probe> = self
            .probes
            .iter()
            .filter(|probe| probe.phase == Phase::Confirm && probe.seen == Seen::Passed)
            .collect();
        let typical = |q: f64| {
            let mut values: Vec<f64> = confirmed
                .iter()
                .map(|p| p.outcome.times.response.quantile_ms(q))
                .collect();
            median(&mut values)
        };
        let outcomes = || self.others.iter().chain(self.probes.iter().map(|probe| &probe.outcome));
        let violations = outcomes().map(|outcome| outcome.violations).sum::<u64>() + verified.violations;
        let examples = outcomes()
            .flat_map(|outcome| &outcome.examples)
            .chain(&verified.examples);
        let past = self.past();
        StageReport {
            stage: self.stage.name.clone(),
            idea: self.stage.idea.clone(),
            skipped: None,
            nodes: self.stage.nodes,
            engines: self.server.engines().reports(),
            knees_rps: rates.clone(),
            knee_rps: median(&mut rates),
            knee_min_rps: rates.first().copied(),
            knee_max_rps: rates.last().copied(),
            rig_limited: self.rig_limited(),
            p50_ms: typical(0.5),
            p99_ms: typical(0.99),
            bottleneck: past
                .as_ref()
                .and_then(verdict::judge)
                .map(|verdict| Bottleneck::from(&verdict)),
            ledger: past.as_ref().map(verdict::usages).unwrap_or_default(),
            recorded: past,
            violations,
            violation_examples: examples.take(5).cloned().collect(),
            verified: verified.summary.clone(),
            accuracy: verified.accuracy,
            probes: self.probes.iter().map(Probe::report).collect(),
            proof: self.proof.clone(),
            profile: self.profile.clone(),
        }
    }

    /// What was recorded just past the knee.
    pub(super) fn past(&self) -> Option<verdict::Evidence> {
        let probe = self.probes.iter().rev().find(|probe| probe.phase == Phase::Past)?;
        let mut evidence = probe.evidence.clone();
        if self.rig_limited() {
            let limited = self.probes.iter().find(|probe| probe.seen == Seen::RigLimited);
            evidence.rig = Some(
                limited
                    .and_then(|probe| probe.rig.clone())
                    .unwrap_or_else(|| "no rate that the generator could make broke a promise".to_owned()),
            );
        }
        Some(evidence)
    }

    /// The median over the rounds so far.
    pub(super) fn knee(&self) -> Option<f64> {
        median(&mut self.knees.iter().map(|knee| knee.rate).collect::<Vec<_>>())
    }

    /// One knee a round.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.knees.iter().map(|knee| knee.rate).collect()
    }

    /// The stage as its binary describes it.
    pub(super) fn described(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn name(&self) -> &str {
        &self.stage.name
    }

    fn rig_limited(&self) -> bool {
        let limited = self.knees.iter().filter(|knee| knee.rig_limited).count();
        limited * 2 > self.knees.len()
    }

    /// A short closed loop: fills the caches and gives a first guess of the capacity.
    fn warm_up(&mut self, progress: &Progress, stop: &Stop) -> Result<f64> {
        progress.phase(&self.stage.name, Phase::WarmUp, "closed loop");
        let plan = Plan::closed(WARM_UP, self.effort.warm_up());
        let mut watch = Watch {
            stop,
            tick: &mut |_| (),
        };
        let outcome = self.generator.run(self.workload.as_mut(), &plan, &mut watch);
        self.server.check_alive()?;
        let outcome = outcome?;
        self.settle(stop)?;
        let rate = outcome.achieved_rps();
        self.others.push(outcome);
        Ok(rate)
    }

    pub(super) fn probe(
        &mut self,
        rate: f64,
        phase: Phase,
        round: u32,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Seen> {
        progress.phase(&self.stage.name, phase, &format!("{rate:.0}/s"));
        loop {
            let probe = self.look(rate, phase, round, stop)?;
            progress.line(&probe.line(&self.stage.name));
            let (seen, disturbed) = (probe.seen, probe.disturbed());
            self.probes.push(probe);
            if !disturbed || self.repeats == 0 {
                return Ok(seen);
            }
            self.repeats -= 1;
        }
    }

    fn look(&mut self, rate: f64, phase: Phase, round: u32, stop: &Stop) -> Result<Probe> {
        let seed = self.seed.wrapping_add(1 + self.probes.len() as u64);
        let effort = match phase {
            // Many looks, close in time: drift between them is worse than the noise of a short one.
            Phase::Prove => Effort::Quick,
            // Means of few samples are not to be compared.
            Phase::Compare => Effort::Thorough,
            _ => self.effort,
        };
        let plan = Plan::open(rate, effort.duration(rate), seed);
        let (outcome, around) = self.load(&plan, stop)?;
        let backlog = self.settle(stop)?;
        Ok(Probe::judge(phase, round, rate, outcome, around, backlog))
    }

    pub(super) fn load(&mut self, plan: &Plan, stop: &Stop) -> Result<(Outcome, Around)> {
        self.generator.ready()?;
        let before = self.ledger()?;
        let start = Instant::now();
        let mut watch = Watch {
            stop,
            tick: &mut |_| (),
        };
        let outcome = self.generator.run(self.workload.as_mut(), plan, &mut watch);
        let time = start.elapsed();
        // A server that died says more than the error that its death has caused.
        self.server.check_alive()?;
        let around = Around {
            before,
            after: self.ledger()?,
            time,
            quota_cores: self.server.quota_cores(),
            background_cores: self.background_cores,
            connections: self.generator.connections(),
            shared_cores: self.shared_cores,
        };
        Ok((outcome?, around))
    }

    fn ledger(&mut self) -> Result<Rows> {
        read(&mut self.admins, &self.server)
    }

    fn settle(&mut self, stop: &Stop) -> Result<Option<String>> {
        let server = &mut self.server;
        settle(
            || ledger::read(&mut self.admins),
            &self.idle,
            || {
                thread::sleep(PAUSE);
                server.check_alive()?;
                stop.check()
            },
        )
    }
}

/// The ledger of all nodes, with the CPU of the engines that share their cores.
fn read(admins: &mut [Client], server: &Server) -> Result<Rows> {
    let mut rows = ledger::read(admins)?;
    ledger::share_cpu(&mut rows, &server.engines().cpu());
    Ok(rows)
}

/// Cores in use although no request comes.
fn background(admins: &mut [Client], server: &Server) -> Result<f64> {
    let busy = |rows: &Rows| rows.get(ledger::CPU).map_or(0.0, |cpu| cpu.busy_s);
    let (start, before) = (Instant::now(), read(admins, server)?);
    thread::sleep(BACKGROUND);
    let after = read(admins, server)?;
    Ok((busy(&after) - busy(&before)) / start.elapsed().as_secs_f64())
}

/// The ledger once nothing changes any more: preparation may have left work to finish.
fn quiet(admins: &mut [Client]) -> Result<Rows> {
    let mut last = ledger::read(admins)?;
    for _ in 0..100 {
        thread::sleep(PAUSE);
        let next = ledger::read(admins)?;
        if next
            .iter()
            .all(|(name, row)| last.get(name).is_some_and(|before| before.backlog == row.backlog))
        {
            return Ok(next);
        }
        last = next;
    }
    Ok(last)
}

/// The middle of the values, which are sorted by this; `None` when there are none.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
    }
}
