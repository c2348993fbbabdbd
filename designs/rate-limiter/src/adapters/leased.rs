//! Shares of the limit: a server takes some of a bucket at once, and answers from what it holds.
//!
//! ```text
//! Redis    [ 100 ] ── take 10 ──> [ 90 ] ─────────────────────── take 10 ──> ...
//! server             holds 10  9  8  7  6  5  4  3  2  1  0
//! ```
//!
//! One command of Redis serves as many requests as a share has. A refusal is remembered until it is over, so whoever is far
//! above the limit costs Redis nothing either. Of one key, one request asks Redis at a time; others wait for its answer.
//!
//! # What it may admit too much
//!
//! Redis counts a share when it is taken; it is spent later. In an interval of length `d`, what is spent was either taken in
//! it, of which there is no more than `burst + requests x d / window` by the promise of `atomic.rs`, or was held when it
//! began, and no server ever holds more than a share of a key. So with `n` servers
//!
//! ```text
//! admitted <= burst + requests x d / window + n x share
//! ```
//!
//! # What it may refuse too early
//!
//! What one server holds, another cannot give: up to a share for each of the others, once, until the bucket has filled up
//! by as much. A server that forgets a key (there are as many as there may be, or nobody asked for as long as the bucket
//! takes to fill up) loses what it held; a server that dies does, too. Nobody gets more by it.

use std::time::Duration;

use ledger::{Ledger, Resource};
use quanta::{Clock, Instant};
use tokio_util::sync::CancellationToken;

use super::Atomic;
use super::meter::Meter;
use super::shards::{Shards, State};
use crate::domain::{Charge, Decision, Error, Limit, Rule, Unfit};
use crate::ports::Limiter;

/// Buckets in Redis, in shares.
pub struct Leased {
    atomic: Atomic,
    percent: u8,
    max_keys: usize,
    clock: Clock,
    zero: Instant,
    /// Those that wait for another's share.
    claims: Resource,
}

/// What is held of one rule.
pub struct Shares {
    meter: Meter,
    share: u64,
    /// How long an empty bucket takes to fill up.
    full_in_ns: u64,
    held: Shards<Held>,
}

/// What is held of one key.
#[derive(Default)]
struct Held {
    /// Requests that may still be admitted.
    left: u64,
    /// What Redis said of the bucket the last time, in units of the meter, and when.
    backlog: u64,
    told_ns: u64,
    /// Until then, a charge of so much is refused.
    refused_until_ns: u64,
    refused_cost: u64,
    /// Set while somebody asks Redis, and cancelled when that is over: those who wait look again.
    claim: Option<CancellationToken>,
    /// From then on, nobody misses it.
    idle_from_ns: u64,
}

impl State for Held {
    fn idle(&self, now_ns: u64) -> bool {
        self.claim.is_none() && self.idle_from_ns <= now_ns && self.refused_until_ns <= now_ns
    }
}

/// What to do about a charge.
enum Next {
    Decided(Decision),
    Wait(CancellationToken),
    /// Ask Redis for so much at least, and tell the others when that is over.
    Claim(u64, CancellationToken),
}

/// Clears the claim when it is over, and also when whoever made it has given up half-way.
struct Claim<'a> {
    shares: &'a Shares,
    key: &'a str,
    now_ns: u64,
    over: CancellationToken,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // It is there, so there is no question of room.
        let _ = self.shares.held.change(self.key, self.now_ns, Held::default, |held| {
            held.claim = None;
        });
        self.over.cancel();
    }
}

impl Leased {
    /// Shares of so many percent of a burst, from this Redis, for about so many keys a rule.
    #[must_use]
    pub fn new(atomic: Atomic, percent: u8, max_keys: usize, ledger: &Ledger) -> Self {
        let clock = Clock::new();
        Self {
            atomic,
            percent,
            max_keys,
            zero: clock.now(),
            clock,
            claims: ledger.resource("shares", "claims", 1.0),
        }
    }

    fn share(&self, limit: &Limit) -> u64 {
        (u64::from(limit.burst) * u64::from(self.percent) / 100).max(1)
    }

    fn now_ns(&self) -> u64 {
        let since = self.clock.now().saturating_duration_since(self.zero);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Asks Redis, for this charge and what comes after it. `None` where others have taken so much of what was held meanwhile
    /// that it is not enough: then it has to be asked again.
    async fn claim(
        &self,
        shares: &Shares,
        charge: Charge<'_>,
        least: u64,
        over: CancellationToken,
    ) -> Result<Option<Decision>, Error> {
        let _claim = Claim {
            shares,
            key: charge.key,
            now_ns: self.now_ns(),
            over,
        };
        let asked = Charge { cost: least, ..charge };
        let most = shares.share.max(least);
        let (taken, backlog) = self.atomic.take_some(&shares.meter, asked, most).await?;
        let now_ns = self.now_ns();
        shares.held.change(charge.key, now_ns, Held::default, |held| {
            held.left += taken;
            held.backlog = backlog;
            held.told_ns = now_ns;
            if held.left >= charge.cost {
                held.left -= charge.cost;
                return Some(shares.admitted(held, now_ns));
            }
            if taken > 0 {
                return None;
            }
            // As long as what Redis has is not enough.
            let wanted = backlog.saturating_add(least.saturating_mul(shares.meter.cost));
            let lacks = wanted.saturating_sub(shares.meter.capacity);
            held.refused_until_ns = now_ns + nanos(shares.meter.empty_in(lacks));
            held.refused_cost = charge.cost;
            Some(shares.refused(held, now_ns, charge.cost))
        })
    }
}

impl Limiter for Leased {
    type Buckets = Shares;

    fn open(&self, rule: &Rule) -> Result<Shares, Unfit> {
        let meter = Meter::of(rule)?;
        let full_in_ns = nanos(meter.empty_in(meter.capacity));
        Ok(Shares {
            share: self.share(&rule.limit),
            full_in_ns,
            held: Shards::new(self.max_keys, full_in_ns),
            meter,
        })
    }

    fn excess(&self, limit: &Limit) -> u64 {
        self.share(limit)
    }

    async fn take(&self, shares: &Shares, charge: Charge<'_>) -> Result<Decision, Error> {
        if charge.cost == 0 {
            let now_ns = self.now_ns();
            let known = |held: Option<&Held>| held.map(|held| shares.admitted(held, now_ns));
            return match shares.held.look(charge.key, known) {
                Some(decision) => Ok(decision),
                None => self.atomic.take(&shares.meter, charge).await,
            };
        }
        loop {
            let now_ns = self.now_ns();
            let next = shares.held.change(charge.key, now_ns, Held::default, |held| {
                shares.next(held, now_ns, charge.cost)
            });
            match next {
                Ok(Next::Decided(decision)) => return Ok(decision),
                Ok(Next::Claim(least, over)) => {
                    if let Some(decision) = self.claim(shares, charge, least, over).await? {
                        return Ok(decision);
                    }
                }
                Ok(Next::Wait(over)) => {
                    let waiting = self.claims.wait();
                    // Whoever asks has a bound on it, and it is over however he ends.
                    over.cancelled().await;
                    drop(waiting);
                }
                // No room to hold anything: then it is one command for each request.
                Err(Error::Full) => return self.atomic.take(&shares.meter, charge).await,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Shares {
    fn next(&self, held: &mut Held, now_ns: u64, cost: u64) -> Next {
        held.idle_from_ns = now_ns + self.full_in_ns;
        if held.left >= cost {
            held.left -= cost;
            return Next::Decided(self.admitted(held, now_ns));
        }
        if now_ns < held.refused_until_ns && cost >= held.refused_cost {
            return Next::Decided(self.refused(held, now_ns, cost));
        }
        if let Some(over) = &held.claim {
            return Next::Wait(over.clone());
        }
        let over = CancellationToken::new();
        held.claim = Some(over.clone());
        Next::Claim(cost - held.left, over)
    }

    fn admitted(&self, held: &Held, now_ns: u64) -> Decision {
        let mut decision = self.meter.decision(self.backlog(held, now_ns), None);
        decision.remaining += held.left;
        decision
    }

    /// A refusal of as much as was refused, or of more: that waits longer by what it takes to make up for.
    fn refused(&self, held: &Held, now_ns: u64, cost: u64) -> Decision {
        let more = self
            .meter
            .empty_in((cost - held.refused_cost).saturating_mul(self.meter.cost));
        Decision {
            allowed: false,
            retry_after: Some(Duration::from_nanos(held.refused_until_ns - now_ns) + more),
            ..self.admitted(held, now_ns)
        }
    }

    /// What was in the bucket and has not leaked since.
    fn backlog(&self, held: &Held, now_ns: u64) -> u64 {
        let since_us = now_ns.saturating_sub(held.told_ns) / 1_000;
        held.backlog.saturating_sub(since_us.saturating_mul(self.meter.leak))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
