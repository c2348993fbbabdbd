//! `lab compare` as a user meets it, on changed copies of a committed run.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn run() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runs/2026-11-25-epyc-2-cores/url-shortener.json")
}

fn stage<'a>(climb: &'a mut Value, name: &str) -> &'a mut Value {
    let mut stages = climb["stages"].as_array_mut().unwrap().iter_mut();
    stages.find(|stage| stage["stage"] == name).unwrap()
}

/// Knees, and whatever else is a rate of it, times a factor.
fn scale(stage: &mut Value, factor: f64) {
    for key in ["knee_rps", "knee_min_rps", "knee_max_rps"] {
        stage[key] = json!(stage[key].as_f64().unwrap() * factor);
    }
    for knee in stage["knees_rps"].as_array_mut().unwrap() {
        *knee = json!(knee.as_f64().unwrap() * factor);
    }
}

fn lab(before: &Path, after: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("compare")
        .args([before, after])
        .arg("--fail-on-regression")
        .output()
        .unwrap()
}

/// The exit code and the text of a comparison of the committed run with a changed copy.
fn compare(change: impl FnOnce(&mut Value)) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut climb = serde_json::from_str(&fs::read_to_string(run()).unwrap()).unwrap();
    change(&mut climb);
    let after = dir.path().join("after.json");
    fs::write(&after, climb.to_string()).unwrap();
    let output = lab(&run(), &after);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no {start} in {text}"))
}

#[test]
fn a_climb_is_within_noise_of_itself() {
    let (code, text) = compare(|_| ());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        text.matches("within noise").count(),
        10,
        "five knees and five p99: {text}"
    );
    assert!(
        !text.contains("warning") && !text.contains("worse") && !text.contains("bottleneck"),
        "{text}"
    );
}

#[test]
fn a_lower_knee_is_a_regression_and_a_higher_one_is_none() {
    let (code, text) = compare(|climb| scale(stage(climb, "cached"), 0.5));
    assert_eq!(code, Some(99), "{text}");
    assert!(
        line(&text, "cached").contains("lower") && text.contains("worse: its knee is lower"),
        "{text}"
    );
    let (code, text) = compare(|climb| scale(stage(climb, "cached"), 2.0));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        line(&text, "cached").contains("higher") && !text.contains("worse"),
        "{text}"
    );
}

#[test]
fn a_lower_knee_within_the_spread_of_the_rounds_is_noise() {
    // 10,700 to 12,900 and nine tenths of that overlap; `shared` has a spread of nothing, and a tenth is not more than one.
    let (code, text) = compare(|climb| {
        scale(stage(climb, "cached"), 0.85);
        scale(stage(climb, "shared"), 0.91);
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("lower"), "{text}");
}

#[test]
fn a_bound_is_never_lower() {
    let (code, text) = compare(|climb| {
        let stage = stage(climb, "permuted");
        scale(stage, 0.5);
        stage["rig_limited"] = json!(true);
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(line(&text, "permuted").contains(">= "), "{text}");
}

#[test]
fn a_slower_p99_is_said_and_is_no_regression() {
    let (code, text) = compare(|climb| {
        let stage = stage(climb, "permuted");
        stage["p99_ms"] = json!(1_000.0);
        for probe in stage["probes"].as_array_mut().unwrap() {
            probe["p99_ms"] = json!(1_000.0);
        }
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(line(&text, "permuted").ends_with("higher"), "{text}");
}

#[test]
fn violations_a_skip_and_a_gone_stage_are_regressions() {
    let (code, text) = compare(|climb| stage(climb, "shared")["violations"] = json!(3));
    assert_eq!(code, Some(99), "{text}");
    assert!(text.contains("worse: violations: 3, 0 before"), "{text}");
    let (code, text) = compare(|climb| stage(climb, "shared")["skipped"] = json!("no Redis here"));
    assert_eq!(code, Some(99), "{text}");
    assert!(text.contains("worse: it was skipped: no Redis here"), "{text}");
    let (code, text) = compare(|climb| drop(climb["stages"].as_array_mut().unwrap().pop()));
    assert_eq!(code, Some(99), "{text}");
    assert!(
        line(&text, "shared").contains("gone") && text.contains("worse: it is gone"),
        "{text}"
    );
}

#[test]
fn a_new_stage_and_another_bottleneck_are_said() {
    let (code, text) = compare(|climb| {
        let mut new = stage(climb, "shared").clone();
        new["stage"] = json!("sharded");
        climb["stages"].as_array_mut().unwrap().push(new);
        stage(climb, "cached")["bottleneck"]["resource"] = json!("sqlite_writer");
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(line(&text, "sharded").contains("new"), "{text}");
    assert!(text.contains("bottleneck: cpu before, sqlite_writer after"), "{text}");
}

#[test]
fn climbs_under_other_conditions_are_compared_with_a_warning() {
    let (code, text) = compare(|climb| {
        climb["seed"] = json!(2);
        climb["items"] = json!(7);
        climb["mix"] = json!("create=100");
        climb["quick"] = json!(true);
        climb["machine"]["cpu"] = json!("another");
    });
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "AMD EPYC and another",
        "seed: 1 before, 2 after",
        "items:",
        "mix:",
        "quick:",
    ] {
        assert!(
            text.lines()
                .any(|line| line.starts_with("warning: ") && line.contains(part)),
            "{part}: {text}"
        );
    }
}

#[test]
fn without_the_flag_a_regression_is_a_result_and_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut climb: Value = serde_json::from_str(&fs::read_to_string(run()).unwrap()).unwrap();
    scale(stage(&mut climb, "cached"), 0.5);
    let after = dir.path().join("after.json");
    fs::write(&after, climb.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("compare")
        .args([&run(), &after])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("worse:"));
}

#[test]
fn every_error_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut climb: Value = serde_json::from_str(&fs::read_to_string(run()).unwrap()).unwrap();
    let path = dir.path().join("x.json");
    let mut fails = |change: &mut dyn FnMut(&mut Value), part: &str| {
        change(&mut climb);
        fs::write(&path, climb.to_string()).unwrap();
        let output = lab(&run(), &path);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(part) && text.trim_end().lines().count() == 1, "{text}");
    };
    fails(
        &mut |climb| climb["design"] = json!("chat"),
        "is a climb of url-shortener and",
    );
    fails(&mut |climb| climb["schema"] = json!(99), "has schema 99");
    fails(&mut |climb| *climb = json!([1]), "is not a climb");
    let missing = lab(&run(), Path::new("/nowhere/x.json"));
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot read /nowhere/x.json"));
}
