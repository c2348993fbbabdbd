//! What the port promises, asked of every adapter: those in memory, those on a real Redis, and those around another.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::time::Duration;

use ledger::Ledger;
use rate_limiter::adapters::{Atomic, FailSafe, Leased, Local, Racy};
use rate_limiter::domain::{Algorithm, Charge, Decision, Error, FailureMode, Limit, Rule, Unfit, Unit};
use rate_limiter::ports::Limiter;
use stores::Redis;

const BURST: u64 = 20;

fn rule(requests: u32, unit: Unit) -> Rule {
    Rule {
        name: String::from("rule"),
        limit: Limit {
            requests,
            unit,
            burst: requests,
        },
        algorithm: None,
        failure: FailureMode::Local,
        shadow: false,
        single: false,
    }
}

async fn take<L: Limiter>(limiter: &L, buckets: &L::Buckets, key: &str, cost: u64) -> Decision {
    let within = Duration::from_secs(5);
    limiter.take(buckets, Charge { key, cost, within }).await.unwrap()
}

/// What an adapter does that the contract does not allow. Asked one after the other: what comes at once is in `races.rs`.
async fn broken<L: Limiter>(limiter: &L) -> Vec<String> {
    let mut broken = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            broken.push(what.to_owned());
        }
    };
    let yearly = limiter.open(&rule(20, Unit::Year)).unwrap();
    let fresh = take(limiter, &yearly, "user", 0).await;
    expect(fresh.allowed && fresh.remaining == BURST, "a new bucket is full");
    for left in (0..BURST).rev() {
        let decision = take(limiter, &yearly, "user", 1).await;
        expect(decision.allowed, "a burst is admitted");
        expect(decision.remaining == left, "what remains is counted");
        expect(
            decision.retry_after.is_none() && decision.reset_after > Duration::ZERO,
            "an admission is no refusal",
        );
    }
    for _ in 0..3 {
        let decision = take(limiter, &yearly, "user", 1).await;
        expect(!decision.allowed, "and no more");
        expect(
            decision.retry_after.is_some_and(|wait| wait > Duration::ZERO),
            "a refusal says how long to wait",
        );
    }
    let asked = take(limiter, &yearly, "user", 0).await;
    expect(asked.allowed && asked.remaining == 0, "a question is always admitted");
    expect(take(limiter, &yearly, "other", 1).await.allowed, "keys are told apart");
    // What is refused costs nothing.
    take(limiter, &yearly, "third", BURST - 2).await;
    expect(
        !take(limiter, &yearly, "third", 3).await.allowed,
        "more than is left is refused",
    );
    expect(take(limiter, &yearly, "third", 2).await.allowed, "and was not charged");
    // Whoever waits as told gets in.
    let quick = limiter.open(&rule(20, Unit::Second)).unwrap();
    take(limiter, &quick, "waits", BURST).await;
    let refused = take(limiter, &quick, "waits", 2).await;
    if let Some(wait) = refused.retry_after {
        tokio::time::sleep(wait).await;
        expect(take(limiter, &quick, "waits", 2).await.allowed, "the wait is true");
    }
    broken
}

async fn redis() -> Redis {
    Redis::open(&testkit::engines::redis(), &Ledger::new()).await.unwrap()
}

fn local(algorithm: Algorithm) -> Local {
    Local::new(algorithm, 100, quanta::Clock::new())
}

const NONE: Vec<String> = Vec::new();

#[tokio::test]
async fn in_memory_by_every_algorithm() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingLog,
        Algorithm::SlidingWindowCounter,
        Algorithm::TokenBucket,
    ] {
        assert_eq!(broken(&local(algorithm)).await, NONE, "{algorithm:?}");
    }
}

#[tokio::test]
async fn read_and_then_written() {
    assert_eq!(broken(&Racy::new(redis().await)).await, NONE);
}

#[tokio::test]
async fn in_a_script() {
    assert_eq!(broken(&Atomic::new(redis().await)).await, NONE);
}

#[tokio::test]
async fn by_shares() {
    let leased = Leased::new(Atomic::new(redis().await), 10, 100, &Ledger::new());
    assert_eq!(broken(&leased).await, NONE);
}

#[tokio::test]
async fn with_a_way_out() {
    let ledger = Ledger::new();
    let safe = FailSafe::new(Atomic::new(redis().await), local(Algorithm::TokenBucket), &ledger);
    assert_eq!(broken(&safe).await, NONE);
}

#[tokio::test]
async fn the_ends_of_all_ranges_in_redis() {
    let atomic = Atomic::new(redis().await);
    for (requests, unit, burst) in [
        (1, Unit::Day, 1),
        (1_000_000_000, Unit::Second, 1),
        (1_000_000_000, Unit::Second, u32::MAX),
        (u32::MAX, Unit::Second, u32::MAX),
        (999_999_937, Unit::Minute, 1_000_000),
        (7, Unit::Year, 100),
    ] {
        let mut rule = rule(requests, unit);
        rule.limit.burst = burst;
        let buckets = atomic.open(&rule).unwrap();
        let key = format!("{requests}-{burst}");
        let all = take(&atomic, &buckets, &key, u64::from(burst)).await;
        assert!(all.allowed, "{key}");
        let waits = take(&atomic, &buckets, &key, u64::from(burst)).await;
        // So fast may a bucket be that it is full again: otherwise whoever asks is told to wait.
        assert!(waits.allowed || waits.retry_after.is_some(), "{key}");
    }
}

/// Limiters that break one promise each.
enum Sabotage {
    ForgetsCharges,
    ChargesRefusals,
    KnowsOneKey,
    LiesAboutTheWait,
}

struct Sabotaged(Local, Sabotage);

impl Limiter for Sabotaged {
    type Buckets = <Local as Limiter>::Buckets;

    fn open(&self, rule: &Rule) -> Result<Self::Buckets, Unfit> {
        self.0.open(rule)
    }

    async fn take(&self, buckets: &Self::Buckets, charge: Charge<'_>) -> Result<Decision, Error> {
        match self.1 {
            Sabotage::ForgetsCharges => self.0.take(buckets, Charge { cost: 0, ..charge }).await,
            Sabotage::ChargesRefusals => {
                let decision = self.0.take(buckets, charge).await?;
                if !decision.allowed {
                    let rest = Charge {
                        cost: decision.remaining,
                        ..charge
                    };
                    self.0.take(buckets, rest).await?;
                }
                Ok(decision)
            }
            Sabotage::KnowsOneKey => self.0.take(buckets, Charge { key: "", ..charge }).await,
            Sabotage::LiesAboutTheWait => {
                let mut decision = self.0.take(buckets, charge).await?;
                decision.retry_after = decision.retry_after.map(|wait| wait / 10);
                Ok(decision)
            }
        }
    }
}

#[tokio::test]
async fn the_contract_fails_on_whoever_breaks_it() {
    for (sabotage, what) in [
        (Sabotage::ForgetsCharges, "what remains is counted"),
        (Sabotage::ChargesRefusals, "and was not charged"),
        (Sabotage::KnowsOneKey, "keys are told apart"),
        (Sabotage::LiesAboutTheWait, "the wait is true"),
    ] {
        let broken = broken(&Sabotaged(local(Algorithm::TokenBucket), sabotage)).await;
        assert!(broken.iter().any(|found| found == what), "{what}: {broken:?}");
    }
}
