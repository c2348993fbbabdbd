//! Engines as tests see them: real, separate, and gone afterwards, whatever happens.

#![allow(clippy::unwrap_used, reason = "helpers of tests may, as tests may")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use testkit::engines::{self, Engine};

#[test]
fn each_call_has_an_empty_redis_database_of_its_own() {
    let (first, second) = (engines::redis(), engines::redis());
    assert_ne!(first, second);
    redis_command::<()>(&first, &["SET", "key", "value"]);
    assert_eq!(redis_command::<u64>(&second, &["DBSIZE"]), 0);
}

#[tokio::test]
async fn each_call_has_an_empty_postgres_database_of_its_own() {
    let (first, second) = (engines::postgres(), engines::postgres());
    assert_ne!(first, second);
    let mut connection = PgConnection::connect(&first).await.unwrap();
    sqlx::query("CREATE TABLE marks (n int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut other = PgConnection::connect(&second).await.unwrap();
    let absent = sqlx::query("SELECT * FROM marks").fetch_all(&mut other).await;
    assert!(absent.unwrap_err().to_string().contains("does not exist"));
}

#[test]
fn a_redis_of_ones_own_is_killed_frozen_and_restarted() {
    let mut engine = Engine::own_redis(&["--appendonly", "yes", "--appendfsync", "always"]);
    redis_command::<()>(engine.url(), &["SET", "key", "value"]);

    engine.stop();
    assert!(
        redis_within(engine.url(), Duration::from_millis(200)).is_err(),
        "a frozen server answered"
    );
    engine.cont();
    assert_eq!(redis_command::<String>(engine.url(), &["GET", "key"]), "value");

    engine.kill();
    assert!(!answers(engine.url()));
    let first_pid = engine.pid();
    engine.restart();
    assert_ne!(engine.pid(), first_pid);
    assert_eq!(redis_command::<String>(engine.url(), &["GET", "key"]), "value");
}

#[tokio::test]
async fn a_postgres_of_ones_own_is_killed_frozen_and_restarted() {
    let mut engine = Engine::own_postgres(&[]);
    let mut connection = PgConnection::connect(engine.url()).await.unwrap();
    sqlx::query("CREATE TABLE marks AS SELECT 7 AS n")
        .execute(&mut connection)
        .await
        .unwrap();

    engine.stop();
    let frozen = tokio::time::timeout(Duration::from_millis(200), one_mark(&mut connection)).await;
    assert!(frozen.is_err(), "a frozen server answered");
    engine.cont();

    engine.kill();
    assert!(!answers(engine.url()));
    engine.restart();
    let mut connection = PgConnection::connect(engine.url()).await.unwrap();
    assert_eq!(one_mark(&mut connection).await.unwrap(), 7);
}

#[test]
fn an_engine_is_gone_after_a_panic() {
    let (tell, told) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let engine = Engine::own_redis(&[]);
        tell.send((engine.url().to_owned(), engine.folder().to_owned()))
            .unwrap();
        panic!("as a failing test does");
    });
    let (url, folder) = told.recv().unwrap();
    assert!(test.join().is_err());
    assert!(!answers(&url) && !folder.exists());
}

#[test]
fn redis_is_gone_after_the_test_process_is_killed() {
    let mut holder = Holder::of("redis");
    let folder: Vec<String> = redis_command(&holder.url, &["CONFIG", "GET", "dir"]);
    let folder = PathBuf::from(&folder[1]);
    assert!(folder.exists());
    holder.kill_9();
    gone(&holder.url, &folder);
}

#[tokio::test]
async fn postgres_is_gone_after_the_test_process_is_killed() {
    let mut holder = Holder::of("postgres");
    let mut connection = PgConnection::connect(&holder.url).await.unwrap();
    let data: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(Path::new(&data).exists());
    holder.kill_9();
    gone(&holder.url, Path::new(&data));
}

/// `test-engine` as a stand-in for a test process with an engine in a `static`.
struct Holder {
    process: Child,
    url: String,
}

impl Holder {
    fn of(engine: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_test-engine"))
            .arg(engine)
            // An engine from the environment is nobody's to end.
            .env_remove("TEST_REDIS_URL")
            .env_remove("TEST_POSTGRES_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut url)
            .unwrap();
        Self {
            process,
            url: url.trim().to_owned(),
        }
    }

    fn kill_9(&mut self) {
        self.process.kill().unwrap(); // SIGKILL
        self.process.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// Waits until nobody answers at `url` and `folder` is removed.
fn gone(url: &str, folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while answers(url) || folder.exists() {
        assert!(
            Instant::now() < deadline,
            "{url} or {} is still there",
            folder.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn answers(url: &str) -> bool {
    let address = url.split_once("://").unwrap().1;
    let address = address
        .rsplit_once('@')
        .map_or(address, |(_, host)| host)
        .split('/')
        .next()
        .unwrap();
    TcpStream::connect(address).is_ok()
}

async fn one_mark(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM marks").fetch_one(connection).await
}

fn redis_command<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap()
}

fn redis_within(url: &str, patience: Duration) -> redis::RedisResult<String> {
    let mut connection = redis::Client::open(url)?.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    redis::cmd("PING").query(&mut connection)
}
