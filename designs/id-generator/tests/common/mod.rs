//! What the test files share: servers with folders of their own, and a client that keeps its connection.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::Result;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use testkit::engines;
use testkit::http::{Answer, Connection};
use testkit::server::Server;

/// All stages, naive first.
pub(crate) const STAGES: [&str; 4] = ["ticket_row", "ranges", "snowflake", "leased"];

/// The server under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_id-generator");

#[allow(unused_macros, reason = "as above")]
/// Makes a test of each behaviour in each stage, `stage::behaviour`, from functions of a stage's name.
macro_rules! every_stage {
    ($($behaviour:ident),+ $(,)?) => {
        testkit::stages! {
            stages: [ticket_row, ranges, snowflake, leased],
            behaviours: [$($behaviour),+],
        }
    };
}

#[allow(unused_imports, reason = "as above")]
pub(crate) use every_stage;

/// A data directory, gone at the end; and a database of its own on a real engine, once a stage needs it.
pub(crate) struct Site {
    folder: TempDir,
    postgres: OnceLock<String>,
    redis: OnceLock<String>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            postgres: OnceLock::new(),
            redis: OnceLock::new(),
        }
    }

    /// Another folder, on the engines of this site.
    pub(crate) fn beside(&self) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            postgres: self.postgres.clone(),
            redis: self.redis.clone(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The command that serves this site, on ports of its own.
    pub(crate) fn command(&self, stage: &str, flags: &[&str]) -> Command {
        let mut command = command_in(self.folder.path(), stage, flags);
        if stage == "leased" {
            if flags.contains(&"redis") {
                command.env("REDIS_URL", self.redis.get_or_init(engines::redis));
            } else {
                command.env("POSTGRES_URL", self.postgres.get_or_init(engines::postgres));
            }
        }
        command
    }

    /// Starts a server on this site.
    pub(crate) fn start(&self, stage: &str, flags: &[&str]) -> Server {
        Server::spawn(self.command(stage, flags))
    }
}

/// As [`Site::command`], for a directory that somebody else looks after.
pub(crate) fn command_in(folder: &Path, stage: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["--stage", stage, "--data-dir"])
        .arg(folder)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(flags)
        // Flags are environment variables too: none that happens to be set here is meant for it.
        .env_clear()
        // By environment, so that a test may give the flag: few, so that tests meet the seams between blocks.
        .env("BLOCK", "7");
    command
}

/// A client with one connection, made anew when it breaks.
pub(crate) struct Client {
    addr: SocketAddr,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None }
    }

    pub(crate) fn call(&mut self, method: &str, target: &str, headers: &str) -> Result<Answer> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.addr);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.addr)?,
        };
        connection.send(request.as_bytes())?;
        let answer = connection.read()?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Asks for ids, one a line.
    pub(crate) fn ask(&mut self, count: u32) -> Result<Answer> {
        self.call("POST", &format!("/ids?count={count}"), "Accept: text/plain\r\n")
    }

    /// Gets ids.
    pub(crate) fn ids(&mut self, count: u32) -> Vec<u64> {
        let answer = self.ask(count).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        numbers(&answer)
    }

    /// What an id tells.
    pub(crate) fn told(&mut self, id: u64) -> Value {
        let answer = self.call("GET", &format!("/ids/{id}"), "").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

/// The ids of an answer, one a line.
pub(crate) fn numbers(answer: &Answer) -> Vec<u64> {
    answer.text().lines().map(|line| line.parse().unwrap()).collect()
}
