//! The proof of a verdict on a running stage: slow a resource, look again, let it go, look again.
//!
//! What is slowed by how much, what is expected, and what the results mean is `proof`'s business; here it is done. Knees
//! are found by short probes around where they are expected. Each slowed one stands between two baselines, and is looked
//! for again when these differ: then the machine was another one in between.

use anyhow::{Context, Result, ensure};

use super::probe::Probe;
use super::stage::{Running, WARM_UP};
use crate::generator::Plan;
use crate::knee::{Search, Step};
use crate::ledger::Rows;
use crate::output::climb::Phase;
use crate::output::progress::Progress;
use crate::proof::{self, Measure, Measured, Proof, Slowing, Subject};
use crate::stop::Stop;
use crate::verdict::{self, Evidence, Usage};

/// Baselines around a slowed knee that differ by more than this say nothing of it.
const STEADY: f64 = 1.10;
/// How often a slowed knee is looked for at the most.
const TRIES: u32 = 2;

impl Running {
    /// Slows the fullest resources one by one, and says whether the one that the verdict names sets the pace.
    pub(super) fn prove(&mut self, progress: &Progress, stop: &Stop) -> Result<()> {
        let Some(evidence) = self.past() else {
            return Ok(());
        };
        let Some(verdict) = verdict::judge(&evidence) else {
            return Ok(());
        };
        let usages = verdict::usages(&evidence);
        let proof = match proof::measure(&verdict) {
            None => return Ok(()), // nothing of the server is named
            Some(measure) if !usages.iter().any(|usage| usage.resource == verdict.resource) => proof::impossible(
                measure,
                "no resource of the ledger accounts for the time: there is nothing to slow",
            ),
            Some(Measure::Knee) => self.by_knee(&evidence, &usages, &verdict.resource, progress, stop)?,
            Some(Measure::ResponseTime) => self.by_response(&evidence, &usages, &verdict.resource, progress, stop)?,
        };
        progress.line(&format!("{:<14} {}: {}", self.name(), proof.finding, proof.summary));
        self.proof = Some(proof);
        Ok(())
    }

    fn by_knee(
        &mut self,
        evidence: &Evidence,
        usages: &[Usage],
        named: &str,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Proof> {
        let factor = proof::factor(proof::spread(&self.rates()));
        let mut baselines = vec![self.knee_near(self.knee().unwrap_or(0.0), progress, stop)?];
        let subjects = proof::by_knee(usages, named, factor);
        let mut takes = vec![Vec::new(); subjects.len()];
        for _ in 0..self.effort.takes() {
            for (subject, takes) in subjects.iter().zip(&mut takes) {
                let Some(slowing) = self.slowing(subject, usages, evidence, factor) else {
                    continue;
                };
                takes.push(self.bracketed(subject, slowing, &mut baselines, progress, stop)?);
            }
        }
        let measured = subjects.into_iter().zip(&takes);
        let measured: Vec<Measured> = measured
            .filter_map(|(subject, takes)| Measured::of(subject, takes))
            .collect();
        Ok(proof::conclude(
            Measure::Knee,
            factor,
            self.effort.takes(),
            baselines,
            &measured,
        ))
    }

    /// A slowed knee and the baseline around it, taken again when that has moved.
    fn bracketed(
        &mut self,
        subject: &Subject,
        slowing: Slowing,
        baselines: &mut Vec<f64>,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<(f64, f64)> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let before = baselines.last().copied().unwrap_or(0.0);
            self.slow(&subject.resource, slowing)?;
            let slowed = self.knee_near(before * subject.predicted.0, progress, stop);
            self.unslow(&subject.resource, slowing)?;
            let slowed = slowed?;
            let after = self.knee_near(before, progress, stop)?;
            baselines.push(after);
            if before.max(after) <= before.min(after) * STEADY || left == 0 {
                return Ok((slowed, (before * after).sqrt()));
            }
            progress.line(&format!(
                "{:<14} the knee went from {before:.0}/s to {after:.0}/s meanwhile: once more",
                self.name()
            ));
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
        let mut baselines = vec![first.response_mean_ms];
        let subjects = proof::by_response(usages, named, &loaded, &first, factor);
        let mut takes = vec![Vec::new(); subjects.len()];
        for _ in 0..self.effort.takes() {
            for (subject, takes) in subjects.iter().zip(&mut takes) {
                let Some(slowing) = self.slowing(subject, usages, evidence, factor) else {
                    continue;
                };
                let before = baselines.last().copied().unwrap_or(0.0);
                self.slow(&subject.resource, slowing)?;
                let slowed = self.evidence_at(low, progress, stop);
                self.unslow(&subject.resource, slowing)?;
                let slowed = slowed?.response_mean_ms;
                let after = self.evidence_at(low, progress, stop)?.response_mean_ms;
                baselines.push(after);
                takes.push((slowed, (before * after).sqrt()));
            }
        }
        let measured = subjects.into_iter().zip(&takes);
        let measured: Vec<Measured> = measured
            .filter_map(|(subject, takes)| Measured::of(subject, takes))
            .collect();
        Ok(proof::conclude(
            Measure::ResponseTime,
            factor,
            self.effort.takes(),
            baselines,
            &measured,
        ))
    }

    /// Slows a resource from now on: the experiment of a user who wants to know what a slower one would do.
    pub(super) fn slow_throughout(&mut self, resource: &str, factor: f64, stop: &Stop) -> Result<()> {
        known(resource, &self.idle, self.name())?;
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

    fn slowing(&self, subject: &Subject, usages: &[Usage], evidence: &Evidence, factor: f64) -> Option<Slowing> {
        let usage = usages.iter().find(|usage| usage.resource == subject.resource)?;
        proof::slowing(usage, evidence, evidence.cpu_background_cores.unwrap_or(0.0), factor)
    }

    /// The knee as it is now, expected near `guess`.
    fn knee_near(&mut self, guess: f64, progress: &Progress, stop: &Stop) -> Result<f64> {
        let mut search = Search::near(guess);
        loop {
            match search.next() {
                Step::Probe(rate) => search.record(self.probe(rate, Phase::Prove, 0, progress, stop)?),
                Step::Done(knee) => return Ok(knee.rate),
            }
        }
    }

    fn evidence_at(&mut self, rate: f64, progress: &Progress, stop: &Stop) -> Result<Evidence> {
        self.probe(rate, Phase::Prove, 0, progress, stop)?;
        let last: Option<&Probe> = self.probes.last();
        last.map(|probe| probe.evidence.clone())
            .context("the probe was not kept")
    }

    fn slow(&mut self, resource: &str, slowing: Slowing) -> Result<()> {
        let amount = match slowing {
            Slowing::Factor(factor) => format!("factor={factor}"),
            Slowing::Nanos(nanos) => format!("nanos={nanos:.0}"),
        };
        let answer = self
            .admin
            .post_json(&format!("/lab/slow?resource={resource}&{amount}"), b"")?;
        ensure!(
            answer.status == 204,
            "stage {}: slowing {resource} was answered with {}: {}",
            self.name(),
            answer.status,
            answer.excerpt()
        );
        Ok(())
    }

    fn unslow(&mut self, resource: &str, slowing: Slowing) -> Result<()> {
        let off = match slowing {
            Slowing::Factor(_) => Slowing::Factor(1.0),
            Slowing::Nanos(_) => Slowing::Nanos(0.0),
        };
        self.slow(resource, off)
    }
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
