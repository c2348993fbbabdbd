//! The rate limiter's users: most are far below their limit, a few far above it, and some come all at once.
//!
//! Regular users are popular by Zipf's law, so that the first of them ask for many times what they may have, and most for a
//! small part. Beside them there are always `CROWDS` users whom nobody has seen before, each asked for over and over for
//! about a window and a half, and then never again: they show what a limiter does when a burst begins at any moment, and
//! when many requests of one user are decided at once.
//!
//! A refusal is an answer like any other. Every decision is held against the promise (`history`): never more admitted than
//! that, by all servers together, and none refused with room. After the load, some new users use up all they have and wait
//! exactly as long as they are told to: they must be let in. What a server decides without its store, and says so
//! (`RateLimit-Degraded`), is no decision that it promises anything of: it is an error, and may have been charged or not.
//!
//! What is promised is learnt from the header `RateLimit-Policy` of the first answer: `q` requests in `w` seconds; at once as
//! many, or as the parameter `lb-burst` says. Where a server may admit more than that, `lb-excess` is how much more one of
//! them may, and there are as many as are loaded.

pub mod envelope;
mod history;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use super::Options;
use super::get::status_text;
use crate::generator::Generator;
use crate::http::{Answer, Client, Response, request};
use crate::stop::Stop;
use crate::workload::{Accuracy, Checked, Kind, Mix, Operation, Verified, Workload};
use history::{Counts, History, Promise};

const CHECK: usize = 0;
const CROWD: usize = 1;
const ASK: usize = 2;
const NAMES: [&str; 3] = ["check", "crowd", "ask"];
const WEIGHTS: [f64; 3] = [75.0, 20.0, 5.0];
/// What is promised of the p99, in milliseconds.
const SLO_P99_MS: u64 = 20;
/// Users at once of whom each is new, and wants much.
const CROWDS: usize = 8;
/// How many users wait as long as they are told to.
const WAITERS: usize = 6;
/// The most that they ask for.
const WAITED_FOR: u64 = 8;
/// No longer than this is waited, in milliseconds: not a day.
const LONGEST_WAIT_MS: u64 = 2_000;
/// In the bodies of answers.
const ALLOWED: &[u8] = b"\"allowed\":true";
const REFUSED: &[u8] = b"\"allowed\":false";
const NOT_EXECUTED: &[u8] = b"\"outcome\":\"not_executed\"";
/// The header of a decision that was made without the store.
const DEGRADED: &str = "ratelimit-degraded";
const SECOND_NS: u64 = 1_000_000_000;
/// The token of a question that charges nothing.
const NO_CHARGE: u64 = u64::MAX;

/// The workload, and all that it remembers.
#[derive(Debug)]
pub struct RateLimiter {
    kinds: [Kind; 3],
    mix: Mix,
    host: String,
    nodes: u64,
    rng: SmallRng,
    zero: Instant,
    items: usize,
    popularity: Zipf<f64>,
    crowds: Vec<Crowd>,
    promise: Promise,
    history: History,
    body: Vec<u8>,
    /// Distinguishes the users of this run from those of another on the same server.
    run: u64,
}

#[derive(Debug, Clone, Copy)]
struct Crowd {
    user: usize,
    until_ns: u64,
}

impl RateLimiter {
    /// A workload that knows nothing of the server yet; [`Workload::prepare`] comes first.
    ///
    /// # Errors
    /// A mix that names other kinds than check, crowd, ask.
    pub fn new(options: &Options) -> Result<Self> {
        let mix = match &options.mix {
            Some(text) => Mix::parse(text, &NAMES)?,
            None => Mix::new(&WEIGHTS),
        };
        let kind = |name| Kind {
            name,
            slo_p99: Some(Duration::from_millis(SLO_P99_MS)),
        };
        let promise = Promise {
            limit: 1,
            window_ns: 1,
            burst: 1,
            excess: 0,
        };
        let items = options.items.max(1);
        let mut rng = SmallRng::seed_from_u64(options.seed);
        Ok(Self {
            kinds: NAMES.map(kind),
            mix,
            host: options.target.host.clone(),
            nodes: options.nodes as u64,
            run: rng.random::<u64>() ^ u64::from(std::process::id()),
            rng,
            zero: Instant::now(),
            items,
            popularity: Zipf::new(items as f64, 1.0)?,
            crowds: Vec::new(),
            promise,
            history: History::new(promise, items),
            body: Vec::with_capacity(128),
        })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Appends a question about a user.
    fn ask(&mut self, user: usize, cost: u64, request: &mut Vec<u8>) {
        question(self.run, user, cost, &mut self.body);
        request::post_json(request, &self.host, "/check", None, &self.body);
    }

    fn popular(&mut self) -> usize {
        let rank = self.popularity.sample(&mut self.rng);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to the number of items"
        )]
        let rank = rank as usize;
        rank.clamp(1, self.items) - 1
    }

    /// One of those who come all at once; who has been there for long enough is replaced.
    fn crowd(&mut self, now_ns: u64) -> usize {
        let place = self.rng.random_range(0..CROWDS);
        if self.crowds.len() <= place || now_ns >= self.crowds[place].until_ns {
            let user = self.history.newcomer();
            let window_ns = self.promise.window_ns as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most two windows"
            )]
            let stays_ns = (window_ns * self.rng.random_range(1.0..2.0)) as u64;
            let crowd = Crowd {
                user,
                until_ns: now_ns + stays_ns,
            };
            if self.crowds.len() <= place {
                self.crowds.push(crowd);
                return user;
            }
            self.crowds[place] = crowd;
        }
        self.crowds[place].user
    }

    /// Uses up all that a new user has, waits as he is told, and asks again. `None`: it could not be tried.
    fn wait_as_told(&mut self, client: &mut Client) -> Result<Option<Waited>> {
        let user = self.history.newcomer();
        let (burst, run) = (self.promise.burst, self.run);
        let wanted = self.rng.random_range(1..=WAITED_FOR).min(burst.max(1));
        let body = &mut self.body;
        let mut charge = |cost| {
            question(run, user, cost, body);
            client.post_json("/check", body)
        };
        if charge(burst)?.status != 200 {
            return Ok(None); // whether that is right, the load has shown
        }
        let refused = charge(wanted)?;
        if refused.status != 429 || refused.header(DEGRADED).is_some() {
            return Ok(None); // so slow was this that there was room again
        }
        let wait_ms = match told(&refused) {
            Ok(wait_ms) => wait_ms,
            Err(reason) => return Ok(Some(Err(reason))),
        };
        if wait_ms > LONGEST_WAIT_MS {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(wait_ms));
        Ok(match charge(wanted)?.status {
            200 => Some(Ok(())),
            429 => Some(Err(format!(
                "refused again after {wait_ms} ms, which was the wait that it told"
            ))),
            _ => None,
        })
    }
}

/// Whether waiting helped as was told; else why not.
type Waited = Result<(), String>;

impl Workload for RateLimiter {
    fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Asks what is promised.
    fn prepare(&mut self, client: &mut Client, _: &Stop) -> Result<()> {
        question(self.run, usize::MAX, 0, &mut self.body);
        let answer = client.post_json("/check", &self.body)?;
        ensure!(
            answer.status == 200,
            "POST /check was answered with {}: {}",
            answer.status,
            answer.excerpt()
        );
        self.promise = promise(&answer, self.nodes)?;
        self.history = History::new(self.promise, self.items);
        self.crowds.clear();
        Ok(())
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        let kind = self.mix.pick(self.rng.random());
        let now_ns = self.now_ns();
        let user = match kind {
            CROWD => self.crowd(now_ns),
            _ => self.popular(),
        };
        let token = if kind == ASK {
            self.ask(user, 0, request);
            NO_CHARGE
        } else {
            self.ask(user, 1, request);
            let which = self.history.sent(user, now_ns);
            (user as u64) << 32 | u64::from(which)
        };
        Some(Operation {
            kind,
            token,
            no_body: false,
        })
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, _: &mut Vec<u8>) -> Checked {
        let decided = match answer.status {
            _ if answer.header(DEGRADED).is_some() => Err(Checked::Failed("decided without the store".into())),
            200 if contains(answer.body, ALLOWED) => Ok(true),
            429 if contains(answer.body, REFUSED) => Ok(false),
            status @ (200 | 429) => Err(Checked::Violation(format!("{status} with a body that does not say so"))),
            status => Err(Checked::Failed(status_text(status))),
        };
        if operation.token == NO_CHARGE {
            return match decided {
                Ok(true) => Checked::Done,
                Ok(false) => Checked::Violation(String::from("a question that charges nothing was refused")),
                Err(failed) => failed,
            };
        }
        let now_ns = self.now_ns();
        let (user, which) = parts(operation.token);
        let judged = match decided {
            Ok(true) => self.history.admitted(user, which, now_ns),
            Ok(false) => self.history.refused(user, which, now_ns),
            Err(failed) => {
                if contains(answer.body, NOT_EXECUTED) && answer.header(DEGRADED).is_none() {
                    self.history.dropped(user, which, now_ns);
                } else {
                    self.history.lost(user, which, now_ns);
                }
                return failed;
            }
        };
        judged.map_or_else(Checked::Violation, |()| Checked::Done)
    }

    fn lost(&mut self, operation: Operation) {
        if operation.token != NO_CHARGE {
            let now_ns = self.now_ns();
            let (user, which) = parts(operation.token);
            self.history.lost(user, which, now_ns);
        }
    }

    /// Everything was judged as it came in but what is said about waiting.
    fn verify(&mut self, client: &mut Client, _: &mut Generator, stop: &Stop) -> Result<Verified> {
        let mut verified = Verified::default();
        // The connection has been idle since before the load, and the server may have closed it. A question that nobody is
        // charged for finds out: it is sent again on a new one.
        client.get("/livez")?;
        let mut waited = 0;
        for _ in 0..WAITERS {
            stop.check()?;
            match self.wait_as_told(client)? {
                Some(Ok(())) => waited += 1,
                Some(Err(reason)) => verified.violation(|| reason),
                None => {}
            }
        }
        let Counts {
            admitted,
            refused,
            unknown,
            too_many,
            refused_wrongly,
        } = self.history.counts();
        verified.summary = format!(
            "{admitted} admitted, {refused} refused, {unknown} of unknown outcome, of {} users; limit {} in {} s, {} at \
             once{}; {waited} of {WAITERS} let in after the wait that they were told",
            self.history.users(),
            self.promise.limit,
            self.promise.window_ns / SECOND_NS,
            self.promise.burst,
            match self.promise.excess {
                0 => String::new(),
                excess => format!(", {excess} more by {} servers", self.nodes),
            },
        );
        verified.accuracy = Some(Accuracy {
            most_in_a_window: self.history.most_in_a_window(),
            too_many,
            refused_wrongly,
        });
        Ok(verified)
    }
}

/// How long a refusal says that is to be waited, in milliseconds: in its body to the millisecond, in its headers in whole
/// seconds, which must not be less.
fn told(refused: &Answer) -> Result<u64, String> {
    let wait_ms = member(&refused.body, "retry_after_ms").ok_or("a refusal without retry_after_ms")?;
    let retry_after = refused.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    let limit = refused.header("ratelimit").unwrap_or_default();
    let more_in = parameter(limit, "t").and_then(|text| text.parse::<u64>().ok());
    for (header, seconds) in [("Retry-After", retry_after), ("RateLimit's t", more_in)] {
        let Some(seconds) = seconds else {
            return Err(format!("a refusal without {header}"));
        };
        if seconds.saturating_mul(1_000) < wait_ms {
            return Err(format!("{header} is {seconds} s, retry_after_ms {wait_ms}"));
        }
    }
    Ok(wait_ms)
}

fn parts(token: u64) -> (usize, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "it was put together of these")]
    let parts = ((token >> 32) as usize, token as u32);
    parts
}

/// The body of a question about a user.
fn question(run: u64, user: usize, cost: u64, body: &mut Vec<u8>) {
    use std::io::Write as _;
    body.clear();
    // Writing into memory does not fail.
    let _ = write!(
        body,
        r#"{{"descriptor":{{"user":"{:08x}-{user}"}},"cost":{cost}}}"#,
        run & 0xffff_ffff
    );
}

/// What the header `RateLimit-Policy` promises, of so many servers.
fn promise(answer: &Answer, nodes: u64) -> Result<Promise> {
    let policy = answer.header("ratelimit-policy");
    let policy = policy.context("an answer without RateLimit-Policy: does a rule limit `user`?")?;
    let number = |name: &str| -> Result<Option<u64>> {
        let number = parameter(policy, name).map(str::parse);
        number
            .transpose()
            .with_context(|| format!("RateLimit-Policy: {policy}"))
    };
    let (Some(limit), Some(window_s @ 1..)) = (number("q")?, number("w")?) else {
        bail!("RateLimit-Policy names no quota or no window: {policy}");
    };
    Ok(Promise {
        limit,
        window_ns: window_s.saturating_mul(SECOND_NS),
        burst: number("lb-burst")?.unwrap_or(limit),
        excess: number("lb-excess")?.unwrap_or(0).saturating_mul(nodes),
    })
}

/// A parameter of an item of a structured field.
fn parameter<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    // A name in quotes may have a semicolon, but what follows it there is no parameter that is asked for.
    let mut parameters = item.split(';').filter_map(|part| part.trim().split_once('='));
    let found = parameters.find(|(known, _)| *known == name);
    found.map(|(_, value)| value.trim())
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// A number of a flat JSON object.
fn member(body: &[u8], name: &str) -> Option<u64> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    json.get(name)?.as_u64()
}
