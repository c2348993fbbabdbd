//! The query of a request's target, with refusals that name the parameter.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use serde_urlencoded::Deserializer;

use super::{Problem, does_not_fit};

/// The parameters of a query, `?count=5&format=base62`, as a struct with a member for each.
///
/// 422 with a pointer such as `?count` for a value that does not fit, a parameter that is missing or one that is given
/// twice; also for one that nobody knows, if the struct says `deny_unknown_fields`. Bytes that are no UTF-8 are read as
/// U+FFFD each. No query at all is an empty one, and reading it allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // Keeping track of where one is costs: only a refusal is read for that, once more.
    serde_urlencoded::from_str(query).or_else(|_| parse_tracked(query))
}

fn parse_tracked<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let parameters = Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(parameters).map_err(|error| {
        let reason = error.inner().to_string();
        let pointer = format!("?{}", parameter(error.path(), &reason));
        does_not_fit(&pointer, &reason)
    })
}

/// The parameter that a refusal is about. Of one that is missing or given twice, only the reason has the name.
fn parameter<'a>(path: &'a Path, reason: &'a str) -> &'a str {
    match path.iter().next() {
        Some(Segment::Map { key }) => key,
        _ => reason.split('`').nth(1).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Format {
        #[default]
        Decimal,
        UuidV7,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        count: Option<u16>,
        #[serde(default)]
        format: Format,
    }

    #[derive(Debug, Deserialize)]
    struct Named {
        #[serde(rename = "name")]
        _name: String,
    }

    /// The status, and what the refusal points at.
    fn refused<T: DeserializeOwned>(query: &str) -> (u16, String) {
        let Err(problem) = parse::<T>(query) else {
            panic!("{query} was taken");
        };
        let body = serde_json::to_value(problem.into_body()).unwrap();
        assert!(
            body["errors"][0]["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "{body}"
        );
        let status = body["status"].as_u64().unwrap();
        let pointer = body["errors"][0]["pointer"].as_str().unwrap();
        (status.try_into().unwrap(), pointer.to_owned())
    }

    #[test]
    fn parameters_are_read_in_any_order_and_may_be_escaped() {
        let wanted = Wanted {
            count: Some(12),
            format: Format::UuidV7,
        };
        for query in [
            "count=12&format=uuid_v7",
            "format=uuid%5Fv7&count=%312",
            "&count=12&&format=uuid_v7&",
        ] {
            assert_eq!(parse::<Wanted>(query).unwrap(), wanted, "{query}");
        }
    }

    #[test]
    fn no_query_asks_for_nothing() {
        let nothing = parse::<Wanted>("").unwrap();
        assert_eq!((nothing.count, nothing.format), (None, Format::Decimal));
    }

    #[test]
    fn a_refusal_names_the_parameter() {
        for (query, pointer) in [
            ("count=many", "?count"),
            ("count=", "?count"),
            ("count", "?count"),
            ("count=-1", "?count"),
            ("count=65536", "?count"),
            ("count=1.5", "?count"),
            ("count=+1", "?count"),
            ("count=%FF", "?count"),
            ("format=roman", "?format"),
            ("count=5&format=UUID_V7", "?format"),
            ("count=1&count=1", "?count"),
            ("format=decimal&count=5&format=decimal", "?format"),
            ("number=5", "?number"),
            ("count=5&Count=5", "?Count"),
            ("count=5;format=decimal", "?count"),
            ("=5", "?"),
        ] {
            assert_eq!(refused::<Wanted>(query), (422, pointer.to_owned()), "{query}");
        }
        assert_eq!(refused::<Named>("other=5"), (422, "?name".to_owned()));
    }

    #[test]
    fn what_a_refusal_repeats_is_bounded_and_free_of_control_characters() {
        let (_, pointer) = refused::<Wanted>(&format!("a%0D%0Ab{}=5", "c".repeat(5_000)));
        assert!(pointer.starts_with("?abc") && pointer.len() <= 100, "{pointer}");
    }
}
