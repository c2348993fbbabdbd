//! The page of a board: one file, no build step, nothing from elsewhere. It reads the same interface as everybody else.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};

/// What the page may do: run its own script, use its own style, and ask this server. Names of members are put into it as
/// text, never as markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The page. It finds out by its own address which board it is about.
pub(super) fn page() -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // The same address answers JSON to others.
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    (headers, include_str!("page.html")).into_response()
}
