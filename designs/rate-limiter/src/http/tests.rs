//! The headers, read back by the grammar of structured fields (RFC 9651) as a client would.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use proptest::prelude::*;

use super::{DEGRADED, LIMIT, POLICY, answer, millis, seconds, tell};
use crate::domain::{Decision, FailureMode, Limit, Rule, Unit};
use crate::service::Verdict;

/// A string item and its integer parameters; panics on anything that is no such item.
fn item(text: &str) -> (String, Vec<(String, u64)>) {
    let mut rest = text.strip_prefix('"').expect("a string begins with a quote").chars();
    let mut name = String::new();
    loop {
        match rest.next().expect("a string ends with a quote") {
            '"' => break,
            '\\' => {
                let escaped = rest.next().expect("something is escaped");
                assert!(matches!(escaped, '"' | '\\'), "{escaped:?} is not to be escaped");
                name.push(escaped);
            }
            other => {
                assert!((' '..='~').contains(&other), "{other:?} does not belong into a string");
                name.push(other);
            }
        }
    }
    let parameters = rest.as_str();
    let parameters = parameters.split(';').skip(1).map(|parameter| {
        let (key, value) = parameter.split_once('=').expect("a key and a value");
        let in_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '*');
        assert!(
            key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(in_key),
            "{key}"
        );
        assert!(
            value.len() <= 15 && value.bytes().all(|byte| byte.is_ascii_digit()),
            "{value} is no integer of theirs"
        );
        (key.to_owned(), value.parse().unwrap())
    });
    assert!(rest.as_str().is_empty() || rest.as_str().starts_with(';'), "{text}");
    (name, parameters.collect())
}

fn header(headers: &HeaderMap, name: &http::HeaderName) -> (String, Vec<(String, u64)>) {
    item(headers[name].to_str().unwrap())
}

fn unit() -> impl Strategy<Value = Unit> {
    use Unit::{Day, Hour, Minute, Month, Second, Week, Year};
    prop::sample::select(&[Second, Minute, Hour, Day, Week, Month, Year][..])
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let limit =
        (any::<u32>(), unit(), any::<u32>()).prop_map(|(requests, unit, burst)| Limit { requests, unit, burst });
    let mode = prop::option::of(prop::sample::select(
        &[FailureMode::Open, FailureMode::Closed, FailureMode::Local][..],
    ));
    let wait = prop::option::of(0..u64::from(u32::MAX) * 1_000_000_000);
    (
        "[ -~]{1,40}",
        limit,
        any::<bool>(),
        any::<bool>(),
        any::<u32>(),
        wait,
        mode,
        any::<u32>(),
    )
        .prop_map(
            |(name, limit, admitted, shadow, remaining, wait, degraded, excess)| Verdict {
                allowed: admitted || shadow,
                rule: Some(Arc::new(Rule {
                    name,
                    limit,
                    algorithm: None,
                    failure: FailureMode::Local,
                    shadow,
                    single: false,
                })),
                decision: Some(Decision {
                    allowed: admitted,
                    remaining: remaining.into(),
                    reset_after: Duration::from_nanos(wait.unwrap_or(0)),
                    retry_after: wait.filter(|_| !admitted).map(Duration::from_nanos),
                    degraded,
                }),
                excess: excess.into(),
            },
        )
}

proptest! {
    #[test]
    fn what_the_headers_say_is_what_was_decided(verdict in verdict()) {
        let mut headers = HeaderMap::new();
        tell(&verdict, &mut headers);
        let (rule, decision) = (verdict.rule.as_ref().unwrap(), verdict.decision.unwrap());
        let limit = rule.limit;

        let (name, policy) = header(&headers, &POLICY);
        prop_assert_eq!(&name, &rule.name);
        let mut expected = vec![("q".to_owned(), u64::from(limit.requests)), ("w".to_owned(), limit.unit.seconds())];
        if limit.burst != limit.requests {
            expected.push(("lb-burst".to_owned(), limit.burst.into()));
        }
        if verdict.excess > 0 {
            expected.push(("lb-excess".to_owned(), verdict.excess));
        }
        prop_assert_eq!(policy, expected);

        let (name, left) = header(&headers, &LIMIT);
        prop_assert_eq!(&name, &rule.name);
        prop_assert_eq!(&left[0], &("r".to_owned(), decision.remaining));
        let told = left.get(1).map(|(key, seconds)| (key.as_str(), Duration::from_secs(*seconds)));
        match decision.retry_after {
            // Who waits as told has waited long enough, and by less than a second too long; at least one.
            Some(wait) => {
                let (key, told) = told.unwrap();
                prop_assert!(key == "t" && told >= wait, "{:?} before {:?}", told, wait);
                prop_assert!(told < wait + Duration::from_secs(1) || told.as_secs() == 1);
            }
            None => prop_assert_eq!(told, None),
        }

        let retry = headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        let refused = decision.retry_after.filter(|_| !verdict.allowed);
        prop_assert_eq!(retry, refused.map(seconds), "never before `t`, and on a refusal alone");
        prop_assert_eq!(headers.contains_key(DEGRADED), decision.degraded.is_some());
    }

    #[test]
    fn every_answer_is_json_that_agrees_with_its_status(verdict in verdict()) {
        let response = answer(&verdict);
        let status = response.status().as_u16();
        let body = body_of(response);
        let (rule, decision) = (verdict.rule.as_ref().unwrap(), verdict.decision.unwrap());
        prop_assert_eq!(status == 200, verdict.allowed);
        prop_assert_eq!(&body["allowed"], verdict.allowed);
        prop_assert_eq!(&body["limit"], rule.limit.burst);
        prop_assert_eq!(&body["remaining"], decision.remaining);
        prop_assert_eq!(body["retry_after_ms"].as_u64(), decision.retry_after.map(millis));
        if !verdict.allowed {
            prop_assert_eq!(&body["status"], status);
            let policies = &body["violated-policies"];
            prop_assert_eq!(policies, &serde_json::json!([rule.name]));
        }
    }
}

/// The whole body, which is in memory.
fn body_of(response: axum::response::Response) -> serde_json::Value {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX);
    let body = futures_util::FutureExt::now_or_never(body)
        .expect("nothing to be waited for")
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}
