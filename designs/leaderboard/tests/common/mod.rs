//! What the test files share: servers with folders of their own.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::engines::Cluster;
use testkit::http::{self, Answer};
use testkit::server::Server;

/// The server under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leaderboard");

#[allow(unused_macros, reason = "as above")]
/// Makes a test of each behaviour in each stage, `stage::behaviour`, from functions of a stage's name.
macro_rules! every_stage {
    ($($behaviour:ident),+ $(,)?) => {
        testkit::stages! {
            stages: [count_query, ordered_tree, sorted_set, sharded],
            behaviours: [$($behaviour),+],
        }
    };
}

#[allow(unused_imports, reason = "as above")]
pub(crate) use every_stage;

/// A folder, gone at the end; and a Redis or a cluster of them, once a stage needs it.
pub(crate) struct Site {
    folder: TempDir,
    redis: OnceLock<String>,
    cluster: OnceLock<Cluster>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            redis: OnceLock::new(),
            cluster: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command that serves this site, on ports of its own.
    pub(crate) fn command(&self, stage: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["--stage", stage, "--data-dir"])
            .arg(self.folder.path())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(flags)
            // Flags are environment variables too: none that happens to be set here is meant for it.
            .env_clear();
        match stage {
            "sorted_set" => {
                command.env("REDIS_URL", self.redis.get_or_init(testkit::engines::redis));
            }
            "sharded" => {
                let cluster = self.cluster.get_or_init(testkit::engines::redis_cluster);
                // So that what the tests have is in several shards.
                command
                    .args(["--cuts", "2,10,50"])
                    .env("REDIS_CLUSTER_URL", cluster.url());
            }
            _ => {}
        }
        command
    }

    /// Starts a server on this site.
    pub(crate) fn start(&self, stage: &str, flags: &[&str]) -> Server {
        Server::spawn(self.command(stage, flags))
    }
}

/// Makes a board.
pub(crate) fn make(addr: SocketAddr, board: &str, settings: &Value) {
    let body = settings.to_string();
    let headers = [("content-type", "application/json")];
    let answer = http::request(addr, "PUT", &format!("/boards/{board}"), &headers, body.as_bytes()).unwrap();
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
}

/// Reports a score, or what to add.
pub(crate) fn report(addr: SocketAddr, board: &str, report: &Value) -> Answer {
    http::post_json(addr, &format!("/boards/{board}/scores"), report).unwrap()
}

/// Reports many scores, a thousand at a time.
pub(crate) fn report_all(addr: SocketAddr, board: &str, reports: &[Value]) {
    for some in reports.chunks(1_000) {
        let answer = http::post_json(addr, &format!("/boards/{board}/scores:batch"), &json!({"scores": some})).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json();
        let refused = |result: &&Value| result["score"].is_null();
        let refused: Vec<&Value> = results["results"].as_array().unwrap().iter().filter(refused).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// The lines of a list: member, score, rank.
pub(crate) fn lines(answer: &Answer) -> Vec<(String, i64, u64)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let line = |line: &Value| {
        let member = line["member"].as_str().unwrap().to_owned();
        (member, line["score"].as_i64().unwrap(), line["rank"].as_u64().unwrap())
    };
    body["entries"].as_array().unwrap().iter().map(line).collect()
}
