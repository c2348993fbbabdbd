//! The HTTP interface: routes, wire types, and which status a decision or an error is.
//!
//! | route         | does                                                                          |
//! |---------------|-------------------------------------------------------------------------------|
//! | `POST /check` | decides about one descriptor: 200 or 429, in the body and in headers          |
//! | `POST /json`  | the messages of Envoy's rate limit service as JSON, as envoyproxy/ratelimit has it |
//!
//! Whoever asks has asked for a decision, so a refusal is one: 429 with the same members as 200, in a problem of the type
//! that the draft registers. The headers are those of draft-ietf-httpapi-ratelimit-headers-10.

mod json;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use service::extract::Json;
use service::problem::ProblemBody;
use service::{Class, Problem, Routes};
use utoipa::{OpenApi, ToSchema};

use crate::domain::{Decision, Error, FailureMode, Rule};
use crate::grpc::Grpc;
use crate::grpc::wire::rate_limit_service_server::RateLimitServiceServer;
use crate::ports::Limiter;
use crate::service::{Asked, RateLimiter, Verdict};

/// How long a store may take: a decision is there within 60 ms, whatever the store does.
pub(crate) const PATIENCE: Duration = Duration::from_millis(40);

/// The most entries of a descriptor, and the most bytes of a key or a value.
const MOST_ENTRIES: usize = 16;
const LONGEST_TEXT: usize = 256;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const DEGRADED: HeaderName = HeaderName::from_static("ratelimit-degraded");

#[derive(OpenApi)]
#[openapi(
    info(title = "Rate limiter", description = "Says whether a request may pass."),
    paths(check, json::should_rate_limit),
    components(schemas(ProblemBody))
)]
struct Document;

/// The routes of a stage. They read, as far as admission is concerned: whoever is shed here is not limited.
pub fn routes<L: Limiter>(rate_limiter: Arc<RateLimiter<L>>) -> Routes {
    let grpc = RateLimitServiceServer::new(Grpc(Arc::clone(&rate_limiter)));
    Routes::new(Document::openapi())
        .add(Class::Read, Method::POST, "/check", check::<L>)
        .add(Class::Read, Method::POST, "/json", json::should_rate_limit::<L>)
        .grpc(grpc, &[(Class::Read, "ShouldRateLimit")])
        .with_state(rate_limiter)
}

/// One question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Whose rules; else the first file's.
    #[schema(example = "default", max_length = 256)]
    domain: Option<String>,
    /// What is known of the request, from the general to the particular: up to 16 texts by name, in this order.
    #[schema(value_type = std::collections::BTreeMap<String, String>, example = json!({"user": "alice"}))]
    descriptor: Entries,
    /// How much of the limit it takes; 0 only asks.
    #[serde(default = "one")]
    #[schema(default = 1)]
    cost: u64,
}

fn one() -> u64 {
    1
}

/// What was decided. Of a request that nothing limits, only that.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document describes it; the answer is written by hand, see `body`"
)]
struct Answer {
    /// Whether it may pass.
    allowed: bool,
    /// Requests that a full bucket admits at once.
    limit: u64,
    /// The highest cost that would be admitted now.
    remaining: u64,
    /// Milliseconds until the bucket is full, if nothing is charged until then.
    reset_after_ms: u64,
    /// Milliseconds until the same is admitted, if nothing else is until then.
    retry_after_ms: Option<u64>,
}

/// Entries in the order in which they stand in the object.
struct Entries(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadEntries)
    }
}

struct ReadEntries;

impl<'de> Visitor<'de> for ReadEntries {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries: Vec<(String, String)> = Vec::with_capacity(2);
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(de::Error::custom("duplicate field in the descriptor"));
            }
            let fits = |text: &str| (1..=LONGEST_TEXT).contains(&text.len());
            if !fits(&key) || !fits(&value) || entries.len() == MOST_ENTRIES {
                return Err(de::Error::custom(
                    "must be 1 to 16 texts, keys and values of 1 to 256 bytes",
                ));
            }
            entries.push((key, value));
        }
        if entries.is_empty() {
            return Err(de::Error::custom("must be 1 to 16 texts"));
        }
        Ok(Entries(entries))
    }
}

/// Decide whether a request may pass, and charge it if so.
#[utoipa::path(
    post, path = "/check", request_body = Question,
    responses(
        (status = 200, description = "It may pass", body = Answer),
        (status = 429, description = "It may not, and was not charged", body = ProblemBody),
        (status = 422, description = "No such question, or a cost above every burst", body = ProblemBody),
        (status = 503, description = "It may not, since the store is down and the rule is closed then; or there are too many keys", body = ProblemBody),
    )
)]
async fn check<L: Limiter>(
    State(rate_limiter): State<Arc<RateLimiter<L>>>,
    Json(question): Json<Question>,
) -> Result<Response, Problem> {
    let first;
    let domain = match &question.domain {
        Some(domain) if domain.len() > LONGEST_TEXT => return Err(invalid("/domain", "must be up to 256 bytes")),
        Some(domain) => domain.as_str(),
        None => {
            first = rate_limiter.domain();
            &first
        }
    };
    let asked = Asked {
        domain,
        entries: &question.descriptor.0,
        cost: question.cost,
        limit: None,
        within: PATIENCE,
    };
    Ok(answer(&rate_limiter.check(asked).await?))
}

/// A decision as an answer of its own.
pub(crate) fn answer(verdict: &Verdict) -> Response {
    let mut response = if verdict.allowed {
        let mut response = Response::new(body(verdict).into());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    } else {
        refusal(verdict)
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tell(verdict, headers);
    response
}

/// What is said of the limit in the headers of any answer, and on a refusal, when to come again.
pub(crate) fn tell(verdict: &Verdict, headers: &mut HeaderMap) {
    let (Some(rule), Some(decision)) = (&verdict.rule, &verdict.decision) else {
        return;
    };
    let mut insert = |name, text: &str| {
        // Names are printable ASCII, by `rules/file.rs`.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    let mut text = String::with_capacity(64);
    policy(rule, verdict.excess, &mut text);
    insert(POLICY, &text);
    text.clear();
    remaining(rule, decision, &mut text);
    insert(LIMIT, &text);
    if let Some(mode) = decision.degraded {
        insert(DEGRADED, mode_name(mode));
    }
    if let Some(wait) = decision.retry_after.filter(|_| !verdict.allowed) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
    }
}

/// `"name";q=100;w=60`: so many in so many seconds. `lb-burst` is how many at once, where it is another number, and
/// `lb-excess` what one server may admit beyond the limit; the draft has no words for either.
fn policy(rule: &Rule, excess: u64, text: &mut String) {
    let limit = rule.limit;
    quoted(&rule.name, text);
    let _ = write!(text, ";q={};w={}", limit.requests, limit.unit.seconds());
    if limit.burst != limit.requests {
        let _ = write!(text, ";lb-burst={}", limit.burst);
    }
    if excess > 0 {
        let _ = write!(text, ";lb-excess={excess}");
    }
}

/// `"name";r=50`, and on a refusal `;t=30`: in so many seconds there is more.
fn remaining(rule: &Rule, decision: &Decision, text: &mut String) {
    quoted(&rule.name, text);
    let _ = write!(text, ";r={}", decision.remaining);
    if let Some(wait) = decision.retry_after {
        let _ = write!(text, ";t={}", seconds(wait));
    }
}

/// A string of structured fields (RFC 9651).
fn quoted(name: &str, text: &mut String) {
    text.push('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

fn mode_name(mode: FailureMode) -> &'static str {
    match mode {
        FailureMode::Open => "open",
        FailureMode::Closed => "closed",
        FailureMode::Local => "local",
    }
}

/// Whole seconds, rounded up: whoever waits so long has not waited too short. At least one, since 0 is no wait.
fn seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + part).max(1)
}

/// Whole milliseconds, rounded up for the same reason.
fn millis(wait: Duration) -> u64 {
    let part = u64::from(!wait.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(part)
}

/// The members of a decision. By hand: this is the answer to nearly every request.
fn members(verdict: &Verdict, body: &mut String) {
    let _ = write!(body, "\"allowed\":{}", verdict.allowed);
    if let (Some(rule), Some(decision)) = (&verdict.rule, &verdict.decision) {
        let _ = write!(
            body,
            ",\"limit\":{},\"remaining\":{},\"reset_after_ms\":{}",
            rule.limit.burst,
            decision.remaining,
            millis(decision.reset_after)
        );
        if let Some(wait) = decision.retry_after {
            let _ = write!(body, ",\"retry_after_ms\":{}", millis(wait));
        }
    }
}

fn body(verdict: &Verdict) -> String {
    let mut body = String::with_capacity(128);
    body.push('{');
    members(verdict, &mut body);
    body.push('}');
    body
}

/// A refusal: a decision, and a problem of a registered type.
fn refusal(verdict: &Verdict) -> Response {
    let closed = verdict
        .decision
        .is_some_and(|decision| decision.degraded == Some(FailureMode::Closed));
    let (status, kind, code, title) = if closed {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporary-reduced-capacity",
            "temporary_reduced_capacity",
            "Nothing is admitted while the store is down",
        )
    } else {
        (
            StatusCode::TOO_MANY_REQUESTS,
            "quota-exceeded",
            "quota_exceeded",
            "The limit is reached",
        )
    };
    let mut body = String::with_capacity(384);
    let _ = write!(
        body,
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#{kind}\",\"title\":\"{title}\",\
         \"status\":{},\"code\":\"{code}\",\"outcome\":\"not_executed\",",
        status.as_u16()
    );
    if let Some(rule) = &verdict.rule {
        let mut name = String::with_capacity(rule.name.len() + 2);
        // Printable ASCII: what a string of structured fields escapes is all that one of JSON does.
        quoted(&rule.name, &mut name);
        let _ = write!(body, "\"violated-policies\":[{name}],");
    }
    members(verdict, &mut body);
    body.push('}');
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, problem);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Why a member is refused; `pointer` says which.
pub(crate) fn invalid(pointer: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request is well-formed but not acceptable",
    )
    .invalid(pointer, reason)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let unavailable =
            |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title).retry_after(Duration::from_secs(1));
        match error {
            Error::AboveBurst { cost, burst } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "cost_above_burst",
                "No bucket ever holds so much",
            )
            .invalid("/cost", format!("is {cost}, the bucket holds {burst}")),
            Error::Full => {
                tracing::warn!("there is no room for another key");
                unavailable("too_many_keys", "There are as many active keys as there may be")
            }
            Error::Unfit(unfit) => invalid("/limit", &unfit.to_string()),
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store is unavailable");
                unavailable("store_unavailable", "The store cannot be asked")
            }
            Error::Unknown(cause) => {
                tracing::warn!(%cause, "the store did not answer");
                unavailable("store_unknown", "The store did not answer").outcome_unknown()
            }
        }
    }
}
