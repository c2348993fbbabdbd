//! What goes wrong around the service: kills, restarts, a lock, a full disk, engines that fail, clients that hold on.
//!
//! Clients write down what they did and heard (`common/history.rs`); the checker reads it afterwards, and is itself shown
//! to fail on histories that were tampered with.
//!
//! Power of the kills: no violation in N kills bounds the rate of lost links at 3/N a kill, with 95 % confidence. `kill -9`
//! tests what the process promises, not what the disk does: unsynced data survive it in the page cache.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/engines.rs"]
mod engines;
#[path = "faults/shutdown.rs"]
mod shutdown;

use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::history::{Create, History};
use common::load::{create_batch, create_one, creates_during};
use common::{BLOCK, Client, Site, assert_problem, wait_until};
use serde_json::json;
use testkit::server::Server;

common::every_stage! {
    a_restart_keeps_everything,
    a_locked_store_refuses_writes_and_recovers,
}

fn a_restart_keeps_everything(stage: &str) {
    let site = Site::new();
    let mut server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let code = client.make("https://example.org/kept?q=%C3%A4");
    let deleted = client.make("https://example.org/deleted");
    assert_eq!(client.delete(&deleted).unwrap().status, 204);
    let named = json!({"url": "https://example.org/named", "alias": "named", "expires_in_s": 3_600});
    let once = [("Content-Type", "application/json"), ("Idempotency-Key", "once")];
    let first = client.call("POST", "/api/links", &once, &named.to_string()).unwrap();
    assert_eq!(first.status, 201);
    for _ in 0..3 {
        assert!(client.target_of("named").is_some());
    }
    let before = client.get("/api/links/named").unwrap().json();
    assert!(server.terminate().success());

    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    assert_eq!(
        client.target_of(&code).as_deref(),
        Some("https://example.org/kept?q=%C3%A4")
    );
    assert_eq!(client.get(&format!("/{deleted}")).unwrap().status, 410);
    let after = client.get("/api/links/named").unwrap().json();
    for member in ["code", "url", "created_at", "expires_at"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(after["clicks"], 3);
    let again = client.call("POST", "/api/links", &once, &named.to_string()).unwrap();
    assert_eq!((again.status, &again.json()["code"]), (201, &first.json()["code"]));
    assert_eq!(client.create(&named).unwrap().status, 409);
    let new = client.make("https://example.org/new");
    assert!(new != code && new != deleted);
}

/// Everything that happened between the first start and the last kill.
#[derive(Default)]
struct Killed {
    history: History,
    /// Requests for the link `hot`: sent, and answered with a redirect.
    sent: u64,
    redirected: u64,
}

/// Kills a server under load, again and again, and starts it each time on what is left.
fn killed_under_load(stage: &str, site: &Site, kills: u64) -> Killed {
    const CLIENTS: usize = 6;
    let mut all = Killed::default();
    for round in 0..kills {
        let mut server = site.start(stage, &[]);
        let addr = server.addr();
        if round == 0 {
            let hot = json!({"url": "https://example.org/hot", "alias": "hot-link"});
            assert_eq!(Client::new(addr).create(&hot).unwrap().status, 201);
        }
        // Never the same moment: from the middle of the first block to somewhere in the fourth.
        let enough = 60 + (round * 47) % 250;
        let ((sent, redirected), history) = creates_during(addr, CLIENTS, |done| {
            let (mut sent, mut redirected) = (0, 0);
            let mut client = Client::new(addr);
            while done.load(Ordering::Relaxed) < enough {
                sent += 1;
                redirected += u64::from(client.get("/hot-link").is_ok_and(|answer| answer.status == 302));
            }
            server.kill();
            (sent, redirected)
        });
        all.history.creates.extend(history.creates);
        all.sent += sent;
        all.redirected += redirected;
    }
    all
}

fn loses_nothing_when_killed(stage: &str, kills: u64) {
    let site = Site::new();
    let killed = killed_under_load(stage, &site, kills);
    let history = &killed.history;
    let mut database = site.database();
    let cut_off = history
        .creates
        .iter()
        .filter(|create| !matches!(create, Create::Acknowledged { .. }));
    let cut_off = cut_off.count() as u64;
    if matches!(stage, "pregenerated" | "permuted" | "shared") {
        // What was left of a block at each kill, and the names of creates that were cut off.
        let leaked = database.leaked();
        let most = (kills * BLOCK + cut_off).cast_signed();
        assert!(
            (0..=most).contains(&leaked),
            "{kills} kills lost {leaked} names, {most} at most are allowed"
        );
    }

    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let stored = database.texts("SELECT url FROM links WHERE url <> 'https://example.org/hot'");
    let violations = history.violations(&stored, |code| client.target_of(code));
    assert_eq!(violations, Vec::<String>::new());
    assert!(history.acknowledged().count() as u64 >= kills * 60);
    let clicks = client.clicks("hot-link");
    assert!(clicks <= killed.sent, "{clicks} clicks, {} requests", killed.sent);
    if stage == "single_table" {
        assert!(
            clicks >= killed.redirected,
            "{clicks} clicks, {} redirects",
            killed.redirected
        );
    }
    // Codes go on being new, for several blocks more.
    let mut after = History::default();
    after.creates.extend(history.creates.iter().cloned());
    after.creates.extend(create_batch(&mut client, 300));
    let stored = database.texts("SELECT url FROM links WHERE url <> 'https://example.org/hot'");
    assert_eq!(
        after.violations(&stored, |code| client.target_of(code)),
        Vec::<String>::new()
    );
    drop(client);
    drop(server);

    tampering_is_noticed(stage, &site, &after);
}

/// The control, on the very history and store that were just found sound.
fn tampering_is_noticed(stage: &str, site: &Site, history: &History) {
    let (code, url) = history.acknowledged().next().unwrap();
    let mut database = site.database();
    database.run(&format!("DELETE FROM links WHERE url = '{url}'"));
    site.forget_cache();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let stored = database.texts("SELECT url FROM links WHERE url <> 'https://example.org/hot'");
    let violations = history.violations(&stored, |code| client.target_of(code));
    assert_eq!(violations, [format!("{code}, acknowledged for {url}, is lost")]);
}

#[test]
fn permuted_loses_nothing_in_20_kills() {
    loses_nothing_when_killed("permuted", 20);
}

#[test]
fn shared_loses_nothing_in_10_kills() {
    loses_nothing_when_killed("shared", 10);
}

#[test]
fn pregenerated_loses_nothing_in_5_kills() {
    loses_nothing_when_killed("pregenerated", 5);
}

#[test]
fn cached_loses_nothing_in_3_kills() {
    loses_nothing_when_killed("cached", 3);
}

#[test]
fn single_table_loses_nothing_in_5_kills() {
    loses_nothing_when_killed("single_table", 5);
}

#[test]
fn the_checker_finds_each_kind_of_violation() {
    let acknowledged = |code: &str, url: &str| Create::Acknowledged {
        code: code.to_owned(),
        url: url.to_owned(),
    };
    let sound = History {
        creates: vec![
            acknowledged("a", "u1"),
            acknowledged("b", "u2"),
            Create::Refused { url: "u3".to_owned() },
            Create::Unknown { url: "u4".to_owned() },
        ],
    };
    let follow = |code: &str| match code {
        "a" => Some("u1".to_owned()),
        "b" => Some("u2".to_owned()),
        _ => None,
    };
    let check = |history: &History, stored: &[&str]| {
        let stored: Vec<String> = stored.iter().map(|&url| url.to_owned()).collect();
        history.violations(&stored, follow)
    };
    assert!(check(&sound, &["u1", "u2"]).is_empty());
    assert!(check(&sound, &["u1", "u2", "u4"]).is_empty());
    assert_eq!(
        check(&sound, &["u1", "u2", "u3"]),
        ["u3 was refused as not executed and is stored"]
    );
    assert_eq!(check(&sound, &["u1", "u2", "u5"]), ["nobody asked for u5"]);
    let with = |create| {
        let mut history = sound.clone();
        history.creates.push(create);
        check(&history, &[])
    };
    assert_eq!(with(acknowledged("c", "u6")), ["c, acknowledged for u6, is lost"]);
    assert_eq!(
        with(acknowledged("b", "u6")),
        ["b was given twice: for u2 and for u6", "b leads to u2, not to u6"]
    );
}

/// Another process holds the database's lock, as a backup or a careless shell does.
fn a_locked_store_refuses_writes_and_recovers(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let hot = client.make("https://example.org/hot");
    assert!(client.target_of(&hot).is_some());
    let mut history = History::default();
    history.creates.push(create_one(&mut client));

    let mut other = site.database();
    other.lock();
    for _ in 0..2 {
        let url = common::load::fresh_url();
        let asked = Instant::now();
        let refused = client.create(&json!({ "url": url })).unwrap();
        // The deadline is 2 s; the rest is for a busy machine.
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        assert_eq!(
            (refused.status, &refused.json()["outcome"]),
            (503, &json!("not_executed")),
            "{refused:?}"
        );
        assert_problem(&refused, "locked");
        history.creates.push(Create::Refused { url });
        // Where clicks are counted aside, redirects do not notice.
        if stage != "single_table" {
            assert!((0..50).all(|_| client.target_of(&hot).is_some()));
        }
    }
    other.unlock();
    wait_until("creates go on, without a restart", || match create_one(&mut client) {
        create @ Create::Acknowledged { .. } => {
            history.creates.push(create);
            true
        }
        create => {
            history.creates.push(create);
            false
        }
    });
    let stored = other.texts("SELECT url FROM links WHERE url <> 'https://example.org/hot'");
    assert_eq!(
        history.violations(&stored, |code| client.target_of(code)),
        Vec::<String>::new()
    );
}

/// Uses up all names while none can be made, then lets them be made again.
fn an_empty_pool_refuses_creates_and_nothing_else(stage: &str, flags: &[&str], empty: &[&str], refill: &str) {
    let site = Site::new();
    let server = site.start(stage, flags);
    let mut client = Client::new(server.addr());
    let hot = client.make("https://example.org/hot");
    let mut database = site.database();
    empty.iter().for_each(|statement| database.run(statement));
    let mut refused = None;
    wait_until("the keys run out", || {
        let answer = client.create(&json!({"url": "https://example.org/"})).unwrap();
        let out = answer.status != 201;
        refused = out.then_some(answer);
        out
    });
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &json!("keys_exhausted")),
        "{refused:?}"
    );
    assert_problem(&refused, "no keys");
    for _ in 0..20 {
        assert_eq!(client.target_of(&hot).as_deref(), Some("https://example.org/hot"));
    }
    // Names of one's own need no key.
    let named = json!({"url": "https://example.org/", "alias": "needs-no-key"});
    assert_eq!(client.create(&named).unwrap().status, 201);
    database.run(refill);
    wait_until("there are keys again, without a restart", || {
        client.create(&json!({"url": "https://example.org/"})).unwrap().status == 201
    });
}

#[test]
fn pregenerated_out_of_keys_refuses_creates_and_nothing_else() {
    an_empty_pool_refuses_creates_and_nothing_else(
        "pregenerated",
        &["--key-block", "5"],
        &[
            "CREATE TRIGGER dry BEFORE INSERT ON keys BEGIN SELECT raise(ABORT, 'dry'); END",
            "UPDATE marks SET next = 1 + (SELECT max(position) FROM keys) WHERE name = 'position'",
        ],
        "DROP TRIGGER dry",
    );
}

#[test]
fn permuted_out_of_numbers_refuses_creates_and_nothing_else() {
    an_empty_pool_refuses_creates_and_nothing_else(
        "permuted",
        &["--key-block", "5"],
        &["UPDATE marks SET next = 3521614606208 WHERE name = 'number'"],
        "UPDATE marks SET next = 1000 WHERE name = 'number'",
    );
}

#[test]
fn a_database_of_another_numbering_or_key_is_refused_with_one_line() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f";
    const OTHER: &str = "100102030405060708090a0b0c0d0e0f";
    let counted = Site::new();
    drop(counted.start("single_table", &[]));
    drop(counted.start("cached", &[])); // the same numbering: welcome
    let permuted = Site::new();
    drop(permuted.start("permuted", &["--code-key", KEY]));
    for (site, stage, flags) in [
        (&counted, "permuted", &[][..]),
        (&counted, "pregenerated", &[]),
        (&permuted, "permuted", &["--code-key", OTHER]),
        (&permuted, "permuted", &[]), // a key it would have to make
        (&permuted, "single_table", &[]),
    ] {
        let ended = site.command(stage, flags).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{stage} {flags:?}: {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{said}");
        assert!(errors[0].contains("start it on another data directory"), "{said}");
        assert!(!said.contains(KEY) && !said.contains(OTHER), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    drop(permuted.start("permuted", &["--code-key", KEY]));
}

/// Ends a server with SIGTERM and says how long it took.
pub(crate) fn ended(server: &mut Server) -> (ExitStatus, Duration) {
    let begun = Instant::now();
    (server.terminate(), begun.elapsed())
}
