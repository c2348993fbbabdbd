//! A climb over servers that do not do what they should, played by shell scripts beside a copy of the lab.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const DESCRIBE: &str = r#"{"schema":1,"design":"url-shortener","stages":[
  {"name":"first","idea":"it","needs":[],"roles":["all"],"nodes":1},
  {"name":"shared","idea":"with a database","needs":["postgres"],"roles":["all"],"nodes":1}]}"#;

/// One test at a time: a file that is still open for writing in a child that another thread has just forked cannot be run.
static ALONE: Mutex<()> = Mutex::new(());

/// A directory with the lab and a design whose servers run this script.
struct Place {
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn stage(script: &str) -> Place {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_lab"), dir.path().join("lab")).unwrap();
    let design = dir.path().join("url-shortener");
    let text =
        format!("#!/bin/sh\nif [ \"$1\" = --describe ]; then\ncat <<'END'\n{DESCRIBE}\nEND\nexit 0\nfi\n{script}\n");
    fs::write(&design, text).unwrap();
    fs::set_permissions(&design, fs::Permissions::from_mode(0o755)).unwrap();
    Place { dir, _alone: alone }
}

fn climb(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(dir.join("lab"));
    command.args(["climb", "url-shortener", "--quick"]).args(args);
    command
}

fn fails(dir: &Path, args: &[&str]) -> String {
    let Output { status, stderr, .. } = climb(dir, args).output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(leftovers(dir), Vec::<PathBuf>::new(), "data directories are gone");
    let text = String::from_utf8(stderr).unwrap();
    text.lines().last().unwrap().to_owned()
}

fn leftovers(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("lab-data"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default()
}

#[test]
fn a_server_that_dies_at_its_start_is_quoted() {
    let dir = stage("echo 'url-shortener: no space left on device' >&2; exit 3");
    let line = fails(dir.path(), &["--stages", "first"]);
    assert!(
        line.contains("stage first died (exit status: 3): url-shortener: no space left on device"),
        "{line}"
    );
}

#[test]
fn a_stage_without_its_engine_is_skipped_or_an_error() {
    let dir = stage("exit 1");
    let skipped = fails(dir.path(), &["--stages", "shared"]);
    assert!(
        skipped.contains("no stage can run") && skipped.contains("--set postgres-url=URL"),
        "{skipped}"
    );
    let demanded = fails(dir.path(), &["--stages", "shared", "--engines"]);
    assert!(demanded.contains("stage shared: needs postgres"), "{demanded}");
}

#[test]
fn an_unknown_stage_is_named_with_those_there_are() {
    let dir = stage("exit 1");
    let line = fails(dir.path(), &["--stages", "second"]);
    assert!(
        line.contains("there is no stage `second`; there are: first, shared"),
        "{line}"
    );
}

#[test]
fn a_binary_that_is_not_built_says_how_to_build_it() {
    let dir = stage("exit 1");
    fs::remove_file(dir.path().join("url-shortener")).unwrap();
    let line = fails(dir.path(), &[]);
    assert!(line.contains("cargo build --release -p url-shortener"), "{line}");
}

/// Whatever ends the lab, its servers go with it.
#[test]
fn an_interrupted_climb_takes_its_servers_along() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = stage("echo $$ > \"$0.pid\"; exec sleep 60");
        let mut lab = climb(dir.path(), &["--stages", "first"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = pid(&dir.path().join("url-shortener.pid"));
        kill_process(Pid::from_child(&lab), signal).unwrap();
        assert_eq!(end(&mut lab), Some(1));
        assert!(test_kill_process(server).is_err(), "the server is gone");
        assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    }
}

fn pid(file: &Path) -> Pid {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
            return pid;
        }
        assert!(Instant::now() < deadline, "the server did not start");
        thread::sleep(Duration::from_millis(10));
    }
}

fn end(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    None
}
