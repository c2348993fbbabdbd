//! A game's players: most look where they stand, some score, some look at the top or around themselves.
//!
//! One board of sums. Players are popular by Zipf's law, and whoever scores gets 1 to 100 more. So every score only rises,
//! and is known within bounds at any moment: at least what was acknowledged before a request was sent, at most what was sent
//! until its answer came (`history`). Every answer is held against that, every list against its order: best first, ranks
//! that follow each other, nobody twice.
//!
//! After the load, when the board is quiet, the whole of it is known, but for what became of requests that were never
//! answered. Then the ranks of some players are compared with how many have more, counted here, and the first pages with
//! themselves: pages that follow each other hold everybody once.

pub mod envelope;
mod history;

use std::collections::HashSet;
use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde::Deserialize;

use super::Options;
use super::get::status_text;
use crate::generator::Generator;
use crate::http::{Client, Response, request};
use crate::stop::Stop;
use crate::workload::{Checked, Kind, Mix, Operation, Verified, Workload};
use history::{Bounds, History};

const REPORT: usize = 0;
const RANK: usize = 1;
const TOP: usize = 2;
const AROUND: usize = 3;
const NAMES: [&str; 4] = ["report", "rank", "top", "around"];
const WEIGHTS: [f64; 4] = [30.0, 50.0, 10.0, 10.0];
/// What is promised of the p99, in milliseconds: of a score that is to be durable, and of a look.
const WRITE_P99_MS: u64 = 100;
const READ_P99_MS: u64 = 20;
/// Scores in one request of the preparation.
const BATCH: usize = 1_000;
/// What players have at first, at the most.
const FIRST_SCORES: u64 = 1_000_000;
/// The most that is added at once.
const MOST: i64 = 100;
/// Lines of the top that are looked at.
const LINES: usize = 10;
/// Neighbours on each side.
const NEIGHBOURS: usize = 5;
/// Players whose ranks are compared in the end, and pages that are read.
const COMPARED: usize = 300;
const PAGES: usize = 20;
const PAGE: usize = 100;
const NOT_EXECUTED: &[u8] = b"\"outcome\":\"not_executed\"";

/// The workload, and all that it remembers.
#[derive(Debug)]
pub struct Leaderboard {
    kinds: [Kind; 4],
    mix: Mix,
    host: String,
    key: Option<String>,
    rng: SmallRng,
    items: usize,
    popularity: Zipf<f64>,
    history: History,
    body: Vec<u8>,
    /// The board of this run: another one on the same server is not disturbed.
    board: String,
}

/// A line of a list.
#[derive(Debug, Deserialize)]
struct Line {
    member: String,
    score: i64,
    rank: u64,
}

/// A list.
#[derive(Debug, Deserialize)]
struct Lines {
    entries: Vec<Line>,
    next: Option<String>,
}

impl Leaderboard {
    /// A workload that knows nothing of the server yet; [`Workload::prepare`] comes first.
    ///
    /// # Errors
    /// A mix that names other kinds than report, rank, top, around.
    pub fn new(options: &Options) -> Result<Self> {
        let mix = match &options.mix {
            Some(text) => Mix::parse(text, &NAMES)?,
            None => Mix::new(&WEIGHTS),
        };
        let kind = |name| Kind {
            name,
            slo_p99: Some(std::time::Duration::from_millis(if name == NAMES[REPORT] {
                WRITE_P99_MS
            } else {
                READ_P99_MS
            })),
        };
        let items = options.items.max(LINES);
        let mut rng = SmallRng::seed_from_u64(options.seed);
        let run = rng.random::<u32>() ^ std::process::id();
        Ok(Self {
            kinds: NAMES.map(kind),
            mix,
            host: options.target.host.clone(),
            key: options.key.clone(),
            rng,
            items,
            popularity: Zipf::new(items as f64, 1.0)?,
            history: History::default(),
            body: Vec::with_capacity(128),
            board: format!("run-{run:08x}"),
        })
    }

    fn popular(&mut self) -> usize {
        let rank = self.popularity.sample(&mut self.rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to the number of items"
        )]
        let rank = rank as usize;
        // Popular players are no neighbours of each other. The factor is a prime: each player comes once.
        let spread = rank.clamp(1, self.items) as u64 * 2_654_435_761;
        usize::try_from(spread % self.items as u64).unwrap_or_default()
    }

    /// Holds the lines of a list against each other, and each of them against what is known of its player.
    fn judge(&self, lines: &[Line]) -> Result<(), String> {
        for pair in lines.windows(2) {
            if pair[0].score < pair[1].score || pair[0].rank + 1 != pair[1].rank {
                return Err(format!(
                    "rank {} with {} is followed by rank {} with {}",
                    pair[0].rank, pair[0].score, pair[1].rank, pair[1].score
                ));
            }
        }
        let members: HashSet<&str> = lines.iter().map(|line| line.member.as_str()).collect();
        if members.len() < lines.len() {
            return Err(String::from("somebody is on one page twice"));
        }
        lines.iter().try_for_each(|line| {
            let player = player(&line.member).filter(|player| *player < self.items);
            let player = player.ok_or_else(|| format!("`{}` is nobody who scored", line.member))?;
            // The answer may be older than what was acknowledged meanwhile: only its highest is known.
            self.history.bounds(player).holds_at_most(line.score)
        })
    }

    /// Compares the ranks of some players with how many have more. Nobody scores any more.
    fn compare_ranks(&mut self, client: &mut Client, verified: &mut Verified) -> Result<usize> {
        let mut lows: Vec<i64> = (0..self.items).map(|player| self.history.bounds(player).low).collect();
        let mut highs: Vec<i64> = (0..self.items).map(|player| self.history.bounds(player).high).collect();
        lows.sort_unstable();
        highs.sort_unstable();
        let above = |scores: &[i64], score: i64| scores.len() - scores.partition_point(|other| *other <= score);
        let count = COMPARED.min(self.items);
        for nth in 0..count {
            // The most popular, who have moved most, and others from everywhere.
            let player = if nth % 2 == 0 {
                self.popular()
            } else {
                self.rng.random_range(0..self.items)
            };
            let answer = client.get(&format!("/boards/{}/members/{}", self.board, name(player)))?;
            ensure!(
                answer.status == 200,
                "a member was answered with {}: {}",
                answer.status,
                answer.excerpt()
            );
            let line: Line = serde_json::from_slice(&answer.body).context("a member of the board")?;
            let Bounds { low, high } = self.history.bounds(player);
            if !(low..=high).contains(&line.score) {
                verified.violation(|| {
                    format!(
                        "{} has {}, between {low} and {high} were acknowledged",
                        name(player),
                        line.score
                    )
                });
            }
            // At least those come before him who have more for certain; at most those who may have as much.
            let (first, last) = (
                above(&lows, line.score) as u64 + 1,
                above(&highs, line.score - 1) as u64,
            );
            if !(first..=last).contains(&line.rank) {
                verified.violation(|| {
                    format!(
                        "{} with {} has rank {}, by all scores it is {first} to {last}",
                        name(player),
                        line.score,
                        line.rank
                    )
                });
            }
        }
        Ok(count)
    }

    /// Reads the first pages, which must follow each other.
    fn read_pages(&mut self, client: &mut Client, verified: &mut Verified) -> Result<usize> {
        let (mut lines, mut cursor) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let answer = client.get(&format!("/boards/{}/top?limit={PAGE}{cursor}", self.board))?;
            ensure!(
                answer.status == 200,
                "a page was answered with {}: {}",
                answer.status,
                answer.excerpt()
            );
            let page: Lines = serde_json::from_slice(&answer.body).context("a page of the board")?;
            lines.extend(page.entries);
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if lines.first().is_none_or(|line| line.rank != 1) {
            verified.violation(|| String::from("the board does not begin with rank 1"));
        }
        if lines.len() != (PAGES * PAGE).min(self.items) {
            verified.violation(|| {
                format!(
                    "{} lines on the first {PAGES} pages of {} players",
                    lines.len(),
                    self.items
                )
            });
        }
        if let Err(reason) = self.judge(&lines) {
            verified.violation(|| reason);
        }
        for line in &lines {
            let low = player(&line.member).map_or(0, |player| self.history.bounds(player).low);
            if line.score < low {
                verified.violation(|| format!("{} has {}, {low} were acknowledged", line.member, line.score));
            }
        }
        Ok(lines.len())
    }
}

impl Workload for Leaderboard {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Makes a board and gives everybody a first score.
    fn prepare(&mut self, client: &mut Client, stop: &Stop) -> Result<()> {
        let answer = client.put_json(&format!("/boards/{}", self.board), br#"{"policy":"sum"}"#)?;
        ensure!(
            matches!(answer.status, 200 | 201),
            "PUT of a board was answered with {}: {}",
            answer.status,
            answer.excerpt()
        );
        let scores: Vec<i64> = (0..self.items)
            .map(|_| i64::try_from(self.rng.random_range(0..FIRST_SCORES)).unwrap_or_default())
            .collect();
        let path = format!("/boards/{}/scores:batch", self.board);
        for (nth, some) in scores.chunks(BATCH).enumerate() {
            stop.check()?;
            let mut body = b"{\"scores\":[".to_vec();
            for (at, score) in some.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                // Writing into memory does not fail.
                let _ = write!(
                    body,
                    "{comma}{{\"member\":\"{}\",\"delta\":{score}}}",
                    name(nth * BATCH + at)
                );
            }
            body.extend_from_slice(b"]}");
            let answer = client.post_json(&path, &body)?;
            ensure!(
                answer.status == 200,
                "a batch of scores was answered with {}: {}",
                answer.status,
                answer.excerpt()
            );
            let done = answer.body.windows(12).filter(|part| part == b"\"status\":200").count();
            ensure!(
                done == some.len(),
                "{done} of {} scores were accepted: {}",
                some.len(),
                answer.excerpt()
            );
        }
        self.history = History::new(scores);
        Ok(())
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        let kind = self.mix.pick(self.rng.random());
        let player = self.popular();
        self.body.clear();
        // Writing into memory does not fail.
        let token = match kind {
            REPORT => {
                let delta = self.rng.random_range(1..=MOST);
                let _ = write!(self.body, r#"{{"member":"{}","delta":{delta}}}"#, name(player));
                let path = format!("/boards/{}/scores", self.board);
                request::post_json(request, &self.host, &path, self.key.as_deref(), &self.body);
                self.history.reported(player, delta)
            }
            RANK => {
                let _ = write!(self.body, "/boards/{}/members/{}", self.board, name(player));
                request::get(request, &self.host, &self.body);
                self.history.asked(player)
            }
            TOP => {
                let _ = write!(self.body, "/boards/{}/top?limit={LINES}", self.board);
                request::get(request, &self.host, &self.body);
                self.history.asked(player)
            }
            _ => {
                let _ = write!(
                    self.body,
                    "/boards/{}/around/{}?above={NEIGHBOURS}&below={NEIGHBOURS}",
                    self.board,
                    name(player)
                );
                request::get(request, &self.host, &self.body);
                self.history.asked(player)
            }
        };
        Some(Operation {
            kind,
            token,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        if answer.status != 200 {
            let not_done = answer.body.windows(NOT_EXECUTED.len()).any(|part| part == NOT_EXECUTED);
            self.history.failed(operation.token, not_done);
            return Checked::Failed(status_text(answer.status));
        }
        let asked = self.history.answered(operation.token);
        let judged = match operation.kind {
            REPORT | RANK => match serde_json::from_slice::<Line>(answer.body) {
                Ok(line) if line.rank == 0 || line.rank > self.items as u64 => {
                    Err(format!("rank {} of {} players", line.rank, self.items))
                }
                Ok(line) => asked.holds(line.score),
                Err(error) => Err(format!("an answer that is no line of a board: {error}")),
            },
            kind => match serde_json::from_slice::<Lines>(answer.body) {
                Ok(Lines { entries, .. }) if kind == TOP => {
                    let whole = entries.len() == LINES && entries[0].rank == 1;
                    self.judge(&entries)
                        .and_then(|()| whole.then_some(()).ok_or_else(|| String::from("no whole top")))
                }
                Ok(Lines { entries, .. }) => {
                    let own = entries.iter().find(|line| player(&line.member) == Some(asked.player));
                    let own = own
                        .map(|line| asked.holds(line.score))
                        .unwrap_or_else(|| Err(String::from("not among his neighbours")));
                    self.judge(&entries).and(own)
                }
                Err(error) => Err(format!("an answer that is no list: {error}")),
            },
        };
        judged.map_or_else(Checked::Violation, |()| Checked::Done)
    }

    fn lost(&mut self, operation: Operation) {
        self.history.failed(operation.token, false);
    }

    fn verify(&mut self, client: &mut Client, _: &mut Generator, stop: &Stop) -> Result<Verified> {
        let mut verified = Verified::default();
        // The connection has been idle since before the load: this finds out, and makes another.
        client.get("/livez")?;
        stop.check()?;
        let compared = self.compare_ranks(client, &mut verified)?;
        let lines = self.read_pages(client, &mut verified)?;
        verified.summary = format!(
            "{} scores acknowledged, {} of unknown outcome, of {} players; {compared} ranks compared with all scores, {lines} lines of \
             pages that follow each other read",
            self.history.acknowledged(),
            self.history.unknown(),
            self.items,
        );
        Ok(verified)
    }
}

fn name(player: usize) -> String {
    format!("player-{player}")
}

fn player(name: &str) -> Option<usize> {
    name.strip_prefix("player-")?.parse().ok()
}
