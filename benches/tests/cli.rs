//! `lab` as a user meets it: what it prints, what it writes, how it ends.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use lab::output::json::{LoadReport, SCHEMA};
use serde_json::Value;
use support::{Act, ok, serve};

fn lab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(args)
        .env_remove("API_KEY")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn load(url: &str, json: &Path, more: &[&str]) -> Output {
    let mut args = vec!["load", "--get", url, "-d", "300ms", "--json", json.to_str().unwrap()];
    args.extend(more);
    lab(&args)
}

#[test]
fn a_load_writes_the_json_that_it_is_said_to_write() {
    let (address, _) = serve(|_| ok());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.json");
    let output = load(
        &format!("http://{address}/x"),
        &file,
        &["-r", "1k", "--slo", "p99<1s,err<1%"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(&file).unwrap();
    // The Rust type refuses unknown keys, so that a new one means a look at SCHEMA.
    let report: LoadReport = serde_json::from_str(&text).unwrap();
    assert_eq!((report.schema, report.planned, report.issued), (SCHEMA, 300, 300));
    let value: Value = serde_json::from_str(&text).unwrap();
    for key in ["offered_rps", "achieved_rps", "issued", "late", "dropped", "errors"] {
        assert!(value[key].is_number(), "{key}");
    }
    for block in ["response_ms", "service_ms"] {
        for key in ["p50", "p90", "p99", "p999", "max"] {
            assert!(value[block][key].is_number(), "{block}.{key}");
        }
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("requested  1000/s") && text.contains("achieved"),
        "{text}"
    );
}

#[test]
fn a_closed_loop_has_no_offered_rate() {
    let (address, _) = serve(|_| ok());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.json");
    let output = load(&format!("http://{address}/"), &file, &["--closed", "4"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: LoadReport = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(report.offered_rps, None);
    assert!(report.completed > 0 && report.planned == report.issued);
}

/// The second server only answers what the load asks: it is the first one that is prepared.
#[test]
fn several_urls_of_a_design_are_loaded_together() {
    let servers = [0, 1].map(|_| serve(|_| Act::Answer(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_vec())));
    let urls = servers.each_ref().map(|(address, _)| format!("http://{address}"));
    let output = lab(&[
        "load", "planted", "--url", &urls[0], "--url", &urls[1], "-r", "1k", "-d", "300ms",
    ]);
    assert_eq!(output.status.code(), Some(99), "{}", stderr(&output));
    for (_, seen) in &servers {
        assert!(seen.requests.load(Ordering::SeqCst) > 0);
    }
    let alone = lab(&["load", "--get", &urls[0], "--get", &urls[1]]);
    assert_eq!(alone.status.code(), Some(2), "{}", stderr(&alone));
}

/// How well a limit was kept is printed and written where there is one, and nowhere else.
#[test]
fn a_load_of_a_limiter_says_how_well_it_was_kept() {
    let decision =
        b"HTTP/1.1 200 OK\r\nRateLimit-Policy: \"u\";q=1000000;w=1\r\nContent-Length: 16\r\n\r\n{\"allowed\":true}";
    let (address, _) = serve(|_| Act::Answer(decision.to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.json");
    let url = format!("http://{address}");
    let json = file.to_str().unwrap();
    let output = lab(&[
        "load",
        "rate-limiter",
        "--url",
        &url,
        "-r",
        "500",
        "-d",
        "300ms",
        "--slo",
        "err<1%",
        "--json",
        json,
    ]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\naccuracy   0.00 x\n"), "{text} {}", stderr(&output));
    let report: LoadReport = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let accuracy = report.accuracy.unwrap();
    assert_eq!((accuracy.too_many, accuracy.refused_wrongly), (0, 0));
    load(&url, &file, &["-r", "100"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("accuracy"), "{text}");
}

#[test]
fn a_missed_slo_ends_with_99() {
    let (address, _) = serve(|_| Act::Answer(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{address}/");
    let missed = load(&url, &dir.path().join("a"), &["-r", "100", "--slo", "err<1%"]);
    assert_eq!(missed.status.code(), Some(99));
    let text = String::from_utf8_lossy(&missed.stdout).into_owned();
    assert!(
        text.contains("SLO missed") && text.contains("500 Internal Server Error"),
        "{text}"
    );
    let unasked = load(&url, &dir.path().join("b"), &["-r", "100"]);
    assert_eq!(
        unasked.status.code(),
        Some(0),
        "errors without an SLO are a result, not a failure"
    );
}

#[test]
fn every_error_is_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}/");
    let cases: [(&[&str], &str); 10] = [
        (&["load", "--get", &url], "connection refused"),
        (&["load", "--get", "https://localhost/"], "plain http"),
        (
            &["load", "--get", &url, "--json", "/nowhere/x.json"],
            "cannot write /nowhere/x.json",
        ),
        (
            &["climb", "url-shortener", "--profile", "/dev/null/x"],
            "--profile: cannot write into /dev/null/x",
        ),
        (
            &["load", "--get", &url, "--slo", "create.p99<1s"],
            "there is no operation `create`",
        ),
        (&["load", "no-such", "--url", &url], "there is no design `no-such`"),
        (&["climb", "no-such"], "there is no design `no-such`"),
        (&["climb", "url-shortener", "--mix", "x=1"], "redirect, create, unknown"),
        (
            &["load", "id-generator", "--url", &url, "--mix", "x=1"],
            "single, batch, decode, bulk",
        ),
        (
            &["load", "rate-limiter", "--url", &url, "--mix", "x=1"],
            "check, crowd, ask",
        ),
    ];
    for (args, part) in cases {
        let output = lab(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(
            text.contains(part) && text.trim_end().lines().count() == 1,
            "{args:?}: {text}"
        );
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["load"][..],
        &["load", "--get", "http://x", "-r", "fast"],
        &["load", "--get", "http://x", "-r", "1", "--closed", "1"],
        &["climb"],
        &["climb", "url-shortener", "--set", "novalue"],
    ] {
        assert_eq!(lab(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn designs_are_listed() {
    let output = lab(&["list"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("url-shortener: "), "{text}");
    assert!(text.contains("\nid-generator: 85 % single ids"), "{text}");
    assert!(text.contains("\nrate-limiter: 75 % checks"), "{text}");
}

#[test]
fn what_cannot_be_slowed_is_wrong_usage() {
    for (flags, reason) in [
        (&["--slow", "pool=0.5"][..], "from 1 to 1000"),
        (&["--slow", "pool=NaN"], "from 1 to 1000"),
        (&["--slow", "pool"], "RESOURCE=FACTOR"),
        (&["--slow", "=2"], "from 1 to 1000"),
        (&["--slow", "pool=2", "--prove"], "cannot be used with"),
    ] {
        let output = lab(&[&["climb", "url-shortener"], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr(&output).contains(reason), "{flags:?}: {}", stderr(&output));
    }
}
