//! The HTTP interface: routes, wire types, and which failure is which status.
//!
//! | call                        | answers                                                      |
//! |-----------------------------|--------------------------------------------------------------|
//! | `POST /ids?count=n&format=` | exactly `n` new ids, as JSON strings or one a line           |
//! | `GET /ids/{id}?format=`     | what an id tells: time, node, sequence                       |
//!
//! Ids are *strings* in JSON: a number above 2^53 is rounded by whoever reads JSON numbers as doubles, and then several ids
//! are one (vipermind/flake-idgen, issue 8: of 10,000 ids, 5,348 stayed apart).

#![expect(unused_qualifications, reason = "in what utoipa makes of the handlers with a query")]

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use service::extract::{Json, Prefers, Query};
use service::problem::ProblemBody;
use service::{Class, Problem, Routes};
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::domain::{Count, Error, Format, Ids, Told};
use crate::grpc::Grpc;
use crate::grpc::wire::ids_server::IdsServer;
use crate::ports;
use crate::service::Generator;

#[derive(OpenApi)]
#[openapi(
    info(title = "Id generator", description = "Numbers that never come twice."),
    paths(make, read),
    components(schemas(ProblemBody))
)]
struct Document;

/// The routes of a stage.
pub fn routes<I: ports::Ids>(generator: Generator<I>) -> Routes {
    let generator = Arc::new(generator);
    let grpc = IdsServer::new(Grpc(Arc::clone(&generator)));
    Routes::new(Document::openapi())
        .add(Class::Write, Method::POST, "/ids", make::<I>)
        .add(Class::Read, Method::GET, "/ids/{id}", read::<I>)
        .grpc(grpc, &[(Class::Write, "Make"), (Class::Stream, "Stream")])
        .with_state(generator)
}

/// How many ids, and in which form.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct Wish {
    /// How many: 1 to 10,000.
    #[param(minimum = 1, maximum = 10_000, default = 1)]
    count: u32,
    /// In which form.
    #[param(inline)]
    format: WireFormat,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            count: 1,
            format: WireFormat::default(),
        }
    }
}

/// In which form the id is written.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct Written {
    /// `base62` for a number written so; what else an id is, it shows by its shape.
    #[param(inline)]
    format: WireFormat,
}

/// The forms of an id.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WireFormat {
    /// The stage's own numbers, in decimal digits.
    #[default]
    Snowflake,
    /// The same numbers in base62.
    Base62,
    /// UUIDs of 122 random bits.
    UuidV4,
    /// UUIDs that begin with their time.
    UuidV7,
    /// ULIDs.
    Ulid,
}

impl From<WireFormat> for Format {
    fn from(format: WireFormat) -> Self {
        match format {
            WireFormat::Snowflake => Self::Snowflake,
            WireFormat::Base62 => Self::Base62,
            WireFormat::UuidV4 => Self::UuidV4,
            WireFormat::UuidV7 => Self::UuidV7,
            WireFormat::Ulid => Self::Ulid,
        }
    }
}

/// New ids.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document describes it; the answer is written by hand, see `body`"
)]
struct NewIds {
    /// As many as were asked for, the smallest first.
    #[schema(example = json!(["2062578293847293952"]))]
    ids: Vec<String>,
}

/// What an id tells about itself.
#[derive(Serialize, ToSchema)]
struct Reading {
    /// The id.
    id: String,
    /// How it was made: `twitter`, `discord`, `instagram`, `sonyflake`, `sequence`, `uuid_v4`, `uuid_v7`, `ulid`.
    #[schema(example = "twitter")]
    layout: &'static str,
    /// When, RFC 3339, if it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// By which node, if it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    /// Which of its tick it was, or its place in the sequence of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

/// Make ids: exactly as many as are asked for, or a problem. `Accept: text/plain` gives one a line.
#[utoipa::path(
    post, path = "/ids", params(Wish),
    responses(
        (status = 200, description = "Made", body = NewIds),
        (status = 422, description = "No such count, format or parameter", body = ProblemBody),
        (status = 503, description = "None was made: the clock is behind, the sequence is used up, no node id is held, or the store is down", body = ProblemBody),
        (status = 507, description = "None was made: the disk is full", body = ProblemBody),
    )
)]
async fn make<I: ports::Ids>(
    State(generator): State<Arc<Generator<I>>>,
    prefers: Prefers,
    Query(wish): Query<Wish>,
) -> Result<Response, Problem> {
    let count = Count::new(wish.count).ok_or_else(|| no_such("?count", "must be 1 to 10000"))?;
    let ids = generator.make(count, wish.format.into()).await?;
    let (kind, body) = match prefers {
        Prefers::Json => ("application/json", body(&ids, "{\"ids\":[\"", "\",\"", "\"]}")),
        Prefers::PlainText => ("text/plain; charset=utf-8", body(&ids, "", "\n", "\n")),
    };
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.reserve(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What an id tells: nothing is looked up, so it says so too of one that was never given.
#[utoipa::path(
    get, path = "/ids/{id}", params(("id" = String, Path, description = "An id in any of the forms"), Written),
    responses(
        (status = 200, description = "What it tells", body = Reading),
        (status = 404, description = "No id has this form", body = ProblemBody),
    )
)]
async fn read<I: ports::Ids>(
    State(generator): State<Arc<Generator<I>>>,
    uri: Uri,
    Query(written): Query<Written>,
) -> Result<Json<Reading>, Problem> {
    let id = uri.path().rsplit('/').next().unwrap_or_default();
    let told = generator.read(id, written.format.into())?;
    let (layout, time_ms, node, sequence) = match told {
        Told::Parts(layout, parts) => (
            layout,
            Some(parts.time_ms),
            Some(parts.node),
            Some(u64::from(parts.sequence)),
        ),
        Told::Counted(number) => ("sequence", None, None, Some(number)),
        Told::Foreign(layout, time_ms) => (layout, time_ms, None, None),
    };
    Ok(Json(Reading {
        id: id.to_owned(),
        layout,
        time: time_ms.map(rfc3339),
        node,
        sequence,
    }))
}

/// Why a parameter is refused; `pointer` says which.
pub(crate) fn no_such(pointer: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request is well-formed but not acceptable",
    )
    .invalid(pointer, reason)
}

/// The ids as text, between and around which stand these. By hand: an answer has up to ten thousand, and is most of what a
/// request for many costs.
fn body(ids: &Ids, before: &str, between: &str, after: &str) -> Vec<u8> {
    match ids {
        Ids::Decimal(numbers) => {
            let mut digits = itoa::Buffer::new();
            let longest = 20;
            joined(numbers, longest, [before, between, after], |number, body| {
                body.extend_from_slice(digits.format(*number).as_bytes());
            })
        }
        Ids::Base62(numbers) => {
            let longest = 11;
            joined(numbers, longest, [before, between, after], |number, body| {
                let mut digits = [0; 11];
                let length = base62::encode_bytes(*number, &mut digits).unwrap_or(0);
                body.extend_from_slice(&digits[..length]);
            })
        }
        Ids::Uuids(uuids) => {
            let mut text = uuid::Uuid::encode_buffer();
            joined(uuids, text.len(), [before, between, after], |uuid, body| {
                body.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
            })
        }
        Ids::Ulids(ulids) => {
            let mut text = [0; ulid::ULID_LEN];
            joined(ulids, text.len(), [before, between, after], |ulid, body| {
                body.extend_from_slice(ulid.array_to_str(&mut text).as_bytes());
            })
        }
    }
}

fn joined<T>(
    ids: &[T],
    longest: usize,
    [before, between, after]: [&str; 3],
    mut write: impl FnMut(&T, &mut Vec<u8>),
) -> Vec<u8> {
    let mut body = Vec::with_capacity(before.len() + ids.len() * (longest + between.len()) + after.len());
    body.extend_from_slice(before.as_bytes());
    for (place, id) in ids.iter().enumerate() {
        if place > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        write(id, &mut body);
    }
    body.extend_from_slice(after.as_bytes());
    body
}

fn rfc3339(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let later =
            |code, title, wait: Duration| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title).retry_after(wait);
        let second = Duration::from_secs(1);
        match error {
            Error::ClockBehind(by) => {
                tracing::warn!(?by, "the clock is behind the ids given out");
                later("clock_behind", "The clock is behind the ids that were given out", by)
            }
            Error::SequenceExhausted(wait) => {
                later("sequence_exhausted", "More ids are asked for than the layout has", wait)
            }
            Error::NoNode => later("no_node_id", "No node id is held for the moment", second),
            Error::Over => {
                tracing::error!("the ids of this layout are used up");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "ids_used_up",
                    "The ids of this layout are used up",
                )
            }
            Error::NotAnId => Self::new(StatusCode::NOT_FOUND, "not_an_id", "No id has this form"),
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store is unavailable");
                later("store_unavailable", "The store cannot be asked", second)
            }
            Error::Full(cause) => {
                tracing::warn!(%cause, "the store is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", "No space is left")
            }
        }
    }
}
