//! What the test files share: servers with folders of their own.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod proxy;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::engines;
use testkit::http::{self, Answer};
use testkit::server::Server;

/// The server under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_rate-limiter");

#[allow(unused_macros, reason = "as above")]
/// Makes a test of each behaviour in each stage, `stage::behaviour`, from functions of a stage's name.
macro_rules! every_stage {
    ($($behaviour:ident),+ $(,)?) => {
        testkit::stages! {
            stages: [fixed_window, sliding_log, token_bucket, racy, atomic, leased],
            behaviours: [$($behaviour),+],
        }
    };
}

#[allow(unused_imports, reason = "as above")]
pub(crate) use every_stage;

/// A folder, gone at the end; and a Redis, once a stage needs it.
pub(crate) struct Site {
    folder: TempDir,
    redis: OnceLock<String>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            redis: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A site on a Redis of the caller's own.
    pub(crate) fn on(redis: &str) -> Self {
        let site = Self::new();
        let _ = site.redis.set(redis.to_owned());
        site
    }

    /// The command that serves this site, on ports of its own.
    pub(crate) fn command(&self, stage: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["--stage", stage, "--data-dir"])
            .arg(self.folder.path())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--grpc-listen", "127.0.0.1:0"])
            .args(flags)
            // Flags are environment variables too: none that happens to be set here is meant for it.
            .env_clear();
        if matches!(stage, "racy" | "atomic" | "leased") {
            command.env("REDIS_URL", self.redis.get_or_init(engines::redis));
        }
        command
    }

    /// Starts a server on this site.
    pub(crate) fn start(&self, stage: &str, flags: &[&str]) -> Server {
        Server::spawn(self.command(stage, flags))
    }

    /// Writes a file of rules, and gives its path.
    pub(crate) fn rules(&self, text: &str) -> String {
        let path = self.folder.path().join("rules.yaml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// Asks about a user, in the domain that is the first.
pub(crate) fn check(addr: SocketAddr, user: &str, cost: u64) -> Answer {
    ask(addr, &json!({"descriptor": {"user": user}, "cost": cost}))
}

pub(crate) fn ask(addr: SocketAddr, question: &Value) -> Answer {
    http::post_json(addr, "/check", question).unwrap()
}

/// Where its gRPC listener is, which it says last.
pub(crate) fn grpc(server: &Server) -> SocketAddr {
    let mut found = None;
    testkit::wait::wait_until("the server says where its gRPC listener is", || {
        let said = server.stderr();
        let line = said.lines().find_map(|line| line.strip_prefix("grpc on http://"));
        found = line.and_then(|address| address.parse().ok());
        found.is_some()
    });
    found.unwrap()
}
