//! Stage `shared` when an engine is killed, frozen or slow, and when it is not there or not the right one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::engines::{self, Engine};
use testkit::http::Connection;
use testkit::server::Server;

use crate::common::history::Create;
use crate::common::load::{create_one, creates_during};
use crate::common::{Client, Site, metric, wait_until};

/// The deadline of a request, and something for a busy machine.
const IN_TIME: Duration = Duration::from_secs(3);

/// Within this, all is as before once the engine is back.
const RECOVERED: Duration = Duration::from_secs(5);

fn redis_commands(server: &Server) -> f64 {
    metric(server, "resource_operations_total", &["resource=\"redis\""])
}

/// What may be done to an engine, and undone.
struct Fate {
    befall: fn(&mut Engine),
    undo: fn(&mut Engine),
}

const KILLED: Fate = Fate {
    befall: |engine| engine.kill(),
    undo: |engine| engine.restart(),
};

const FROZEN: Fate = Fate {
    befall: |engine| engine.stop(),
    undo: |engine| engine.cont(),
};

fn redirects_go_on_without_redis(fate: &Fate) {
    let mut redis = Engine::own_redis(&[]);
    let site = Site::on(&engines::postgres(), redis.url());
    let server = site.start("shared", &[]);
    let mut client = Client::new(server.addr());
    let links: HashMap<String, String> = (0..20)
        .map(|number| {
            let url = format!("https://example.org/{number}");
            (client.make(&url), url)
        })
        .collect();
    let deleted = client.make("https://example.org/deleted");
    (fate.befall)(&mut redis);
    for _ in 0..5 {
        for (code, url) in &links {
            let asked = Instant::now();
            assert_eq!(client.target_of(code).as_ref(), Some(url));
            assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
        }
        assert!(matches!(create_one(&mut client), Create::Acknowledged { .. }));
    }
    assert_eq!(client.get("/zzzzzzz").unwrap().status, 404);
    assert_eq!(client.delete(&deleted).unwrap().status, 204);

    (fate.undo)(&mut redis);
    let back = Instant::now();
    let mut before = redis_commands(&server);
    wait_until("redis is asked again", || {
        links.keys().for_each(|code| assert!(client.target_of(code).is_some()));
        // Every redirect asks it, and not one now and then.
        let now = redis_commands(&server);
        let asked = now - before;
        before = now;
        asked >= 20.0
    });
    assert!(back.elapsed() < RECOVERED, "{:?}", back.elapsed());
}

#[test]
fn redirects_go_on_when_redis_is_killed_and_use_it_again_when_it_is_back() {
    redirects_go_on_without_redis(&KILLED);
}

#[test]
fn redirects_go_on_when_redis_is_frozen_and_use_it_again_when_it_thaws() {
    redirects_go_on_without_redis(&FROZEN);
}

#[test]
fn redirects_keep_their_deadline_when_redis_is_slow() {
    let redis = Engine::own_redis(&["--enable-debug-command", "yes"]);
    let site = Site::on(&engines::postgres(), redis.url());
    let server = site.start("shared", &[]);
    let mut client = Client::new(server.addr());
    let code = client.make("https://example.org/");
    let done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = redis::Client::open(redis.url()).and_then(|client| client.get_connection());
            let mut connection = connection.unwrap();
            while !done.load(Ordering::Relaxed) {
                let () = redis::cmd("DEBUG")
                    .arg("SLEEP")
                    .arg("0.3")
                    .query(&mut connection)
                    .unwrap();
            }
        });
        let slowest = (0..100).map(|_| {
            let asked = Instant::now();
            assert!(client.target_of(&code).is_some());
            asked.elapsed()
        });
        let slowest = slowest.max().unwrap();
        done.store(true, Ordering::Relaxed);
        slowest
    });
    assert!(slowest < IN_TIME, "{slowest:?}");
}

/// Creates go on during all of it, and every answer must be true.
fn creates_tell_the_truth_without_postgres(fate: &Fate) {
    let mut postgres = Engine::own_postgres(&[]);
    let site = Site::on(postgres.url(), &engines::redis());
    let server = site.start("shared", &[]);
    let mut client = Client::new(server.addr());
    let hot = json!({"url": "https://example.org/hot", "alias": "hot-link"});
    assert_eq!(client.create(&hot).unwrap().status, 201);
    let (took, mut history) = creates_during(server.addr(), 4, |done| {
        wait_until("creates are under way", || done.load(Ordering::Relaxed) > 50);
        (fate.befall)(&mut postgres);
        for _ in 0..200 {
            assert!(client.target_of("hot-link").is_some(), "it is cached");
        }
        let url = crate::common::load::fresh_url();
        let asked = Instant::now();
        let refused = client.create(&json!({ "url": url })).unwrap();
        assert!(matches!(refused.status, 503 | 504), "{refused:?}");
        assert!(asked.elapsed() < IN_TIME, "{:?}", asked.elapsed());
        (fate.undo)(&mut postgres);
        let back = Instant::now();
        wait_until("a link can be made again", || {
            client.create(&json!({ "url": url })).unwrap().status == 201
        });
        back.elapsed()
    });
    assert!(took < RECOVERED, "{took:?}");
    wait_until("the last of them is settled", || {
        matches!(create_one(&mut client), Create::Acknowledged { .. })
    });
    let unclear = history
        .creates
        .iter()
        .filter(|create| !matches!(create, Create::Acknowledged { .. }));
    assert!(unclear.count() > 0, "nobody noticed");
    // What this thread made is not in the history.
    let mut database = site.database();
    let asked: Vec<&str> = history.creates.iter().map(Create::url).collect();
    let stored = database.texts("SELECT url FROM links");
    let stored: Vec<String> = stored.into_iter().filter(|url| asked.contains(&url.as_str())).collect();
    site.forget_cache();
    assert_eq!(
        history.violations(&stored, |code| client.target_of(code)),
        Vec::<String>::new()
    );

    // The control: a create that was carried out and is said to be refused.
    let Some((_, url)) = history.acknowledged().next() else {
        panic!("nothing was acknowledged");
    };
    let url = url.to_owned();
    history.creates.push(Create::Refused { url });
    assert_eq!(history.violations(&stored, |code| client.target_of(code)).len(), 1);
}

#[test]
fn when_postgres_is_killed_cached_links_lead_on_and_creates_tell_the_truth() {
    creates_tell_the_truth_without_postgres(&KILLED);
}

#[test]
fn when_postgres_is_frozen_cached_links_lead_on_and_creates_tell_the_truth() {
    creates_tell_the_truth_without_postgres(&FROZEN);
}

/// The bug to catch: a connection goes back to the pool in the middle of an answer, and the next request reads it.
#[test]
fn with_two_connections_and_256_clients_who_often_hang_up_nobody_gets_the_answer_of_another() {
    const CLIENTS: usize = 256;
    const REQUESTS: usize = 12;
    let site = Site::new();
    let server = site.start(
        "shared",
        &["--postgres-connections", "2", "--max-peer-connections", "0"],
    );
    let mut client = Client::new(server.addr());
    let links: Vec<(String, String)> = (0..64)
        .map(|number| {
            let url = format!("https://example.org/{number}");
            (client.make(&url), url)
        })
        .collect();
    let (answered, hung_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (links, server, answered, hung_up) = (&links, &server, &answered, &hung_up);
            scope.spawn(move || {
                let mut client = Client::new(server.addr());
                for request in 0..REQUESTS {
                    let turn = number * REQUESTS + request;
                    let (code, url) = &links[turn % links.len()];
                    // The count stands in Postgres, so each of these asks it.
                    let path = format!("/api/links/{code}");
                    if turn % 10 < 3 {
                        let mut connection = Connection::open(server.addr()).unwrap();
                        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr());
                        connection.send(request.as_bytes()).unwrap();
                        hung_up.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let Ok(answer) = client.get(&path) else {
                        continue;
                    };
                    match answer.status {
                        200 => {
                            let link = answer.json();
                            assert_eq!((&link["code"], &link["url"]), (&json!(code), &json!(url)));
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        503 | 504 => {}
                        _ => panic!("{answer:?}"),
                    }
                }
            });
        }
    });
    let (answered, hung_up) = (answered.into_inner(), hung_up.into_inner());
    assert!(
        answered > CLIENTS && hung_up > CLIENTS,
        "{answered} answered, {hung_up} hung up"
    );
}

/// What Redis forgets of writes that it acknowledged. A kill spares what the process handed to the kernel, so this is less
/// than a power cut takes; the README quotes what is printed here.
#[test]
fn redis_keeps_what_its_fsync_mode_says_when_it_is_killed() {
    const KILLS: u64 = 5;
    for (mode, flags) in [
        (
            "appendfsync always",
            &["--appendonly", "yes", "--appendfsync", "always"][..],
        ),
        (
            "appendfsync everysec",
            &["--appendonly", "yes", "--appendfsync", "everysec"],
        ),
        ("appendfsync no", &["--appendonly", "yes", "--appendfsync", "no"]),
        ("no append-only file", &["--appendonly", "no"]),
    ] {
        let mut redis = Engine::own_redis(flags);
        let (mut acknowledged, mut lost) = (0, 0);
        for _ in 0..KILLS {
            let connect = |redis: &Engine| {
                let client = redis::Client::open(redis.url()).unwrap();
                client.get_connection().unwrap()
            };
            let mut connection = connect(&redis);
            let begun: u64 = redis::cmd("GET")
                .arg("n")
                .query::<Option<u64>>(&mut connection)
                .unwrap()
                .unwrap_or(0);
            let mut last = begun;
            for _ in 0..2_000 {
                last = redis::cmd("INCR").arg("n").query(&mut connection).unwrap();
            }
            redis.kill();
            redis.restart();
            let kept: Option<u64> = redis::cmd("GET").arg("n").query(&mut connect(&redis)).unwrap();
            acknowledged += last - begun;
            lost += last - kept.unwrap_or(0);
        }
        println!("{mode:<22} {KILLS} kills: {lost:>6} of {acknowledged} acknowledged writes lost");
        match mode {
            "appendfsync always" => assert_eq!(lost, 0),
            "no append-only file" => assert!(lost > 0, "the control: without a file, a kill forgets everything"),
            // How many, is what this prints; that it is not all of them, as without a file, is the promise.
            _ => assert!(lost < acknowledged, "{mode}: the file was of no use"),
        }
    }
}

/// Runs a server to its end, which it must reach with one line of error that says `what`.
fn refused(site: &Site, flags: &[&str], what: &str) {
    let ended = site.command("shared", flags).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].contains(what), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("panicked"), "{said}");
}

#[test]
fn an_engine_that_is_wrong_or_absent_ends_the_start_with_one_line() {
    let (postgres, redis) = (engines::postgres(), engines::redis());
    let short = ["--engine-wait-s", "1"];
    refused(
        &Site::on("postgresql", &redis),
        &short,
        "--postgres-url: must begin with postgres://",
    );
    refused(&Site::on(&postgres, "http://user:s3cret@host"), &short, "--redis-url: ");
    let absent = "postgres://user:s3cret@127.0.0.1:1/links";
    refused(
        &Site::on(absent, &redis),
        &short,
        "postgres at 127.0.0.1:1 did not answer within 1 s",
    );
    let absent = "redis://:s3cret@127.0.0.1:1/";
    refused(
        &Site::on(&postgres, absent),
        &short,
        "redis at 127.0.0.1:1 did not answer within 1 s",
    );
    let (server, _) = postgres.rsplit_once('/').unwrap();
    refused(
        &Site::on(&format!("{server}/nowhere"), &redis),
        &short,
        "\"nowhere\" does not exist",
    );
}

#[test]
fn a_database_of_another_version_key_or_block_is_refused_with_one_line() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f";
    let site = Site::new();
    drop(site.start("shared", &["--code-key", KEY]));
    refused(&site, &[], "with the code key and key block");
    refused(
        &site,
        &["--code-key", KEY, "--key-block", "7"],
        "with the code key and key block",
    );
    site.database().run("UPDATE _sqlx_migrations SET checksum = ''");
    refused(&site, &["--code-key", KEY], "the schema is not this version's");
}

#[test]
fn a_server_that_is_started_before_its_engine_waits_for_it() {
    let mut postgres = Engine::own_postgres(&[]);
    postgres.kill();
    let site = Site::on(postgres.url(), &engines::redis());
    let command = site.command("shared", &[]);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| Server::spawn(command));
        postgres.restart();
        let server = server.join().unwrap();
        Client::new(server.addr()).make("https://example.org/");
    });
}
