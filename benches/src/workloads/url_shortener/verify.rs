//! After the load: does what was acknowledged hold?
//!
//! Creates are followed again through the generator, because that is fast; clicks are read one by one, because they are a
//! sample. Clicks may be buffered by the server, so a count that is too low is asked for again until the time is up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::Deserialize;

use super::UrlShortener;
use super::history::{Follows, Link, WrongClicks, clicks_fit, resolves};
use crate::generator::{Generator, Plan, Watch};
use crate::http::{Client, Response};
use crate::stop::Stop;
use crate::workload::{Checked, Kind, Operation, Verified, Workload};

/// More creates than this are sampled.
const ALL_CREATES: usize = 50_000;
/// How often an unanswered link is asked for again.
const PASSES: usize = 5;
const CLICK_SAMPLE: usize = 200;
const CONCURRENCY: usize = 32;
/// How long a buffered click may take to be counted.
const FLUSH: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Details {
    clicks: u64,
}

pub(super) fn history(
    workload: &mut UrlShortener,
    client: &mut Client,
    generator: &mut Generator,
    stop: &Stop,
) -> Result<Verified> {
    let mut verified = Verified::default();
    for code in workload.history.duplicates() {
        verified.violation(|| format!("the code {code} was given twice"));
    }
    for code in workload.history.unexplained_surprises() {
        verified.violation(|| format!("the code {code} resolves, but nobody was given it"));
    }
    let resolved = creates(workload, generator, stop, &mut verified)?;
    let counted = clicks(workload, client, stop, &mut verified)?;
    verified.summary = format!(
        "{resolved} of {} acknowledged creates followed, {} codes compared, clicks of {counted} links counted, {} lines refused, {} creates of unknown outcome",
        workload.history.created.len(),
        workload.history.created.len() + workload.history.preloaded.len(),
        workload.refused,
        workload.history.unknown_creates,
    );
    Ok(verified)
}

/// Follows the links made under load, all of them or a sample; returns how many.
fn creates(
    workload: &mut UrlShortener,
    generator: &mut Generator,
    stop: &Stop,
    verified: &mut Verified,
) -> Result<usize> {
    let mut links = workload.history.created.clone();
    if links.len() > ALL_CREATES {
        links.shuffle(&mut workload.rng);
        links.truncate(ALL_CREATES);
    }
    let mut follow = Follow {
        kinds: [Kind {
            name: "follow",
            slo_p99: None,
        }],
        workload,
        judged: vec![false; links.len()],
        links,
        next: 0,
    };
    // A server that sheds load or drops a connection is asked again: only an answer is a verdict.
    for _ in 0..PASSES {
        if follow.judged.iter().all(|judged| *judged) {
            break;
        }
        follow.next = 0;
        let mut watch = Watch {
            stop,
            tick: &mut |_| (),
        };
        let outcome = generator.run(
            &mut follow,
            &Plan::closed(CONCURRENCY, Duration::from_secs(60)),
            &mut watch,
        )?;
        verified.violations += outcome.violations;
        verified.examples.extend(outcome.examples);
    }
    let open = follow.judged.iter().filter(|judged| !**judged).count();
    ensure!(
        open == 0,
        "{open} acknowledged links could not be followed in {PASSES} passes"
    );
    Ok(follow.links.len())
}

/// Follows each link until there is an answer.
struct Follow<'a> {
    kinds: [Kind; 1],
    workload: &'a UrlShortener,
    links: Vec<Link>,
    /// Whether an answer has settled the link of the same index.
    judged: Vec<bool>,
    next: usize,
}

impl Workload for Follow<'_> {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        let index = self.next + self.judged.get(self.next..)?.iter().position(|judged| !judged)?;
        self.next = index + 1;
        super::follow(request, &self.workload.host, self.links[index].code.as_bytes());
        Some(Operation {
            kind: 0,
            token: index as u64,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        if answer.status == 429 || answer.status >= 500 {
            return Checked::Failed("not answered".into());
        }
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a usize")]
        let index = operation.token as usize;
        self.judged[index] = true;
        let link = self.links[index];
        let url = self.workload.url(link.url);
        if resolves(answer.status, answer.header("location"), url) {
            return Checked::Done;
        }
        Checked::Violation(format!(
            "the acknowledged link {} must lead to {url}, but the answer was {}",
            link.code, answer.status
        ))
    }
}

/// Compares the clicks of a sample, half of it the most followed links; returns how many.
fn clicks(workload: &mut UrlShortener, client: &mut Client, stop: &Stop, verified: &mut Verified) -> Result<usize> {
    let count = workload.history.preloaded.len();
    let popular = workload
        .ranks
        .iter()
        .take(CLICK_SAMPLE / 2)
        .map(|&index| index as usize);
    let mut sample: Vec<usize> = popular.collect();
    sample.extend((0..CLICK_SAMPLE / 2).map(|_| workload.rng.random_range(0..count)));
    sample.sort_unstable();
    sample.dedup();
    let deadline = Instant::now() + FLUSH;
    for &index in &sample {
        let follows = workload.history.follows[index];
        let code = workload.history.preloaded[index].code;
        let clicks = settled_clicks(client, &code.to_string(), follows, deadline, stop)?;
        match clicks_fit(follows, clicks) {
            Ok(()) => {}
            Err(WrongClicks::Lost) => verified.violation(|| {
                format!(
                    "{code} was followed {} times and counts {clicks} clicks",
                    follows.acknowledged
                )
            }),
            Err(WrongClicks::Invented) => verified.violation(|| {
                format!(
                    "{code} counts {clicks} clicks, but only {} requests were sent",
                    follows.sent
                )
            }),
        }
    }
    Ok(sample.len())
}

/// The clicks of a link, once they have reached the lower bound or the time for it is up.
fn settled_clicks(client: &mut Client, code: &str, follows: Follows, deadline: Instant, stop: &Stop) -> Result<u64> {
    loop {
        stop.check()?;
        let answer = client.get(&format!("/api/links/{code}"))?;
        ensure!(
            answer.status == 200,
            "GET /api/links/{code} was answered with {}: {}",
            answer.status,
            answer.excerpt()
        );
        let Details { clicks } = serde_json::from_slice(&answer.body).context("the answer to GET /api/links/{code}")?;
        if clicks_fit(follows, clicks) != Err(WrongClicks::Lost) || Instant::now() >= deadline {
            return Ok(clicks);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
