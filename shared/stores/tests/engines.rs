//! Postgres and Redis as the stores open them, on real engines.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot unwrap has no shorter way to say what must hold"
)]

use std::time::{Duration, Instant};

use ledger::{Ledger, Row};
use stores::{Error, Migrator, Postgres, Redis, migrations};
use testkit::engines::{self, Engine};

fn schema() -> Migrator {
    migrations(&[(
        "notes",
        "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT NOT NULL);",
    )])
}

fn row(ledger: &Ledger, name: &str) -> Row {
    ledger.read().into_iter().find(|row| row.name == name).unwrap()
}

/// Tries until it works, as a client would.
async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn postgres_is_migrated_once_however_many_servers_open_it_together() {
    let (url, ledger) = (engines::postgres(), Ledger::new());
    let (schema, other) = (schema(), Ledger::new());
    let (a, b) = tokio::join!(
        Postgres::open(&url, 2, &schema, &ledger),
        Postgres::open(&url, 2, &schema, &other)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    let mut connection = a.connection().await.unwrap();
    sqlx::query("INSERT INTO notes VALUES (1, 'seen by both')")
        .execute(&mut *connection)
        .await
        .unwrap();
    drop(connection);
    let mut connection = b.connection().await.unwrap();
    let text: String = sqlx::query_scalar("SELECT text FROM notes")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(text, "seen by both");
    assert_eq!(
        (
            row(&ledger, "postgres_pool").operations,
            row(&ledger, "postgres_pool").capacity
        ),
        (1, 2.0)
    );
}

#[tokio::test]
async fn a_postgres_pool_that_is_used_up_lets_wait_and_then_refuses() {
    let ledger = Ledger::new();
    let db = Postgres::open(&engines::postgres(), 1, &schema(), &ledger)
        .await
        .unwrap();
    let held = db.connection().await.unwrap();
    assert!(matches!(db.connection().await, Err(Error::Unavailable(_))));
    drop(held);
    assert!(db.connection().await.is_ok());
    assert!(row(&ledger, "postgres_pool").wait_seconds > 0.1);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_postgres() {
    let db = Postgres::open(&engines::postgres(), 1, &schema(), &Ledger::new())
        .await
        .unwrap();
    let mut connection = db.connection().await.unwrap();
    let started = Instant::now();
    let ended = sqlx::query("SELECT pg_sleep(60)").execute(&mut *connection).await;
    assert!(ended.is_err() && started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_postgres_that_is_not_there_or_a_wrong_url_is_one_error() {
    for url in [
        "postgres://127.0.0.1:1/none",
        "not a url",
        "postgres://nobody@127.0.0.1:1/none",
    ] {
        let refused = Postgres::open(url, 1, &schema(), &Ledger::new()).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{url}");
    }
}

#[tokio::test]
async fn postgres_is_used_again_once_it_is_back() {
    let mut engine = Engine::own_postgres(&[]);
    let db = Postgres::open(engine.url(), 2, &schema(), &Ledger::new())
        .await
        .unwrap();
    engine.kill();
    let asked = async |db: &Postgres| -> Result<(), Error> {
        let mut connection = db.connection().await?;
        let answer = sqlx::query("SELECT 1").execute(&mut *connection).await;
        answer.map(drop).map_err(Error::before_commit)
    };
    assert!(asked(&db).await.is_err());
    engine.restart();
    until(async || asked(&db).await.ok()).await;
}

#[tokio::test]
async fn redis_reads_and_writes_and_both_show_in_the_ledger() {
    let ledger = Ledger::new();
    let redis = Redis::open(&engines::redis(), &ledger).await.unwrap();
    let () = redis.write(redis::cmd("SET").arg("k").arg(7)).await.unwrap();
    let value: i64 = redis.read(redis::cmd("GET").arg("k")).await.unwrap();
    assert_eq!(value, 7);
    assert_eq!(row(&ledger, "redis").operations, 2);
}

#[tokio::test]
async fn a_command_that_redis_refuses_was_not_executed() {
    let redis = Redis::open(&engines::redis(), &Ledger::new()).await.unwrap();
    let () = redis.write(redis::cmd("SET").arg("k").arg("text")).await.unwrap();
    let refused = redis.write::<i64>(redis::cmd("INCR").arg("k")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_redis_that_hangs_is_waited_for_briefly_and_a_write_to_it_is_unknown() {
    let mut engine = Engine::own_redis(&[]);
    let redis = Redis::open(engine.url(), &Ledger::new()).await.unwrap();
    engine.stop();
    let started = Instant::now();
    let unknown = redis.write::<()>(redis::cmd("SET").arg("k").arg(1)).await;
    assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    engine.cont();
    until(async || redis.read::<Option<i64>>(redis::cmd("GET").arg("k")).await.ok()).await;
}

#[tokio::test]
async fn redis_is_used_again_once_it_is_back() {
    let mut engine = Engine::own_redis(&[]);
    let redis = Redis::open(engine.url(), &Ledger::new()).await.unwrap();
    engine.kill();
    assert!(redis.read::<Option<i64>>(redis::cmd("GET").arg("k")).await.is_err());
    engine.restart();
    until(async || redis.read::<Option<i64>>(redis::cmd("GET").arg("k")).await.ok()).await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_or_a_wrong_url_is_one_error() {
    for url in ["redis://127.0.0.1:1/", "not a url"] {
        assert!(
            matches!(Redis::open(url, &Ledger::new()).await, Err(Error::Unavailable(_))),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_command_follows_its_slot_to_another_node_and_is_carried_out_once() {
    let cluster = engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &Ledger::new()).await.unwrap();
    let mut nodes = Vec::new();
    for node in cluster.iter() {
        nodes.push(Redis::open(node.url(), &Ledger::new()).await.unwrap());
    }
    let slot: u32 = nodes[0]
        .read(redis::cmd("CLUSTER").arg("KEYSLOT").arg("k"))
        .await
        .unwrap();
    let give_to = async |node: &Redis| {
        let id: String = node.read(redis::cmd("CLUSTER").arg("MYID")).await.unwrap();
        // The new owner has to know it first.
        for told in std::iter::once(node).chain(&nodes) {
            let mut set = redis::cmd("CLUSTER");
            set.arg("SETSLOT").arg(slot).arg("NODE").arg(&id);
            let () = told.write(&set).await.unwrap();
        }
    };
    for (nth, node) in nodes.iter().chain(&nodes[..2]).enumerate() {
        let () = redis.write(redis::cmd("DEL").arg("k")).await.unwrap();
        give_to(node).await;
        let count: i64 = redis.write(redis::cmd("INCR").arg("k")).await.unwrap();
        assert_eq!(count, 1, "move {nth}");
        assert_eq!(
            node.read::<i64>(redis::cmd("GET").arg("k")).await.unwrap(),
            1,
            "move {nth}"
        );
    }
}

#[tokio::test]
async fn what_a_frozen_node_of_a_cluster_was_sent_is_unknown_and_sent_once_and_others_answer() {
    let mut cluster = engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &Ledger::new()).await.unwrap();
    let keys: Vec<String> = (0..30).map(|nth| format!("k{nth}")).collect();
    let parts: Vec<Redis> = keys.iter().map(|_| redis.part()).collect();
    cluster[2].stop();
    let mut answered = 0;
    for (key, part) in keys.iter().zip(&parts) {
        match part.write::<i64>(redis::cmd("INCR").arg(key)).await {
            Ok(1) => answered += 1,
            Err(Error::Unknown(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((10..30).contains(&answered), "{answered} of 30");
    cluster[2].cont();
    for (key, part) in keys.iter().zip(&parts) {
        let count = until(async || part.read::<Option<i64>>(redis::cmd("GET").arg(key)).await.ok()).await;
        assert!(count.unwrap_or(0) <= 1, "{key}: {count:?}");
    }
}

/// The driver would load it into all nodes, and wait for the frozen one.
#[tokio::test]
async fn a_script_that_a_node_does_not_know_is_loaded_into_that_node_though_another_is_frozen() {
    let mut cluster = engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &Ledger::new()).await.unwrap();
    let node = Redis::open(cluster[0].url(), &Ledger::new()).await.unwrap();
    let () = node.write(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    // A node refuses what it does not have.
    let mut key = String::new();
    for nth in 0.. {
        key = format!("k{nth}");
        let found = node.read::<Option<String>>(redis::cmd("GET").arg(&key)).await;
        if found.is_ok() {
            break;
        }
    }
    cluster[2].stop();
    let script = redis::Script::new("return redis.call('INCR', KEYS[1])");
    let count: i64 = redis.run(&script.key(&key)).await.unwrap();
    assert_eq!(count, 1);
    cluster[2].cont();
}

#[tokio::test]
async fn a_cluster_is_used_again_once_a_node_of_it_is_back() {
    let mut cluster = engines::redis_cluster();
    let redis = Redis::open_cluster(cluster.url(), &Ledger::new()).await.unwrap();
    cluster[0].restart().unwrap();
    for nth in 0..30 {
        let get = redis::cmd("GET").arg(format!("k{nth}")).clone();
        until(async || redis.read::<Option<i64>>(&get).await.ok()).await;
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_or_a_wrong_url_is_one_error() {
    for urls in [
        "redis://127.0.0.1:1/,redis://127.0.0.1:2/",
        "not a url",
        "redis://127.0.0.1:1,,",
    ] {
        let refused = Redis::open_cluster(urls, &Ledger::new()).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{urls}");
    }
}
