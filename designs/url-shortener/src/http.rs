//! The wire: routes, what requests and answers look like, and which status each error is.
//!
//! The only file that knows status codes.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use service::extract::Json;
use service::problem::ProblemBody;
use service::{Class, Host, Problem, Routes};
use utoipa::{OpenApi, ToSchema};

use crate::config::Config;
use crate::domain::{Error, Link, Slug};
use crate::ports::{Clicks, Keys, Links};
use crate::service::{Shortener, Wish};

/// The most links in one batch.
const LARGEST_BATCH: usize = 1_000;

/// How long caches may keep a permanent redirect: what a delete may lag behind.
const PERMANENT_FOR_S: u64 = 300;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What every handler has at hand.
struct App<L, K, C> {
    shortener: Shortener<L, K, C>,
    public_url: String,
    redirect: StatusCode,
}

type Shared<L, K, C> = State<Arc<App<L, K, C>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "URL shortener",
        description = "Short links that work for ever and cannot be guessed."
    ),
    paths(create, create_all, look_up, delete, follow),
    components(schemas(ProblemBody))
)]
struct Document;

/// The routes of a stage.
pub fn routes<L: Links, K: Keys, C: Clicks>(shortener: Shortener<L, K, C>, config: &Config, host: &Host) -> Routes {
    let public_url = match &config.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("http://{}", host.address),
    };
    Routes::new(Document::openapi())
        .add(Class::Read, Method::GET, "/{code}", follow::<L, K, C>)
        .add(Class::Write, Method::POST, "/api/links", create::<L, K, C>)
        .add(Class::Bulk, Method::POST, "/api/links:batch", create_all::<L, K, C>)
        .add(Class::Read, Method::GET, "/api/links/{code}", look_up::<L, K, C>)
        .add(Class::Write, Method::DELETE, "/api/links/{code}", delete::<L, K, C>)
        .with_state(Arc::new(App {
            shortener,
            public_url,
            redirect: StatusCode::from_u16(config.redirect_status).unwrap_or(StatusCode::FOUND),
        }))
}

/// A link to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateLink {
    /// Where the link shall lead: http or https, at most 2,048 bytes.
    #[schema(example = "https://example.com/a/long/path")]
    url: String,
    /// A name of your own: 3 to 64 letters, digits, - and _, but not seven letters and digits.
    alias: Option<String>,
    /// How many seconds the link shall work; for ever if left out.
    expires_in_s: Option<u64>,
}

impl From<CreateLink> for Wish {
    fn from(asked: CreateLink) -> Self {
        Self {
            url: asked.url,
            alias: asked.alias,
            expires_in_s: asked.expires_in_s,
        }
    }
}

/// Links to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateLinks {
    /// At most 1,000.
    links: Vec<CreateLink>,
}

/// A link that was made.
#[derive(Serialize, ToSchema)]
struct Created {
    /// Its name.
    #[schema(example = "x7Gk2pQ")]
    code: String,
    /// Its address.
    #[schema(example = "http://127.0.0.1:8080/x7Gk2pQ")]
    short_url: String,
    /// Where it leads, as it is stored and sent.
    url: String,
    /// When it ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// One answer of a batch: the link or the problem.
#[derive(Serialize, ToSchema)]
struct BatchResult {
    /// What the status would have been for this link alone.
    status: u16,
    #[serde(flatten)]
    outcome: BatchOutcome,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchOutcome {
    Created(Created),
    Refused { problem: ProblemBody },
}

/// The answers of a batch, in the order of the links.
#[derive(Serialize, ToSchema)]
struct BatchResults {
    results: Vec<BatchResult>,
}

/// A link and how it is used.
#[derive(Serialize, ToSchema)]
struct LinkReport {
    #[serde(flatten)]
    link: Created,
    /// When it was made, RFC 3339.
    created_at: String,
    /// How often it was followed, as far as it was counted yet.
    clicks: u64,
}

/// Make a link. The same URL again makes another link; the same `Idempotency-Key` again gives the same one.
#[utoipa::path(
    post, path = "/api/links", request_body = CreateLink,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters; kept for a day")),
    responses(
        (status = 201, description = "Made", body = Created, headers(("Location" = String, description = "Its address"))),
        (status = 409, description = "Alias taken, or a request with this key is under way", body = ProblemBody),
        (status = 422, description = "URL or alias refused, or the key was used for another request", body = ProblemBody),
        (status = 503, description = "Not done: overloaded, out of keys, or the store is down", body = ProblemBody),
        (status = 504, description = "Perhaps done", body = ProblemBody),
    )
)]
async fn create<L: Links, K: Keys, C: Clicks>(
    State(app): Shared<L, K, C>,
    headers: HeaderMap,
    Json(asked): Json<CreateLink>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let link = app.shortener.create(asked.into(), key).await?;
    let created = app.created(&link);
    let location = HeaderValue::from_str(&created.short_url).map_err(|_| broken("a short URL is no header value"))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(created)).into_response())
}

/// Make up to a thousand links in one transaction. Each is answered for itself, in order.
#[utoipa::path(
    post, path = "/api/links:batch", request_body = CreateLinks,
    responses(
        (status = 200, description = "Each link's own answer", body = BatchResults),
        (status = 422, description = "More than 1,000 links, or none", body = ProblemBody),
    )
)]
async fn create_all<L: Links, K: Keys, C: Clicks>(
    State(app): Shared<L, K, C>,
    headers: HeaderMap,
    Json(asked): Json<CreateLinks>,
) -> Result<Json<BatchResults>, Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(bad_key(
            "a batch takes no Idempotency-Key: it would be unclear what is repeated",
        ));
    }
    if !(1..=LARGEST_BATCH).contains(&asked.links.len()) {
        return Err(invalid("/links", "must have 1 to 1000 links"));
    }
    let wishes = asked.links.into_iter().map(Wish::from).collect();
    let answers = app.shortener.create_all(wishes).await;
    let results = answers.into_iter().map(|answer| app.batch_result(answer)).collect();
    Ok(Json(BatchResults { results }))
}

/// A link and how often it was followed.
#[utoipa::path(
    get, path = "/api/links/{code}", params(("code" = String, Path, description = "Code or alias")),
    responses(
        (status = 200, description = "The link", body = LinkReport),
        (status = 404, description = "Never made", body = ProblemBody),
        (status = 410, description = "Deleted or expired", body = ProblemBody),
    )
)]
async fn look_up<L: Links, K: Keys, C: Clicks>(
    State(app): Shared<L, K, C>,
    Asked(slug): Asked,
) -> Result<Json<LinkReport>, Problem> {
    let (link, clicks) = app.shortener.look_up(&slug).await?;
    Ok(Json(LinkReport {
        created_at: rfc3339(link.created_at),
        link: app.created(&link),
        clicks,
    }))
}

/// Delete a link. Its name is never given to another.
#[utoipa::path(
    delete, path = "/api/links/{code}", params(("code" = String, Path, description = "Code or alias")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "Never made", body = ProblemBody),
        (status = 410, description = "Deleted before, or expired", body = ProblemBody),
    )
)]
async fn delete<L: Links, K: Keys, C: Clicks>(
    State(app): Shared<L, K, C>,
    Asked(slug): Asked,
) -> Result<StatusCode, Problem> {
    app.shortener.delete(&slug).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Follow a link. A query string changes nothing; HEAD is not counted.
#[utoipa::path(
    get, path = "/{code}", params(("code" = String, Path, description = "Code or alias")),
    responses(
        (status = 302, description = "There", headers(("Location" = String, description = "Exactly what was stored"))),
        (status = 404, description = "Never made", body = ProblemBody),
        (status = 410, description = "Deleted or expired", body = ProblemBody),
    )
)]
async fn follow<L: Links, K: Keys, C: Clicks>(
    State(app): Shared<L, K, C>,
    method: Method,
    Asked(slug): Asked,
) -> Result<Response, Problem> {
    let link = app.shortener.follow(&slug, method != Method::HEAD).await?;
    // Checked when it was stored; shared, not copied.
    let location = HeaderValue::from_maybe_shared(link.target.to_bytes());
    let location = location.map_err(|_| broken("a stored URL is no header value"))?;
    let mut response = Response::default();
    *response.status_mut() = app.redirect;
    let headers = response.headers_mut();
    headers.reserve(3);
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, app.cache_control(&link));
    // The page that had the short link is nobody else's business.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

impl<L: Links, K: Keys, C: Clicks> App<L, K, C> {
    fn created(&self, link: &Link) -> Created {
        Created {
            code: link.slug.to_string(),
            short_url: format!("{}/{}", self.public_url, link.slug),
            url: link.target.as_str().to_owned(),
            expires_at: link.expires_at.map(rfc3339),
        }
    }

    fn batch_result(&self, answer: Result<Link, Error>) -> BatchResult {
        match answer {
            Ok(link) => BatchResult {
                status: StatusCode::CREATED.as_u16(),
                outcome: BatchOutcome::Created(self.created(&link)),
            },
            Err(error) => {
                let problem = Problem::from(error);
                BatchResult {
                    status: problem.status().as_u16(),
                    outcome: BatchOutcome::Refused {
                        problem: problem.into_body(),
                    },
                }
            }
        }
    }

    /// A temporary redirect is asked for each time, so that it can be counted and revoked; a permanent one may be kept for
    /// a while, but never longer than the link lives.
    fn cache_control(&self, link: &Link) -> HeaderValue {
        if matches!(self.redirect, StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT) {
            return HeaderValue::from_static("no-store");
        }
        let left = link
            .expires_at
            .map(|end| end.saturating_sub(self.shortener.now_ms()) / 1_000);
        let keep = left.unwrap_or(PERMANENT_FOR_S).min(PERMANENT_FOR_S);
        HeaderValue::from_str(&format!("public, max-age={keep}")).unwrap_or(HeaderValue::from_static("no-store"))
    }
}

/// The name in the last part of the path, taken as it stands: names need no escapes, so what has any is no name.
struct Asked(Slug);

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
        Slug::parse(name).map(Self).ok_or_else(|| Error::NotFound.into())
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let key = key.as_bytes();
    let valid = (1..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic) && keys.next().is_none();
    match std::str::from_utf8(key) {
        Ok(key) if valid => Ok(Some(key.into())),
        _ => Err(bad_key("send one Idempotency-Key of 1 to 255 visible ASCII characters")),
    }
}

fn bad_key(detail: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_idempotency_key",
        "The Idempotency-Key cannot be used",
    )
    .detail(detail)
}

fn invalid(pointer: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request is well-formed but not acceptable",
    )
    .invalid(pointer, reason)
}

fn broken(what: &'static str) -> Problem {
    tracing::error!(what, "this is a bug");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The server made a mistake; this is a bug",
    )
}

fn rfc3339(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let conflict = |code, title| Self::new(StatusCode::CONFLICT, code, title);
        let later =
            |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title).retry_after(Duration::from_secs(1));
        match error {
            Error::Refused(refusal) => invalid(refusal.pointer, refusal.reason),
            Error::NotFound => Self::new(StatusCode::NOT_FOUND, "link_not_found", "There is no such link"),
            Error::Gone => Self::new(StatusCode::GONE, "link_gone", "The link was deleted or has expired"),
            Error::AliasTaken => conflict("alias_taken", "Another link has this alias, or had it once"),
            Error::KeyInFlight => conflict("key_in_flight", "A request with this Idempotency-Key is under way")
                .retry_after(Duration::from_secs(1)),
            Error::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "key_reused",
                "This Idempotency-Key was used for another request",
            ),
            Error::CodeTaken => broken("a generated code was in use already"),
            Error::KeysExhausted => later("keys_exhausted", "No keys are left for the moment"),
            Error::Unavailable(cause) => {
                tracing::warn!(%cause, "the store is unavailable");
                later("store_unavailable", "The store cannot be asked")
            }
            Error::Full(cause) => {
                tracing::warn!(%cause, "the store is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", "No space is left")
            }
            Error::Unknown(cause) => {
                tracing::warn!(%cause, "the outcome of a write is unknown");
                Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", "The store broke off")
                    .outcome_unknown()
                    .retry_after(Duration::from_secs(1))
            }
        }
    }
}
