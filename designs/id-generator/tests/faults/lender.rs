//! A lender that is gone: ids go on until the lease ends, then no more are told, and all is well soon after it is back.

use std::time::{Duration, Instant};

use testkit::engines::Engine;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::common::Client;
use crate::history::History;
use crate::load::{load_during, long};
use crate::{NONE, leasing_from};

/// Within this, ids are made again once the lender is back.
const RECOVERED: Duration = Duration::from_secs(5);

/// What may be done to a lender, and undone.
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

fn ids_end_with_the_lease(mut lender: Engine, fates: &[Fate]) {
    let server = Server::spawn(leasing_from(&lender, "2000"));
    let mut client = Client::new(server.addr());
    let mut all = History::default();
    let rounds = if long() { 10 } else { 1 };
    for fate in (0..rounds).flat_map(|_| fates) {
        let ((), history) = load_during(&[(0, server.addr())], 1, &[1, 20], |_| {
            wait_until("ids are made", || all.ask(&mut client, 0, 1).is_ok());
            (fate.befall)(&mut lender);
            // At least half a second of the lease is left: it is renewed when a third of it is over.
            all.ask(&mut client, 0, 1).unwrap();
            let mut code = String::new();
            wait_until("the lease has ended", || match all.ask(&mut client, 0, 1) {
                Ok(_) => false,
                Err(told) => {
                    code = told;
                    true
                }
            });
            assert_eq!(code, "no_node_id");
            (fate.undo)(&mut lender);
            let back = Instant::now();
            wait_until("ids are made again", || all.ask(&mut client, 0, 1).is_ok());
            assert!(back.elapsed() < RECOVERED, "{:?}", back.elapsed());
        });
        all.extend(history);
    }
    assert_eq!(all.violations_of_time(), NONE);
    println!(
        "{} times without a lender: {} ids, {} refusals",
        rounds * fates.len(),
        all.ids(),
        all.refused
    );
}

#[test]
fn without_postgres_ids_end_with_the_lease_and_come_back() {
    ids_end_with_the_lease(Engine::own_postgres(&[]), &[KILLED, FROZEN]);
}

/// With a file, that is: what Redis forgets without one is in `failover.rs`.
#[test]
fn without_redis_ids_end_with_the_lease_and_come_back() {
    let remembers = ["--appendonly", "yes", "--appendfsync", "always"];
    ids_end_with_the_lease(Engine::own_redis(&remembers), &[KILLED, FROZEN]);
}
