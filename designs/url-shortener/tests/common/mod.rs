//! What the test files share: servers with folders of their own, a client that keeps its connection, a look into the
//! database, and the shape that every error has.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod history;
pub(crate) mod load;

use std::io::Result;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use testkit::engines;
use testkit::http::{Answer, Connection};
use testkit::server::Server;

/// All stages, naive first.
pub(crate) const STAGES: [&str; 5] = ["single_table", "cached", "pregenerated", "permuted", "shared"];

/// The server under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_url-shortener");

/// How many names a server claims at once here: few, so that tests meet the seams between blocks.
pub(crate) const BLOCK: u64 = 100;

#[allow(unused_macros, reason = "as above")]
/// Makes a test of each behaviour in each stage, `stage::behaviour`, from functions of a stage's name.
macro_rules! every_stage {
    ($($behaviour:ident),+ $(,)?) => {
        testkit::stages! {
            stages: [single_table, cached, pregenerated, permuted, shared],
            behaviours: [$($behaviour),+],
        }
    };
}

#[allow(unused_imports, reason = "as above")]
pub(crate) use every_stage;
#[allow(unused_imports, reason = "as above")]
pub(crate) use testkit::problems::{assert_problem, assert_problem_body};
#[allow(unused_imports, reason = "as above")]
pub(crate) use testkit::server::metric;
#[allow(unused_imports, reason = "as above")]
pub(crate) use testkit::wait::wait_until;

/// A data directory, gone at the end; and databases of its own on real engines, once a stage needs them.
pub(crate) struct Site {
    folder: TempDir,
    engines: OnceLock<Urls>,
}

/// Where the engines of a site are.
pub(crate) struct Urls {
    pub(crate) postgres: String,
    pub(crate) redis: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            engines: OnceLock::new(),
        }
    }

    /// A site on engines that the test has the power over.
    pub(crate) fn on(postgres: &str, redis: &str) -> Self {
        let site = Self::new();
        let urls = Urls {
            postgres: postgres.to_owned(),
            redis: redis.to_owned(),
        };
        assert!(site.engines.set(urls).is_ok());
        site
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn engines(&self) -> &Urls {
        self.engines.get_or_init(|| Urls {
            postgres: engines::postgres(),
            redis: engines::redis(),
        })
    }

    /// The command that serves this site: a small stock of keys, small blocks, ports of its own.
    pub(crate) fn command(&self, stage: &str, flags: &[&str]) -> Command {
        let mut command = command_in(self.folder.path(), stage, flags);
        if stage == "shared" {
            let Urls { postgres, redis } = self.engines();
            command.env("POSTGRES_URL", postgres).env("REDIS_URL", redis);
        }
        command
    }

    /// Starts a server on this site.
    pub(crate) fn start(&self, stage: &str, flags: &[&str]) -> Server {
        Server::spawn(self.command(stage, flags))
    }

    /// Empties the Redis of this site, if it has one: whatever is cached must come from the store again.
    pub(crate) fn forget_cache(&self) {
        if let Some(urls) = self.engines.get() {
            let client = redis::Client::open(urls.redis.as_str()).unwrap();
            let mut connection = client.get_connection().unwrap();
            let () = redis::cmd("FLUSHDB").query(&mut connection).unwrap();
        }
    }

    /// A connection of one's own to the links: those in Postgres, if there are any.
    pub(crate) fn database(&self) -> Database {
        match self.engines.get() {
            Some(urls) => Database::open(&urls.postgres, Kind::Postgres),
            None => {
                let file = self.folder.path().join("links.db");
                Database::open(&format!("sqlite://{}", file.display()), Kind::Sqlite)
            }
        }
    }
}

/// As [`Site::command`], for a directory that somebody else looks after.
pub(crate) fn command_in(folder: &std::path::Path, stage: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["--stage", stage, "--data-dir"])
        .arg(folder)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(flags)
        // Flags are environment variables too: none that happens to be set here is meant for it.
        .env_clear()
        // By environment, so that a test may give the flag.
        .env("KEY_STOCK", "2000")
        .env("KEY_BLOCK", BLOCK.to_string());
    command
}

/// A second process's view of the database: what a test plants there, and what it finds there.
pub(crate) struct Database {
    runtime: tokio::runtime::Runtime,
    connection: AnyConnection,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Database {
    fn open(url: &str, kind: Kind) -> Self {
        sqlx::any::install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connection = runtime.block_on(AnyConnection::connect(url)).unwrap();
        let mut database = Self {
            runtime,
            connection,
            kind,
        };
        if let Kind::Sqlite = kind {
            database.run("PRAGMA busy_timeout = 20000");
        }
        database
    }

    /// Takes a lock that lets others read and not write, until [`Self::unlock`].
    pub(crate) fn lock(&mut self) {
        match self.kind {
            Kind::Sqlite => self.run("BEGIN IMMEDIATE"),
            Kind::Postgres => {
                self.run("BEGIN");
                self.run("LOCK TABLE links IN SHARE MODE");
            }
        }
    }

    pub(crate) fn unlock(&mut self) {
        self.run("ROLLBACK");
    }

    pub(crate) fn run(&mut self, statement: &str) {
        let query = sqlx::query(AssertSqlSafe(statement.to_owned()));
        self.runtime.block_on(query.execute(&mut self.connection)).unwrap();
    }

    pub(crate) fn numbers(&mut self, query: &str) -> Vec<i64> {
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        self.runtime.block_on(query.fetch_all(&mut self.connection)).unwrap()
    }

    pub(crate) fn number(&mut self, query: &str) -> i64 {
        self.numbers(query)[0]
    }

    pub(crate) fn texts(&mut self, query: &str) -> Vec<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        self.runtime.block_on(query.fetch_all(&mut self.connection)).unwrap()
    }

    /// Names that were claimed and are behind no link: what crashes have lost, and what running servers still hold.
    pub(crate) fn leaked(&mut self) -> i64 {
        match self.kind {
            Kind::Sqlite => self.number(
                "SELECT (SELECT next FROM marks WHERE name = 'number')
                      + (SELECT next - 1 FROM marks WHERE name = 'position')
                      - (SELECT count(*) FROM links WHERE id >= 0)",
            ),
            Kind::Postgres => self.number(&format!(
                "SELECT (SELECT count(*) * {BLOCK} FROM claims) - (SELECT count(*) FROM links WHERE id >= 0)"
            )),
        }
    }
}

/// A client that keeps its connection, as browsers do.
pub(crate) struct Client {
    addr: SocketAddr,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None }
    }

    pub(crate) fn call(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.addr)?,
        };
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        connection.send(request.as_bytes())?;
        let answer = connection.read_answer_to(method)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    pub(crate) fn get(&mut self, target: &str) -> Result<Answer> {
        self.call("GET", target, &[], "")
    }

    pub(crate) fn delete(&mut self, code: &str) -> Result<Answer> {
        self.call("DELETE", &format!("/api/links/{code}"), &[], "")
    }

    pub(crate) fn post(&mut self, target: &str, body: &Value) -> Result<Answer> {
        let json = ("Content-Type", "application/json");
        self.call("POST", target, &[json], &body.to_string())
    }

    pub(crate) fn create(&mut self, link: &Value) -> Result<Answer> {
        self.post("/api/links", link)
    }

    /// Makes a link and returns its code.
    pub(crate) fn make(&mut self, url: &str) -> String {
        let answer = self.create(&json!({ "url": url })).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        code_in(&answer)
    }

    /// Where a link leads, if it leads anywhere.
    pub(crate) fn target_of(&mut self, code: &str) -> Option<String> {
        let answer = self.get(&format!("/{code}")).unwrap();
        assert!(matches!(answer.status, 302 | 404 | 410), "{answer:?}");
        answer.header("location").map(str::to_owned)
    }

    pub(crate) fn clicks(&mut self, code: &str) -> u64 {
        let answer = self.get(&format!("/api/links/{code}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["clicks"].as_u64().unwrap()
    }
}

pub(crate) fn code_in(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap().to_owned()
}
