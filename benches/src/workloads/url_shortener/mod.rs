//! The URL shortener's users: most follow links, some make them, a few mistype.
//!
//! The URLs are real ones (the `Homepage` fields of Debian's packages, odd ones included). Which links are popular follows
//! Zipf's law with exponent 1, over an order shuffled by the seed, so that popularity has nothing to do with age. What is
//! held against the server: a link leads, byte for byte, to the URL that its create was answered with; no code is
//! given twice; an unknown code is 404; clicks are neither lost nor invented.

pub mod envelope;
pub mod history;
mod prepare;
mod verify;

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;
use serde::Deserialize;

use super::Options;
use super::get::status_text;
use crate::generator::Generator;
use crate::http::{Client, Response, request};
use crate::stop::Stop;
use crate::workload::{Checked, Kind, Mix, Operation, Verified, Workload};
use history::{Code, Follows, History, Link, resolves};

const REDIRECT: usize = 0;
const CREATE: usize = 1;
const UNKNOWN: usize = 2;
const NAMES: [&str; 3] = ["redirect", "create", "unknown"];
const WEIGHTS: [f64; 3] = [90.0, 8.0, 2.0];
/// What is promised of the p99, in milliseconds.
const SLO_P99_MS: [u64; 3] = [20, 100, 20];
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The length of a generated code.
const CODE_LENGTH: u32 = 7;

/// The workload, and all that it remembers.
#[derive(Debug)]
pub struct UrlShortener {
    kinds: [Kind; 3],
    mix: Mix,
    host: String,
    key: Option<String>,
    items: usize,
    rng: SmallRng,
    popularity: Zipf<f64>,
    /// Rank of popularity to index of a preloaded link.
    ranks: Vec<u32>,
    /// URLs as the server stores them, by line of the data file; `None` where it refused the line or was not asked yet.
    urls: Vec<Option<Box<str>>>,
    /// Lines that the server accepts, in the order in which creates use them.
    accepted: Vec<u32>,
    next_url: usize,
    /// Lines refused with 422, as they must be.
    refused: u64,
    history: History,
    body: Vec<u8>,
}

/// The part of a create's answer that is checked.
#[derive(Debug, Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    code: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    url: std::borrow::Cow<'a, str>,
}

impl UrlShortener {
    /// A workload that knows nothing of the server yet; [`Workload::prepare`] comes first.
    ///
    /// # Errors
    /// A mix that names other kinds than redirect, create, unknown.
    pub fn new(options: &Options) -> Result<Self> {
        let mix = match &options.mix {
            Some(text) => Mix::parse(text, &NAMES)?,
            None => Mix::new(&WEIGHTS),
        };
        let kind = |index: usize| Kind {
            name: NAMES[index],
            slo_p99: Some(Duration::from_millis(SLO_P99_MS[index])),
        };
        let items = options.items.max(1);
        Ok(Self {
            kinds: [kind(REDIRECT), kind(CREATE), kind(UNKNOWN)],
            mix,
            host: options.target.host.clone(),
            key: options.key.clone(),
            items,
            rng: SmallRng::seed_from_u64(options.seed),
            popularity: Zipf::new(items as f64, 1.0)?,
            ranks: Vec::new(),
            urls: Vec::new(),
            accepted: Vec::new(),
            next_url: 0,
            refused: 0,
            history: History::default(),
            body: Vec::with_capacity(512),
        })
    }

    /// Called when the links are there: which is how popular, and which URLs creates will use.
    fn ready(&mut self) {
        let count = u32::try_from(self.history.preloaded.len()).unwrap_or(u32::MAX);
        self.history.follows = vec![Follows::default(); self.history.preloaded.len()];
        self.ranks = (0..count).collect();
        self.ranks.shuffle(&mut self.rng);
        self.accepted.shuffle(&mut self.rng);
    }

    fn url(&self, line: u32) -> &str {
        self.urls[line as usize].as_deref().unwrap_or_default()
    }

    fn redirect(&mut self, request: &mut Vec<u8>) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 1 and the number of links"
        )]
        let rank = self.rng.sample(self.popularity) as usize - 1;
        let index = self.ranks[rank.min(self.ranks.len() - 1)];
        self.history.follows[index as usize].sent += 1;
        follow(
            request,
            &self.host,
            self.history.preloaded[index as usize].code.as_bytes(),
        );
        u64::from(index)
    }

    fn create(&mut self, request: &mut Vec<u8>) -> u64 {
        let line = self.accepted[self.next_url % self.accepted.len()];
        self.next_url += 1;
        self.body.clear();
        // Writing into a Vec cannot fail, and a URL that was answered once is valid JSON.
        let url = self.urls[line as usize].as_deref().unwrap_or_default();
        let _ = write!(self.body, "{{\"url\":{}}}", serde_json::Value::from(url));
        request::post_json(request, &self.host, "/api/links", self.key.as_deref(), &self.body);
        u64::from(line)
    }

    fn unknown(&mut self, request: &mut Vec<u8>) -> u64 {
        let number = self.rng.random_range(0..62u64.pow(CODE_LENGTH));
        follow(request, &self.host, &spell(number));
        number
    }

    fn check_redirect(&mut self, index: u64, answer: &Response<'_>) -> Checked {
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a usize")]
        let index = index as usize;
        let link = self.history.preloaded[index];
        let location = answer.header("location");
        if resolves(answer.status, location, self.url(link.url)) {
            self.history.follows[index].acknowledged += 1;
            return Checked::Done;
        }
        match answer.status {
            300..400 | 404 | 410 | 200..300 => Checked::Violation(format!(
                "{} must lead to {}, but the answer was {} {}",
                link.code,
                self.url(link.url),
                answer.status,
                String::from_utf8_lossy(location.unwrap_or_default())
            )),
            status => Checked::Failed(status_text(status)),
        }
    }

    fn check_create(&mut self, line: u64, answer: &Response<'_>) -> Checked {
        match answer.status {
            201 => {}
            504 => {
                self.history.unknown_creates += 1;
                return Checked::Failed("504, outcome unknown".into());
            }
            status => return Checked::Failed(status_text(status)),
        }
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a u32")]
        let line = line as u32;
        let created: Created<'_> = match serde_json::from_slice(answer.body) {
            Ok(created) => created,
            Err(error) => return Checked::Violation(format!("a create was answered with unreadable JSON: {error}")),
        };
        let Some(code) = Code::new(&created.code) else {
            return Checked::Violation(format!("a create was answered with the code `{}`", created.code));
        };
        // Remembered before the URL is judged: the code was given out in any case.
        self.history.created.push(Link { code, url: line });
        if created.url != self.url(line) {
            return Checked::Violation(format!(
                "{} was created for {} and stored as {}",
                code,
                self.url(line),
                created.url
            ));
        }
        Checked::Done
    }

    fn check_unknown(&mut self, number: u64, answer: &Response<'_>) -> Checked {
        match answer.status {
            404 => Checked::Done,
            301 | 302 | 307 | 308 => {
                // It may have been given to somebody a moment ago: judged when the whole history is known.
                self.history
                    .surprises
                    .extend(Code::new(&String::from_utf8_lossy(&spell(number))));
                Checked::Done
            }
            status => Checked::Failed(status_text(status)),
        }
    }
}

impl Workload for UrlShortener {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn prepare(&mut self, client: &mut Client, stop: &Stop) -> Result<()> {
        prepare::preload(self, client, stop)?;
        self.ready();
        Ok(())
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        let kind = self.mix.pick(self.rng.random());
        let token = match kind {
            REDIRECT => self.redirect(request),
            CREATE => self.create(request),
            _ => self.unknown(request),
        };
        Some(Operation {
            kind,
            token,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        match operation.kind {
            REDIRECT => self.check_redirect(operation.token, answer),
            CREATE => self.check_create(operation.token, answer),
            _ => self.check_unknown(operation.token, answer),
        }
    }

    fn lost(&mut self, operation: Operation) {
        if operation.kind == CREATE {
            self.history.unknown_creates += 1;
        }
    }

    fn verify(&mut self, client: &mut Client, generator: &mut Generator, stop: &Stop) -> Result<Verified> {
        verify::history(self, client, generator, stop)
    }
}

/// Appends `GET /{code}`.
fn follow(request: &mut Vec<u8>, host: &str, code: &[u8]) {
    let mut path = [b'/'; 16];
    path[1..=code.len()].copy_from_slice(code);
    request::get(request, host, &path[..=code.len()]);
}

/// The code of a number below 62^7, padded to seven characters.
fn spell(mut number: u64) -> [u8; CODE_LENGTH as usize] {
    let mut code = [b'0'; CODE_LENGTH as usize];
    for byte in code.iter_mut().rev() {
        let digit = (number % 62) as usize;
        *byte = ALPHABET[digit];
        number /= 62;
    }
    code
}
