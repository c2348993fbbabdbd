//! The verdict and the proof, held against what planted services have recorded: every ledger and every measurement of the
//! newest committed run of `lab planted`, judged again by the code of today.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::planted::{Case, FAULTS, PlantedReport};
use lab::proof::{self, Finding, Measured};
use lab::verdict::{Reason, judge};

/// Folders begin with their date.
fn newest() -> PathBuf {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let folders = std::fs::read_dir(runs).unwrap().map(|folder| folder.unwrap().path());
    let mut found: Vec<PathBuf> = folders
        .map(|folder| folder.join("planted.json"))
        .filter(|file| file.is_file())
        .collect();
    found.sort();
    found.pop().unwrap()
}

fn recorded() -> PlantedReport {
    serde_json::from_str(&std::fs::read_to_string(newest()).unwrap()).unwrap()
}

fn name(case: &Case) -> String {
    format!("{}, seed {}", case.fault, case.seed)
}

#[test]
fn the_recorded_run_has_every_fault_with_three_seeds_and_no_complaint() {
    let report = recorded();
    for (fault, expected) in FAULTS {
        let seeds: Vec<u64> = report
            .cases
            .iter()
            .filter(|case| case.fault == fault)
            .map(|case| case.seed)
            .collect();
        assert_eq!(seeds, [1, 2, 3], "{fault}");
        assert!(
            report
                .cases
                .iter()
                .all(|case| case.fault != fault || case.expected == expected)
        );
    }
    assert!(report.complaints().is_empty(), "{:?}", report.complaints());
}

#[test]
fn every_recorded_ledger_names_the_fault_that_was_planted() {
    for case in recorded().cases {
        let verdict = judge(case.recorded.as_ref().unwrap()).unwrap();
        assert_eq!(verdict.resource, case.expected, "{}: {}", name(&case), verdict.evidence);
    }
}

#[test]
fn every_recorded_measurement_is_judged_again_as_it_was() {
    let mut proven = 0;
    for case in recorded().cases {
        let again = case.clone().judged_again();
        assert_eq!(
            (&again.named, again.reason),
            (&case.named, case.reason),
            "{}",
            name(&case)
        );
        let findings =
            [&again, &case].map(|case| case.proof.as_ref().map(|proof| (proof.finding, proof.named.clone())));
        assert_eq!(findings[0], findings[1], "{}", name(&case));
        if let Some((Finding::Proven, named)) = &findings[0] {
            assert!(named.iter().eq([&case.expected]), "{}", name(&case));
            proven += 1;
        }
    }
    assert!(proven > 30, "{proven}");
}

/// The verdict comes from the ledger: with a third of its busy time the same resource is not full.
#[test]
fn a_fault_that_is_busy_a_third_of_the_time_is_not_full() {
    for case in recorded()
        .cases
        .into_iter()
        .filter(|case| case.reason == Some(Reason::Full))
    {
        let mut evidence = case.recorded.clone().unwrap();
        let before = evidence.before[&case.expected].busy_s;
        let after = evidence.after.get_mut(&case.expected).unwrap();
        after.busy_s = before + (after.busy_s - before) / 3.0;
        let verdict = judge(&evidence).unwrap();
        let named = (verdict.resource.as_str(), verdict.reason);
        assert_ne!(named, (case.expected.as_str(), Reason::Full), "{}", name(&case));
    }
}

/// A proof of the wrong resource must fail: the measurements of the two that were slowed, exchanged.
#[test]
fn no_recorded_proof_holds_with_the_measurements_of_two_resources_exchanged() {
    for case in recorded().cases {
        let Some(recorded) = case.proof.as_ref().filter(|proof| proof.finding == Finding::Proven) else {
            continue;
        };
        let mut measured: Vec<Measured> = recorded.interventions.iter().map(Measured::again).collect();
        if measured.len() < 2 {
            continue;
        }
        let (first, second) = (measured[0].value, measured[1].value);
        (measured[0].value, measured[1].value) = (second, first);
        let factor = recorded.interventions[0].factor;
        let again = proof::conclude(
            recorded.measure,
            factor,
            recorded.baselines.clone(),
            &measured,
            Vec::new(),
        );
        assert_eq!(again.finding, Finding::Unproven, "{}: {}", name(&case), again.summary);
    }
}

#[test]
fn what_cannot_be_planted_is_one_clear_line() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .arg("planted")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&["--seeds", "0"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = run(&["--json", "/no/such/folder/planted.json", "--faults", "nothing"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
}
