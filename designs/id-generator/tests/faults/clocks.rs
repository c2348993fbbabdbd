//! Clocks that are set back and forth: while the server is down, by an hour (libfaketime, before the real binary); while it
//! runs, by some milliseconds (a virtual clock, in this process).

use std::process::Command;
use std::time::Duration;

use id_generator::adapters::{Flake, MemoryNodes};
use id_generator::domain::{Count, Error};
use id_generator::layout::Layout;
use id_generator::ports::Ids;
use ledger::Ledger;
use service::{Lifecycle, SystemClock};
use testkit::clock::VirtualClock;
use testkit::problems::assert_problem;
use testkit::server::Server;
use testkit::wait::wait_until;

use crate::common::{Client, Site};
use crate::history::{Given, History};
use crate::load::{End, ask, load_during, long};
use crate::{NONE, numbers_of};

/// The same with a wall clock that is off by so much.
fn with_clock_off(mut command: Command, by: &str) -> Command {
    testkit::clock::off(&mut command, by);
    command
}

/// hazelcast/hazelcast, issue 17975: a clock that was set back while the node was down gave the same ids again.
#[test]
fn a_clock_set_back_while_the_server_was_down_makes_no_id_twice_in_20_restarts() {
    let restarts = if long() { 200 } else { 20 };
    let site = Site::new();
    let command = || site.command("snowflake", &["--reserve-ms", "100"]);
    let mut all = History::default();
    for restart in 0..restarts {
        let mut server = Server::spawn(command());
        let ((), history) = load_during(&[(0, server.addr())], 2, &[1, 5], |made| {
            wait_until("ids are made", || made.load(std::sync::atomic::Ordering::Relaxed) > 10);
            // Half of them in peace, half without a word.
            if restart % 2 == 0 {
                server.kill();
            } else {
                assert!(server.terminate().success());
            }
        });
        all.extend(history);

        let mut back = Server::spawn(with_clock_off(command(), "-1h"));
        match ask(&mut Client::new(back.addr()), 0, 1) {
            End::Refused(answer) => {
                assert_problem(&answer, "a clock that is behind");
                assert_eq!((answer.status, &answer.json()["code"]), (503, &"clock_behind".into()));
                let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((3_590..=3_610).contains(&wait), "{wait} s");
            }
            End::Given(given) => panic!("ids an hour before those made already: {given:?}"),
            End::Unknown => panic!("no answer"),
        }
        if restart % 3 == 0 {
            back.kill();
        } else {
            assert!(back.terminate().success());
        }
    }
    // An hour ahead, it goes on; and with the right clock again, it is an hour behind.
    let mut ahead = Server::spawn(with_clock_off(command(), "+1h"));
    all.ask(&mut Client::new(ahead.addr()), 0, 10).unwrap();
    assert!(ahead.terminate().success());
    let right = Server::spawn(command());
    assert_eq!(
        all.ask(&mut Client::new(right.addr()), 0, 1),
        Err("clock_behind".to_owned())
    );
    println!("{restarts} restarts with the clock an hour back: {} ids", all.ids());
    assert_eq!(all.violations_of_time(), NONE);
}

const NOON: u64 = 1_764_000_000_000;

fn count(count: u32) -> Count {
    Count::new(count).unwrap()
}

/// The generator by a clock of the test's own.
async fn flake(clock: &VirtualClock, lifecycle: &Lifecycle) -> impl Ids + use<> {
    let nodes = MemoryNodes::new(4, Duration::from_secs(60), SystemClock);
    let reach = Duration::from_secs(60);
    Flake::start(nodes, Layout::TWITTER, reach, clock.clone(), lifecycle, &Ledger::new())
        .await
        .unwrap()
}

#[test]
fn a_clock_a_little_behind_is_waited_for_and_one_further_behind_is_refused() {
    testkit::contract::run(async {
        let (clock, lifecycle) = (VirtualClock::at(NOON), Lifecycle::new());
        let ids = flake(&clock, &lifecycle).await;
        let first = ids.next(Count::ONE).await.unwrap();

        clock.set(NOON - 5);
        let caught_up = async { clock.set(NOON) };
        // The request looks at the clock before it is set right: a refusal would come at once.
        let (waited, ()) = tokio::join!(biased; ids.next(Count::ONE), caught_up);
        let waited = waited.unwrap();
        assert!(waited > first, "{waited:?} after {first:?}");

        clock.set(NOON - 50);
        let refused = ids.next(Count::ONE).await.unwrap_err();
        assert!(
            matches!(refused, Error::ClockBehind(by) if by == Duration::from_millis(50)),
            "{refused:?}"
        );
        clock.set(NOON);
        let after = ids.next(Count::ONE).await.unwrap();
        assert!(after > waited, "{after:?} after {waited:?}");
    });
}

/// A generator without a memory: the time and a counter that begins anew with each tick it sees, as in
/// twitter-archive/snowflake, issue 6.
#[derive(Default)]
struct Forgetful {
    tick: u64,
    sequence: u64,
}

impl Forgetful {
    fn next(&mut self, now_ms: u64, count: u64) -> Vec<u64> {
        let tick = Layout::TWITTER.tick(now_ms).unwrap();
        if tick != self.tick {
            (self.tick, self.sequence) = (tick, 0);
        }
        let first = self.sequence;
        self.sequence += count;
        let ids = (first..self.sequence).map(|sequence| Layout::TWITTER.compose(tick, 0, sequence));
        ids.collect::<Option<_>>().unwrap()
    }
}

/// The clock goes back and forth by some milliseconds, a hundred times: ours is found sound, and by the same history one
/// that does not look back is not.
#[test]
fn a_clock_that_goes_back_and_forth_makes_no_id_twice_and_the_checker_can_tell() {
    const STEPS: [u64; 8] = [10, 12, 11, 12, 40, 9, 41, 42];
    let clock = VirtualClock::at(NOON);
    let ours = numbers_of(|history| {
        testkit::contract::run(async {
            let lifecycle = Lifecycle::new();
            let ids = flake(&clock, &lifecycle).await;
            for now_ms in (0..100).flat_map(|turn| STEPS.map(|step| NOON + turn * 20 + step)) {
                clock.set(now_ms);
                let asked = std::time::Instant::now();
                // One that waits is let go when its clock catches up, which here nobody sees to.
                let next = tokio::time::timeout(Duration::ZERO, ids.next(count(3)));
                match next.await {
                    Ok(Ok(given)) => history.given.push(Given::new(0, asked, given)),
                    Ok(Err(Error::ClockBehind(_))) | Err(_) => history.refused += 1,
                    Ok(Err(error)) => panic!("{error}"),
                }
            }
        });
    });
    assert!(ours.refused > 100 && ours.given.len() > 100, "{} refused", ours.refused);
    assert_eq!(ours.violations(), NONE);

    let mut forgetful = Forgetful::default();
    let theirs = numbers_of(|history| {
        for now_ms in (0..100).flat_map(|turn| STEPS.map(|step| NOON + turn * 20 + step)) {
            let asked = std::time::Instant::now();
            history.given.push(Given::new(0, asked, forgetful.next(now_ms, 3)));
        }
    });
    let violations = theirs.violations().join("\n");
    assert!(
        violations.contains("came twice") && violations.contains("gave"),
        "{violations}"
    );
}
