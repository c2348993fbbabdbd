//! `lab load`: one run against servers that somebody else has started.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::LoadArgs;
use crate::commands::SLO_MISSED;
use crate::generator::{Generator, Load, Outcome, Plan, Watch};
use crate::http::{Client, Target};
use crate::output::json::{LoadReport, OutputFile};
use crate::output::progress::Progress;
use crate::output::text;
use crate::slo;
use crate::stop::Stop;
use crate::workload::Workload;
use crate::workloads::{self, get::Get};

/// Operations in flight while warming up, at the most.
const WARM_UP_AT_ONCE: usize = 64;

pub(super) fn run(args: &LoadArgs) -> Result<u8> {
    let mut file = args.json.as_deref().map(OutputFile::create).transpose()?;
    let stop = Stop::on_signals()?;
    let urls = args.get.as_ref().map_or(args.url.as_slice(), std::slice::from_ref);
    let targets: Vec<Target> = urls.iter().map(|url| Target::parse(url)).collect::<Result<_>>()?;
    let first = targets.first().context("there is no URL to load")?;
    let mut workload = workload(args, first)?;
    if let Some(slo) = &args.slo {
        let names: Vec<_> = workload.kinds().iter().map(|kind| kind.name).collect();
        if let Some(unknown) = slo.unknown_kind(&names) {
            bail!(
                "--slo: there is no operation `{unknown}`; there are: {}",
                names.join(", ")
            );
        }
    }
    let mut client = Client::new(first.clone(), args.api_key.clone());
    workload.prepare(&mut client, &stop)?;
    let mut generator = Generator::connect(&targets, args.closed.unwrap_or(args.connections))?;
    let outcome = measure(args, &mut generator, workload.as_mut(), &stop)?;
    let verified = workload.verify(&mut client, &mut generator, &stop)?;
    let mut missed = args.slo.as_ref().map(|slo| slo.missed(&outcome)).unwrap_or_default();
    if args.design.is_some() {
        missed.extend(slo::missed_by_kind(&outcome));
    }
    text::load(&outcome, &verified, &missed);
    if let Some(file) = &mut file {
        file.write(&LoadReport::new(
            &urls.join(" "),
            args.seed,
            &outcome,
            &verified,
            &missed,
        ))?;
    }
    Ok(if missed.is_empty() { 0 } else { SLO_MISSED })
}

fn workload(args: &LoadArgs, target: &Target) -> Result<Box<dyn Workload>> {
    let Some(design) = &args.design else {
        return Ok(Box::new(Get::new(target)));
    };
    workloads::of(
        design,
        &workloads::Options {
            target: target.clone(),
            key: args.api_key.clone(),
            seed: args.seed,
            items: args.items,
            mix: args.mix.clone(),
            nodes: args.url.len().max(1),
        },
    )
}

fn measure(args: &LoadArgs, generator: &mut Generator, workload: &mut dyn Workload, stop: &Stop) -> Result<Outcome> {
    let load = match args.closed {
        Some(concurrency) => Load::Closed { concurrency },
        None => Load::Open {
            rate: args.rate,
            arrivals: args.arrivals,
        },
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a queue length")]
    let queue = (args.rate * 2.0).max(1024.0) as usize;
    let plan = Plan {
        load,
        duration: args.duration,
        queue,
        timeout: args.timeout,
        drain: args.drain,
        seed: args.seed,
    };
    let broken = warm_up(args, generator, workload, stop)?;
    let progress = Progress::timed("load", args.duration);
    let outcome = generator.run(
        workload,
        &plan,
        &mut Watch {
            stop,
            tick: &mut |at: Duration| progress.at(at),
        },
    );
    progress.clear();
    let mut outcome = outcome?;
    outcome.violations += broken;
    Ok(outcome)
}

/// Runs unmeasured, but not unchecked: the violations seen.
fn warm_up(args: &LoadArgs, generator: &mut Generator, workload: &mut dyn Workload, stop: &Stop) -> Result<u64> {
    if args.warm_up.is_zero() {
        return Ok(0);
    }
    let concurrency = args.closed.unwrap_or(args.connections).min(WARM_UP_AT_ONCE);
    let plan = Plan::closed(concurrency, args.warm_up);
    let mut watch = Watch {
        stop,
        tick: &mut |_| (),
    };
    Ok(generator.run(workload, &plan, &mut watch)?.violations)
}
