//! The JSON of a climb, and the README block that is made from it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lab::output::climb::ClimbReport;
use lab::output::html;
use lab::output::json::SCHEMA;
use lab::output::markdown;
use serde_json::{Value, json};

fn run() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers/climb.json")
}

fn value() -> Value {
    serde_json::from_str(&fs::read_to_string(run()).unwrap()).unwrap()
}

/// A recorded file, read into the Rust type (which refuses unknown keys) and written again, is the same: so the file has
/// exactly the keys of the type, and a changed type needs a new recording and a look at the schema version.
#[test]
fn a_recorded_climb_has_exactly_the_shape_that_is_written() {
    let report: ClimbReport = serde_json::from_value(value()).unwrap();
    assert_eq!(report.schema, SCHEMA);
    assert_eq!(serde_json::to_value(&report).unwrap(), value());
}

#[test]
fn the_keys_that_others_rely_on_are_there() {
    let climb = value();
    let has = |value: &Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} is missing");
        }
    };
    has(
        &climb,
        &["schema", "design", "seed", "machine", "layout", "slo", "stages"],
    );
    has(&climb["machine"], &["cpu", "cores", "memory_bytes", "kernel", "rustc"]);
    for stage in climb["stages"].as_array().unwrap() {
        has(
            stage,
            &[
                "stage",
                "knee_rps",
                "rig_limited",
                "p50_ms",
                "p99_ms",
                "bottleneck",
                "violations",
                "skipped",
                "probes",
            ],
        );
        has(&stage["bottleneck"], &["resource", "utilisation", "evidence"]);
        for probe in stage["probes"].as_array().unwrap() {
            has(
                probe,
                &[
                    "offered_rps",
                    "achieved_rps",
                    "p50_ms",
                    "p99_ms",
                    "errors",
                    "late",
                    "dropped",
                ],
            );
        }
    }
}

/// Which engines, and how much of a full core the largest of them took, stand in the table; nothing else changes.
#[test]
fn a_run_with_engines_says_so() {
    let mut climb = value();
    let without: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    let stage = climb["stages"].as_array_mut().unwrap().last_mut().unwrap();
    stage["engines"] = json!([
        {"engine": "postgres", "version": "15.18", "place": "local"},
        {"engine": "redis", "version": null, "place": "redis://cache:6379"},
    ]);
    stage["bottleneck"]["resource"] = json!("cpu");
    stage["bottleneck"]["reason"] = json!("full");
    let mut part = stage["ledger"][0].clone();
    part["resource"] = json!("cpu/postgres");
    part["utilisation"] = json!(0.61);
    stage["ledger"].as_array_mut().unwrap().push(part);
    let with: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    assert_eq!(serde_json::to_value(&with).unwrap(), climb);

    let (without, with) = (markdown::block(&without, "run"), markdown::block(&with, "run"));
    assert!(with.contains("% busy (postgres 61 %) |"), "{with}");
    assert!(
        with.ends_with("`permuted` ran on postgres 15.18 (local) and redis at redis://cache:6379.\n"),
        "{with}"
    );
    assert!(
        !without.contains("ran on") && !without.contains("postgres"),
        "{without}"
    );
}

/// How many nodes a stage had stands below the table when it is more than one, and a run from before there were any is read.
#[test]
fn a_run_of_several_nodes_says_so() {
    let mut climb = value();
    assert!(climb["stages"][0].get("nodes").is_none());
    let report: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    assert_eq!(report.stages[0].nodes, 1);
    assert!(!markdown::block(&report, "run").contains("nodes"));

    climb["stages"][0]["nodes"] = json!(2);
    climb["stages"][1]["nodes"] = json!(3);
    climb["stages"][1]["engines"] = json!([{"engine": "postgres", "version": "15.18", "place": "local"}]);
    let report: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    assert_eq!(serde_json::to_value(&report).unwrap(), climb);
    let (first, second) = (&report.stages[0].stage, &report.stages[1].stage);
    let block = markdown::block(&report, "run");
    assert!(block.contains(&format!("\n`{first}` ran as 2 nodes.\n")), "{block}");
    let both = format!("`{second}` ran as 3 nodes on postgres 15.18 (local).\n");
    assert!(block.ends_with(&both), "{block}");
    let page = html::page(&report).unwrap();
    assert!(page.contains("<p>Ran as 2 nodes.</p>"));
    assert!(page.contains("<p>Ran as 3 nodes on postgres 15.18 (local).</p>"));
}

/// How well a limit was kept is a column where something is limited, and nothing elsewhere.
#[test]
fn a_run_of_a_limiter_has_its_accuracy() {
    let mut climb = value();
    let without: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    let (block, page) = (markdown::block(&without, "run"), html::page(&without).unwrap());
    assert!(!block.contains("accuracy") && !page.contains("accuracy"));

    climb["stages"][0]["accuracy"] = json!({"most_in_a_window": 1.374, "too_many": 96, "refused_wrongly": 2});
    climb["stages"][1]["accuracy"] = json!({"most_in_a_window": 0.99, "too_many": 0, "refused_wrongly": 0});
    let with: ClimbReport = serde_json::from_value(climb.clone()).unwrap();
    assert_eq!(serde_json::to_value(&with).unwrap(), climb);
    let block = markdown::block(&with, "run");
    for part in [
        " violations | accuracy |\n",
        " | 1.37 x, 96 too many, 2 refused wrongly |\n",
        " | 0.99 x |\n",
    ] {
        assert!(block.contains(part), "{part}: {block}");
    }
    let columns = |line: &str| line.matches('|').count();
    let mut rows = block.lines().filter(|line| line.starts_with('|'));
    assert!(rows.all(|line| columns(line) == 9), "{block}");
    assert!(html::page(&with).unwrap().contains(">accuracy<"));
}

fn report(readme: &std::path::Path, more: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["report", "url-shortener", "--run"])
        .arg(run())
        .arg("--readme")
        .arg(readme)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_readme_gets_the_table_of_its_run_and_a_typed_number_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let readme = dir.path().join("README.md");
    fs::write(
        &readme,
        "before\n<!-- report: old/climb.json -->\n<!-- /report -->\nafter\n",
    )
    .unwrap();
    assert_eq!(
        report(&readme, &["--check"]).status.code(),
        Some(1),
        "an empty block is not the run's"
    );
    assert!(report(&readme, &[]).status.success());
    let text = fs::read_to_string(&readme).unwrap();
    assert!(
        text.starts_with(&format!("before\n<!-- report: {} -->\n| stage |", run().display())),
        "{text}"
    );
    assert!(text.ends_with("<!-- /report -->\nafter\n"));
    assert!(text.contains("| `permuted` |") && text.contains("seed 1"), "{text}");
    assert!(text.contains("](climb-climb.svg)"), "{text}");
    assert!(report(&readme, &["--check"]).status.success());
    fs::write(&readme, text.replacen("| 0 |", "| 1 |", 1)).unwrap();
    let check = report(&readme, &["--check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stderr).contains("is not what"));
}

#[test]
fn the_picture_beside_a_readme_is_its_runs_and_an_edited_or_missing_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let readme = dir.path().join("README.md");
    let picture = dir.path().join("climb-climb.svg");
    fs::write(&readme, "<!-- report: old/climb.json -->\n<!-- /report -->\n").unwrap();
    assert!(report(&readme, &[]).status.success());
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.contains(">single_table 3,740</text>"), "{svg}");
    fs::write(
        &picture,
        svg.replacen(">single_table 3,740<", ">single_table 9,740<", 1),
    )
    .unwrap();
    let check = report(&readme, &["--check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stderr).contains("the picture is not what"));
    fs::remove_file(&picture).unwrap();
    assert_eq!(report(&readme, &["--check"]).status.code(), Some(1));
    assert!(!picture.exists(), "a check writes nothing");
    assert!(report(&readme, &[]).status.success());
    assert_eq!(fs::read_to_string(&picture).unwrap(), svg);
}

#[test]
fn a_page_of_a_recorded_climb_needs_no_readme() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let lab = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["report", "url-shortener", "--run"])
            .arg(run())
            .args(more)
            .output()
            .unwrap()
    };
    assert!(lab(&["--html", page.to_str().unwrap()]).status.success());
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!doctype html>"));
    assert_eq!(
        lab(&[]).status.code(),
        Some(2),
        "neither a README nor a page is asked for"
    );
    let nowhere = lab(&["--html", dir.path().join("no/page.html").to_str().unwrap()]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("cannot write"));
}
