//! `lab estimate` as a user meets it. The numbers are made up (`estimates/made-up-numbers.json`): what is tested is the
//! arithmetic and what is said about it, never what a machine does.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::output::estimate::EstimateReport;
use lab::output::json::SCHEMA;
use serde_json::{Value, json};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn numbers() -> PathBuf {
    file("estimates/made-up-numbers.json")
}

fn estimate(more: &[&str]) -> Output {
    let numbers = numbers();
    let mut args = vec!["estimate", "url-shortener", "--numbers", numbers.to_str().unwrap()];
    args.extend(more);
    Command::new(env!("CARGO_BIN_EXE_lab")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(more: &[&str]) -> EstimateReport {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("estimate.json");
    let mut args = vec!["--json", json.to_str().unwrap()];
    args.extend(more);
    let output = estimate(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap()
}

/// A changed copy of a JSON file.
fn changed(dir: &Path, from: &Path, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(from).unwrap()).unwrap();
    change(&mut value);
    let path = dir.join("changed.json");
    fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn fails(args: &[&str], code: i32, part: &str) {
    let output = estimate(args);
    let text = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(part), "{args:?}: {text}");
    if code == 1 {
        assert_eq!(text.trim_end().lines().count(), 1, "{args:?}: {text}");
    }
}

#[test]
fn the_steps_are_shown_with_the_numbers_put_in() {
    let output = estimate(&["--dau", "100M", "--explain"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let text = text(&output.stdout);
    for line in [
        "100,000,000 users x 0.08 create a day / 86,400 s = 93 create/s",
        "1,160/s x 10 = 11,600/s at the peak",
        "93 create/s x 86,400 s x 365 days x 58 bytes x 3 copies = 508 GB a year",
        "hit-rate=0.95",
        // 0.90 x 500 us + 0.08 x (500 us + 3 x 5 us).
        "demand 491 us, ceiling 1 / 491 us = 2,040/s",
        "so 11 machine(s)",
        "2 independent replica(s)",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn the_json_has_what_is_printed() {
    let report = report(&["--dau", "1b", "--cores", "4"]);
    assert_eq!((report.schema, report.design.as_str()), (SCHEMA, "url-shortener"));
    assert!((report.traffic.peak_rps - 1e9 / 86_400.0 * 10.0).abs() < 1.0);
    let single = &report.stages[0];
    assert_eq!(single.prediction.bottleneck.as_deref(), Some("sqlite_writer"));
    let knee = single.prediction.knee_rps.unwrap();
    assert_eq!(single.machines, Some((report.traffic.peak_rps / (0.6 * knee)).ceil()));
    assert!(report.held.is_none());
}

#[test]
fn every_assumption_changes_what_depends_on_it() {
    let (base, knees) = (report(&[]), |report: &EstimateReport| -> Vec<f64> {
        report
            .stages
            .iter()
            .map(|stage| stage.prediction.knee_rps.unwrap())
            .collect()
    });
    let cold = report(&["--set", "hit-rate=0"]);
    assert_eq!(knees(&cold)[0], knees(&base)[0], "single_table has no cache");
    assert!(knees(&cold)[2] < knees(&base)[2] && knees(&cold)[4] < knees(&base)[4]);
    let wide = report(&["--cores", "64"]);
    assert_eq!(knees(&wide)[0], knees(&base)[0], "one writer is one writer");
    assert!(knees(&wide)[3] > knees(&base)[3]);
    assert_eq!(wide.stages[3].prediction.bottleneck.as_deref(), Some("sqlite_writer"));
    let long = report(&["--set", "link-bytes=116", "--retention-years", "10"]);
    assert!((long.traffic.stored_bytes / base.traffic.stored_bytes - 4.0).abs() < 1e-9);
    let careful = report(&["--utilisation", "0.3", "--peak", "20"]);
    assert!(careful.stages[0].machines.unwrap() > 3.9 * base.stages[0].machines.unwrap());
    let poor = report(&["--replica-availability", "0.9"]);
    assert_eq!(
        [poor.nines.targets[0].replicas, poor.nines.targets[1].replicas],
        [4.0, 5.0]
    );
}

#[test]
fn a_climb_says_how_far_off_it_is() {
    let climb = file("ledgers/climb.json");
    let recorded: Value = serde_json::from_str(&fs::read_to_string(&climb).unwrap()).unwrap();
    let report = report(&["--climb", climb.to_str().unwrap()]);
    let held = report.held.unwrap();
    assert!(
        !held.warnings.is_empty(),
        "the made-up machine is not the one that was climbed"
    );
    for (stage, measured) in held.stages.iter().zip(recorded["stages"].as_array().unwrap()) {
        assert_eq!(stage.measured_rps, measured["knee_rps"].as_f64(), "{}", stage.stage);
        let (Some(ratio), Some(predicted), Some(measured)) = (stage.ratio, stage.predicted_rps, stage.measured_rps)
        else {
            continue;
        };
        assert!((ratio - predicted / measured).abs() < 1e-9);
    }
    assert!(held.stages.iter().any(|stage| stage.foreseen.is_some()));
}

#[test]
fn every_stage_of_the_ladder_has_its_demands() {
    let run = file("../runs/2026-11-25-epyc-2-cores/url-shortener.json");
    let held = report(&["--climb", run.to_str().unwrap()]).held.unwrap();
    let recorded: Value = serde_json::from_str(&fs::read_to_string(run).unwrap()).unwrap();
    assert_eq!(held.stages.len(), recorded["stages"].as_array().unwrap().len());
    assert!(
        held.stages
            .iter()
            .all(|stage| stage.ratio.is_some() && stage.foreseen.is_some())
    );
    assert_eq!(
        held.warnings.len(),
        1,
        "the machines differ, and nothing else: {:?}",
        held.warnings
    );
}

#[test]
fn a_stage_that_the_envelope_does_not_know_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let newer = changed(dir.path(), &file("ledgers/climb.json"), |climb| {
        climb["stages"][0]["stage"] = json!("sharded");
    });
    let held = report(&["--climb", &newer]).held.unwrap();
    assert!(
        held.warnings.iter().any(|text| text.contains("`sharded`")),
        "{:?}",
        held.warnings
    );
}

/// What users do may change; what was measured was measured with the climb's own mix and cores.
#[test]
fn a_climb_is_held_against_its_own_mix_and_cores() {
    let dir = tempfile::tempdir().unwrap();
    let creates = changed(dir.path(), &file("ledgers/climb.json"), |climb| {
        climb["mix"] = json!("create=100");
        climb["server_cpu_cores"] = json!(0.5);
        climb["set"] = json!([["cache-links", "100"]]);
        climb["stages"][0]["rig_limited"] = json!(true);
    });
    let held = report(&["--climb", &creates, "--cores", "64"]).held.unwrap();
    assert_eq!(held.cores, 0.5);
    assert_eq!(
        held.mix,
        [("redirect", 0.0), ("create", 1.0), ("unknown", 0.0)].map(|(kind, share)| (kind.to_owned(), share))
    );
    assert!(held.warnings.iter().any(|text| text.contains("cache-links=100")));
    assert_eq!((held.stages[0].foreseen, held.stages[0].rig_limited), (None, true));
}

#[test]
fn a_stage_whose_numbers_were_not_measured_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let without = changed(dir.path(), &numbers(), |numbers| {
        let all = numbers["numbers"].as_array_mut().unwrap();
        all.retain(|number| number["key"] != "redis_get");
    });
    let output = estimate(&["--numbers", &without]);
    assert_eq!(output.status.code(), Some(2), "--numbers is there twice");
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["estimate", "url-shortener", "--numbers", &without])
        .output()
        .unwrap();
    let text = text(&output.stdout);
    assert!(
        text.contains("shared         cannot be told: the numbers lack redis_get"),
        "{text}"
    );
    assert!(
        text.contains("permuted") && !text.contains("permuted       cannot"),
        "{text}"
    );
}

/// What a layout fixes takes as long on every machine, and is no number that could be missing.
#[test]
fn a_demand_may_be_a_time_that_no_machine_changes() {
    let numbers = numbers();
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args([
            "estimate",
            "id-generator",
            "--dau",
            "100M",
            "--explain",
            "--cores",
            "64",
        ])
        .args(["--set", "bulks-per-user=100", "--numbers", numbers.to_str().unwrap()])
        .output()
        .unwrap();
    let text = text(&output.stdout);
    for part in [
        // 1,000 ids of the 4,096 that a millisecond has.
        "(bulk) x 0.244 x millisecond 1.00 ms = 222 us: of the numbers that a millisecond has",
        "the lowest is sequence",
        "leased",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A larger share is fewer commands of Redis for stage leased, and nothing to the others.
#[test]
fn a_limiters_share_is_what_leased_pays_redis() {
    let estimate = |share: &str| -> EstimateReport {
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("estimate.json");
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["estimate", "rate-limiter", "--set", share, "--numbers"])
            .arg(numbers())
            .arg("--json")
            .arg(&json)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap()
    };
    let (small, large) = (estimate("share=1"), estimate("share=100"));
    let stages = [
        "fixed_window",
        "sliding_log",
        "token_bucket",
        "racy",
        "atomic",
        "leased",
    ];
    for (index, stage) in stages.into_iter().enumerate() {
        let knee = |report: &EstimateReport| {
            assert_eq!(report.stages[index].prediction.stage, stage);
            report.stages[index].prediction.knee_rps.unwrap()
        };
        assert_eq!(knee(&large) > knee(&small), stage == "leased", "{stage}");
    }
}

#[test]
fn every_error_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let climb = file("ledgers/climb.json");
    let other = changed(dir.path(), &climb, |climb| climb["design"] = json!("chat"));
    fails(&["--climb", &other], 1, "is a climb of chat, not of url-shortener");
    let newer = changed(dir.path(), &climb, |climb| climb["schema"] = json!(99));
    fails(&["--climb", &newer], 1, "has schema 99");
    fails(&["--climb", numbers().to_str().unwrap()], 1, "is not a climb");
    fails(&["--climb", "/nowhere/x.json"], 1, "cannot read /nowhere/x.json");
    fails(&["--json", "/nowhere/x.json"], 1, "cannot write /nowhere/x.json");
    fails(&["--set", "no-such=1"], 1, "hit-rate");
    fails(&["--set", "hit-rate=2"], 1, "from 0 to 1");
    fails(&["--set", "key-block=nan"], 1, "from 1 to");
    fails(&["--peak", "0.5"], 1, "--peak");
    fails(
        &[
            "--set",
            "redirects-per-user=0",
            "--set",
            "creates-per-user=0",
            "--set",
            "unknown-per-user=0",
        ],
        1,
        "somebody must do something",
    );
    for usage in [
        ["--dau", "0"],
        ["--dau", "nan"],
        ["--dau", "1e30"],
        ["--utilisation", "0"],
        ["--utilisation", "1.5"],
        ["--replica-availability", "nan"],
        ["--set", "novalue"],
    ] {
        fails(&usage, 2, usage[0]);
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |numbers: &str, part: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["estimate", "url-shortener", "--numbers", numbers])
            .output()
            .unwrap();
        let text = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(part) && text.trim_end().lines().count() == 1, "{text}");
    };
    let newer = changed(dir.path(), &numbers(), |numbers| numbers["schema"] = json!(99));
    refused(&newer, "has schema 99");
    let instant = changed(dir.path(), &numbers(), |numbers| {
        numbers["numbers"][3]["seconds"] = json!(0.0);
    });
    refused(&instant, "which nothing does");
    let other = "is not what `lab numbers --json` writes";
    refused(
        &changed(dir.path(), &numbers(), |numbers| numbers["more"] = json!(1)),
        other,
    );
    refused(file("ledgers/climb.json").to_str().unwrap(), other);
    let unknown = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["estimate", "no-such"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}
