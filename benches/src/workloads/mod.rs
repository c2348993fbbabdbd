//! One file a design: what its users do, and how to tell that it did what it promised.

pub mod get;
pub mod id_generator;
pub mod leaderboard;
pub mod planted;
pub mod rate_limiter;
pub mod url_shortener;

use anyhow::{Result, bail};

use crate::estimate::Envelope;
use crate::http::Target;
use crate::workload::Workload;

/// What a workload needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server; of several nodes the first. Its host is in every request, whichever node that goes to, as the name of a
    /// service is behind a balancer.
    pub target: Target,
    /// The key for writes.
    pub key: Option<String>,
    /// Decides keys, data and order.
    pub seed: u64,
    /// How many items to make before the load.
    pub items: usize,
    /// Shares of the kinds, as the user wrote them.
    pub mix: Option<String>,
    /// How many servers are loaded.
    pub nodes: usize,
}

/// The designs that have a workload, with what their users do.
pub const DESIGNS: [(&str, &str); 4] = [
    (
        "url-shortener",
        "90 % redirects to Zipf-popular links, 8 % creates, 2 % unknown codes",
    ),
    (
        "id-generator",
        "85 % single ids, 10 % batches of 100, 5 % ids decoded; 1,000 at once by --mix bulk=1",
    ),
    (
        "rate-limiter",
        "75 % checks of Zipf-popular users, 20 % of newcomers who come all at once, 5 % questions that charge nothing",
    ),
    (
        "leaderboard",
        "50 % ranks, 30 % scores of Zipf-popular players, 10 % tops of ten, 10 % players among their neighbours",
    ),
];

/// What `lab planted` climbs: no design, so it is in no list.
pub const PLANTED: &str = "planted";

/// How many items a climb of a design makes before the load, unless it is told. Of a board the length is the question.
pub fn default_items(design: &str, quick: bool) -> usize {
    match (design, quick) {
        (_, true) => 10_000,
        ("leaderboard", false) => 1_000_000,
        (_, false) => 100_000,
    }
}

/// The workload of a design.
///
/// # Errors
/// There is no such design, or the options do not fit it.
pub fn of(design: &str, options: &Options) -> Result<Box<dyn Workload>> {
    match design {
        "url-shortener" => Ok(Box::new(url_shortener::UrlShortener::new(options)?)),
        "id-generator" => Ok(Box::new(id_generator::IdGenerator::new(options)?)),
        "rate-limiter" => Ok(Box::new(rate_limiter::RateLimiter::new(options)?)),
        "leaderboard" => Ok(Box::new(leaderboard::Leaderboard::new(options)?)),
        PLANTED => Ok(Box::new(planted::Planted::new(options))),
        _ => bail!(unknown(design)),
    }
}

/// The envelope of a design.
///
/// # Errors
/// There is no such design.
pub fn envelope(design: &str) -> Result<Envelope> {
    match design {
        "url-shortener" => Ok(url_shortener::envelope::ENVELOPE),
        "id-generator" => Ok(id_generator::envelope::ENVELOPE),
        "rate-limiter" => Ok(rate_limiter::envelope::ENVELOPE),
        "leaderboard" => Ok(leaderboard::envelope::ENVELOPE),
        _ => bail!(unknown(design)),
    }
}

/// How to say that a design does not exist.
pub fn unknown(design: &str) -> String {
    let names: Vec<&str> = DESIGNS.iter().map(|(name, _)| *name).collect();
    format!("there is no design `{design}`; there are: {}", names.join(", "))
}
