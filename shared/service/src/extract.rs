//! Reading what a client sent, with refusals in our own shape.
//!
//! axum's extractors answer plain text; these answer [`Problem`]s. The line between 400 and 422 is drawn once, here: 400
//! when the bytes are not a JSON document, 422 when the document, or the query, is not what the route asks for.

mod accept;
mod query;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::problem::Problem;

pub use accept::{Prefers, WantsHtml};
pub use query::Query;

/// A JSON body, in and out.
///
/// Coming in: one UTF-8 JSON object and nothing after it, `Content-Type: application/json`, not compressed; 400, 415 and
/// 422 otherwise, the last with a pointer to the member that does not fit. A member given twice is refused, since two
/// readers could each take another one.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_encoding(request.headers())?;
        // The guard has read and bounded the body: it is all there.
        let body = request.into_body().collect().await;
        let body = body.map_err(|_| Problem::body_broken())?;
        parse(&body.to_bytes()).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Problem::internal().into_response()
            }
        }
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &str| {
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body must be plain UTF-8 JSON",
        )
        .detail(detail))
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported("compressed bodies are not accepted");
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(content_type) = content_type else {
        return unsupported("send Content-Type: application/json");
    };
    let mut parts = content_type.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
    {
        return unsupported("send Content-Type: application/json");
    }
    let foreign_charset = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .any(|(_, charset)| !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"));
    if foreign_charset {
        return unsupported("only charset=utf-8 is accepted");
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // First as any JSON at all: whether it is JSON must not depend on which member is looked at first.
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Err(not_json("the body is not one JSON document"));
    }
    // A struct would also be read from an array of its members, which nobody documents.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(does_not_fit("", "must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        let reason = without_position(&error.inner().to_string());
        match error.inner().classify() {
            Category::Data if !reason.starts_with("duplicate field") => does_not_fit(&pointer, &reason),
            _ => not_json(&reason),
        }
    })
}

fn not_json(reason: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json", "The body is not well-formed").detail(reason)
}

fn does_not_fit(pointer: &str, reason: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request is well-formed but not acceptable",
    )
    .invalid(pointer, reason)
}

/// `links[3].url` as the JSON pointer `/links/3/url`.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{key}"),
        Segment::Enum { variant } => format!("{pointer}/{variant}"),
        Segment::Unknown => pointer,
    })
}

/// serde_json ends its sentences with a line and column; the pointer says it better.
fn without_position(reason: &str) -> String {
    reason.split(" at line ").next().unwrap_or(reason).to_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Order {
        url: String,
        count: Option<u32>,
    }

    fn status(body: &[u8]) -> u16 {
        parse::<Order>(body).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn bytes_that_are_no_json_document_are_400() {
        let deep = "[".repeat(10_000);
        let cases: [&[u8]; 10] = [
            b"",
            b"{\"url\":",
            b"{\"url\":\"x\"} trailing",
            b"{\"url\":\"x\"}{\"url\":\"y\"}",
            b"{\"url\":\"x\",\"url\":\"y\"}",
            deep.as_bytes(),
            b"{\"url\":\"\xff\"}",
            b"\xef\xbb\xbf{\"url\":\"x\"}",
            br#"{"url":"\ud800"}"#,
            br#"{"url":"x","count":1e400}"#,
        ];
        for body in cases {
            assert_eq!(status(body), 400, "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_document_that_does_not_fit_is_422() {
        let cases = [
            "null",
            "[]",
            r#"["https://example.com"]"#,
            r#""x""#,
            "1",
            "{}",
            r#"{"url":"x","other":1}"#,
            r#"{"url":5}"#,
            r#"{"url":"x","count":"5"}"#,
            r#"{"url":"x","count":1.5}"#,
            r#"{"url":"x","count":-1}"#,
            r#"{"url":"x","count":4294967296}"#,
        ];
        for body in cases {
            assert_eq!(status(body.as_bytes()), 422, "{body}");
        }
    }

    #[test]
    fn a_refusal_points_at_the_member() {
        let problem = parse::<Order>(br#"{"url":"x","count":"5"}"#).unwrap_err();
        let body = serde_json::to_value(problem.into_body()).unwrap();
        assert_eq!(body["errors"][0]["pointer"], "/count");
    }

    #[test]
    fn only_plain_utf8_json_is_taken() {
        let headers = |content_type: &'static str| {
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
        };
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(check_encoding(&headers(good)).is_ok(), "{good}");
        }
        for bad in [
            "text/plain",
            "application/json; charset=utf-16",
            "application/jsonp",
            "",
        ] {
            assert!(check_encoding(&headers(bad)).is_err(), "{bad}");
        }
        assert!(check_encoding(&HeaderMap::new()).is_err());
        let mut gzip = headers("application/json");
        gzip.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(check_encoding(&gzip).is_err());
    }
}
