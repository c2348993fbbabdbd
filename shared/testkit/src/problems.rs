//! The shape that every error of every server has, as a test can ask for it.

use serde_json::Value;

use crate::http::Answer;

/// Fails unless an error looks as all of ours do. `what` names the case in the message.
///
/// # Panics
/// When it does not.
pub fn assert_problem(answer: &Answer, what: &str) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{what}: {answer:?}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}: {answer:?}");
    assert_eq!(
        answer.header("x-content-type-options"),
        Some("nosniff"),
        "{what}: {answer:?}"
    );
    assert_problem_body(&answer.json(), answer.status, what);
    if answer.status == 503 {
        assert!(answer.header("retry-after").is_some(), "{what}: {answer:?}");
    }
}

/// The same for the body alone, which may also stand within another answer.
///
/// # Panics
/// When it does not look so.
pub fn assert_problem_body(body: &Value, status: u16, what: &str) {
    const MEMBERS: [&str; 9] = [
        "type",
        "title",
        "status",
        "instance",
        "code",
        "outcome",
        "detail",
        "retry_after_ms",
        "errors",
    ];
    let text = |member: &str| {
        body[member]
            .as_str()
            .unwrap_or_else(|| panic!("{what}: no `{member}` in {body}"))
    };
    assert_eq!(body["status"], status, "{what}: {body}");
    assert_eq!(text("type"), format!("/problems/{}", text("code")), "{what}");
    assert!(
        !text("title").is_empty() && text("instance").starts_with("/req/"),
        "{what}: {body}"
    );
    assert!(matches!(text("outcome"), "not_executed" | "unknown"), "{what}: {body}");
    let members = body.as_object().expect("an error is an object").keys();
    let foreign: Vec<_> = members.filter(|member| !MEMBERS.contains(&member.as_str())).collect();
    assert!(foreign.is_empty(), "{what}: {foreign:?}");
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let echoes = errors.iter().flat_map(|error| [&error["pointer"], &error["reason"]]);
    for echo in echoes.chain(body.get("detail")) {
        let echo = echo.as_str().unwrap_or_else(|| panic!("{what}: {body}"));
        assert!(
            echo.chars().count() <= 100 && !echo.chars().any(char::is_control),
            "{what}: {body}"
        );
    }
}
