//! Envoy's messages as JSON, as protobuf writes it: names in camel case, those of the .proto file read as well, units and
//! codes by name. The headers that Envoy is asked to add are those of the answer here.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service::Problem;
use service::extract::Json;
use utoipa::ToSchema;

use crate::grpc;
use crate::grpc::wire::rate_limit_response::Code;
use crate::grpc::wire::{self, RateLimitUnit, rate_limit_descriptor};
use crate::http::{PATIENCE, ProblemBody, RateLimiter, invalid};
use crate::ports::Limiter;

/// What Envoy would ask.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RateLimitRequest {
    /// Whose rules.
    #[serde(default)]
    domain: String,
    /// What is known of the request; each is looked up by itself.
    #[serde(default)]
    descriptors: Vec<Descriptor>,
    /// How much each costs; 0 is 1.
    #[serde(default, alias = "hits_addend")]
    hits_addend: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Descriptor {
    #[serde(default)]
    entries: Vec<Entry>,
    limit: Option<Limit>,
    #[serde(default, alias = "hits_addend")]
    #[schema(value_type = Option<u64>)]
    hits_addend: Option<Number>,
    #[serde(default, alias = "is_negative_hits")]
    is_negative_hits: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    #[serde(default, alias = "requests_per_unit")]
    requests_per_unit: u32,
    #[schema(example = "SECOND")]
    unit: String,
}

/// A number of 64 bits, which protobuf writes as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

/// What Envoy would be told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RateLimitResponse {
    #[schema(example = "OK")]
    overall_code: &'static str,
    statuses: Vec<Status>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_limit: Option<CurrentLimit>,
    #[serde(skip_serializing_if = "is_zero")]
    limit_remaining: u32,
    /// Seconds, as `1.500s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_until_reset: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CurrentLimit {
    requests_per_unit: u32,
    unit: &'static str,
    name: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Decide about several descriptors at once, each charged for itself, in the words of Envoy's rate limit service.
#[utoipa::path(
    post, path = "/json", request_body = RateLimitRequest,
    responses(
        (status = 200, description = "All may pass", body = RateLimitResponse),
        (status = 429, description = "One of them may not", body = RateLimitResponse),
        (status = 422, description = "No such question", body = ProblemBody),
    )
)]
pub(super) async fn should_rate_limit<L: Limiter>(
    State(rate_limiter): State<Arc<RateLimiter<L>>>,
    Json(request): Json<RateLimitRequest>,
) -> Result<Response, Problem> {
    let descriptors: Result<Vec<_>, Problem> = (request.descriptors.into_iter().enumerate())
        .map(|(place, descriptor)| wired(place, descriptor))
        .collect();
    let request = wire::RateLimitRequest {
        domain: request.domain,
        descriptors: descriptors?,
        hits_addend: request.hits_addend,
    };
    let (response, headers) = grpc::answer(&rate_limiter, request, PATIENCE).await?;
    let status = match response.overall_code() {
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Ok | Code::Unknown => StatusCode::OK,
    };
    let response = RateLimitResponse {
        overall_code: response.overall_code().as_str_name(),
        statuses: response.statuses.into_iter().map(told).collect(),
    };
    Ok((status, headers, Json(response)).into_response())
}

fn wired(place: usize, descriptor: Descriptor) -> Result<wire::RateLimitDescriptor, Problem> {
    let wrong = |field: &str, reason: &str| invalid(&format!("/descriptors/{place}/{field}"), reason);
    let limit = match descriptor.limit {
        None => None,
        Some(limit) => {
            let unit = RateLimitUnit::from_str_name(&limit.unit);
            Some(rate_limit_descriptor::RateLimitOverride {
                requests_per_unit: limit.requests_per_unit,
                unit: unit.ok_or_else(|| wrong("limit/unit", "is no unit"))?.into(),
            })
        }
    };
    let hits_addend = match descriptor.hits_addend {
        None => None,
        Some(Number::Number(number)) => Some(number),
        Some(Number::Text(text)) => Some(text.parse().map_err(|_| wrong("hitsAddend", "is no number"))?),
    };
    let entries = descriptor
        .entries
        .into_iter()
        .map(|entry| rate_limit_descriptor::Entry {
            key: entry.key,
            value: entry.value,
        });
    Ok(wire::RateLimitDescriptor {
        entries: entries.collect(),
        limit,
        hits_addend,
        is_negative_hits: descriptor.is_negative_hits,
    })
}

fn told(status: wire::rate_limit_response::DescriptorStatus) -> Status {
    Status {
        code: status.code().as_str_name(),
        limit_remaining: status.limit_remaining,
        duration_until_reset: status
            .duration_until_reset
            .map(|reset| format!("{}.{:09}s", reset.seconds, reset.nanos)),
        current_limit: status.current_limit.map(|limit| CurrentLimit {
            requests_per_unit: limit.requests_per_unit,
            unit: limit.unit().as_str_name(),
            name: limit.name,
        }),
    }
}
