//! What goes wrong around the service: kills, restarts, a full disk, a Redis that is frozen or gone.
//!
//! Clients write down what they sent and what they heard. For every member the final score must lie between what was
//! acknowledged and what was sent; with event ids, and each event repeated until it is acknowledged, it must be exact.
//!
//! Power: no violation in 40 kills bounds the rate of kills that lose or double a score at 3/40, with 95 % confidence.
//! `kill -9` tests what the process promises, not what the disk does: unsynced data survive it in the page cache.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]
#![allow(clippy::print_stdout, reason = "how much was tried is part of what was found")]

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{BINARY, Site, lines, make, report, report_all};
use serde_json::{Value, json};
use testkit::disk::SmallDisk;
use testkit::engines::{Cluster, Engine};
use testkit::http;
use testkit::problems::assert_problem;
use testkit::server::Server;
use testkit::wait::wait_until;

const MEMBERS: usize = 20;
const CLIENTS: usize = 6;

/// Members of a batch: of these, each node of a cluster has some.
const MANY: usize = 50;

/// What is known of each member's score.
#[derive(Clone, Debug, PartialEq)]
struct Bounds {
    acknowledged: Vec<i64>,
    sent: Vec<i64>,
}

impl Bounds {
    fn new() -> Self {
        Self {
            acknowledged: vec![0; MEMBERS],
            sent: vec![0; MEMBERS],
        }
    }

    fn add(&mut self, others: &Self) {
        for member in 0..MEMBERS {
            self.acknowledged[member] += others.acknowledged[member];
            self.sent[member] += others.sent[member];
        }
    }

    /// Whose score is not what it must be.
    fn violations(&self, scores: &[i64]) -> Vec<String> {
        let of = |member: usize| (self.acknowledged[member]..=self.sent[member]).contains(&scores[member]);
        let wrong = (0..MEMBERS).filter(|member| !of(*member));
        wrong
            .map(|member| {
                let (low, high) = (self.acknowledged[member], self.sent[member]);
                format!("m{member} has {}, not {low} to {high}", scores[member])
            })
            .collect()
    }
}

/// The scores of all members; 0 for who is not there.
fn scores(addr: SocketAddr) -> Vec<i64> {
    let members: Vec<String> = (0..MEMBERS).map(|member| format!("m{member}")).collect();
    let answer = http::post_json(addr, "/boards/b/members:batch", &json!({"members": members})).unwrap();
    let body = answer.json();
    let score = |line: &Value| line["score"].as_i64().unwrap_or_default();
    body["members"].as_array().unwrap().iter().map(score).collect()
}

/// Scores from many clients until `during` is over; gives what is known then.
fn load_during(addr: SocketAddr, during: impl FnOnce(&AtomicU64)) -> Bounds {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut all = Bounds::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (over, done) = (&over, &done);
                scope.spawn(move || {
                    let mut bounds = Bounds::new();
                    for nth in client.. {
                        if over.load(Ordering::Relaxed) {
                            return bounds;
                        }
                        let (member, delta) = (nth * 7 % MEMBERS, nth as i64 % 5 + 1);
                        bounds.sent[member] += delta;
                        let one = json!({"member": format!("m{member}"), "delta": delta});
                        match http::post_json(addr, "/boards/b/scores", &one) {
                            Ok(answer) if answer.status == 200 => {
                                bounds.acknowledged[member] += delta;
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(answer) if answer.text().contains("not_executed") => bounds.sent[member] -= delta,
                            // An answer that leaves it open, or none: the server is gone.
                            Ok(_) => {}
                            Err(_) => thread::sleep(Duration::from_millis(1)),
                        }
                    }
                    bounds
                })
            })
            .collect();
        during(&done);
        over.store(true, Ordering::Relaxed);
        for client in clients {
            all.add(&client.join().unwrap());
        }
    });
    all
}

fn killed_under_load(stage: &str, kills: u64) {
    let site = Site::new();
    let mut bounds = Bounds::new();
    for round in 0..kills {
        let mut server = site.start(stage, &[]);
        if round == 0 {
            make(server.addr(), "b", &json!({"policy": "sum"}));
        }
        let enough = 1 + (round * 47) % 150;
        bounds.add(&load_during(server.addr(), |done| {
            wait_until("scores are counted", || done.load(Ordering::Relaxed) >= enough);
            server.kill();
        }));
        let server = site.start(stage, &[]);
        let found = scores(server.addr());
        assert_eq!(bounds.violations(&found), Vec::<String>::new(), "kill {round}");
        // Pages show the same, also of those whose score was not where it belongs when the server died.
        let shown = || {
            let top = lines(&http::get(server.addr(), "/boards/b/top?limit=100").unwrap());
            let mut all = vec![0; MEMBERS];
            for (name, score, _) in &top {
                all[name[1..].parse::<usize>().unwrap()] = *score;
            }
            (top.len() == found.iter().filter(|score| **score != 0).count()).then_some(all)
        };
        wait_until("pages show all scores", || shown().as_ref() == Some(&found));
    }
    let open: i64 = (0..MEMBERS)
        .map(|member| bounds.sent[member] - bounds.acknowledged[member])
        .sum();
    let acknowledged: i64 = bounds.acknowledged.iter().sum();
    println!("{stage}: {kills} kills, {acknowledged} points acknowledged, {open} of unknown outcome");
    // The control: one point less than was acknowledged, and one more than was sent, are found.
    let mut tampered = bounds.acknowledged.clone();
    tampered[3] -= 1;
    assert_eq!(bounds.violations(&tampered).len(), 1);
    let mut tampered = bounds.sent.clone();
    tampered[5] += 1;
    assert_eq!(bounds.violations(&tampered).len(), 1);
}

#[test]
fn ordered_tree_loses_no_score_in_40_kills() {
    killed_under_load("ordered_tree", 40);
}

#[test]
fn count_query_loses_no_score_in_5_kills() {
    killed_under_load("count_query", 5);
}

/// The server of a shared store is nobody in particular: what it acknowledged is in Redis.
#[test]
fn sorted_set_loses_no_score_when_its_server_is_killed() {
    killed_under_load("sorted_set", 5);
}

/// Nor is that of shards; and what it had decided and not placed is on the board in the end, by whoever comes next.
#[test]
fn sharded_loses_no_score_when_its_server_is_killed() {
    killed_under_load("sharded", 10);
}

/// Every event is repeated until it is acknowledged, through any number of kills: each counts once.
fn exact_with_events(stage: &str, kills: u64) {
    let site = Site::new();
    make(site.start(stage, &[]).addr(), "b", &json!({"policy": "sum"}));
    let mut expected = vec![0_i64; MEMBERS];
    let mut next = 0_usize;
    let mut pending: Vec<Value> = Vec::new();
    for round in 0..kills {
        let mut server = site.start(stage, &[]);
        let addr = server.addr();
        let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
        pending = thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut left = pending;
                loop {
                    // What was not acknowledged before comes first, and now and then also what was.
                    let one = left.pop().unwrap_or_else(|| {
                        let (member, delta) = (next * 7 % MEMBERS, next as i64 % 5 + 1);
                        next += 1;
                        expected[member] += delta;
                        json!({"member": format!("m{member}"), "delta": delta, "event_id": format!("e{next}")})
                    });
                    let times = 1 + next % 2;
                    let counted = (0..times).all(|_| {
                        http::post_json(addr, "/boards/b/scores", &one).is_ok_and(|answer| answer.status == 200)
                    });
                    if counted {
                        done.fetch_add(1, Ordering::Relaxed);
                    } else {
                        left.push(one);
                    }
                    if over.load(Ordering::Relaxed) {
                        return left;
                    }
                }
            });
            let enough = 1 + round * 7 % 40;
            wait_until("events are counted", || done.load(Ordering::Relaxed) >= enough);
            server.kill();
            over.store(true, Ordering::Relaxed);
            client.join().unwrap()
        });
    }
    let server = site.start(stage, &[]);
    for one in pending {
        assert_eq!(report(server.addr(), "b", &one).status, 200);
    }
    assert_eq!(scores(server.addr()), expected);
    println!("{stage}: {next} events through {kills} kills, each counted once");
}

#[test]
fn ordered_tree_counts_each_event_once_through_kills() {
    exact_with_events("ordered_tree", 20);
}

#[test]
fn sorted_set_counts_each_event_once_through_kills() {
    exact_with_events("sorted_set", 5);
}

#[test]
fn sharded_counts_each_event_once_through_kills() {
    exact_with_events("sharded", 5);
}

/// The whole board, to the byte, as pages show it.
fn whole(addr: SocketAddr) -> Vec<u8> {
    let (mut bytes, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = http::get(addr, &format!("/boards/b/top?limit=100{cursor}")).unwrap();
        bytes.extend_from_slice(answer.text().as_bytes());
        match answer.json()["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return bytes,
        }
    }
}

#[test]
fn a_restart_gives_the_same_board_to_the_byte() {
    for stage in ["count_query", "ordered_tree", "sorted_set", "sharded"] {
        let site = Site::new();
        let mut server = site.start(stage, &[]);
        make(server.addr(), "b", &json!({"policy": "latest", "rank": "competition"}));
        // Few scores, so that most of the order is by who was first.
        let all: Vec<Value> = (0..3_000)
            .map(|nth| json!({"member": format!("m{}", nth % 1_000), "score": nth * 7 % 30}))
            .collect();
        report_all(server.addr(), "b", &all);
        let before = whole(server.addr());
        assert!(server.terminate().success(), "{}", server.stderr());
        let server = site.start(stage, &[]);
        assert_eq!(whole(server.addr()), before, "{stage}");
    }
}

#[test]
fn a_full_disk_refuses_scores_keeps_reading_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        // Past the test's captured output: a test that could not be run is not to pass quietly.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: a_full_disk_refuses_scores_keeps_reading_and_recovers needs the right to mount a tmpfs (root)"
        );
        return;
    };
    let start = || {
        let mut command = Command::new(BINARY);
        command.args([
            "--stage",
            "ordered_tree",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        command.arg("--data-dir").arg(disk.path()).env_clear();
        Server::spawn(command)
    };
    let server = start();
    make(server.addr(), "b", &json!({"policy": "sum"}));
    let mut expected = 0;
    let mut one = || {
        let answer = report(server.addr(), "b", &json!({"member": "a", "delta": 1}));
        match answer.status {
            200 => expected += 1,
            507 => assert_problem(&answer, "a full disk"),
            _ => panic!("{} {}", answer.status, answer.text()),
        }
        answer.status
    };
    for _ in 0..3 {
        assert_eq!(one(), 200);
        disk.fill();
        wait_until("the full disk is noticed", || one() == 507);
        for _ in 0..20 {
            one();
            assert_eq!(http::get(server.addr(), "/boards/b/members/a").unwrap().status, 200);
        }
        disk.free();
        wait_until("scores are counted again, without a restart", || one() == 200);
    }
    let shown = http::get(server.addr(), "/boards/b/members/a").unwrap().json();
    assert_eq!(shown["score"], expected);
    drop(server);
    let server = start();
    let shown = http::get(server.addr(), "/boards/b/members/a").unwrap().json();
    assert_eq!(shown["score"], expected, "and after a restart");
}

#[test]
fn a_redis_that_freezes_is_an_error_in_time_and_forgotten_when_it_is_back() {
    let mut engine = Engine::own_redis(&["--save", ""]);
    let mut command = Command::new(BINARY);
    let folder = tempfile::tempdir().unwrap();
    command.args([
        "--stage",
        "sorted_set",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command
        .arg("--data-dir")
        .arg(folder.path())
        .env_clear()
        .env("REDIS_URL", engine.url());
    let server = Server::spawn(command);
    make(server.addr(), "b", &json!({"policy": "sum"}));
    assert_eq!(
        report(server.addr(), "b", &json!({"member": "a", "delta": 1})).status,
        200
    );
    engine.stop();
    for _ in 0..10 {
        let began = Instant::now();
        let written = report(server.addr(), "b", &json!({"member": "a", "delta": 1}));
        let read = http::get(server.addr(), "/boards/b/members/a").unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(matches!(written.status, 503 | 504), "{}", written.text());
        assert_eq!(read.status, 503, "{}", read.text());
        assert_problem(&written, "a frozen Redis");
        assert_problem(&read, "a frozen Redis");
    }
    engine.cont();
    let began = Instant::now();
    wait_until("scores are counted again", || {
        report(server.addr(), "b", &json!({"member": "a", "delta": 1})).status == 200
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    let board = lines(&http::get(server.addr(), "/boards/b/top").unwrap());
    // The two that were acknowledged, and what was sent into the silence at the most.
    assert!((2..=12).contains(&board[0].1), "{board:?}");
}

/// What starts a server over shards that begin at these scores.
fn sharded_at(cuts: &str, cluster: &Cluster, folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["--stage", "sharded", "--cuts", cuts, "--data-dir"])
        .arg(folder)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env_clear()
        .env("REDIS_CLUSTER_URL", cluster.url());
    command
}

fn sharded(cluster: &Cluster, folder: &Path) -> Server {
    Server::spawn(sharded_at("1000,2000", cluster, folder))
}

/// It would look for members where they are not.
#[test]
fn a_server_that_would_cut_boards_elsewhere_does_not_start() {
    let cluster = testkit::engines::redis_cluster();
    let folder = tempfile::tempdir().unwrap();
    drop(sharded(&cluster, folder.path()));
    let other = sharded_at("1000,3000", &cluster, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        !other.status.success() && said.contains("are cut at 1000,2000"),
        "{said}"
    );
    drop(sharded(&cluster, folder.path()));
}

/// A node of a cluster that is gone takes with it what is on it, and nothing else; what was decided is carried out when it is
/// back.
#[test]
fn a_node_that_freezes_is_an_error_in_time_for_what_is_on_it_and_forgotten_when_it_is_back() {
    let mut cluster = testkit::engines::redis_cluster();
    let folder = tempfile::tempdir().unwrap();
    let server = sharded(&cluster, folder.path());
    let addr = server.addr();
    make(addr, "b", &json!({"policy": "sum"}));
    // Of a hundred members each node has some; all begin in the lowest shard.
    let members: Vec<Value> = (0..100)
        .map(|nth| json!({"member": format!("m{nth}"), "delta": 1}))
        .collect();
    report_all(addr, "b", &members);
    cluster[1].stop();
    let (mut acknowledged, mut sent) = (vec![1_i64; 100], vec![1_i64; 100]);
    let mut refused = 0;
    for (nth, _) in members.iter().enumerate() {
        let began = Instant::now();
        // Into the middle shard, out of the lowest.
        let answer = report(addr, "b", &json!({"member": format!("m{nth}"), "delta": 1_000}));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        match answer.status {
            200 => (acknowledged[nth], sent[nth]) = (1_001, 1_001),
            503 | 504 => {
                assert_problem(&answer, "a frozen node");
                refused += 1;
                if !answer.text().contains("not_executed") {
                    sent[nth] = 1_001;
                }
            }
            _ => panic!("{} {}", answer.status, answer.text()),
        }
    }
    assert!(refused > 0, "a third of all records is on that node");
    cluster[1].cont();
    wait_until("all members answer", || {
        (0..100)
            .all(|nth| http::get(addr, &format!("/boards/b/members/m{nth}")).is_ok_and(|answer| answer.status == 200))
    });
    let page = || lines(&http::get(addr, "/boards/b/top?limit=100").unwrap());
    wait_until("everybody is on the board once", || {
        let names: std::collections::HashSet<String> = page().into_iter().map(|(name, _, _)| name).collect();
        names.len() == 100
    });
    for (name, score, _) in page() {
        let nth: usize = name[1..].parse().unwrap();
        let shown = http::get(addr, &format!("/boards/b/members/{name}")).unwrap().json();
        assert_eq!(shown["score"], score, "{name}");
        assert!((acknowledged[nth]..=sent[nth]).contains(&score), "{name} has {score}");
    }
}

/// A batch goes to all nodes. What it says of each score is true of that score, whichever of its nodes is gone.
#[test]
fn a_batch_says_of_each_score_what_became_of_it_though_a_node_is_frozen() {
    let mut cluster = testkit::engines::redis_cluster();
    let folder = tempfile::tempdir().unwrap();
    let server = sharded(&cluster, folder.path());
    let addr = server.addr();
    make(addr, "b", &json!({"policy": "sum"}));
    // Everybody twice: into one of the three shards, and a point on top, which leaves him there.
    let deltas = |nth: usize| [1 + 1_000 * (nth as i64 % 3), 1];
    let reports: Vec<Value> = (0..MANY)
        .flat_map(|nth| deltas(nth).map(|delta| json!({"member": format!("m{nth}"), "delta": delta})))
        .collect();
    for frozen in 0..3 {
        let mut bounds: Vec<(i64, i64)> = all_scores(addr).iter().map(|score| (*score, *score)).collect();
        let (mut counted, mut refused, mut unknown) = (0, 0, 0);
        cluster[frozen].stop();
        // The first ones wait for the node; those after them are told at once that it does not answer.
        for _ in 0..5 {
            let answer = http::post_json(addr, "/boards/b/scores:batch", &json!({"scores": reports})).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let results = answer.json()["results"].as_array().unwrap().clone();
            assert_eq!(results.len(), reports.len());
            for (at, result) in results.iter().enumerate() {
                let (nth, delta) = (at / 2, deltas(at / 2)[at % 2]);
                let (low, high) = &mut bounds[nth];
                match (result["score"].as_i64(), result["problem"]["outcome"].as_str()) {
                    (Some(score), None) => {
                        counted += 1;
                        (*low, *high) = (*low + delta, *high + delta);
                        assert!((*low..=*high).contains(&score), "{result}");
                    }
                    (None, Some("not_executed")) => refused += 1,
                    (None, Some("unknown")) => {
                        unknown += 1;
                        *high += delta;
                    }
                    _ => panic!("{result}"),
                }
            }
        }
        cluster[frozen].cont();
        println!("node {frozen} frozen: {counted} counted, {refused} refused, {unknown} unknown");
        assert!(
            counted > 0 && refused > 0 && unknown > 0,
            "some are on that node, not all"
        );
        wait_until("pages show what is true of each", || {
            let now = all_scores(addr);
            let shown = lines(&http::get(addr, "/boards/b/top?limit=100").unwrap());
            let there = now.iter().filter(|score| **score != 0).count();
            there == shown.len()
                && shown
                    .iter()
                    .all(|(name, score, _)| now[name[1..].parse::<usize>().unwrap()] == *score)
        });
        for (nth, score) in all_scores(addr).into_iter().enumerate() {
            let (low, high) = bounds[nth];
            assert!((low..=high).contains(&score), "m{nth} has {score}, not {low} to {high}");
        }
    }
}

/// The scores of many members; 0 for who is not there. Waits until all nodes answer.
fn all_scores(addr: SocketAddr) -> Vec<i64> {
    let asked = json!({"members": (0..MANY).map(|nth| format!("m{nth}")).collect::<Vec<_>>()});
    let mut found = None;
    wait_until("all nodes answer", || {
        let answer = http::post_json(addr, "/boards/b/members:batch", &asked).unwrap();
        found = (answer.status == 200).then(|| answer.json());
        found.is_some()
    });
    let lines = &found.unwrap()["members"];
    let score = |line: &Value| line["score"].as_i64().unwrap_or_default();
    lines.as_array().unwrap().iter().map(score).collect()
}
