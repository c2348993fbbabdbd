//! A disk that is full: writes are refused and say so, redirects go on, nothing acknowledged is lost, and once there is
//! space again all is well without a restart.

use std::io::Write as _;

use testkit::disk::SmallDisk;
use testkit::server::Server;

use crate::common::history::{Create, History};
use crate::common::load::{create_batch, create_one};
use crate::common::{Client, command_in, wait_until};

#[test]
fn a_full_disk_refuses_writes_keeps_redirecting_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        // Past the test's captured output: a test that could not be run is not to pass quietly.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: a_full_disk_refuses_writes_keeps_redirecting_and_recovers needs the right to mount a tmpfs (root)"
        );
        return;
    };
    let server = Server::spawn(command_in(disk.path(), "permuted", &[]));
    let mut client = Client::new(server.addr());
    let mut history = History {
        creates: create_batch(&mut client, 50),
    };
    let known: Vec<String> = history.acknowledged().map(|(code, _)| code.to_owned()).collect();
    assert_eq!(known.len(), 50);

    for cycle in 0..3 {
        known.iter().for_each(|code| assert!(client.target_of(code).is_some()));
        disk.fill();
        let mut refused = 0;
        wait_until("the full disk is noticed", || {
            // Room within the log may be left for some.
            let creates = create_batch(&mut client, 200);
            refused += creates
                .iter()
                .filter(|create| matches!(create, Create::Refused { .. }))
                .count();
            history.creates.extend(creates);
            refused > 0
        });
        for _ in 0..5 {
            history.creates.push(create_one(&mut client));
            known
                .iter()
                .for_each(|code| assert!(client.target_of(code).is_some(), "cycle {cycle}"));
        }
        disk.free();
        wait_until("creates go on, without a restart", || {
            history.creates.push(create_one(&mut client));
            matches!(history.creates.last(), Some(Create::Acknowledged { .. }))
        });
    }
    // What the disk holds is what was said, also after a restart.
    drop(server);
    let mut server = Server::spawn(command_in(disk.path(), "permuted", &[]));
    let mut client = Client::new(server.addr());
    let violations = history.violations(&[], |code| client.target_of(code));
    assert_eq!(violations, Vec::<String>::new());
    assert!(server.terminate().success());
}
