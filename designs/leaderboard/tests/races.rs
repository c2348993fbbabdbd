//! Many at once: what clients see of one member is what one of them after the other could have seen.
//!
//! Histories of a few clients on one member are recorded from the adapters themselves and given to an independent checker,
//! stateright's tester of linearizability (Herlihy and Wing, 1990). It looks for an order of all operations that respects
//! who was done before whom and that a number with increments could have answered.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "contract/adapters.rs"]
mod adapters;
#[path = "contract/model.rs"]
#[allow(dead_code, reason = "the contract uses the rest")]
mod model;

use std::sync::{Arc, Mutex};

use leaderboard::domain::{Change, Edition, From, Member};
use leaderboard::ports::Board;
use model::{all_time, score, submission};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

const CLIENTS: usize = 5;
const OPERATIONS: usize = 5;

/// One member's score: what a client does, and what he is answered.
#[derive(Clone, Debug)]
struct Number(i64);

#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Add(i64),
    Read,
}

impl SequentialSpec for Number {
    type Op = Operation;
    type Ret = i64;

    fn invoke(&mut self, operation: &Operation) -> i64 {
        if let Operation::Add(delta) = operation {
            self.0 += delta;
        }
        self.0
    }
}

#[derive(Clone, Debug)]
enum Event {
    Invoked(usize, Operation),
    Returned(usize, i64),
}

/// Whether a history could have happened one after the other.
fn is_linearizable(events: &[Event]) -> bool {
    let mut tester = LinearizabilityTester::new(Number(0));
    for event in events {
        match event {
            Event::Invoked(client, operation) => tester.on_invoke(*client, operation.clone()).unwrap(),
            Event::Returned(client, value) => tester.on_return(*client, *value).unwrap(),
        };
    }
    tester.is_consistent()
}

/// What clients did and heard who all worked on one new member at once.
async fn history<B: Board>(board: &B, edition: &Edition, nth: usize) -> Vec<Event> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let name = format!("m{nth}");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (board, edition, name, events) = (board.clone(), edition.clone(), name.clone(), Arc::clone(&events));
            tokio::spawn(async move {
                let member = Member::new(&name).unwrap();
                for operation in 0..OPERATIONS {
                    let write = (client + operation + nth).is_multiple_of(2);
                    let delta = i64::try_from(1 + client * OPERATIONS + operation).unwrap();
                    let operation = if write { Operation::Add(delta) } else { Operation::Read };
                    events.lock().unwrap().push(Event::Invoked(client, operation));
                    let value = if write {
                        let standing = board
                            .submit(&edition, submission(&name, Change::Add(score(delta))))
                            .await;
                        standing.unwrap().score.get()
                    } else {
                        let standing = board.standings(&edition, std::slice::from_ref(&member)).await.unwrap()[0];
                        standing.map_or(0, |standing| standing.score.get())
                    };
                    events.lock().unwrap().push(Event::Returned(client, value));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    Arc::into_inner(events).unwrap().into_inner().unwrap()
}

async fn are_linearizable<B: Board>(board: &B, histories: usize) {
    let edition = all_time(board, "b").await;
    for nth in 0..histories {
        let events = history(board, &edition, nth).await;
        assert!(is_linearizable(&events), "history {nth}: {events:?}");
    }
}

#[test]
fn histories_of_one_member_in_the_tree_are_linearizable() {
    testkit::contract::run(async { are_linearizable(adapters::ordered_tree().await.adapter(), 1_000).await });
}

#[test]
fn histories_of_one_member_in_redis_are_linearizable() {
    testkit::contract::run(async { are_linearizable(adapters::sorted_set().await.adapter(), 1_000).await });
}

#[test]
fn histories_of_one_member_in_shards_are_linearizable() {
    testkit::contract::run(async { are_linearizable(adapters::sharded().await.adapter(), 500).await });
}

#[test]
fn histories_of_one_member_in_a_table_are_linearizable() {
    testkit::contract::run(async { are_linearizable(adapters::sqlite().await.adapter(), 100).await });
}

/// The control: a read that is older than what was acknowledged before it, and a sum that forgot one.
#[test]
fn a_history_that_cannot_be_is_found() {
    use Event::{Invoked, Returned};
    let stale = [
        Invoked(0, Operation::Add(5)),
        Returned(0, 5),
        Invoked(1, Operation::Read),
        Returned(1, 0),
    ];
    assert!(!is_linearizable(&stale));
    let forgotten = [
        Invoked(0, Operation::Add(5)),
        Invoked(1, Operation::Add(7)),
        Returned(0, 5),
        Returned(1, 7),
    ];
    assert!(!is_linearizable(&forgotten));
    let overlapping = [
        Invoked(0, Operation::Add(5)),
        Invoked(1, Operation::Read),
        Returned(1, 0),
        Returned(0, 5),
    ];
    assert!(is_linearizable(&overlapping));
}

/// Members of whom some change places over and over: a page has each of them once, whoever reads it, from wherever.
async fn are_on_every_page_once<B: Board>(board: &B, rounds: usize) {
    let edition = all_time(board, "b").await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for (points, name) in (1..).zip(names) {
        let one = submission(name, Change::SetTo(score(points)));
        board.submit(&edition, one).await.unwrap();
    }
    let movers: Vec<_> = ["b", "d"]
        .into_iter()
        .map(|name| {
            let (writer, at) = (board.clone(), edition.clone());
            tokio::spawn(async move {
                for nth in 0..rounds {
                    // Above all others, below them, and among them.
                    let one = submission(name, Change::SetTo(score([10, -10, 0, 3][nth % 4])));
                    writer.submit(&at, one).await.unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (reading, at) = (board.clone(), edition.clone());
            tokio::spawn(async move {
                let anchor = Member::new("e").unwrap();
                for _ in 0..rounds {
                    let page = match reader {
                        0 => reading.page(&at, From::Top, 10).await.unwrap(),
                        1 => reading.around(&at, &anchor, 5, 5).await.unwrap().unwrap(),
                        _ => {
                            // Followed from page to page, those who stay are seen once.
                            let first = reading.page(&at, From::Top, 2).await.unwrap();
                            let last = From::After(first.entries[1].place);
                            let rest = reading.page(&at, last, 10).await.unwrap();
                            let seen = first.entries.iter().chain(&rest.entries);
                            let mut stay: Vec<&str> = seen.map(|entry| entry.member.as_str()).collect();
                            stay.retain(|name| !["b", "d"].contains(name));
                            stay.sort_unstable();
                            assert_eq!(stay, ["a", "c", "e", "f"], "{first:?} {rest:?}");
                            continue;
                        }
                    };
                    let in_order = page.entries.is_sorted_by(|x, y| x.place.score >= y.place.score);
                    assert!(in_order, "{page:?}");
                    let mut seen: Vec<&str> = page.entries.iter().map(|entry| entry.member.as_str()).collect();
                    seen.sort_unstable();
                    assert_eq!(seen, names, "{page:?}");
                }
            })
        })
        .collect();
    for task in movers.into_iter().chain(readers) {
        task.await.unwrap();
    }
}

#[test]
fn members_who_change_places_are_on_every_page_once() {
    testkit::contract::run(async {
        are_on_every_page_once(adapters::ordered_tree().await.adapter(), 1_000).await;
        are_on_every_page_once(adapters::sorted_set().await.adapter(), 1_000).await;
        are_on_every_page_once(adapters::sqlite().await.adapter(), 100).await;
    });
}

/// Reliability's hard case: between shards a member is put where he goes before he is taken from where he was, and a page asks
/// one shard after the other.
#[test]
fn members_who_move_between_shards_are_on_every_page_once() {
    testkit::contract::run(async { are_on_every_page_once(adapters::sharded().await.adapter(), 2_000).await });
}
