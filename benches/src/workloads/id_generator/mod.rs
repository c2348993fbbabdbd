//! The id generator's users: most want one id, some a hundred at once, a few ask what an id means.
//!
//! What is held against the server, over everything that it has handed out in a run, warming up included: an answer has
//! exactly the ids that were asked for, in order; no id is given twice, by whichever node; one node's ids increase from a
//! request to the next, those of all nodes from one second to the next (`history`); and an id decodes to itself
//! (`decode`). Each answer is judged as it comes in. How ids are taken apart is learnt from the server's first one
//! (`layout`).

mod body;
mod decode;
pub mod envelope;
mod history;
mod layout;
mod seen;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::Options;
use super::get::status_text;
use crate::generator::Generator;
use crate::http::{Answer, Client, Response, request};
use crate::stop::Stop;
use crate::workload::{Checked, Kind, Mix, Operation, Verified, Workload};
use decode::{Decoded, Handed};
use history::{Floors, History};
use layout::Layout;

const SINGLE: usize = 0;
const BATCH: usize = 1;
const DECODE: usize = 2;
const BULK: usize = 3;
const NAMES: [&str; 4] = ["single", "batch", "decode", "bulk"];
const WEIGHTS: [f64; 4] = [85.0, 10.0, 5.0, 0.0];
/// Ids that an operation hands out.
const IDS: [usize; 4] = [1, 100, 0, 1_000];
const PATHS: [&str; 4] = ["/ids", "/ids?count=100", "/ids/", "/ids?count=1000"];
/// What is promised of the p99, in milliseconds.
const SLO_P99_MS: [u64; 4] = [20, 100, 20, 100];
/// Ids that are kept to be decoded: one of each answer, until a later one takes its place.
const SAMPLE: usize = 4_096;

/// The workload, and all that it remembers.
#[derive(Debug)]
pub struct IdGenerator {
    kinds: [Kind; 4],
    mix: Mix,
    host: String,
    key: Option<String>,
    rng: SmallRng,
    zero: Instant,
    history: History,
    flights: Flights,
    sample: Vec<Handed>,
    /// The ids of the answer at hand.
    ids: Vec<u64>,
    decoded: u64,
    /// Requests for ids whose outcome is unknown: what they were given, nobody has.
    unknown: u64,
}

/// What is remembered of a request until its answer is in.
#[derive(Debug, Default)]
struct Flight {
    floors: Floors,
    /// When it was sent, in milliseconds since 1970.
    sent_ms: u64,
    /// What is to be decoded.
    asked: Option<Handed>,
}

/// Requests under way. There are never more than the generator has connections.
#[derive(Debug, Default)]
struct Flights {
    all: Vec<Flight>,
    free: Vec<usize>,
}

impl Flights {
    /// Room for one; whoever had it before has left it as it was.
    fn start(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(Flight::default());
            self.all.len() - 1
        })
    }

    /// Ends the one of a token.
    fn end(&mut self, token: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a usize")]
        let index = token as usize;
        self.free.push(index);
        index
    }
}

impl IdGenerator {
    /// A workload that knows nothing of the server yet; [`Workload::prepare`] comes first.
    ///
    /// # Errors
    /// A mix that names other kinds than single, batch, decode, bulk.
    pub fn new(options: &Options) -> Result<Self> {
        let mix = match &options.mix {
            Some(text) => Mix::parse(text, &NAMES)?,
            None => Mix::new(&WEIGHTS),
        };
        let kind = |index: usize| Kind {
            name: NAMES[index],
            slo_p99: Some(Duration::from_millis(SLO_P99_MS[index])),
        };
        Ok(Self {
            kinds: [SINGLE, BATCH, DECODE, BULK].map(kind),
            mix,
            host: options.target.host.clone(),
            key: options.key.clone(),
            rng: SmallRng::seed_from_u64(options.seed),
            zero: Instant::now(),
            history: History::new(layout::SEQUENCE),
            flights: Flights::default(),
            sample: Vec::with_capacity(SAMPLE),
            ids: Vec::with_capacity(IDS[BULK]),
            decoded: 0,
            unknown: 0,
        })
    }

    /// Milliseconds since this workload began, by a clock that never steps.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes down a request for ids, or about one.
    fn depart(&mut self, asked: Option<Handed>) -> u64 {
        let now_ms = self.now_ms();
        let index = self.flights.start();
        let flight = &mut self.flights.all[index];
        self.history.sent(now_ms, &mut flight.floors);
        flight.sent_ms = wall_ms();
        flight.asked = asked;
        index as u64
    }

    /// Judges an answer with ids.
    fn take(&mut self, kind: usize, flight: usize, body: &[u8]) -> Result<(), String> {
        body::read(body, IDS[kind], &mut self.ids)?;
        let now_ms = self.now_ms();
        let flight = &self.flights.all[flight];
        let judged = self.history.answered(now_ms, &flight.floors, IDS[kind], &self.ids);
        if !self.ids.is_empty() {
            let handed = Handed {
                id: self.ids[self.rng.random_range(0..self.ids.len())],
                from_ms: flight.sent_ms,
                to_ms: wall_ms(),
            };
            if self.sample.len() < SAMPLE {
                self.sample.push(handed);
            } else {
                self.sample[self.rng.random_range(0..SAMPLE)] = handed;
            }
        }
        judged
    }

    fn check_ids(&mut self, kind: usize, flight: usize, answer: &Response<'_>) -> Checked {
        match answer.status {
            200 => judged(self.take(kind, flight, answer.body)),
            504 => {
                self.unknown += 1;
                Checked::Failed("504, outcome unknown".into())
            }
            status => Checked::Failed(status_text(status)),
        }
    }

    fn check_decode(&mut self, flight: usize, answer: &Response<'_>) -> Checked {
        let Some(handed) = self.flights.all[flight].asked else {
            return Checked::Failed("nothing was asked".into());
        };
        match answer.status {
            200 => {
                self.decoded += 1;
                let decoded = Decoded::read(answer.body);
                judged(decoded.and_then(|decoded| decoded.check(self.history.layout(), handed)))
            }
            404 => Checked::Violation(format!("{} was handed out, and is said to be no id", handed.id)),
            status => Checked::Failed(status_text(status)),
        }
    }
}

impl Workload for IdGenerator {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Takes one id and lets the server say how it is made.
    fn prepare(&mut self, client: &mut Client, _: &Stop) -> Result<()> {
        let sent_ms = wall_ms();
        let answer = right("POST /ids", client.post(PATHS[SINGLE])?)?;
        body::read(&answer.body, 1, &mut self.ids).map_err(|text| anyhow!("POST /ids: {text}"))?;
        let handed = Handed {
            id: *self.ids.first().context("POST /ids was answered without an id")?,
            from_ms: sent_ms,
            to_ms: wall_ms(),
        };
        let path = format!("{}{}", PATHS[DECODE], handed.id);
        let answer = right(&path, client.get(&path)?)?;
        let decoded = Decoded::read(&answer.body).map_err(anyhow::Error::msg)?;
        let layout = Layout::named(&decoded.layout)
            .with_context(|| format!("the lab does not know the layout `{}`", decoded.layout))?;
        decoded.check(layout, handed).map_err(anyhow::Error::msg)?;
        self.history = History::new(layout);
        let mut floors = Floors::default();
        self.history.sent(self.now_ms(), &mut floors);
        let first = self.history.answered(self.now_ms(), &floors, 1, &self.ids);
        first.map_err(anyhow::Error::msg)?;
        self.sample.push(handed);
        Ok(())
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        let kind = self.mix.pick(self.rng.random());
        let token = if kind == DECODE {
            let handed = self.sample[self.rng.random_range(0..self.sample.len())];
            let path = format!("{}{}", PATHS[DECODE], handed.id);
            request::get(request, &self.host, path.as_bytes());
            self.depart(Some(handed))
        } else {
            request::post(request, &self.host, PATHS[kind], self.key.as_deref());
            self.depart(None)
        };
        Some(Operation {
            kind,
            token,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        let flight = self.flights.end(operation.token);
        match operation.kind {
            DECODE => self.check_decode(flight, answer),
            kind => self.check_ids(kind, flight, answer),
        }
    }

    fn lost(&mut self, operation: Operation) {
        self.flights.end(operation.token);
        if operation.kind != DECODE {
            self.unknown += 1;
        }
    }

    /// Everything was judged as it came in; this says how much it was.
    fn verify(&mut self, _: &mut Client, _: &mut Generator, _: &Stop) -> Result<Verified> {
        let history = &self.history;
        let mut summary = format!(
            "{} ids of {} node(s) compared, layout {}, {} decoded, {} requests of unknown outcome",
            history.compared(),
            history.nodes(),
            history.layout().name,
            self.decoded,
            self.unknown
        );
        if history.forgotten() > 0 {
            summary += &format!(
                ", {} ids NOT compared: no memory beyond {} MiB",
                history.forgotten(),
                seen::LIMIT >> 20
            );
        }
        Ok(Verified {
            summary,
            ..Verified::default()
        })
    }
}

fn judged(result: Result<(), String>) -> Checked {
    result.map_or_else(Checked::Violation, |()| Checked::Done)
}

fn right(what: &str, answer: Answer) -> Result<Answer> {
    ensure!(
        answer.status == 200,
        "{what} was answered with {}: {}",
        answer.status,
        answer.excerpt()
    );
    Ok(answer)
}

/// Milliseconds since 1970, as the server's clock should have it.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
