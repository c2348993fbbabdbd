//! Two servers that might have one node id: on one data directory, on one lender, or because one of them slept.
//!
//! zitadel/zitadel, issue 9075: node ids came from addresses, two servers had one, and the same ids were made in production.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use testkit::engines::Engine;
use testkit::http::Connection;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::common::{Client, Site};
use crate::history::History;
use crate::load::{End, ended, load_during, long};
use crate::{NONE, leasing_from, node_of, refused};

#[test]
fn a_second_server_on_one_data_directory_refuses_to_start() {
    let site = Site::new();
    let mut first = site.start("snowflake", &[]);
    refused(
        &mut site.command("snowflake", &[]),
        "another server makes ids in this data directory",
    );
    Client::new(first.addr()).ids(1);
    // A lock that its owner's death does not lift would keep everybody out.
    first.kill();
    let again = site.start("snowflake", &["--reserve-ms", "100"]);
    wait_until("it takes over", || {
        Client::new(again.addr()).ask(1).unwrap().status == 200
    });
}

/// sony/sonyflake, pull request 72: a wider one ran into the bits of its neighbour.
#[test]
fn a_node_id_that_is_too_wide_ends_the_start_with_one_line() {
    let site = Site::new();
    for (node, layout, most) in [
        ("1024", "twitter", 1023),
        ("8192", "instagram", 8191),
        ("65536", "sonyflake", 65535),
    ] {
        let mut command = site.command("snowflake", &["--node-id", node, "--layout", layout]);
        refused(&mut command, &format!("at most {most}"));
    }
}

#[test]
fn servers_that_start_at_once_on_one_lender_have_node_ids_of_their_own() {
    for lender in ["postgres", "redis"] {
        let site = Site::new();
        let first = site.start("leased", &["--leases", lender]);
        let others: Vec<Server> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..5)
                .map(|_| scope.spawn(|| site.start("leased", &["--leases", lender])))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let all = others.iter().chain([&first]);
        let nodes: HashSet<u32> = all
            .map(|server| node_of(Client::new(server.addr()).ids(1)[0]))
            .collect();
        assert_eq!(nodes.len(), 6, "{lender}: {nodes:?}");
    }
}

/// Whether the lease on node id 0 has run out, by the lender's own clock.
async fn has_run_out(postgres: &mut sqlx::PgConnection) -> bool {
    let query = "SELECT expires_at <= clock_timestamp() FROM node_leases WHERE node = 0";
    sqlx::query_scalar(query).fetch_one(postgres).await.unwrap()
}

/// Whether every thread has stopped. The signal is sent at once, and arrives a little later.
fn is_frozen(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut states = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    states.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

/// A request that is under way.
fn sent(server: &Server) -> Connection {
    let mut connection = Connection::open(server.addr()).unwrap();
    let request = b"POST /ids?count=3 HTTP/1.1\r\nHost: t\r\nAccept: text/plain\r\n\r\n";
    connection.send(request).unwrap();
    connection
}

/// The server that has node id 0 is frozen past its lease; another gets node id 0; then the first goes on, with requests
/// that came while it slept.
#[test]
fn a_server_that_sleeps_through_its_lease_tells_nothing_as_its_old_self_in_20_takeovers() {
    const WAITING: usize = 4;
    let takeovers = if long() { 100 } else { 20 };
    let postgres = Engine::own_postgres(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    drop(Server::spawn(leasing_from(&postgres, "300"))); // which makes the table
    let connection = <sqlx::PgConnection as sqlx::Connection>::connect(postgres.url());
    let mut lender = runtime.block_on(connection).unwrap();
    let mut all = History::default();
    let mut resumed = 0;
    for round in 0..takeovers {
        let mut sleeper = Server::spawn(leasing_from(&postgres, "300"));
        let (mut heir, history) = load_during(&[(2 * round, sleeper.addr())], 2, &[1, 5], |made| {
            wait_until("ids are made", || made.load(Ordering::Relaxed) > 10);
            sleeper.stop();
            wait_until("all of it is frozen", || is_frozen(sleeper.pid()));
            let asked = Instant::now();
            let mut waiting: Vec<Connection> = (0..WAITING).map(|_| sent(&sleeper)).collect();
            wait_until("the lease has run out", || runtime.block_on(has_run_out(&mut lender)));
            let heir = Server::spawn(leasing_from(&postgres, "300"));
            let inherited = all.ask(&mut Client::new(heir.addr()), 2 * round + 1, 1).unwrap();
            assert_eq!(node_of(inherited), 0, "it was to take over");
            sleeper.cont();
            for connection in &mut waiting {
                match ended(&connection.read().unwrap(), 2 * round, asked, 3) {
                    End::Given(given) => {
                        // All times of the old loan lie before those of the heir's.
                        let old = given.ids().find(|id| node_of(*id) == 0 && *id < inherited);
                        assert_eq!(old, None, "an id of a loan that was over");
                        all.given.push(given);
                        resumed += 1;
                    }
                    End::Refused(answer) => assert_eq!(answer.json()["code"], "no_node_id"),
                    End::Unknown => all.unknown += 1,
                }
            }
            wait_until("the sleeper has a loan again", || {
                all.ask(&mut Client::new(sleeper.addr()), 2 * round, 1).is_ok()
            });
            heir
        });
        all.extend(history);
        // Both give back what they have, so that the next round begins with node id 0 too.
        assert!(sleeper.terminate().success() && heir.terminate().success());
    }
    println!(
        "{takeovers} takeovers, {} ids, {resumed} of {} requests that came to a sleeper were given ids of another node id",
        all.ids(),
        takeovers * WAITING
    );
    assert_eq!(all.violations_of_time(), NONE);
}
