//! Fills an empty shortener through its own batch call.
//!
//! The first pass over the data sends every line, those that must be refused included; when more links are wanted than
//! there are lines, later passes repeat the accepted ones.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::UrlShortener;
use super::history::{Code, Link};
use crate::http::Client;
use crate::stop::Stop;

const HOMEPAGES: &str = include_str!("../../../data/homepages.txt");
/// Links in one request at most, and bytes of them: a service may bound both.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 60_000;

#[derive(Debug, Deserialize)]
struct Results {
    results: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    status: u16,
    code: Option<String>,
    url: Option<String>,
    problem: Option<serde_json::Value>,
}

/// Whether the shortener must refuse a line: it takes http and https only.
fn must_be_refused(line: &str) -> bool {
    !(line.starts_with("http://") || line.starts_with("https://"))
}

pub(super) fn preload(workload: &mut UrlShortener, client: &mut Client, stop: &Stop) -> Result<()> {
    let lines: Vec<&str> = HOMEPAGES.lines().collect();
    workload.urls = vec![None; lines.len()];
    let mut at = 0;
    while workload.history.preloaded.len() < workload.items {
        stop.check()?;
        let wanted = (workload.items - workload.history.preloaded.len()).min(BATCH);
        let mut batch = Vec::with_capacity(wanted);
        let mut bytes = 0;
        while batch.len() < wanted && bytes < BATCH_BYTES {
            let line = at % lines.len();
            let repeated = at >= lines.len();
            at += 1;
            if repeated && must_be_refused(lines[line]) {
                continue;
            }
            bytes += lines[line].len() + 12;
            batch.push(line);
        }
        send(workload, client, &lines, &batch)?;
    }
    Ok(())
}

fn send(workload: &mut UrlShortener, client: &mut Client, lines: &[&str], batch: &[usize]) -> Result<()> {
    let links: Vec<_> = batch
        .iter()
        .map(|&line| serde_json::json!({ "url": lines[line] }))
        .collect();
    let body = serde_json::to_vec(&serde_json::json!({ "links": links }))?;
    let answer = client.post_json("/api/links:batch", &body)?;
    ensure!(
        answer.status == 200,
        "POST /api/links:batch was answered with {}: {}",
        answer.status,
        answer.excerpt()
    );
    let Results { results } = serde_json::from_slice(&answer.body).context("the answer to POST /api/links:batch")?;
    ensure!(
        results.len() == batch.len(),
        "{} links were sent and {} answers came back",
        batch.len(),
        results.len()
    );
    for (&line, item) in batch.iter().zip(results) {
        take(workload, line, lines[line], item)?;
    }
    Ok(())
}

fn take(workload: &mut UrlShortener, line: usize, text: &str, item: Item) -> Result<()> {
    if must_be_refused(text) {
        ensure!(
            item.status == 422,
            "{text} must be refused with 422, but was answered with {}",
            item.status
        );
        workload.refused += 1;
        return Ok(());
    }
    let (201, Some(code), Some(url)) = (item.status, item.code, item.url) else {
        bail!(
            "{text} must be accepted, but was answered with {} {:?}",
            item.status,
            item.problem
        );
    };
    let code = Code::new(&code).with_context(|| format!("`{code}` is no generated code"))?;
    match &workload.urls[line] {
        Some(before) => ensure!(**before == *url, "{text} was stored as {before} and then as {url}"),
        None => {
            workload.urls[line] = Some(url.into_boxed_str());
            workload.accepted.push(u32::try_from(line)?);
        }
    }
    workload.history.preloaded.push(Link {
        code,
        url: u32::try_from(line)?,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_has_the_lines_it_is_said_to_have() {
        let refused = HOMEPAGES.lines().filter(|line| must_be_refused(line)).count();
        assert_eq!((HOMEPAGES.lines().count(), refused), (29_686, 19));
        assert!(
            HOMEPAGES
                .lines()
                .take(10_000)
                .filter(|line| must_be_refused(line))
                .count()
                == 19,
            "a quick climb meets all of them"
        );
    }
}
