//! What a lender that forgets does: a Redis replica takes over that has not heard of the last loan. Two servers have one
//! node id for one span of time, and ids come twice. With Postgres, killed and started again, none does.

use testkit::engines::Engine;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::common::Client;
use crate::history::{Given, History};
use crate::load::load_during;
use crate::{NONE, leasing_from, node_of};

/// Longer than the test: the first server holds its lease all the while.
const LEASE_MS: &str = "60000";

fn tell(redis: &Engine, command: &[&str]) -> String {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (name, arguments) = command.split_first().unwrap();
    redis::cmd(name).arg(arguments).query(&mut connection).unwrap()
}

fn port(engine: &Engine) -> &str {
    engine.url().rsplit(':').next().unwrap()
}

/// Whether a process of this engine is left: those that a Postgres has started end a little after it.
fn is_at_work(engine: &Engine) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut folders = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    folders.any(|folder| folder == engine.folder().join("data"))
}

/// The first server has leased before the failover, the second leases after it.
fn two_servers(first: &Server, second: &Server) -> (Vec<u32>, History) {
    let servers = [(0, first.addr()), (1, second.addr())];
    let node = |server: &Server| node_of(Client::new(server.addr()).ids(1)[0]);
    let nodes = vec![node(first), node(second)];
    // Whole milliseconds at once, so that who has the same ones has the same ids.
    let ((), history) = load_during(&servers, 2, &[10_000], |made| {
        wait_until("both have made ids", || {
            made.load(std::sync::atomic::Ordering::Relaxed) >= 1_000_000
        });
    });
    (nodes, history)
}

#[test]
fn a_redis_failover_that_loses_a_loan_doubles_ids_and_the_checker_finds_them() {
    let mut primary = Engine::own_redis(&["--appendonly", "yes", "--appendfsync", "always"]);
    let replica = Engine::own_redis(&["--replicaof", "127.0.0.1", port(&primary)]);
    wait_until("the replica follows", || {
        tell(&replica, &["INFO", "replication"]).contains("master_link_status:up")
    });
    // The link is cut: from here on the replica hears nothing.
    tell(&replica, &["REPLICAOF", "127.0.0.1", "1"]);
    let first = Server::spawn(leasing_from(&primary, LEASE_MS));
    primary.kill();
    tell(&replica, &["REPLICAOF", "NO", "ONE"]);
    let second = Server::spawn(leasing_from(&replica, LEASE_MS));
    let (nodes, history) = two_servers(&first, &second);
    assert_eq!(nodes, [0, 0], "both hold the same node id");

    let spans = [0, 1].map(|by| {
        let of = |given: &&Given| given.by == by;
        let ids = || history.given.iter().filter(of);
        (
            ids().map(Given::first).min().unwrap(),
            ids().map(Given::last).max().unwrap(),
        )
    });
    assert!(
        spans[0].0 < spans[1].1 && spans[1].0 < spans[0].1,
        "their times overlap: {spans:?}"
    );
    let violations = history.violations();
    let doubled = violations.iter().filter(|violation| violation.contains("came twice"));
    let ids: u64 = doubled
        .map(|violation| violation.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    println!(
        "redis failover that loses a loan: {ids} of {} ids came twice",
        history.ids()
    );
    assert!(ids > 0, "both made ids of one node and one time, and none met");
}

#[test]
fn a_postgres_that_is_killed_and_comes_back_remembers_every_loan() {
    let mut postgres = Engine::own_postgres(&[]);
    let first = Server::spawn(leasing_from(&postgres, LEASE_MS));
    postgres.kill();
    wait_until("its processes are gone", || !is_at_work(&postgres));
    postgres.restart();
    let second = Server::spawn(leasing_from(&postgres, LEASE_MS));
    let (nodes, history) = two_servers(&first, &second);
    assert_eq!(nodes, [0, 1]);
    assert_eq!(history.violations_of_time(), NONE);
    println!(
        "postgres killed and started again: 0 of {} ids came twice",
        history.ids()
    );
}
