//! Requests for ids from several clients at once, written down as they end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::http::Answer;
use testkit::problems::assert_problem;

use crate::common::Client;
use crate::history::{Given, History, numbers};

/// Ten times as much, where `FAULTS=long` asks for it.
pub(crate) fn long() -> bool {
    std::env::var_os("FAULTS").is_some_and(|value| value == "long")
}

/// How a request ended, as its client knows it.
pub(crate) enum End {
    Given(Given),
    Refused(Answer),
    /// Cut off, or an answer that says so.
    Unknown,
}

/// Asks for ids once.
pub(crate) fn ask(client: &mut Client, by: usize, count: u32) -> End {
    let asked = Instant::now();
    match client.ask(count) {
        Ok(answer) => ended(&answer, by, asked, count),
        Err(_) => End::Unknown,
    }
}

/// What an answer to a request for so many means.
pub(crate) fn ended(answer: &Answer, by: usize, asked: Instant, count: u32) -> End {
    match answer.status {
        200 => {
            let given = Given::new(by, asked, numbers(answer));
            assert_eq!(
                given.ids().take(20_000).count(),
                count as usize,
                "not as many as asked for"
            );
            End::Given(given)
        }
        503 | 504 | 507 => {
            assert_problem(answer, "no ids");
            match answer.json()["outcome"].as_str() {
                Some("not_executed") => End::Refused(answer.clone()),
                _ => End::Unknown,
            }
        }
        _ => panic!("a request for ids ended as none should: {answer:?}"),
    }
}

impl History {
    /// Asks once and writes it down; the code of the problem, if there was one.
    pub(crate) fn ask(&mut self, client: &mut Client, by: usize, count: u32) -> Result<u64, String> {
        match ask(client, by, count) {
            End::Given(given) => {
                let last = given.last();
                self.given.push(given);
                Ok(last)
            }
            End::Refused(answer) => {
                self.refused += 1;
                Err(answer.json()["code"].as_str().unwrap().to_owned())
            }
            End::Unknown => {
                self.unknown += 1;
                Err("unknown".to_owned())
            }
        }
    }
}

/// Asks these servers, with the numbers that they have in the history, from so many clients each for as long as `until`
/// does not return; `counts` in turn. `until` sees how many ids there are. Gives what it returned, and the history.
pub(crate) fn load_during<T>(
    servers: &[(usize, SocketAddr)],
    clients: usize,
    counts: &[u32],
    until: impl FnOnce(&AtomicU64) -> T,
) -> (T, History) {
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let each = servers.iter().flat_map(|server| std::iter::repeat_n(server, clients));
        let workers: Vec<_> = each
            .map(|(by, addr)| {
                let (by, addr, stop, made) = (*by, *addr, &stop, &made);
                scope.spawn(move || {
                    let mut client = Client::new(addr);
                    let mut history = History::default();
                    for count in counts.iter().cycle() {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        match history.ask(&mut client, by, *count) {
                            Ok(_) => {
                                made.fetch_add(u64::from(*count), Ordering::Relaxed);
                            }
                            // Killed: there is nobody to talk to.
                            Err(_) if history.unknown > 0 => break,
                            // As polite clients do.
                            Err(_) => std::thread::sleep(Duration::from_millis(5)),
                        }
                    }
                    history
                })
            })
            .collect();
        let stopped = StopAtEnd(&stop);
        let result = until(&made);
        drop(stopped);
        let mut history = History::default();
        for worker in workers {
            history.extend(worker.join().unwrap());
        }
        (result, history)
    })
}

/// Stops the clients, also where a test fails: else it would wait for them for ever.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
