//! The proof of a verdict on a running stage: slow a resource, look again, let it go, look again.
//!
//! What is slowed by how much, what is expected, and what the results mean is `proof`'s business; here it is done. Knees
//! are found by short probes around where they are expected. Each slowed one stands between two baselines; where these
//! differ, the machine was another one in between, and it is taken again. What never stands between two that agree has no
//! result.

use anyhow::{Context, Result, ensure};

use super::probe::Probe;
use super::stage::{Running, WARM_UP};
use crate::generator::Plan;
use crate::knee::{Search, Step};
use crate::ledger::{self, Rows};
use crate::output::climb::Phase;
use crate::output::progress::Progress;
use crate::proof::{self, Measure, Measured, Proof, Slowing, Subject};
use crate::stop::Stop;
use crate::verdict::{self, Evidence, Usage};

/// Baselines around a slowed look that differ by more than this say nothing of it.
const STEADY: f64 = 1.10;
/// How often a slowed look is taken until it stands between two that agree.
const TRIES: u32 = 4;

/// What is looked at, slowed and not.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// The knee.
    Knee,
    /// The mean response time at this rate.
    ResponseAt(f64),
}

/// One resource, and how it is slowed.
type Slowed = (Subject, Slowing);

impl Running {
    /// Slows the fullest resources one by one, and says whether the one that the verdict names sets the pace.
    pub(super) fn prove(&mut self, progress: &Progress, stop: &Stop) -> Result<()> {
        let Some(evidence) = self.past() else {
            return Ok(());
        };
        let Some(verdict) = verdict::judge(&evidence) else {
            return Ok(());
        };
        self.forgive_disturbances();
        let mut usages = verdict::usages(&evidence);
        let named = &verdict.resource;
        let accounted = usages.iter().any(|usage| usage.resource == *named);
        for place in (0..usages.len()).rev() {
            if !self.can_slow(&usages[place].resource)? {
                usages.remove(place);
            }
        }
        let proof = match proof::measure(&verdict) {
            None => return Ok(()), // nothing of the server is named
            Some(measure) if accounted && !usages.iter().any(|usage| usage.resource == *named) => proof::impossible(
                measure,
                &format!("{named} is counted and not held: it cannot be slowed"),
            ),
            Some(measure) if !usages.iter().any(|usage| usage.resource == *named) => proof::impossible(
                measure,
                "no resource of the ledger accounts for the time: there is nothing to slow",
            ),
            Some(Measure::Knee) => self.by_knee(&evidence, &usages, named, progress, stop)?,
            Some(Measure::ResponseTime) => self.by_response(&evidence, &usages, named, progress, stop)?,
        };
        progress.line(&format!("{:<14} {}: {}", self.name(), proof.finding, proof.summary));
        self.proof = Some(proof);
        Ok(())
    }

    /// By the knee. The factor is chosen by the noise of the rounds, and chosen once more when the baselines show more of it.
    fn by_knee(
        &mut self,
        evidence: &Evidence,
        usages: &[Usage],
        named: &str,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Proof> {
        let mut factor = proof::factor(usages, named, proof::spread(&self.rates()));
        let guess = self.knee().unwrap_or(0.0);
        let mut baselines = Vec::new();
        baselines.extend(self.see(Look::Knee, guess, progress, stop)?);
        loop {
            let slowed = slowed(proof::by_knee(usages, named, factor), usages, evidence, factor);
            let proof = self.intervene(Look::Knee, factor, slowed, &mut baselines, progress, stop)?;
            let wanted = proof::factor(usages, named, proof.spread);
            if wanted <= factor {
                return Ok(proof);
            }
            progress.line(&format!(
                "{:<14} the knees differ by {:.0} %, too much for a factor of {factor}: once more with {wanted}",
                self.name(),
                proof.spread * 100.0
            ));
            factor = wanted;
        }
    }

    fn by_response(
        &mut self,
        evidence: &Evidence,
        usages: &[Usage],
        named: &str,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Proof> {
        let factor = proof::STRETCH;
        let high = self.knee().unwrap_or(0.0) * proof::LOADED;
        let low = high / factor;
        let loaded = self.evidence_at(high, progress, stop)?;
        let first = self.evidence_at(low, progress, stop)?;
        let slowed = slowed(
            proof::by_response(usages, named, &loaded, &first, factor),
            usages,
            evidence,
            factor,
        );
        let mut baselines = vec![first.response_mean_ms];
        self.intervene(Look::ResponseAt(low), factor, slowed, &mut baselines, progress, stop)
    }

    /// Slows each in turn, as often as the effort allows.
    fn intervene(
        &mut self,
        look: Look,
        factor: f64,
        slowed: Vec<Slowed>,
        baselines: &mut Vec<f64>,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Proof> {
        let mut takes = vec![Vec::new(); slowed.len()];
        for _ in 0..self.effort.takes() {
            for (slowed, takes) in slowed.iter().zip(&mut takes) {
                takes.extend(self.bracketed(look, slowed, baselines, progress, stop)?);
            }
        }
        let (mut measured, mut unsteady) = (Vec::new(), Vec::new());
        for ((subject, _), takes) in slowed.into_iter().zip(&takes) {
            let resource = subject.resource.clone();
            match Measured::of(subject, takes) {
                Some(one) => measured.push(one),
                None => unsteady.push(resource),
            }
        }
        let measure = match look {
            Look::Knee => Measure::Knee,
            Look::ResponseAt(_) => Measure::ResponseTime,
        };
        Ok(proof::conclude(measure, factor, baselines.clone(), &measured, unsteady))
    }

    /// A slowed look and the baseline around it; `None` when no two baselines agreed, or nothing could be seen between.
    fn bracketed(
        &mut self,
        look: Look,
        (subject, slowing): &Slowed,
        baselines: &mut Vec<f64>,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Option<(f64, f64)>> {
        for _ in 0..TRIES {
            let Some(before) = baselines.last().copied() else {
                return Ok(None);
            };
            self.slow(&subject.resource, *slowing)?;
            // An error ends the stage and its server, so nothing has to be let go then.
            let slowed = self.see(look, before * subject.predicted.0, progress, stop)?;
            self.unslow(&subject.resource, *slowing)?;
            let after = self.see(look, before, progress, stop)?;
            baselines.extend(after);
            let steady = after.filter(|after| before.max(*after) <= before.min(*after) * STEADY);
            if let (Some(slowed), Some(after)) = (slowed, steady) {
                return Ok(Some((slowed, (before * after).sqrt())));
            }
            let said = |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:.3}"));
            progress.line(&format!(
                "{:<14} {before:.3} before, {} with {} slowed, {} after: once more",
                self.name(),
                said(slowed),
                subject.resource,
                said(after)
            ));
        }
        Ok(None)
    }

    /// What is to be seen now: a knee near `guess` in operations a second, or a response time in milliseconds. `None` where
    /// the rig gave before the server, or nothing was served.
    fn see(&mut self, look: Look, guess: f64, progress: &Progress, stop: &Stop) -> Result<Option<f64>> {
        let seen = match look {
            Look::Knee => self.knee_near(guess, progress, stop)?,
            Look::ResponseAt(rate) => Some(self.evidence_at(rate, progress, stop)?.response_mean_ms),
        };
        Ok(seen.filter(|seen| *seen > 0.0))
    }

    /// Slows a resource from now on: the experiment of a user who wants to know what a slower one would do.
    pub(super) fn slow_throughout(&mut self, resource: &str, factor: f64, stop: &Stop) -> Result<()> {
        known(resource, &self.idle, self.name())?;
        self.watch_background()?;
        // What a request takes of the CPU or of the threads has to be seen once.
        let plan = Plan::closed(WARM_UP, self.effort.warm_up());
        let (outcome, around) = self.load(&plan, stop)?;
        let seen = Probe::judge(Phase::WarmUp, 0, 0.0, outcome, around, None);
        let usages = verdict::usages(&seen.evidence);
        let usage = usages.iter().find(|usage| usage.resource == resource);
        let background = seen.evidence.cpu_background_cores.unwrap_or(0.0);
        let slowing = usage.and_then(|usage| proof::slowing(usage, &seen.evidence, background, factor));
        self.others.push(seen.outcome);
        self.slow(resource, slowing.unwrap_or(Slowing::Factor(factor)))
    }

    /// The knee as it is now, expected near `guess`; `None` where the rig gave before the server.
    fn knee_near(&mut self, guess: f64, progress: &Progress, stop: &Stop) -> Result<Option<f64>> {
        // Begun anywhere within a step, so that the steps of the search do not round every knee to what is expected.
        let mut search = Search::near(guess, golden(self.seed, self.probes.len()));
        loop {
            match search.next() {
                Step::Probe(rate) => search.record(self.probe(rate, Phase::Prove, 0, progress, stop)?),
                Step::Done(knee) => return Ok((!knee.rig_limited).then_some(knee.rate)),
            }
        }
    }

    fn evidence_at(&mut self, rate: f64, progress: &Progress, stop: &Stop) -> Result<Evidence> {
        self.probe(rate, Phase::Compare, 0, progress, stop)?;
        let last: Option<&Probe> = self.probes.last();
        last.map(|probe| probe.evidence.clone())
            .context("the probe was not kept")
    }

    /// Slows a resource on every node: by the same factor, or by the same amount for each request that comes to it.
    fn slow(&mut self, resource: &str, slowing: Slowing) -> Result<()> {
        let amount = match slowing {
            Slowing::Factor(factor) => format!("factor={factor}"),
            Slowing::Nanos(nanos) => format!("nanos={nanos:.0}"),
        };
        let stage = self.name().to_owned();
        for admin in &mut self.admins {
            let answer = admin.post_json(&format!("/lab/slow?resource={resource}&{amount}"), b"")?;
            ensure!(
                answer.status == 204,
                "stage {stage}: slowing {resource} was answered with {}: {}",
                answer.status,
                answer.excerpt()
            );
        }
        Ok(())
    }

    /// Whether a resource is one that somebody holds. What a design only counts, such as the numbers that a layout has,
    /// nobody can hold for longer.
    fn can_slow(&mut self, resource: &str) -> Result<bool> {
        if [ledger::CPU, verdict::WORKERS].contains(&resource) {
            return Ok(true);
        }
        let Some(admin) = self.admins.first_mut() else {
            return Ok(false);
        };
        let answer = admin.post_json(&format!("/lab/slow?resource={resource}&factor=1"), b"")?;
        Ok(answer.status == 204)
    }

    fn unslow(&mut self, resource: &str, slowing: Slowing) -> Result<()> {
        let off = match slowing {
            Slowing::Factor(_) => Slowing::Factor(1.0),
            Slowing::Nanos(_) => Slowing::Nanos(0.0),
        };
        self.slow(resource, off)
    }
}

/// How each subject is slowed; what was not used past the knee is left out.
fn slowed(subjects: Vec<Subject>, usages: &[Usage], evidence: &Evidence, factor: f64) -> Vec<Slowed> {
    let background = evidence.cpu_background_cores.unwrap_or(0.0);
    let slowed = |subject: Subject| {
        let usage = usages.iter().find(|usage| usage.resource == subject.resource)?;
        Some((subject, proof::slowing(usage, evidence, background, factor)?))
    };
    subjects.into_iter().filter_map(slowed).collect()
}

/// A number from 0 to 1 that is another one each time, and spread evenly: multiples of the golden ratio.
fn golden(seed: u64, place: usize) -> f64 {
    ((seed as f64 + place as f64) * 0.618_033_988_75).fract()
}

/// Whether a stage has the resource.
fn known(resource: &str, ledger: &Rows, stage: &str) -> Result<()> {
    let names: Vec<&str> = ledger.keys().map(String::as_str).collect();
    ensure!(
        names.contains(&resource),
        "stage {stage} has no resource `{resource}` to slow; it has: {}",
        names.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Row;

    #[test]
    fn an_unknown_resource_is_named_with_those_there_are() {
        let rows: Rows = ["cpu", "pool"].map(|name| (name.to_owned(), Row::default())).into();
        assert!(known("pool", &rows, "a").is_ok());
        let said = known("poll", &rows, "a").unwrap_err().to_string();
        assert_eq!(said, "stage a has no resource `poll` to slow; it has: cpu, pool");
    }
}
