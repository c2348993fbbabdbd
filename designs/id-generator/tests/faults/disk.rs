//! A disk that is full: who must write down first tells nothing, and goes on without a restart once there is space.

use std::io::Write as _;

use testkit::disk::SmallDisk;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::NONE;
use crate::common::{Client, command_in};
use crate::history::History;

#[test]
fn a_full_disk_ends_the_ids_and_space_brings_them_back() {
    for (stage, code) in [
        ("ticket_row", "store_full"),
        ("ranges", "store_full"),
        // It needs the disk to go on past what it has reserved.
        ("snowflake", "no_node_id"),
    ] {
        let Some(disk) = SmallDisk::mount() else {
            // Past the test's captured output: a test that could not be run is not to pass quietly.
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN: a_full_disk_ends_the_ids_and_space_brings_them_back needs the right to mount a tmpfs (root)"
            );
            return;
        };
        let start = || Server::spawn(command_in(disk.path(), stage, &["--reserve-ms", "200"]));
        let mut server = start();
        let mut history = History::default();
        let mut client = Client::new(server.addr());
        for _ in 0..3 {
            wait_until("ids are made", || history.ask(&mut client, 0, 20).is_ok());
            disk.fill();
            let full = Err(code.to_owned());
            wait_until("the full disk is noticed", || history.ask(&mut client, 0, 20) == full);
            disk.free();
            wait_until("ids go on, without a restart", || {
                history.ask(&mut client, 0, 20).is_ok()
            });
        }
        server.kill();
        let again = start();
        let mut client = Client::new(again.addr());
        wait_until("it goes on", || history.ask(&mut client, 0, 20).is_ok());
        assert_eq!(history.violations(), NONE);
    }
}
