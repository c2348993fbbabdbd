//! gRPC beside HTTP: the same routes, bounds and problems, written as a gRPC client reads them.
//!
//! A design mounts what the generator made of its .proto with [`Routes::grpc`](crate::Routes::grpc), and answers its own
//! [`Problem`]s, which `?` turns into statuses. Its `build.rs` needs no `protoc` (`protox`, `tonic-prost-build`), and its
//! code takes what that made from one module (`prost`, `tonic`, `tonic-prost`):
//!
//! ```text
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     tonic_prost_build::configure().build_client(false).compile_fds(protox::compile(["proto/ids.proto"], ["proto"])?)?;
//!     println!("cargo:rerun-if-changed=proto");
//!     Ok(())
//! }
//!
//! #[expect(unreachable_pub, unused_qualifications, reason = "generated")]
//! mod wire {
//!     tonic::include_proto!("ids.v1");
//! }
//! ```
//!
//! # What a client sees of a refusal
//!
//! An answer of trailers only, as gRPC has it: HTTP status 200, `grpc-status` by the table `CODES`, `grpc-message` with
//! title and details, and as metadata what the JSON body of a problem would say: `problem-status`, `problem-code`,
//! `problem-outcome` and, if another try makes sense, `grpc-retry-pushback-ms`, which gRPC clients heed when they retry.
//! Metrics count the problem's status. A status that is no problem of ours (the generated code makes one, `INTERNAL`, of a
//! message that it cannot read) has `problem-outcome: unknown` added to it, which is never wrong.
//!
//! # What is not here
//!
//! Streams of requests: the guard reads the whole request before a handler sees it, so a client sends one message and
//! closes its side. Compressed messages: they are `UNIMPLEMENTED`, since what they unpack to is bounded by nobody.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use tokio::time::Instant;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use crate::problem::{Outcome, Problem};
use crate::routes::Call;

/// Statuses here and there. Of the rows with one HTTP status, the first says how it is sent; of those with one code, the
/// first says how a status that is no problem of ours is counted.
const CODES: [(u16, Code); 23] = [
    (400, Code::InvalidArgument),
    (422, Code::InvalidArgument),
    (414, Code::InvalidArgument),
    (400, Code::OutOfRange),
    (401, Code::Unauthenticated),
    (403, Code::PermissionDenied),
    (404, Code::NotFound),
    (410, Code::NotFound),
    (408, Code::DeadlineExceeded),
    (504, Code::DeadlineExceeded),
    (409, Code::Aborted),
    (409, Code::AlreadyExists),
    (412, Code::FailedPrecondition),
    (429, Code::ResourceExhausted),
    (413, Code::ResourceExhausted),
    (507, Code::ResourceExhausted),
    (501, Code::Unimplemented),
    (405, Code::Unimplemented),
    (415, Code::Unimplemented),
    (503, Code::Unavailable),
    (502, Code::Unavailable),
    (500, Code::Internal),
    (200, Code::Ok),
];

const STATUS: &str = "problem-status";
const CODE: &str = "problem-code";
const OUTCOME: &str = "problem-outcome";
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The outcome of whatever does not say its own.
const UNKNOWN: &str = "unknown";

/// As many of a problem's errors are in the message; a client bounds the heads it reads.
const MOST_ERRORS: usize = 8;

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut metadata = HeaderMap::with_capacity(4);
        metadata.insert(STATUS, HeaderValue::from(problem.status().as_u16()));
        metadata.insert(CODE, HeaderValue::from_static(problem.code()));
        let outcome = match problem.outcome() {
            Outcome::NotExecuted => "not_executed",
            Outcome::Unknown => UNKNOWN,
        };
        metadata.insert(OUTCOME, HeaderValue::from_static(outcome));
        if let Some(wait) = problem.wait() {
            let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            metadata.insert(PUSHBACK, HeaderValue::from(millis));
        }
        let metadata = tonic::metadata::MetadataMap::from_headers(metadata);
        Self::with_metadata(code(problem.status()), message(&problem), metadata)
    }
}

fn code(status: StatusCode) -> Code {
    let row = CODES.iter().find(|(known, _)| *known == status.as_u16());
    match row {
        Some((_, code)) => *code,
        None if status.is_client_error() => Code::InvalidArgument,
        None => Code::Internal,
    }
}

/// Title, detail and errors as one sentence.
fn message(problem: &Problem) -> String {
    let mut message = problem.title().to_owned();
    let errors = problem.errors().iter().take(MOST_ERRORS);
    let errors = errors.map(|error| format!("{} {}", error.pointer, error.reason));
    for part in problem.text().map(str::to_owned).into_iter().chain(errors) {
        message.push_str(": ");
        message.push_str(&part);
    }
    message
}

/// Whether a request is a gRPC call.
pub(crate) fn is_call<B>(request: &http::Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let Some(kind) = content_type.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let grpc = ["application/grpc", "application/grpc+proto"];
    request.version() == Version::HTTP_2 && grpc.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// A problem as an answer of trailers only.
pub(crate) fn refusal(problem: Problem) -> Response {
    Status::from(problem).into_http()
}

/// A problem as the trailers that end a stream.
pub(crate) fn trailers(problem: Problem) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It can only fail on a message that is no header value, and this one is percent-encoded.
    let _ = Status::from(problem).add_header(&mut trailers);
    trailers
}

/// What an answer's head or trailers say in HTTP's words; nothing if they say nothing, as the head of a success does.
pub(crate) fn http_status(headers: &HeaderMap) -> Option<StatusCode> {
    let sent = headers.get(Status::GRPC_STATUS)?;
    if let Some(status) = headers
        .get(STATUS)
        .and_then(|value| StatusCode::from_bytes(value.as_bytes()).ok())
    {
        return Some(status);
    }
    let code = Code::from_bytes(sent.as_bytes());
    let row = CODES.iter().find(|(_, known)| *known == code);
    let status = row.and_then(|(status, _)| StatusCode::from_u16(*status).ok());
    status.or(Some(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Says `unknown` where a failure does not say whether the request was carried out.
pub(crate) fn complete(headers: &mut HeaderMap) {
    let failed = headers.get(Status::GRPC_STATUS).is_some_and(|status| status != "0");
    if failed && !headers.contains_key(OUTCOME) {
        headers.insert(OUTCOME, HeaderValue::from_static(UNKNOWN));
    }
}

/// Until when the client waits, if it says so in `grpc-timeout`: up to eight digits and a unit.
pub(crate) fn until(headers: &HeaderMap) -> Result<Option<Instant>, Problem> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(timeout);
    let timeout = timeout.ok_or_else(Problem::malformed_timeout)?;
    // What lies beyond the reach of the clock is no bound.
    Ok(Instant::now().checked_add(timeout))
}

fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// A generated server as the guard calls it.
pub(crate) fn handler<G>(service: G) -> Call
where
    G: Service<Request, Response = http::Response<tonic::body::Body>, Error = Infallible>,
    G: Clone + Send + Sync + 'static,
    G::Future: Send,
{
    Box::new(move |request| {
        let answered = service.clone().oneshot(request);
        Box::pin(async move {
            let Ok(response) = answered.await;
            let mut response = response.map(Body::new);
            complete(response.headers_mut());
            response
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(problem: Problem) -> HeaderMap {
        refusal(problem).headers().clone()
    }

    #[test]
    fn a_problem_is_sent_as_trailers_only_with_all_it_says() {
        let problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_request",
            "Not \u{e4}cceptable",
        )
        .detail("100 %")
        .invalid("/count", "is too high")
        .retry_after(Duration::from_millis(250));
        let answer = refusal(problem);
        assert_eq!(answer.status(), 200);
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-status", "3"),
            (
                "grpc-message",
                "Not%20%C3%A4cceptable:%20100%20%25:%20/count%20is%20too%20high",
            ),
            ("problem-status", "422"),
            ("problem-code", "invalid_request"),
            ("problem-outcome", "not_executed"),
            ("grpc-retry-pushback-ms", "250"),
        ] {
            assert_eq!(answer.headers()[name], value, "{name}");
        }
        assert_eq!(sent(Problem::deadline())["problem-outcome"], "unknown");
        assert!(!sent(Problem::deadline()).contains_key("grpc-retry-pushback-ms"));
    }

    #[test]
    fn every_status_has_a_code_that_fails_and_a_problem_is_counted_as_what_it_is() {
        for status in (400..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let headers = sent(Problem::new(status, "code", "Title"));
            assert_ne!(headers["grpc-status"], "0", "{status}");
            assert_eq!(http_status(&headers), Some(status));
        }
        for (status, code) in [
            (401, "16"),
            (404, "5"),
            (409, "10"),
            (413, "8"),
            (418, "3"),
            (500, "13"),
            (503, "14"),
            (504, "4"),
            (599, "13"),
        ] {
            let problem = Problem::new(StatusCode::from_u16(status).unwrap(), "code", "Title");
            assert_eq!(sent(problem)["grpc-status"], code, "{status}");
        }
    }

    #[test]
    fn a_status_that_is_no_problem_is_counted_by_its_code_and_its_outcome_is_unknown() {
        for (code, status) in [
            (Code::Internal, 500),
            (Code::Unimplemented, 501),
            (Code::OutOfRange, 400),
            (Code::Unknown, 500),
        ] {
            let mut response: Response = Status::new(code, "").into_http();
            complete(response.headers_mut());
            assert_eq!(http_status(response.headers()).unwrap(), status, "{code:?}");
            assert_eq!(response.headers()["problem-outcome"], "unknown");
        }
        let mut response: Response = Status::ok("").into_http();
        complete(response.headers_mut());
        assert_eq!(http_status(response.headers()).unwrap(), 200);
        assert!(!response.headers().contains_key("problem-outcome"));
        assert_eq!(http_status(&HeaderMap::new()), None);
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        for (value, nanos) in [
            ("5n", 5),
            ("20u", 20_000),
            ("3m", 3_000_000),
            ("1S", 1_000_000_000),
            ("2M", 120_000_000_000),
            ("0H", 0),
        ] {
            assert_eq!(timeout(value), Some(Duration::from_nanos(nanos)), "{value}");
        }
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for value in ["", "5", "m", "-5m", "+5m", "5 m", "5s", "123456789m", "5\u{b5}"] {
            assert_eq!(timeout(value), None, "{value}");
        }
        let odd = HeaderMap::from_iter([(
            header::HeaderName::from_static("grpc-timeout"),
            HeaderValue::from_static("soon"),
        )]);
        assert_eq!(until(&odd).unwrap_err().status(), 400);
    }

    #[test]
    fn only_protobuf_over_http_2_is_a_call() {
        let request = |version, content_type| {
            let request = http::Request::builder()
                .version(version)
                .header(header::CONTENT_TYPE, content_type);
            request.body(()).unwrap()
        };
        for known in ["application/grpc", "application/grpc+proto", "Application/GRPC; x=y"] {
            assert!(is_call(&request(Version::HTTP_2, known)), "{known}");
            assert!(!is_call(&request(Version::HTTP_11, known)), "{known}");
        }
        for other in ["application/grpc+json", "application/grpc-web", "application/json", ""] {
            assert!(!is_call(&request(Version::HTTP_2, other)), "{other}");
        }
        assert!(!is_call(&http::Request::new(())));
    }
}
