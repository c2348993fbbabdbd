//! Many at once: on one name, one key, one link, one store.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use common::history::{Create, History};
use common::load::{create_batch, create_one};
use common::{BLOCK, Client, Site, assert_problem, code_in, wait_until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use testkit::http::Answer;
use testkit::server::Server;

common::every_stage! {
    of_64_who_want_one_alias_one_gets_it,
    fifty_requests_under_one_key_make_one_link,
    every_click_of_64_clients_on_one_link_is_counted,
    nobody_is_redirected_once_a_delete_was_acknowledged,
}

/// Lets `clients` do the same thing at the same moment.
fn at_once<T: Send>(server: &Server, clients: usize, act: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let ready = Barrier::new(clients);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let (ready, act) = (&ready, &act);
                scope.spawn(move || {
                    let mut client = Client::new(server.addr());
                    assert_eq!(client.get("/livez").unwrap().status, 200);
                    ready.wait();
                    act(number, &mut client)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn of_64_who_want_one_alias_one_gets_it(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    for name in ["wanted", "also-wanted", "wanted-too"] {
        let url = |number| format!("https://example.org/{number}");
        let answers = at_once(&server, 64, |number, client| {
            client.create(&json!({"url": url(number), "alias": name})).unwrap()
        });
        let winners: Vec<usize> = (0..64).filter(|number| answers[*number].status == 201).collect();
        assert_eq!(winners.len(), 1, "{winners:?} all have {name}");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!(answer.status, 409, "{answer:?}");
            assert_problem(answer, name);
        }
        assert_eq!(Client::new(server.addr()).target_of(name), Some(url(winners[0])));
    }
    assert_eq!(site.database().number("SELECT count(*) FROM links"), 3);
}

fn fifty_requests_under_one_key_make_one_link(stage: &str) {
    let site = Site::new();
    let server = site.start(stage, &[]);
    for key in ["first", "second"] {
        let answers = at_once(&server, 50, |_, client| {
            let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
            let body = r#"{"url":"https://example.org/once"}"#;
            client.call("POST", "/api/links", &headers, body).unwrap()
        });
        let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
        let codes: HashSet<String> = made.iter().map(|answer| code_in(answer)).collect();
        assert_eq!(codes.len(), 1, "one key, one code");
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (409, &json!("key_in_flight")),
                "{answer:?}"
            );
        }
    }
    assert_eq!(site.database().number("SELECT count(*) FROM links"), 2);
}

fn every_click_of_64_clients_on_one_link_is_counted(stage: &str) {
    const EACH: u64 = 20;
    let site = Site::new();
    let mut server = site.start(stage, &[]);
    let mut client = Client::new(server.addr());
    let code = client.make("https://example.org/hot");
    at_once(&server, 64, |_, client| {
        for _ in 0..EACH {
            assert_eq!(client.get(&format!("/{code}")).unwrap().status, 302);
        }
    });
    assert!(client.clicks(&code) <= 64 * EACH);
    assert!(server.terminate().success());
    let server = site.start(stage, &[]);
    assert_eq!(Client::new(server.addr()).clicks(&code), 64 * EACH);
}

fn nobody_is_redirected_once_a_delete_was_acknowledged(stage: &str) {
    const FOLLOWERS: usize = 4;
    let site = Site::new();
    let server = site.start(stage, &[]);
    for round in 0..15 {
        let name = format!("short-lived-{round}");
        let link = json!({"url": "https://example.org/", "alias": name});
        assert_eq!(Client::new(server.addr()).create(&link).unwrap().status, 201);
        let deleted = AtomicBool::new(false);
        let redirected = at_once(&server, FOLLOWERS + 1, |number, client| {
            if number == 0 {
                assert_eq!(client.delete(&name).unwrap().status, 204);
                deleted.store(true, Ordering::SeqCst);
                return 0;
            }
            let mut redirected = 0;
            loop {
                let too_late = deleted.load(Ordering::SeqCst);
                match client.get(&format!("/{name}")).unwrap().status {
                    302 if too_late => panic!("{name} led somewhere after its deletion was acknowledged"),
                    302 => redirected += 1,
                    410 if too_late => return redirected,
                    410 => {}
                    other => panic!("{other}"),
                }
            }
        });
        assert_eq!(redirected.len(), FOLLOWERS + 1);
    }
}

/// Three processes on one data directory, or on one Postgres, which share its keys and nothing else. Each makes links in
/// `batches` and one by one.
fn three_servers_never_give_one_code_twice(stage: &str, batches: usize, batch: usize) {
    const SERVERS: usize = 3;
    const SINGLES: usize = 200;
    let site = Site::new();
    let servers: Vec<Server> = (0..SERVERS).map(|_| site.start(stage, &[])).collect();
    let creates: Vec<Create> = std::thread::scope(|scope| {
        let threads: Vec<_> = servers
            .iter()
            .flat_map(|server| {
                let batches = scope.spawn(|| {
                    let mut client = Client::new(server.addr());
                    (0..batches)
                        .flat_map(|_| create_batch(&mut client, batch))
                        .collect::<Vec<_>>()
                });
                let singles = scope.spawn(|| {
                    let mut client = Client::new(server.addr());
                    (0..SINGLES).map(|_| create_one(&mut client)).collect::<Vec<_>>()
                });
                [batches, singles]
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let history = History { creates };
    let all = SERVERS * (batches * batch + SINGLES);
    assert_eq!(history.creates.len(), all);
    let acknowledged = history.acknowledged().count();
    assert!(
        acknowledged > all * 9 / 10,
        "only {acknowledged} of {all} creates went well"
    );

    let mut database = site.database();
    let stored = database.texts("SELECT url FROM links");
    // Each server knows the links of the others.
    let mut clients: Vec<Client> = servers.iter().map(|server| Client::new(server.addr())).collect();
    let mut turn = (0..SERVERS).cycle();
    let codes: HashSet<&str> = history.acknowledged().map(|(code, _)| code).collect();
    assert_eq!(codes.len(), acknowledged, "a code was given twice");
    let urls: HashSet<&str> = stored.iter().map(String::as_str).collect();
    assert!(
        history.acknowledged().all(|(_, url)| urls.contains(url)),
        "a link is lost"
    );
    // Of very many, some thousands are followed.
    let followed = History {
        creates: history.creates.iter().step_by(all.div_ceil(20_000)).cloned().collect(),
    };
    let asked: HashSet<&str> = followed.creates.iter().map(Create::url).collect();
    let stored: Vec<String> = stored
        .iter()
        .filter(|url| asked.contains(url.as_str()))
        .cloned()
        .collect();
    let violations = followed.violations(&stored, |code| clients[turn.next().unwrap()].target_of(code));
    assert_eq!(violations, Vec::<String>::new());
    // What the servers hold, and what went with creates that failed; no more is lost.
    let failed = all - acknowledged;
    let most = SERVERS as u64 * BLOCK + failed as u64;
    let leaked = database.leaked();
    assert!(
        (0..=most.cast_signed()).contains(&leaked),
        "{leaked} names lost, at most {most} may be"
    );
}

#[test]
fn three_pregenerated_servers_on_one_directory_never_give_one_code_twice() {
    three_servers_never_give_one_code_twice("pregenerated", 24, 200);
}

#[test]
fn three_permuted_servers_on_one_directory_never_give_one_code_twice() {
    three_servers_never_give_one_code_twice("permuted", 24, 200);
}

#[test]
fn three_shared_servers_on_one_postgres_never_give_one_code_twice_in_300_000() {
    three_servers_never_give_one_code_twice("shared", 100, 1_000);
}

/// Two servers that are started on a new directory at the same moment agree about its secret.
#[test]
fn servers_started_at_once_on_a_new_directory_agree_about_its_secret() {
    for _ in 0..5 {
        let site = Site::new();
        // The schema first: this is about the secret.
        drop(site.start("permuted", &["--code-key", "000102030405060708090a0b0c0d0e0f"]));
        site.database().run("DELETE FROM numbering");
        let ready = Barrier::new(3);
        let codes: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        ready.wait();
                        let server = site.start("permuted", &[]);
                        Client::new(server.addr()).make("https://example.org/")
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let server = site.start("permuted", &[]);
        let mut client = Client::new(server.addr());
        for code in codes {
            assert!(client.target_of(&code).is_some(), "{code} is lost");
        }
    }
}

/// What somebody does to the service.
#[derive(Clone, Debug)]
enum Step {
    Create,
    CreateNamed(usize),
    Follow(usize),
    Delete(usize),
    Restart { killed: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Create),
        6 => (0..6_usize).prop_map(Step::CreateNamed),
        8 => (0..12_usize).prop_map(Step::Follow),
        4 => (0..12_usize).prop_map(Step::Delete),
        1 => any::<bool>().prop_map(|killed| Step::Restart { killed }),
    ]
}

/// What the service should know: for each name its target, and whether it was deleted.
type Model = HashMap<String, (String, bool)>;

/// Does a step to both and fails when they disagree. `names` are those used so far.
fn take(step: &Step, client: &mut Client, model: &mut Model, names: &mut Vec<String>) -> Result<(), TestCaseError> {
    const ALIASES: [&str; 6] = ["one", "two", "One", "t-w-o", "t_w_o", "three-and-more"];
    let url = common::load::fresh_url();
    match step {
        Step::Create => {
            let code = client.make(&url);
            prop_assert!(
                model.insert(code.clone(), (url, false)).is_none(),
                "{} came twice",
                code
            );
            names.push(code);
        }
        Step::CreateNamed(number) => {
            let alias = ALIASES[*number].to_owned();
            let answer = client.create(&json!({"url": url, "alias": alias})).unwrap();
            let expected = if model.contains_key(&alias) { 409 } else { 201 };
            prop_assert_eq!(answer.status, expected);
            if expected == 201 {
                model.insert(alias.clone(), (url, false));
                names.push(alias);
            }
        }
        Step::Follow(number) => {
            let (name, expected) = pick(*number, names, model);
            let answer = client.get(&format!("/{name}")).unwrap();
            prop_assert_eq!((answer.status, answer.header("location")), expected);
        }
        Step::Delete(number) => {
            let (name, expected) = pick(*number, names, model);
            let expected = if expected.0 == 302 { 204 } else { expected.0 };
            prop_assert_eq!(client.delete(&name).unwrap().status, expected);
            if let Some((_, deleted)) = model.get_mut(&name) {
                *deleted = true;
            }
        }
        Step::Restart { .. } => {}
    }
    Ok(())
}

/// One of the names used so far, or one that was not, and what following it should say.
fn pick<'a>(number: usize, names: &[String], model: &'a Model) -> (String, (u16, Option<&'a str>)) {
    let name = names.get(number).cloned().unwrap_or_else(|| "never-used".to_owned());
    let expected = match model.get(&name) {
        None => (404, None),
        Some((_, true)) => (410, None),
        Some((url, false)) => (302, Some(url.as_str())),
    };
    (name, expected)
}

fn behaves_like_a_map(stage: &str) {
    let config = Config {
        cases: 8,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 20..60);
    let played = TestRunner::new(config).run(&steps, |steps| {
        let site = Site::new();
        let mut server = site.start(stage, &[]);
        let mut client = Client::new(server.addr());
        let (mut model, mut names) = (Model::new(), Vec::new());
        for step in &steps {
            if let Step::Restart { killed } = step {
                if *killed {
                    server.kill();
                } else {
                    prop_assert!(server.terminate().success());
                }
                server = site.start(stage, &[]);
                client = Client::new(server.addr());
            }
            take(step, &mut client, &mut model, &mut names)?;
        }
        for (name, (url, deleted)) in &model {
            let expected = (!deleted).then(|| url.clone());
            prop_assert_eq!(client.target_of(name), expected);
        }
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn single_table_behaves_like_a_map_through_restarts_and_kills() {
    behaves_like_a_map("single_table");
}

#[test]
fn permuted_behaves_like_a_map_through_restarts_and_kills() {
    behaves_like_a_map("permuted");
}

/// A link that one server deletes or makes is known to the others within the bound of their caches.
#[test]
fn a_link_made_by_one_server_is_found_by_another_that_had_looked_before() {
    for stage in ["permuted", "shared"] {
        found_by_another_that_had_looked_before(stage);
    }
}

fn found_by_another_that_had_looked_before(stage: &str) {
    let site = Site::new();
    let (here, there) = (site.start(stage, &[]), site.start(stage, &[]));
    let (mut here, mut there) = (Client::new(here.addr()), Client::new(there.addr()));
    assert_eq!(there.target_of("not-yet"), None);
    let link = json!({"url": "https://example.org/", "alias": "not-yet"});
    assert_eq!(here.create(&link).unwrap().status, 201);
    wait_until("the other server knows it", || there.target_of("not-yet").is_some());
}
