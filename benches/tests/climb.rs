//! A climb over servers that do not do what they should, played by shell scripts beside a copy of the lab.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

mod support;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const DESCRIBE: &str = r#"{"schema":1,"design":"url-shortener","stages":[
  {"name":"first","idea":"it","needs":[],"roles":["all"]},
  {"name":"shared","idea":"with engines","needs":["postgres","redis"],"roles":["all"],"nodes":1},
  {"name":"cached","idea":"with one engine","needs":["redis"],"roles":["all"],"nodes":1},
  {"name":"pair","idea":"two of it","needs":[],"roles":["all"],"nodes":2}]}"#;

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
    let text = format!("#!/bin/sh\nif [ \"$1\" = --describe ]; then echo '{DESCRIBE}'; exit 0; fi\n{script}\n");
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
    failure(dir, &mut climb(dir, args))
}

fn failure(dir: &Path, command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
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

/// On a machine whose `PATH` leads to no Redis.
#[test]
fn a_stage_without_its_engine_is_skipped_or_an_error() {
    let dir = stage("exit 1");
    let without = |args: &[&str]| failure(dir.path(), climb(dir.path(), args).env("PATH", dir.path()));
    let skipped = without(&["--stages", "cached"]);
    let how = "needs redis: install it (`make deps`, as root on Debian), or give --set redis-url=URL";
    assert!(
        skipped.contains("no stage can run") && skipped.contains(how),
        "{skipped}"
    );
    let demanded = without(&["--stages", "cached", "--engines"]);
    assert!(demanded.contains(&format!("stage cached: {how}")), "{demanded}");
}

#[test]
fn an_engine_that_somebody_runs_is_taken_and_none_is_started() {
    let dir = stage("echo \"$*\" >&2; exit 1");
    let set = ["--set", "postgres-url=postgres://a", "--set", "redis-url=redis://b"];
    let line = fails(dir.path(), &[&["--stages", "shared"], &set[..]].concat());
    assert!(
        line.contains("--postgres-url postgres://a --redis-url redis://b") && line.matches("-url").count() == 2,
        "{line}"
    );
}

/// The engines are there before the server, and gone with it, whatever ends the lab.
#[test]
fn a_stage_gets_engines_of_its_own_and_leaves_none() {
    for signal in [Signal::TERM, Signal::KILL] {
        let dir = stage("echo \"$*\" > \"$0.args\"; echo $$ > \"$0.pid\"; exec sleep 60");
        let mut lab = climb(dir.path(), &["--stages", "shared", "--engines"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = pid(&dir.path().join("url-shortener.pid"));
        let args = fs::read_to_string(dir.path().join("url-shortener.args")).unwrap();
        let urls = [value(&args, "--postgres-url"), value(&args, "--redis-url")];
        assert!(urls.iter().all(|url| answers(url)), "{urls:?}");
        assert_eq!(engine_folders(dir.path()), 2);

        kill_process(Pid::from_child(&lab), signal).unwrap();
        assert_eq!(end(&mut lab), (signal == Signal::TERM).then_some(1));
        eventually(|| !urls.iter().any(|url| answers(url)) && engine_folders(dir.path()) == 0);
        if signal == Signal::KILL {
            // What is beyond the lab's power then: its servers stay.
            kill_process(server, Signal::KILL).unwrap();
        } else {
            assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
        }
    }
}

#[test]
fn engines_are_gone_when_the_server_does_not_start() {
    let dir = stage("echo \"$*\" > \"$0.args\"; exit 3");
    let line = fails(dir.path(), &["--stages", "cached"]);
    assert!(line.contains("stage cached died (exit status: 3)"), "{line}");
    let args = fs::read_to_string(dir.path().join("url-shortener.args")).unwrap();
    assert!(!answers(&value(&args, "--redis-url")));
}

#[test]
fn only_a_server_that_is_to_be_profiled_is_told_of_the_lab() {
    let dir = stage("echo \"$*\" >&2; exit 1");
    let profiles = dir.path().join("profiles");
    let asked = fails(
        dir.path(),
        &["--stages", "first", "--profile", profiles.to_str().unwrap()],
    );
    assert!(asked.split(' ').any(|word| word == "--lab"), "{asked}");
    assert!(profiles.is_dir());
    let plain = fails(dir.path(), &["--stages", "first"]);
    assert!(!plain.contains("--lab"), "{plain}");
}

#[test]
fn an_unknown_stage_is_named_with_those_there_are() {
    let dir = stage("exit 1");
    let line = fails(dir.path(), &["--stages", "second"]);
    assert!(
        line.contains("there is no stage `second`; there are: first, shared, cached, pair"),
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

/// A design that the lab has a workload for and whose server is in this test: it answers everything, for as long as the script
/// that plays its process does not end.
fn answering(ending: &str) -> Place {
    let (address, _) = support::serve(|_| support::ok());
    let dir = stage(&format!(
        "echo listening on http://{address} >&2; echo admin on http://{address} >&2; {ending}"
    ));
    fs::rename(dir.path().join("url-shortener"), dir.path().join("planted")).unwrap();
    dir
}

fn climb_planted(dir: &Path) -> Command {
    climb_planted_stage(dir, "first")
}

fn climb_planted_stage(dir: &Path, stage: &str) -> Command {
    let mut command = Command::new(dir.join("lab"));
    command.args(["climb", "planted", "--quick", "--prove", "--stages", stage]);
    command
}

#[test]
fn a_server_that_dies_during_a_probe_is_said_to_have_died() {
    let dir = answering("sleep 1; echo out of luck >&2; exit 3");
    let line = failure(dir.path(), &mut climb_planted(dir.path()));
    assert!(
        line.contains("stage first died (exit status: 3): out of luck"),
        "{line}"
    );
}

/// A script for two nodes, which tell themselves apart by their data directories.
fn nodes(first: &str, second: &str) -> String {
    format!(
        "case \"$*\" in */node-1*) me=1;; *) me=2;; esac; echo \"$*\" > \"$0.args.$me\"; [ $me = 1 ] && {{ {first}; }}; {second}"
    )
}

/// Waits until the first node has said who it is, which is then the lab's to end.
const AFTER_THE_FIRST: &str = "until [ -s \"$0.pid\" ]; do sleep 0.01; done";

#[test]
fn a_node_that_dies_at_its_start_is_named_and_takes_the_other_along() {
    let second = format!("{AFTER_THE_FIRST}; echo no node id is free >&2; exit 3");
    let dir = stage(&nodes("echo $$ > \"$0.pid\"; exec sleep 60", &second));
    let line = fails(dir.path(), &["--stages", "pair"]);
    assert!(
        line.contains("node 2 of stage pair died (exit status: 3): no node id is free"),
        "{line}"
    );
    let first = pid(&dir.path().join("url-shortener.pid"));
    assert!(test_kill_process(first).is_err(), "the first node is gone");
    let args = ["1", "2"].map(|me| fs::read_to_string(dir.path().join(format!("url-shortener.args.{me}"))).unwrap());
    let data = args.each_ref().map(|args| value(args, "--data-dir"));
    assert_ne!(data[0], data[1], "each has its own directory");
    assert_eq!(Path::new(&data[0]).parent(), Path::new(&data[1]).parent());
    for args in &args {
        for flag in ["--listen", "--admin-listen"] {
            assert_eq!(value(args, flag), "127.0.0.1:0", "each gets a free port");
        }
    }
}

/// Both are loaded, each at its own address; then the second dies.
#[test]
fn a_node_that_dies_during_a_probe_is_named_and_takes_the_other_along() {
    let counted = || {
        let loaded = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&loaded);
        let (address, _) = support::serve(move |line| {
            count.fetch_add(usize::from(line.contains("/task/")), Ordering::SeqCst);
            support::ok()
        });
        (address, loaded)
    };
    let [first, second] = [counted(), counted()];
    let listening = |address| format!("echo listening on http://{address} >&2; echo admin on http://{address} >&2");
    let dir = stage(&nodes(
        &format!("{}; echo $$ > \"$0.pid\"; exec sleep 60", listening(first.0)),
        &format!(
            "{}; {AFTER_THE_FIRST}; until [ -e \"$0.enough\" ]; do sleep 0.01; done; echo out of luck >&2; exit 3",
            listening(second.0)
        ),
    ));
    fs::rename(dir.path().join("url-shortener"), dir.path().join("planted")).unwrap();
    let lab = climb_planted_stage(dir.path(), "pair")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let node = pid(&dir.path().join("planted.pid"));
    eventually(|| {
        [&first.1, &second.1]
            .iter()
            .all(|loaded| loaded.load(Ordering::SeqCst) > 100)
    });
    fs::write(dir.path().join("planted.enough"), "").unwrap();
    let Output { status, stderr, .. } = lab.wait_with_output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("node 2 of stage pair died (exit status: 3): out of luck"),
        "{text}"
    );
    assert!(test_kill_process(node).is_err(), "the first node is gone");
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_climb_that_is_interrupted_during_a_probe_takes_its_server_along() {
    let dir = answering("echo $$ > \"$0.pid\"; exec sleep 60");
    let mut lab = climb_planted(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let server = pid(&dir.path().join("planted.pid"));
    // A probe has been made, so the next is under way.
    let mut said = BufReader::new(lab.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("search")));
    kill_process(Pid::from_child(&lab), Signal::INT).unwrap();
    assert_eq!(end(&mut lab), Some(1));
    assert!(test_kill_process(server).is_err(), "the server is gone");
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
}

fn value(args: &str, flag: &str) -> String {
    let mut words = args.split_whitespace().skip_while(|word| *word != flag);
    words.nth(1).unwrap_or_else(|| panic!("no {flag} in {args}")).to_owned()
}

fn answers(url: &str) -> bool {
    let rest = url.split_once("://").unwrap().1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    TcpStream::connect(rest.split('/').next().unwrap()).is_ok()
}

fn engine_folders(dir: &Path) -> usize {
    let of_an_engine = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("loadbearing-");
    leftovers(dir).into_iter().filter(of_an_engine).count()
}

fn pid(file: &Path) -> Pid {
    let mut found = None;
    eventually(|| {
        let text = fs::read_to_string(file).unwrap_or_default();
        found = text.trim().parse().ok().and_then(Pid::from_raw);
        found.is_some()
    });
    found.unwrap()
}

fn eventually(mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happens() {
        assert!(Instant::now() < deadline, "it did not happen within a minute");
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
