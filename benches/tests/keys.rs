//! `lab keys`: that each table is filled and counted, that a run can be printed and drawn again, and that a page which shows
//! another one is noticed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use lab::keys::Kind;
use lab::output::json::SCHEMA;
use lab::output::keys::{KeysReport, Slice};

fn lab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("keys")
        .args(args)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn at(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

/// A run with few rows, measured once for all tests: its JSON, what it printed, its picture.
static RUN: LazyLock<(String, String, String)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let ((json, json_text), (svg, svg_text)) = (at(folder.path(), "keys.json"), at(folder.path(), "keys.svg"));
    let output = lab(&[
        "--rows",
        "2k",
        "--engines",
        "--seed",
        "7",
        "--data-root",
        data.to_str().unwrap(),
        "--json",
        &json_text,
        "--svg",
        &svg_text,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(data.read_dir().unwrap().count(), 0, "data was left behind");
    let printed = String::from_utf8(output.stdout).unwrap();
    (
        fs::read_to_string(json).unwrap(),
        printed,
        fs::read_to_string(svg).unwrap(),
    )
});

fn report() -> KeysReport {
    serde_json::from_str(&RUN.0).unwrap()
}

/// The run as files, as it is committed.
fn recorded() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (json, printed, svg) = &*RUN;
    for (name, text) in [("keys.json", json), ("keys.out", printed), ("keys.svg", svg)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn both_engines_are_measured_with_both_caches_and_every_kind() {
    let report = report();
    assert_eq!((report.schema, report.seed, report.rows), (SCHEMA, 7, 2_000));
    assert_eq!(report.absent, Vec::<String>::new());
    let runs: Vec<(&str, usize)> = report
        .runs
        .iter()
        .map(|run| (run.engine.split(' ').next().unwrap(), run.tables.len()))
        .collect();
    assert_eq!(runs, [("SQLite", 7), ("SQLite", 7), ("Postgres", 5), ("Postgres", 5)]);
    for run in &report.runs {
        let kinds: Vec<Kind> = run.tables.iter().take(5).map(|table| table.key).collect();
        assert_eq!(kinds, Kind::ALL);
    }
    for pair in report.runs.chunks(2) {
        assert!(pair[0].cache_bytes > pair[1].cache_bytes, "{pair:?}");
    }
}

#[test]
fn every_table_has_rates_sizes_and_a_log() {
    for run in report().runs {
        for table in &run.tables {
            let text = format!("{}: {table:?}", run.engine);
            let rows: u64 = table.slices.iter().map(|slice| slice.rows).sum();
            assert_eq!((rows, table.slices.len()), (2_000, 10), "{text}");
            let rates = [
                (table.rows_per_second, &table.slices[..]),
                (table.first_tenth_rows_per_second, &table.slices[..1]),
                (table.last_tenth_rows_per_second, &table.slices[9..]),
            ];
            // Reading a number back from JSON may lose its last bit.
            let same = |(rate, slices): (f64, &[Slice])| (rate / Slice::rate(slices) - 1.0).abs() < 1e-12;
            assert!(rates.into_iter().all(same), "{text}");
            // 2,000 rows of 100 bytes, and an entry of the index for each where there is one.
            assert!((200_000..2_000_000).contains(&table.table_bytes), "{text}");
            assert!(table.log_bytes > 200_000, "{text}");
            let beside = run.engine.starts_with("Postgres")
                || !table.clustered && !matches!(table.key, Kind::AutoIncrement | Kind::Snowflake);
            assert_eq!(table.index_bytes.is_some(), beside, "{text}");
            assert!(
                table
                    .index_bytes
                    .is_none_or(|bytes| (2_000 * 8..500_000).contains(&bytes)),
                "{text}"
            );
            assert_eq!(table.in_order < 0.6, table.key == Kind::UuidV4, "{text}");
        }
    }
}

/// What the pages of both logs are, held against each other: SQLite logs nothing else, and Postgres counts its own.
#[test]
fn random_keys_change_more_pages() {
    for run in report().runs {
        let pages = |kind| {
            let of_kind = run.tables.iter().find(|table| table.key == kind && !table.clustered);
            of_kind.unwrap().log_pages.unwrap()
        };
        assert!(
            pages(Kind::UuidV4) > pages(Kind::UuidV7),
            "{}: {} and {}",
            run.engine,
            pages(Kind::UuidV4),
            pages(Kind::UuidV7)
        );
        if run.engine.starts_with("SQLite") {
            for table in &run.tables {
                assert_eq!(table.log_bytes, table.log_pages.unwrap() * (4_096 + 24));
            }
        }
    }
}

#[test]
fn a_recorded_run_is_printed_and_drawn_as_it_was() {
    let folder = recorded();
    let ((_, json), (again, svg)) = (at(folder.path(), "keys.json"), at(folder.path(), "again.svg"));
    let output = lab(&["--from", &json, "--svg", &svg]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), RUN.1);
    assert_eq!(fs::read_to_string(again).unwrap(), RUN.2);
}

#[test]
fn a_picture_or_a_text_that_is_not_the_runs_is_noticed() {
    let folder = recorded();
    let ((_, json), (picture, svg), (printed, _)) = (
        at(folder.path(), "keys.json"),
        at(folder.path(), "keys.svg"),
        at(folder.path(), "keys.out"),
    );
    let check = || lab(&["--from", &json, "--svg", &svg, "--check"]);
    assert!(check().status.success(), "{}", stderr(&check()));
    for (file, text) in [(&picture, &RUN.2), (&printed, &RUN.1)] {
        fs::write(file, text.replacen("UUIDv4", "UUIDv5", 1)).unwrap();
        let output = check();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("is not what"), "{}", stderr(&output));
        assert_ne!(&fs::read_to_string(file).unwrap(), text, "a check writes nothing");
        fs::remove_file(file).unwrap();
        let output = check();
        assert_eq!(output.status.code(), Some(1));
        assert!(!file.exists(), "a check writes nothing");
        fs::write(file, text).unwrap();
    }
}

/// Folders begin with their date. A run is committed with what it printed.
#[test]
fn every_committed_run_gives_what_it_printed() {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let files = fs::read_dir(runs)
        .unwrap()
        .map(|folder| folder.unwrap().path().join("keys.json"));
    for file in files.filter(|file| file.is_file()) {
        let output = lab(&["--from", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        let printed = fs::read_to_string(file.with_extension("out")).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed, "{}", file.display());
    }
}

#[test]
fn what_cannot_be_measured_is_one_clear_line() {
    for (args, said) in [
        (&["--rows", "9"][..], "lab: --rows: at least 10"),
        (
            &["--json", "/no/such/folder/keys.json"],
            "lab: cannot write /no/such/folder/keys.json",
        ),
        (
            &["--data-root", "/no/such/folder"],
            "lab: --data-root: /no/such/folder is not a directory",
        ),
        (&["--from", "/no/such/keys.json"], "lab: cannot read /no/such/keys.json"),
    ] {
        let output = lab(args);
        let last = stderr(&output).lines().last().unwrap().to_owned();
        assert_eq!(output.status.code(), Some(1), "{last}");
        assert!(last.starts_with(said), "{last}");
        assert!(output.stdout.is_empty());
    }
    for args in [
        &["--from", "x.json", "--rows", "1k"][..],
        &["--check"],
        &["--rows", "0"],
    ] {
        assert_eq!(lab(args).status.code(), Some(2), "{args:?}");
    }
}
