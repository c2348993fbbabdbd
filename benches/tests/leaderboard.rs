//! The workload of the leaderboard against a board that is right, and against boards that are not.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Mutex;

use lab::generator::Outcome;
use lab::http::{Client, Target};
use lab::workload::Verified;
use lab::workloads::{self, Options};
use serde_json::{Value, json};
use support::{Act, serve_bodies};

const PLAYERS: usize = 300;
const OPERATIONS: u64 = 4_000;

/// What a fake board is told to get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Acknowledges and forgets one score in fifty.
    Forgets,
    /// Counts one score in fifty twice.
    CountsTwice,
    /// A rank is one too high for whoever is below the middle.
    WrongRank,
    /// The top has its second and third line the wrong way round.
    OutOfOrder,
    /// Somebody is on a page twice.
    Twice,
    /// A page begins one line too late.
    SkipsALine,
    /// Whoever is asked for is not among his neighbours.
    Elsewhere,
    /// Refuses scores, and says that it did nothing.
    Overloaded,
}

struct Board {
    sabotage: Sabotage,
    /// Scores, and when they were reached.
    players: Vec<(i64, u64)>,
    changes: u64,
}

impl Board {
    /// Players in their order.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.players.len()).collect();
        order.sort_by_key(|player| (-self.players[*player].0, self.players[*player].1));
        order
    }

    fn line(&self, order: &[usize], at: usize) -> Value {
        let player = order[at];
        json!({"member": format!("player-{player}"), "score": self.players[player].0, "rank": at + 1})
    }

    fn lines(&self, order: &[usize], range: std::ops::Range<usize>) -> Vec<Value> {
        range
            .filter(|at| *at < order.len())
            .map(|at| self.line(order, at))
            .collect()
    }

    fn add(&mut self, report: &Value) -> usize {
        let name = report["member"].as_str().unwrap();
        let player: usize = name.strip_prefix("player-").unwrap().parse().unwrap();
        let mut delta = report["delta"].as_i64().unwrap();
        self.changes += 1;
        if self.changes > PLAYERS as u64 && self.changes.is_multiple_of(50) {
            match self.sabotage {
                Sabotage::Forgets => delta = 0,
                Sabotage::CountsTwice => delta *= 2,
                _ => {}
            }
        }
        if player >= self.players.len() {
            self.players.resize(player + 1, (0, 0));
        }
        self.players[player].0 += delta;
        self.players[player].1 = self.changes;
        player
    }

    fn answer(&mut self, line: &str, body: &[u8]) -> Act {
        let target = line.split(' ').nth(1).unwrap().to_owned();
        if line.starts_with("PUT ") || target == "/livez" {
            return answer(200, &json!({}));
        }
        if target.ends_with("/scores:batch") {
            let reports: Value = serde_json::from_slice(body).unwrap();
            for report in reports["scores"].as_array().unwrap() {
                self.add(report);
            }
            let results: Vec<Value> = reports["scores"]
                .as_array()
                .unwrap()
                .iter()
                .map(|_| json!({"status": 200}))
                .collect();
            return answer(200, &json!({"results": results}));
        }
        let player = if target.ends_with("/scores") {
            if self.sabotage == Sabotage::Overloaded {
                return answer(503, &json!({"code": "overloaded", "outcome": "not_executed"}));
            }
            Some(self.add(&serde_json::from_slice(body).unwrap()))
        } else {
            let name = target.split('/').nth(4).and_then(|name| name.split('?').next());
            name.map(|name| name.strip_prefix("player-").unwrap().parse().unwrap())
        };
        let order = self.order();
        let Some(player) = player else {
            return self.top(&order, &target);
        };
        let at = order.iter().position(|other| *other == player).unwrap();
        if target.contains("/around/") {
            let mut lines = self.lines(&order, at.saturating_sub(5)..at + 6);
            if self.sabotage == Sabotage::Elsewhere {
                lines = self.lines(&order, (at + 1) % PLAYERS..(at + 1) % PLAYERS + 1);
            }
            return answer(200, &json!({"entries": lines}));
        }
        let mut line = self.line(&order, at);
        if self.sabotage == Sabotage::WrongRank && at > PLAYERS / 2 {
            line["rank"] = json!(at);
        }
        answer(200, &line)
    }

    fn top(&self, order: &[usize], target: &str) -> Act {
        let query = |name: &str| {
            let (_, rest) = target.split_once(name)?;
            rest.split('&').next()?.parse::<usize>().ok()
        };
        let (limit, first) = (query("limit=").unwrap(), query("cursor=").unwrap_or(0));
        let mut lines = self.lines(order, first..first + limit);
        match self.sabotage {
            Sabotage::OutOfOrder if first == 0 => lines.swap(1, 2),
            Sabotage::Twice if first == 0 => lines[3]["member"] = lines[2]["member"].clone(),
            Sabotage::SkipsALine if first > 0 => lines = self.lines(order, first + 1..first + 1 + limit),
            _ => {}
        }
        let next = first + limit;
        let mut page = json!({"entries": lines});
        if next < order.len() {
            page["next"] = json!(next.to_string());
        }
        answer(200, &page)
    }
}

fn answer(status: u16, body: &Value) -> Act {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    Act::Answer([head, body].concat().into_bytes())
}

fn load(sabotage: Sabotage) -> (Outcome, Verified) {
    let board = Mutex::new(Board {
        sabotage,
        players: Vec::new(),
        changes: 0,
    });
    let (address, _) = serve_bodies(move |line, body| board.lock().unwrap().answer(line, body));
    let options = Options {
        target: Target::of(address),
        key: None,
        seed: 7,
        items: PLAYERS,
        mix: None,
        nodes: 1,
    };
    let mut client = Client::new(Target::of(address), None);
    support::load(&mut client, workloads::of("leaderboard", &options).unwrap(), OPERATIONS)
}

#[test]
fn a_right_board_has_no_violations() {
    let (outcome, verified) = load(Sabotage::None);
    let found = (outcome.completed, outcome.violations, verified.violations);
    assert_eq!(
        found,
        (OPERATIONS, 0, 0),
        "{:?} {:?}",
        outcome.examples,
        verified.examples
    );
    for part in [
        "0 of unknown outcome, of 300 players",
        "300 ranks compared",
        "300 lines",
    ] {
        assert!(verified.summary.contains(part), "{part}: {}", verified.summary);
    }
}

#[test]
fn every_fault_of_a_board_is_found() {
    for (sabotage, part) in [
        (Sabotage::Forgets, "it must be from"),
        (Sabotage::CountsTwice, "it must be from"),
        (Sabotage::WrongRank, "by all scores it is"),
        (Sabotage::OutOfOrder, "is followed by rank"),
        (Sabotage::Twice, "twice"),
        (Sabotage::SkipsALine, "is followed by rank"),
        (Sabotage::Elsewhere, "not among his neighbours"),
    ] {
        let (outcome, verified) = load(sabotage);
        let examples = [outcome.examples.clone(), verified.examples.clone()].concat();
        assert!(outcome.violations + verified.violations > 0, "{sabotage:?}");
        assert!(
            examples.iter().any(|text| text.contains(part)),
            "{sabotage:?}: {examples:?}"
        );
    }
}

#[test]
fn what_was_not_carried_out_is_not_of_unknown_outcome() {
    let (outcome, verified) = load(Sabotage::Overloaded);
    assert!(outcome.errors["503 Service Unavailable"] > OPERATIONS / 5);
    assert_eq!(
        outcome.violations + verified.violations,
        0,
        "{:?} {:?}",
        outcome.examples,
        verified.examples
    );
    assert!(
        verified
            .summary
            .starts_with("0 scores acknowledged, 0 of unknown outcome"),
        "{}",
        verified.summary
    );
}
