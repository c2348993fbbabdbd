//! Which of two ways to write an answer the client asked for.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};

/// What the client likes better, by its `Accept` (RFC 9110, section 12.5.1).
///
/// JSON unless it gives plain text the higher weight: nobody is refused for wanting neither, and `*/*` wants either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefers {
    /// `application/json`.
    Json,
    /// `text/plain`.
    PlainText,
}

impl<S: Send + Sync> FromRequestParts<S> for Prefers {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// Whether the client likes a page better than data, by its `Accept`: browsers do, and nobody else has to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantsHtml(pub bool);

impl<S: Sync> FromRequestParts<S> for WantsHtml {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let headers = &parts.headers;
        Ok(Self(
            weight(headers, "text", "html") > weight(headers, "application", "json"),
        ))
    }
}

impl Prefers {
    fn of(headers: &HeaderMap) -> Self {
        if weight(headers, "text", "plain") > weight(headers, "application", "json") {
            Self::PlainText
        } else {
            Self::Json
        }
    }
}

/// How much the client likes `main/sub`, in thousandths: what the most exact range that includes it says.
fn weight(headers: &HeaderMap, main: &str, sub: &str) -> u16 {
    let lines = headers.get_all(header::ACCEPT).iter();
    let ranges = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let fitting = ranges.filter_map(|range| {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let (range_main, range_sub) = name.trim().split_once('/')?;
        let exactness = match (range_main, range_sub) {
            ("*", "*") => 0,
            (m, "*") if m.eq_ignore_ascii_case(main) => 1,
            (m, s) if m.eq_ignore_ascii_case(main) && s.eq_ignore_ascii_case(sub) => 2,
            _ => return None,
        };
        Some((exactness, quality(parameters)?))
    });
    fitting.max().map_or(0, |(_, quality)| quality)
}

/// The parameter `q` in thousandths, 1,000 if there is none. Nothing for one that is no weight: who sent it meant
/// something, but nobody knows what.
fn quality(parameters: &str) -> Option<u16> {
    let mut named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let Some((_, value)) = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) else {
        return Some(1_000);
    };
    let (whole, thousandths) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if thousandths.len() > 3 || !thousandths.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{thousandths:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[&str]) -> Prefers {
        let header = |line: &&str| (header::ACCEPT, HeaderValue::from_str(line).unwrap());
        Prefers::of(&lines.iter().map(header).collect())
    }

    #[test]
    fn plain_text_is_for_those_who_like_it_better() {
        for accept in [
            "text/plain",
            "Text/Plain; charset=utf-8",
            "text/*",
            "application/json;q=0.5, text/plain",
            "text/plain;q=0.2,application/json; Q=0.1",
            "text/plain, */*;q=0.8",
            "*/*, application/json;q=0.999",
            "text/plain;q=0.001",
            "text/html, application/json;q=0, text/plain;q=0.5",
        ] {
            assert_eq!(of(&[accept]), Prefers::PlainText, "{accept}");
        }
        assert_eq!(of(&["application/json;q=0.3", "text/plain;q=0.4"]), Prefers::PlainText);
    }

    #[test]
    fn json_is_for_all_others() {
        for accept in [
            "",
            "*/*",
            "application/json",
            "text/html, application/xhtml+xml",
            "application/json, text/plain, */*",
            "text/plain, application/json",
            "text/plain;q=0",
            "text/*, text/plain;q=0.1, application/json;q=0.5",
            "text/plain;q=2",
            "text/plain;q=0.9999",
            "text/plain;q=NaN",
            "text/plain;q=",
            "text/plainer",
            "text",
        ] {
            assert_eq!(of(&[accept]), Prefers::Json, "{accept}");
        }
        assert_eq!(of(&[]), Prefers::Json);
    }
}
