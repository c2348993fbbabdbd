//! SIGTERM: what was asked for is answered, and the node id is given back, so that whoever comes next waits for nothing.

use std::sync::atomic::Ordering;

use testkit::engines::Engine;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::common::{Client, Site};
use crate::history::History;
use crate::load::load_during;
use crate::{NONE, leasing_from, node_of};

/// A server under load is terminated, and another one started by the same command; gives the history of both, as of one.
fn one_after_the_other(start: impl Fn() -> Server) -> (Server, History) {
    let mut server = start();
    let ((), mut history) = load_during(&[(0, server.addr())], 3, &[1, 20], |made| {
        wait_until("ids are made", || made.load(Ordering::Relaxed) > 100);
        assert!(server.terminate().success(), "{}", server.stderr());
    });
    let next = start();
    // At once: nothing here waits.
    history.ask(&mut Client::new(next.addr()), 0, 1).unwrap();
    (next, history)
}

#[test]
fn a_snowflake_server_that_was_terminated_goes_on_at_once() {
    const RESERVED: [&str; 2] = ["--reserve-ms", "60000"];
    let site = Site::new();
    let (mut server, mut history) = one_after_the_other(|| site.start("snowflake", &RESERVED));
    // The control: who is killed gives nothing back.
    server.kill();
    let killed = site.start("snowflake", &RESERVED);
    let refused = history.ask(&mut Client::new(killed.addr()), 0, 1);
    assert_eq!(refused, Err("clock_behind".to_owned()));
    assert_eq!(history.violations_of_time(), NONE);
}

#[test]
fn the_node_id_of_a_server_that_was_terminated_is_lent_again_at_once() {
    for lender in [Engine::own_postgres(&[]), Engine::own_redis(&[])] {
        let (mut server, mut history) = one_after_the_other(|| Server::spawn(leasing_from(&lender, "60000")));
        let last = history.given.iter().map(crate::history::Given::last).max().unwrap();
        assert_eq!(node_of(last), 0);
        // The control: the node id of a server that was killed is nobody's until its lease ends.
        server.kill();
        let other = Server::spawn(leasing_from(&lender, "60000"));
        let id = history.ask(&mut Client::new(other.addr()), 1, 1).unwrap();
        assert_eq!(node_of(id), 1);
        assert_eq!(history.violations_of_time(), NONE);
    }
}
