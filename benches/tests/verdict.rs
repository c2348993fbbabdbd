//! Verdicts on recorded ledgers: what a real climb read from the four embedded stages of the URL shortener, just past
//! their knees (a quick climb of 2026-11-22 on a virtual machine with two cores).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use lab::verdict::{Evidence, Reason, Verdict, judge, usages};

fn recorded(stage: &str) -> Evidence {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/ledgers/{stage}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn verdict(stage: &str) -> Verdict {
    judge(&recorded(stage)).unwrap()
}

#[test]
fn a_single_table_waits_for_its_writer() {
    let verdict = verdict("single_table");
    assert_eq!(verdict.resource, "sqlite_writer");
    assert!(verdict.utilisation > 0.8, "{}", verdict.utilisation);
}

#[test]
fn behind_a_cache_every_create_is_an_fsync() {
    let verdict = verdict("cached");
    assert_eq!(
        (verdict.resource.as_str(), verdict.reason),
        ("sqlite_writer", Reason::Full)
    );
}

#[test]
fn with_shared_fsyncs_the_core_is_full() {
    for stage in ["pregenerated", "permuted"] {
        let verdict = verdict(stage);
        assert_eq!(
            (verdict.resource.as_str(), verdict.reason),
            ("cpu", Reason::Full),
            "{stage}"
        );
        assert!(verdict.evidence.starts_with("cpu is busy 9"), "{}", verdict.evidence);
    }
}

/// Recorded by a quick climb of 2026-11-25 with `--mix redirect=20,create=60,unknown=20`: Postgres and Redis on the
/// server's core.
#[test]
fn a_core_shared_with_engines_is_full_although_the_server_is_not() {
    let shared = verdict("shared");
    assert_eq!((shared.resource.as_str(), shared.reason), ("cpu", Reason::Full));
    let parts = "(1 core), of which server 61 %, postgres 25 %, redis 11 %; one operation takes";
    assert!(shared.evidence.contains(parts), "{}", shared.evidence);

    // What the server alone knows of the same probe.
    let mut alone = recorded("shared");
    for rows in [&mut alone.before, &mut alone.after] {
        let server = rows["cpu/server"].clone();
        rows.insert("cpu".to_owned(), server);
        rows.retain(|name, _| !name.starts_with("cpu/"));
    }
    let alone = judge(&alone).unwrap();
    assert_eq!(alone.reason, Reason::LatencyBound, "{}", alone.evidence);
    assert!(!alone.evidence.contains("of which"), "{}", alone.evidence);
}

/// The ceiling is arithmetic on the ledger; the throughput was counted by the generator. Neither knows the other.
#[test]
fn no_stage_served_more_than_its_ceiling() {
    for stage in ["single_table", "cached", "pregenerated", "permuted", "shared"] {
        let evidence = recorded(stage);
        let ceiling = usages(&evidence)
            .iter()
            .filter_map(|usage| usage.ceiling_rps)
            .fold(f64::INFINITY, f64::min);
        assert!(
            evidence.achieved_rps < ceiling * 1.05,
            "{stage}: {} of {ceiling}",
            evidence.achieved_rps
        );
    }
}

#[test]
fn on_half_a_core_the_cpu_of_the_same_ledger_is_more_than_full() {
    let mut evidence = recorded("cached");
    evidence.cpu_quota_cores = Some(0.5);
    assert_eq!(judge(&evidence).unwrap().resource, "cpu");
}
