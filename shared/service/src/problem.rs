//! What a refusal looks like: RFC 9457 problem details that say whether the request was carried out.
//!
//! A client that gets an error needs to know one thing before it tries again: did it happen? [`Outcome`] answers that in
//! every body, as Maelstrom's definite and indefinite errors do. The text is for the client; what an operator needs
//! (statements, paths, causes) goes to the log.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The longest piece of foreign text that a body repeats, in characters.
const LONGEST_ECHO: usize = 100;

/// Whether the request that failed was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not and will not be: safe to try again.
    NotExecuted,
    /// It may have been, or may yet be: look before trying again, or use an idempotency key.
    Unknown,
}

/// One thing wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invalid {
    /// JSON pointer into the request's body, such as `/url`, or a parameter of its query, such as `?count`.
    pub pointer: String,
    /// What is wrong there.
    pub reason: String,
}

/// An error as the client sees it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    outcome: Outcome,
    detail: Option<String>,
    retry_after: Option<Duration>,
    errors: Vec<Invalid>,
}

/// The body of every error: `application/problem+json` (RFC 9457) with four members of our own.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// What kind of problem, for programs: `/problems/` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "/problems/overloaded")]
    kind: String,
    /// What kind of problem, for people.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status, again.
    status: u16,
    /// This occurrence, for the operator's log.
    instance: String,
    /// The kind, as one word.
    #[schema(value_type = String, example = "overloaded")]
    code: &'static str,
    /// Whether the request was carried out.
    outcome: Outcome,
    /// What happened this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When another try makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What is wrong with the request, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Invalid>,
}

impl Problem {
    /// A request that was not carried out. `code` is one word for programs and stays the same for ever; `title` is the
    /// same for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self {
            status,
            code,
            title,
            outcome: Outcome::NotExecuted,
            detail: None,
            retry_after: None,
            errors: Vec::new(),
        }
    }

    /// The request may have been carried out.
    #[must_use]
    pub fn outcome_unknown(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    /// Adds what happened this time; foreign text in it is cut to a bounded length.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(bounded(detail.into()));
        self
    }

    /// Adds when another try makes sense; also sent as `Retry-After`, in whole seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds one thing that is wrong with the request. `pointer` is a JSON pointer into the body, such as `/url`, or a
    /// parameter of the query, such as `?count`.
    #[must_use]
    pub fn invalid(mut self, pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        self.errors.push(Invalid {
            pointer: bounded(pointer.into()),
            reason: bounded(reason.into()),
        });
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn title(&self) -> &'static str {
        self.title
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn errors(&self) -> &[Invalid] {
        &self.errors
    }

    /// The body, for an answer that carries several.
    #[must_use]
    pub fn into_body(self) -> ProblemBody {
        ProblemBody {
            kind: format!("/problems/{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            instance: format!("/req/{}", Uuid::now_v7()),
            code: self.code,
            outcome: self.outcome,
            detail: self.detail,
            retry_after_ms: self
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            errors: self.errors,
        }
    }

    // The refusals of the service itself.

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This method does not exist here",
        )
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Writing needs `Authorization: Bearer KEY`",
        )
    }

    pub(crate) fn target_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "target_too_long",
            "The request target is too long",
        )
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "The request body is too large",
        )
        .detail(format!("at most {limit} bytes are accepted here"))
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The request body did not arrive in time",
        )
    }

    pub(crate) fn body_broken() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "body_broken",
            "The request body broke off or was framed wrongly",
        )
    }

    pub(crate) fn overloaded(detail: &str) -> Self {
        // Spread over half a second, so that those who were shed together do not come back together.
        let jitter = u64::from(Uuid::now_v7().as_bytes()[15]) * 2;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "The server is overloaded",
        )
        .detail(detail)
        .retry_after(Duration::from_millis(500 + jitter))
    }

    /// For a stream that begins while the service ends, or is ended with it; the latter is `outcome_unknown`.
    pub(crate) fn draining() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "The server is about to end",
        )
    }

    pub(crate) fn unknown_method() -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "unknown_method",
            "This gRPC method does not exist here",
        )
    }

    pub(crate) fn not_grpc() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "This is a gRPC method: it wants HTTP/2 and `application/grpc`",
        )
    }

    pub(crate) fn malformed_timeout() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed_timeout",
            "`grpc-timeout` is not up to eight digits and a unit",
        )
    }

    pub(crate) fn deadline() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "The answer was not ready in time",
        )
        .outcome_unknown()
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server made a mistake; this is a bug",
        )
        .outcome_unknown()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let retry_after = self.retry_after;
        let body = serde_json::to_vec(&self.into_body()).unwrap_or_default();
        let mut response = (status, Bytes::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(wait) = retry_after {
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            headers.insert(header::RETRY_AFTER, whole_number(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn whole_number(n: u128) -> HeaderValue {
    HeaderValue::from_str(&n.to_string()).unwrap_or(HeaderValue::from_static("1"))
}

/// Cuts text to the longest echo, and drops control characters: nothing of a client's gets to shape what others read.
fn bounded(text: String) -> String {
    if text.len() <= LONGEST_ECHO && !text.chars().any(char::is_control) {
        return text;
    }
    let kept: Cow<'_, str> = text.chars().filter(|c| !c.is_control()).take(LONGEST_ECHO).collect();
    kept.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_and_freed_of_control_characters() {
        let problem = Problem::not_found().detail(format!("a\r\nSet-Cookie: x{}", "y".repeat(500)));
        let detail = problem.into_body().detail.unwrap();
        assert_eq!(detail.chars().count(), LONGEST_ECHO);
        assert!(detail.starts_with("aSet-Cookie: x"), "{detail}");
    }

    #[test]
    fn a_wait_under_a_second_is_sent_as_one_second_never_as_zero() {
        let problem = Problem::not_found().retry_after(Duration::from_millis(20));
        let response = problem.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn shed_requests_say_they_were_not_executed_and_late_ones_that_they_may_have_been() {
        assert_eq!(
            Problem::overloaded("queue full").into_body().outcome,
            Outcome::NotExecuted
        );
        assert_eq!(Problem::deadline().into_body().outcome, Outcome::Unknown);
        assert_eq!(Problem::internal().into_body().outcome, Outcome::Unknown);
    }
}
