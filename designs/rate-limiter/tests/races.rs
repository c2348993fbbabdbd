//! The claim about concurrency, provoked: of 200 at once on a limit of five, five get in, whichever bucket it is; and of the
//! one that reads before it writes, more.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::time::Duration;

use futures_util::future::join_all;
use ledger::Ledger;
use rate_limiter::adapters::{Atomic, Leased, Local, Racy};
use rate_limiter::domain::{Algorithm, Charge, FailureMode, Limit, Rule, Unit};
use rate_limiter::ports::Limiter;
use stores::Redis;

const AT_ONCE: usize = 200;

fn rule() -> Rule {
    Rule {
        name: String::from("five"),
        limit: Limit {
            requests: 5,
            unit: Unit::Year,
            burst: 5,
        },
        algorithm: None,
        failure: FailureMode::Closed,
        shadow: false,
        single: false,
    }
}

/// How many get in of 200 that ask one limiter at once, in each of so many rounds.
async fn admitted<L: Limiter>(limiter: &L, rounds: usize) -> Vec<usize> {
    let buckets = limiter.open(&rule()).unwrap();
    let mut admitted = Vec::new();
    for round in 0..rounds {
        let key = format!("round-{round}");
        let charge = Charge {
            key: &key,
            cost: 1,
            within: Duration::from_secs(5),
        };
        let decided = join_all((0..AT_ONCE).map(|_| limiter.take(&buckets, charge))).await;
        admitted.push(
            decided
                .into_iter()
                .filter(|decision| decision.as_ref().unwrap().allowed)
                .count(),
        );
    }
    admitted
}

async fn redis() -> Redis {
    Redis::open(&testkit::engines::redis(), &Ledger::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_script_exactly_five_get_in_a_thousand_times() {
    let admitted = admitted(&Atomic::new(redis().await), 1_000).await;
    assert!(admitted.iter().all(|admitted| *admitted == 5), "{admitted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_exactly_five_get_in_a_thousand_times() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingLog,
        Algorithm::SlidingWindowCounter,
        Algorithm::TokenBucket,
    ] {
        let admitted = admitted(&Local::new(algorithm, 1_100, quanta::Clock::new()), 1_000).await;
        assert!(
            admitted.iter().all(|admitted| *admitted == 5),
            "{algorithm:?}: {admitted:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_shares_exactly_five_get_in_on_one_server() {
    let leased = Leased::new(Atomic::new(redis().await), 40, 1_000, &Ledger::new());
    let admitted = admitted(&leased, 200).await;
    assert!(admitted.iter().all(|admitted| *admitted == 5), "{admitted:?}");
}

/// mailgun/gubernator, issue 208: whoever did not own the bucket let everybody in.
#[tokio::test(flavor = "multi_thread")]
async fn by_shares_on_two_servers_together_no_more_get_in_than_are_owed() {
    let redis = redis().await;
    let server = || Leased::new(Atomic::new(redis.clone()), 40, 1_000, &Ledger::new());
    let (one, other) = (server(), server());
    let (of_one, of_other) = (one.open(&rule()).unwrap(), other.open(&rule()).unwrap());
    for round in 0..50 {
        let key = format!("both-{round}");
        let charge = Charge {
            key: &key,
            cost: 1,
            within: Duration::from_secs(5),
        };
        let mut admitted = 0;
        for _ in 0..20 {
            admitted += usize::from(one.take(&of_one, charge).await.unwrap().allowed);
            admitted += usize::from(other.take(&of_other, charge).await.unwrap().allowed);
        }
        // Nothing fills up within the test, so what one holds is all that the other may lack.
        assert!((3..=5).contains(&admitted), "round {round}: {admitted}");
    }
}

/// One asks for what is missing to its charge, and another takes meanwhile what it counted on.
#[tokio::test]
async fn by_shares_a_charge_that_others_took_from_while_it_asked_is_asked_for_again() {
    let mut rule = rule();
    rule.limit.requests = 100;
    rule.limit.burst = 100;
    let leased = Leased::new(Atomic::new(redis().await), 2, 1_000, &Ledger::new());
    let buckets = leased.open(&rule).unwrap();
    for round in 0..20 {
        let key = format!("round-{round}");
        let within = Duration::from_secs(5);
        let take = |cost| {
            leased.take(
                &buckets,
                Charge {
                    key: &key,
                    cost,
                    within,
                },
            )
        };
        assert!(take(1).await.unwrap().allowed, "of a share of two, one is left");
        let (large, small) = tokio::join!(take(5), take(1));
        assert!(large.unwrap().allowed && small.unwrap().allowed);
        assert_eq!(take(0).await.unwrap().remaining, 93, "and each is charged once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_and_then_written_more_get_in() {
    let admitted = admitted(&Racy::new(redis().await), 20).await;
    assert!(
        admitted.iter().any(|admitted| *admitted > 5),
        "the race was not met: {admitted:?}"
    );
}
