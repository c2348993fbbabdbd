//! Envoy's rate limit service, `proto/rls.proto`: over gRPC, and as the JSON that goes with it (`http/json.rs`).
//!
//! Envoy waits 20 ms for an answer unless it is told otherwise, and then does as its own failure mode says. So a store gets
//! `PATIENCE` behind this face, and what follows is decided here, by the rule's failure mode.
//!
//! Whoever stands behind Envoy is told what whoever asks by HTTP is: the headers of a decision go along, and Envoy adds them
//! to its own answer or refusal. There is one set of them for all descriptors, so they tell of the limit that is tightest.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use service::Problem;
use tonic::{Request, Response, Status};

use crate::domain::{Error, Unit};
use crate::http::{invalid, tell};
use crate::ports::Limiter;
use crate::service::{Asked, Override, RateLimiter, Verdict};
use wire::rate_limit_response::{Code, DescriptorStatus, HeaderValue, RateLimit};
use wire::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse, RateLimitUnit};

/// What the compiler of `.proto` files makes of Envoy's: messages, a server, a client.
#[expect(
    missing_docs,
    unused_qualifications,
    reason = "nobody wrote it; the words are in the .proto file"
)]
pub mod wire {
    tonic::include_proto!("envoy.service.ratelimit.v3");
}

/// How long a store may take: half of what Envoy waits for.
const PATIENCE: Duration = Duration::from_millis(10);

/// The most descriptors of one request.
const MOST_DESCRIPTORS: usize = 32;

/// The most entries of one descriptor, and the most bytes of a key or value.
const MOST_ENTRIES: usize = 16;
const LONGEST_TEXT: usize = 1_024;

/// The service, on the use cases of a stage.
pub(crate) struct Grpc<L: Limiter>(pub(crate) Arc<RateLimiter<L>>);

#[tonic::async_trait]
impl<L: Limiter> wire::rate_limit_service_server::RateLimitService for Grpc<L> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let (response, headers) = answer(&self.0, request.into_inner(), PATIENCE).await?;
        let headers = headers.iter().filter_map(|(name, value)| {
            Some(HeaderValue {
                key: name.as_str().to_owned(),
                value: value.to_str().ok()?.to_owned(),
            })
        });
        Ok(Response::new(RateLimitResponse {
            response_headers_to_add: headers.collect(),
            ..response
        }))
    }
}

/// Asks for each descriptor, and says what was decided; the headers apart, for whoever has a place for them.
/// `within` is how long a store may take.
pub(crate) async fn answer<L: Limiter>(
    rate_limiter: &RateLimiter<L>,
    request: RateLimitRequest,
    within: Duration,
) -> Result<(RateLimitResponse, HeaderMap), Problem> {
    if request.domain.is_empty() {
        return Err(invalid("/domain", "must not be empty"));
    }
    if !(1..=MOST_DESCRIPTORS).contains(&request.descriptors.len()) {
        return Err(invalid("/descriptors", "must be 1 to 32"));
    }
    let once = u64::from(request.hits_addend.max(1));
    let read: Result<Vec<Read>, Problem> = (request.descriptors.into_iter().enumerate())
        .map(|(place, descriptor)| read(place, descriptor, once))
        .collect();
    let read = read?;
    let asked: Vec<Asked<'_>> = read
        .iter()
        .map(|read| Asked {
            domain: &request.domain,
            entries: &read.entries,
            cost: read.cost,
            limit: read.limit,
            within,
        })
        .collect();
    let verdicts = rate_limiter.check_all(&asked).await;
    let mut statuses = Vec::with_capacity(read.len());
    for verdict in &verdicts {
        statuses.push(match verdict {
            Ok(verdict) => status(verdict),
            // It never passes, whatever is waited for.
            Err(Error::AboveBurst { .. }) => DescriptorStatus {
                code: Code::OverLimit.into(),
                ..DescriptorStatus::default()
            },
            Err(error) => return Err(failed(error, &verdicts)),
        });
    }
    let over = statuses.iter().any(|status| status.code() == Code::OverLimit);
    let mut headers = HeaderMap::new();
    // Of one that never passes there is nothing to be told, and what the others say of waiting would not be true.
    if verdicts.iter().all(Result::is_ok)
        && let Some(tightest) = verdicts.iter().flatten().max_by_key(|verdict| tightness(verdict))
    {
        tell(tightest, &mut headers);
    }
    let response = RateLimitResponse {
        overall_code: if over { Code::OverLimit } else { Code::Ok }.into(),
        statuses,
        response_headers_to_add: Vec::new(),
    };
    Ok((response, headers))
}

/// Why there is no answer. Each descriptor is charged for itself: where others were, it did happen in part.
fn failed(error: &Error, verdicts: &[Result<Verdict, Error>]) -> Problem {
    let charged = |verdict: &Verdict| verdict.decision.is_some_and(|decision| decision.allowed);
    let problem = Problem::from(error.clone());
    match verdicts.iter().flatten().any(charged) {
        true => problem.outcome_unknown(),
        false => problem,
    }
}

/// By how much a verdict stands in the way: a refusal most, that for ever first and then the longest; else the less is left.
fn tightness(verdict: &Verdict) -> impl Ord + use<> {
    let wait = verdict.decision.and_then(|decision| decision.retry_after);
    let left = verdict.decision.map_or(u64::MAX, |decision| decision.remaining);
    (
        !verdict.allowed,
        !verdict.allowed && wait.is_none(),
        wait,
        Reverse(left),
    )
}

/// A descriptor that was found to be one.
struct Read {
    entries: Vec<(String, String)>,
    cost: u64,
    limit: Option<Override>,
}

fn read(place: usize, descriptor: RateLimitDescriptor, once: u64) -> Result<Read, Problem> {
    let wrong = |field: &str, reason: &str| invalid(&format!("/descriptors/{place}/{field}"), reason);
    if descriptor.is_negative_hits {
        return Err(wrong("is_negative_hits", "nothing is given back here"));
    }
    if !(1..=MOST_ENTRIES).contains(&descriptor.entries.len()) {
        return Err(wrong("entries", "must be 1 to 16"));
    }
    let too_long = |entry: &wire::rate_limit_descriptor::Entry| {
        entry.key.is_empty() || entry.key.len() > LONGEST_TEXT || entry.value.len() > LONGEST_TEXT
    };
    if descriptor.entries.iter().any(too_long) {
        return Err(wrong("entries", "a key has 1 to 1024 bytes, a value up to 1024"));
    }
    let limit = match descriptor.limit {
        None => None,
        Some(limit) => Some(Override {
            requests: limit.requests_per_unit,
            unit: unit(limit.unit()).ok_or_else(|| wrong("limit/unit", "is no unit"))?,
        }),
    };
    Ok(Read {
        cost: descriptor.hits_addend.unwrap_or(once),
        limit,
        entries: (descriptor.entries.into_iter().map(|entry| (entry.key, entry.value))).collect(),
    })
}

fn status(verdict: &Verdict) -> DescriptorStatus {
    let code = if verdict.allowed { Code::Ok } else { Code::OverLimit };
    let limit = verdict.rule.as_ref().map(|rule| RateLimit {
        requests_per_unit: rule.limit.requests,
        unit: wire_unit(rule.limit.unit).into(),
        name: rule.name.clone(),
    });
    let reset = verdict.decision.map(|decision| decision.reset_after);
    DescriptorStatus {
        code: code.into(),
        current_limit: limit,
        limit_remaining: verdict
            .decision
            .map_or(0, |decision| u32::try_from(decision.remaining).unwrap_or(u32::MAX)),
        duration_until_reset: reset.and_then(|reset| reset.try_into().ok()),
    }
}

fn unit(unit: RateLimitUnit) -> Option<Unit> {
    Some(match unit {
        RateLimitUnit::Unknown => return None,
        RateLimitUnit::Second => Unit::Second,
        RateLimitUnit::Minute => Unit::Minute,
        RateLimitUnit::Hour => Unit::Hour,
        RateLimitUnit::Day => Unit::Day,
        RateLimitUnit::Week => Unit::Week,
        RateLimitUnit::Month => Unit::Month,
        RateLimitUnit::Year => Unit::Year,
    })
}

fn wire_unit(unit: Unit) -> RateLimitUnit {
    match unit {
        Unit::Second => RateLimitUnit::Second,
        Unit::Minute => RateLimitUnit::Minute,
        Unit::Hour => RateLimitUnit::Hour,
        Unit::Day => RateLimitUnit::Day,
        Unit::Week => RateLimitUnit::Week,
        Unit::Month => RateLimitUnit::Month,
        Unit::Year => RateLimitUnit::Year,
    }
}
