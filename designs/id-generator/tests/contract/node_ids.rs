//! The contract of `NodeIds`: spans of one node id never overlap, whoever holds it.

use std::time::Duration;

use id_generator::adapters::{MemoryNodes, PostgresNodes, RedisNodes};
use id_generator::domain::Error;
use id_generator::layout::Layout;
use id_generator::lease::Lease;
use id_generator::ports::NodeIds;
use id_generator::stages;
use ledger::Ledger;
use service::SystemClock;
use testkit::contract::Fixture;
use testkit::engines;

/// Short enough to be waited for.
const LASTS: Duration = Duration::from_millis(300);
const REACH_MS: u64 = 1_000;
const NOW_MS: u64 = 1_764_000_000_000;

/// A layout with four node ids would be enough; instagram's 8,192 are not all claimed here.
const NODES: u32 = 1_024;

async fn claim<N: NodeIds>(nodes: &N, clock_ms: u64) -> Lease {
    nodes.claim(clock_ms, REACH_MS).await.unwrap().unwrap()
}

/// The lease on this node id as soon as it can be had again: node ids are lent in their order, so it comes.
async fn claim_again<N: NodeIds>(nodes: &N, node: u32, clock_ms: u64) -> Lease {
    for _ in 0..1_000 {
        match nodes.claim(clock_ms, REACH_MS).await.unwrap() {
            Some(lease) if lease.node == node => return lease,
            Some(other) => nodes.release(&other, other.from_ms).await.unwrap(),
            None => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("node id {node} was never lent again");
}

async fn no_two_have_one_node_id<N: NodeIds>(nodes: &N) {
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(claim(nodes, NOW_MS).await.node);
    }
    held.sort_unstable();
    held.dedup();
    assert_eq!(held.len(), 50);
    assert!(held.iter().all(|node| *node < NODES), "{held:?}");
}

async fn a_loan_covers_what_was_asked_for<N: NodeIds>(nodes: &N) {
    let lease = claim(nodes, NOW_MS).await;
    assert_eq!((lease.from_ms, lease.until_ms), (NOW_MS, NOW_MS + REACH_MS));
    assert!(lease.epoch > 0);
    assert_eq!(nodes.lasts(), Some(LASTS));
}

async fn a_renewal_moves_the_fence_forward_and_never_back<N: NodeIds>(nodes: &N) {
    let lease = claim(nodes, NOW_MS).await;
    let renewed = nodes.renew(&lease, NOW_MS + 5_000).await.unwrap().unwrap();
    assert_eq!(
        renewed,
        Lease {
            until_ms: NOW_MS + 5_000,
            ..lease
        }
    );
    // A clock that went back asks for less.
    let again = nodes.renew(&renewed, NOW_MS + 10).await.unwrap().unwrap();
    assert_eq!(again, renewed);
}

async fn the_next_holder_begins_where_the_last_one_ends<N: NodeIds>(nodes: &N) {
    let first = claim(nodes, NOW_MS).await;
    let first = nodes.renew(&first, NOW_MS + 7_000).await.unwrap().unwrap();
    // By a clock beyond its fence, so that this node id is as good as a fresh one.
    let second = claim_again(nodes, first.node, NOW_MS + 7_000).await;
    assert!(second.from_ms >= first.until_ms, "{second:?} after {first:?}");
    assert!(second.epoch > first.epoch);
    assert_eq!(
        nodes.renew(&first, NOW_MS + 60_000).await.unwrap(),
        None,
        "a lease that was lost was renewed"
    );
    nodes.release(&first, 0).await.unwrap();
    let kept = nodes.renew(&second, NOW_MS + 8_500).await.unwrap();
    assert!(
        kept.is_some(),
        "a lease that was lost was given back, and took the next holder's with it"
    );
}

async fn a_lease_that_ran_out_and_that_nobody_took_goes_on<N: NodeIds>(nodes: &N) {
    let lease = claim(nodes, NOW_MS).await;
    // Time is the subject here, and nobody may look whether the lease is over: whoever claims it has taken it.
    tokio::time::sleep(LASTS * 2).await;
    let renewed = nodes.renew(&lease, NOW_MS + 9_000).await.unwrap();
    assert_eq!(renewed.map(|lease| lease.until_ms), Some(NOW_MS + 9_000));
}

async fn what_is_given_back_can_be_had_at_once_from_where_it_ended<N: NodeIds>(nodes: &N) {
    let lease = claim(nodes, NOW_MS).await;
    nodes.release(&lease, NOW_MS + 3).await.unwrap();
    let next = claim_again(nodes, lease.node, NOW_MS + 3).await;
    assert_eq!(next.from_ms, NOW_MS + 3);
}

/// Whose clock is behind gets a node id that he can use, and not one whose fence lies in his future.
async fn a_node_id_whose_time_is_over_is_preferred<N: NodeIds>(nodes: &N) {
    let ahead = claim(nodes, NOW_MS + 3_600_000).await;
    nodes.release(&ahead, ahead.until_ms).await.unwrap();
    for _ in 0..20 {
        let lease = claim(nodes, NOW_MS).await;
        assert!(lease.node != ahead.node && lease.from_ms == NOW_MS, "{lease:?}");
    }
}

async fn memory() -> Fixture<MemoryNodes<SystemClock>> {
    Fixture::new(MemoryNodes::new(NODES, LASTS, SystemClock))
}

async fn postgres() -> Fixture<PostgresNodes> {
    let migrations = stages::migrations_of_leases();
    let db = stores::Postgres::open(&engines::postgres(), 2, &migrations, &Ledger::new()).await;
    Fixture::new(PostgresNodes::open(db.unwrap(), &Layout::TWITTER, LASTS).await.unwrap())
}

async fn redis() -> Fixture<RedisNodes> {
    let redis = stores::Redis::open(&engines::redis(), &Ledger::new()).await.unwrap();
    Fixture::new(RedisNodes::open(redis, &Layout::TWITTER, LASTS).await.unwrap())
}

testkit::contract! {
    cases: [
        no_two_have_one_node_id,
        a_loan_covers_what_was_asked_for,
        a_renewal_moves_the_fence_forward_and_never_back,
        the_next_holder_begins_where_the_last_one_ends,
        a_lease_that_ran_out_and_that_nobody_took_goes_on,
        what_is_given_back_can_be_had_at_once_from_where_it_ended,
        a_node_id_whose_time_is_over_is_preferred,
    ],
    memory,
    postgres,
    redis,
}

/// Lends without a fence: the next holder begins at his own clock.
struct Unfenced(MemoryNodes<SystemClock>);

impl NodeIds for Unfenced {
    fn lasts(&self) -> Option<Duration> {
        self.0.lasts()
    }

    async fn claim(&self, clock_ms: u64, reach_ms: u64) -> Result<Option<Lease>, Error> {
        let lease = self.0.claim(clock_ms, reach_ms).await?;
        Ok(lease.map(|lease| Lease {
            from_ms: clock_ms,
            ..lease
        }))
    }

    async fn renew(&self, lease: &Lease, until_ms: u64) -> Result<Option<Lease>, Error> {
        self.0.renew(lease, until_ms + 1).await
    }

    async fn release(&self, lease: &Lease, until_ms: u64) -> Result<(), Error> {
        self.0.release(lease, until_ms).await
    }
}

#[test]
#[should_panic(expected = "after Lease")]
fn a_store_without_a_fence_breaks_the_contract() {
    testkit::contract::run(async {
        let nodes = Unfenced(MemoryNodes::new(1, LASTS, SystemClock));
        the_next_holder_begins_where_the_last_one_ends(&nodes).await;
    });
}

/// A Redis that lost its data begins anew, with the same node ids. Were their epochs the same too, the old holder and the new
/// one would both renew, for ever.
#[test]
fn a_redis_that_forgot_everything_gives_no_epoch_again() {
    testkit::contract::run(async {
        let url = engines::redis();
        let redis = stores::Redis::open(&url, &Ledger::new()).await.unwrap();
        let nodes = RedisNodes::open(redis, &Layout::TWITTER, LASTS).await.unwrap();
        let old = claim(&nodes, NOW_MS).await;
        let client = ::redis::Client::open(url).unwrap();
        let () = ::redis::cmd("FLUSHDB")
            .query(&mut client.get_connection().unwrap())
            .unwrap();
        let new = claim(&nodes, NOW_MS).await;
        assert_eq!(new.node, old.node);
        assert_eq!(nodes.renew(&old, NOW_MS + 9_000).await.unwrap(), None);
        assert!(nodes.renew(&new, NOW_MS + 9_000).await.unwrap().is_some());
    });
}
