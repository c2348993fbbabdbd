//! One file of rules: the YAML of envoyproxy/ratelimit, and three keys of our own.
//!
//! ```yaml
//! domain: shop
//! descriptors:
//!   - key: user
//!     rate_limit:
//!       unit: second               # second, minute, hour, day, week, month, year
//!       requests_per_unit: 100
//!       name: users                # where it is reported; else the path to it
//!       burst: 20                  # ours: how many at once; else requests_per_unit
//!       algorithm: token_bucket    # ours: fixed_window, sliding_log, sliding_window_counter, token_bucket
//!       failure_mode: local        # ours: open, closed, local
//!     descriptors:
//!       - key: path
//!         value: /cart
//!         shadow_mode: true        # counts, and admits everything
//!         rate_limit: { unit: minute, requests_per_unit: 10 }
//! ```
//!
//! `detailed_metric` and `value_to_metric` are read and change nothing: they name metrics of that server. `quota_mode`
//! changes answers in a way that is not built here, and is refused.

use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::Fault;
use crate::domain::{Algorithm, FailureMode, Limit, Rule, Unit};

/// The longest file, in bytes.
const LONGEST: usize = 1 << 20;

/// How deep descriptors may stand in each other: as many entries as a request may have.
const DEEPEST: usize = 16;

/// The longest name of a rule: it is sent with every answer.
const LONGEST_NAME: usize = 128;

/// A file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Whose rules they are.
    pub domain: String,
    /// Which file it was, where it was one.
    pub name: Option<Arc<str>>,
    pub(super) descriptors: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Descriptor {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: Option<String>,
    /// Whether all values that fit a pattern share a bucket.
    pub(super) shared: bool,
    pub(super) limiting: Option<Limiting>,
    pub(super) descriptors: Vec<Descriptor>,
}

/// What a descriptor says about limits, and which rules do not count beside it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Limiting {
    Unlimited(Vec<String>),
    Limited(Box<Rule>, Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    domain: Spanned<String>,
    #[serde(default)]
    descriptors: Vec<Spanned<Written>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    key: String,
    value: Option<String>,
    rate_limit: Option<Spanned<WrittenLimit>>,
    #[serde(default)]
    descriptors: Vec<Spanned<Written>>,
    #[serde(default)]
    shadow_mode: bool,
    #[serde(default)]
    share_threshold: bool,
    #[serde(default)]
    quota_mode: bool,
    #[serde(default, rename = "detailed_metric")]
    _detailed_metric: bool,
    #[serde(default, rename = "value_to_metric")]
    _value_to_metric: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    unit: Option<String>,
    requests_per_unit: Option<u32>,
    #[serde(default)]
    unlimited: bool,
    name: Option<String>,
    #[serde(default)]
    replaces: Vec<Named>,
    burst: Option<u32>,
    algorithm: Option<WrittenAlgorithm>,
    failure_mode: Option<WrittenFailureMode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenAlgorithm {
    FixedWindow,
    SlidingLog,
    SlidingWindowCounter,
    TokenBucket,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenFailureMode {
    Open,
    Closed,
    Local,
}

/// Reads a file.
///
/// # Errors
/// It is not such a file; the line says where.
pub fn parse(text: &str) -> Result<File, Fault> {
    if text.len() > LONGEST {
        return Err(Fault::at(1, format!("the file is longer than {LONGEST} bytes")));
    }
    let document: Document = serde_saphyr::from_str(text).map_err(not_such_a_file)?;
    let domain = document.domain;
    if domain.value.is_empty() || domain.value.len() > 256 {
        return Err(Fault::at(line(domain.referenced), "a domain has 1 to 256 bytes"));
    }
    let path = domain.value.as_str();
    Ok(File {
        descriptors: descriptors(document.descriptors, path, true, 1)?,
        domain: domain.value,
        name: None,
    })
}

fn not_such_a_file(error: serde_saphyr::Error) -> Fault {
    let error = error.without_snippet();
    let whole = error.to_string();
    // It ends with its place, which is said in front here.
    let reason = whole
        .split(" at line ")
        .next()
        .unwrap_or(&whole)
        .trim_end_matches([',', ':', ' ']);
    Fault {
        file: None,
        line: error.location().map(line),
        reason: reason.to_owned(),
    }
}

fn line(location: Location) -> usize {
    usize::try_from(location.line()).unwrap_or(usize::MAX)
}

/// `path` is where they stand, `single` whether one bucket was enough up to there.
fn descriptors(
    written: Vec<Spanned<Written>>,
    path: &str,
    single: bool,
    depth: usize,
) -> Result<Vec<Descriptor>, Fault> {
    written
        .into_iter()
        .map(|written| descriptor(written, path, single, depth))
        .collect()
}

fn descriptor(written: Spanned<Written>, path: &str, single: bool, depth: usize) -> Result<Descriptor, Fault> {
    let here = line(written.referenced);
    let written = written.value;
    if written.key.is_empty() {
        return Err(Fault::at(here, "a key has at least one byte"));
    }
    if depth > DEEPEST {
        return Err(Fault::at(
            here,
            format!("descriptors stand deeper than {DEEPEST} in each other"),
        ));
    }
    if written.quota_mode {
        return Err(Fault::at(here, "quota_mode is not known here"));
    }
    // What that server takes for no value.
    let value = written.value.filter(|value| !value.is_empty());
    let pattern = value.as_deref().is_some_and(|value| value.ends_with('*'));
    if written.share_threshold && !pattern {
        return Err(Fault::at(here, "share_threshold needs a value that ends with `*`"));
    }
    let path = match &value {
        Some(value) => format!("{path}.{}_{value}", written.key),
        None => format!("{path}.{}", written.key),
    };
    let single = single && value.is_some() && (!pattern || written.share_threshold);
    let limiting = match written.rate_limit {
        None => None,
        Some(limit) => Some(limiting(limit, &path, written.shadow_mode, single)?),
    };
    Ok(Descriptor {
        line: here,
        shared: written.share_threshold,
        limiting,
        descriptors: descriptors(written.descriptors, &path, single, depth + 1)?,
        key: written.key,
        value,
    })
}

fn limiting(written: Spanned<WrittenLimit>, path: &str, shadow: bool, single: bool) -> Result<Limiting, Fault> {
    let here = line(written.referenced);
    let written = written.value;
    let replaces: Vec<String> = written.replaces.into_iter().map(|named| named.name).collect();
    if written.unlimited {
        let says_more = written.unit.is_some() || written.requests_per_unit.is_some() || written.burst.is_some();
        return if says_more {
            Err(Fault::at(here, "unlimited stands beside a limit"))
        } else {
            Ok(Limiting::Unlimited(replaces))
        };
    }
    let (Some(unit), Some(requests)) = (written.unit, written.requests_per_unit) else {
        return Err(Fault::at(
            here,
            "a limit needs unit and requests_per_unit, or unlimited: true",
        ));
    };
    let unit = unit_of(&unit).ok_or_else(|| {
        Fault::at(
            here,
            format!("`{unit}` is no unit: second, minute, hour, day, week, month, year"),
        )
    })?;
    let name = written.name.unwrap_or_else(|| path.to_owned());
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let reason =
            format!("give it a name of 1 to {LONGEST_NAME} printable ASCII characters: it is sent in a header");
        return Err(Fault::at(here, reason));
    }
    if replaces.contains(&name) {
        return Err(Fault::at(here, "a rule replaces itself"));
    }
    let rule = Rule {
        name,
        limit: Limit {
            requests,
            unit,
            burst: written.burst.unwrap_or(requests),
        },
        algorithm: written.algorithm.map(|written| match written {
            WrittenAlgorithm::FixedWindow => Algorithm::FixedWindow,
            WrittenAlgorithm::SlidingLog => Algorithm::SlidingLog,
            WrittenAlgorithm::SlidingWindowCounter => Algorithm::SlidingWindowCounter,
            WrittenAlgorithm::TokenBucket => Algorithm::TokenBucket,
        }),
        failure: written
            .failure_mode
            .map_or_else(FailureMode::default, |written| match written {
                WrittenFailureMode::Open => FailureMode::Open,
                WrittenFailureMode::Closed => FailureMode::Closed,
                WrittenFailureMode::Local => FailureMode::Local,
            }),
        shadow,
        single,
    };
    Ok(Limiting::Limited(Box::new(rule), replaces))
}

fn unit_of(text: &str) -> Option<Unit> {
    Some(match text.to_ascii_lowercase().as_str() {
        "second" => Unit::Second,
        "minute" => Unit::Minute,
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        "month" => Unit::Month,
        "year" => Unit::Year,
        _ => return None,
    })
}
