//! The contract of `Ids`: exactly as many as asked for, greater than those before, and never one twice.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use id_generator::adapters::{Counter, FixedNode, Flake, MemoryNodes, PostgresNodes, Ranges, RedisNodes, TicketRow};
use id_generator::domain::{Count, Error};
use id_generator::layout::Layout;
use id_generator::ports::{Ids, NodeIds};
use id_generator::stages;
use ledger::Ledger;
use service::{Lifecycle, SystemClock};
use testkit::contract::Fixture;
use testkit::engines;

/// Small, so that the seams between blocks are met.
const BLOCK: u32 = 7;
const LEASE: Duration = Duration::from_secs(10);

fn count(count: u32) -> Count {
    Count::new(count).unwrap()
}

async fn gives_exactly_as_many_as_asked_for<I: Ids>(ids: &I) {
    for wanted in [1, 2, 20, 1_000, 10_000] {
        let given = ids.next(count(wanted)).await.unwrap();
        assert_eq!(given.len(), wanted as usize);
        assert!(given.is_sorted_by(|a, b| a < b), "{wanted} ids are not in order");
    }
}

async fn each_answer_is_greater_than_those_before<I: Ids>(ids: &I) {
    let mut last = 0;
    for wanted in [1, 3, 1, 50, 1, 9, 5_000, 1, 1].into_iter().cycle().take(200) {
        let given = ids.next(count(wanted)).await.unwrap();
        assert!(given[0] > last, "{} after {last}", given[0]);
        last = *given.last().unwrap();
    }
}

async fn many_at_once_never_get_one_id_twice<I: Ids>(ids: &I) {
    let one = |turn: u32| async move {
        let mut given = Vec::new();
        for wanted in [1, 2 + turn, 1, 40] {
            given.extend(ids.next(count(wanted)).await.unwrap());
        }
        given
    };
    let mut given = all((0..32).map(one)).await.concat();
    let made = given.len();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), made, "an id came twice");
}

/// Whoever hangs up loses numbers, and nobody gets them a second time.
async fn those_who_hang_up_double_nothing<I: Ids>(ids: &I) {
    let mut given = Vec::new();
    for turn in 0..50 {
        let asked = ids.next(count(1 + turn));
        if turn % 2 == 0 {
            // Dropped at its first wait, if it has one.
            if let Ok(came) = tokio::time::timeout(Duration::ZERO, asked).await {
                given.extend(came.unwrap());
            }
        } else {
            given.extend(asked.await.unwrap());
        }
    }
    assert!(given.is_sorted_by(|a, b| a < b), "an id came twice or went back");
}

/// Waits for all of them, at once.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if waiting.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

async fn sqlite(folder: &tempfile::TempDir) -> stores::Sqlite {
    let file = folder.path().join("ids.db");
    stores::Sqlite::open(&file, &stages::migrations(), &Ledger::new())
        .await
        .unwrap()
}

async fn flake<N: NodeIds>(nodes: N, kept: impl std::any::Any) -> Fixture<Flake<N, SystemClock>> {
    let lifecycle = Lifecycle::new();
    let started = Flake::start(nodes, Layout::TWITTER, LEASE, SystemClock, &lifecycle, &Ledger::new()).await;
    Fixture::keeping(started.unwrap(), (kept, lifecycle))
}

async fn memory() -> Fixture<Counter> {
    Fixture::new(Counter::default())
}

async fn ticket_row() -> Fixture<TicketRow> {
    let folder = tempfile::tempdir().unwrap();
    Fixture::keeping(TicketRow::new(sqlite(&folder).await), folder)
}

async fn ranges() -> Fixture<Ranges> {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let ranges = Ranges::new(sqlite(&folder).await, BLOCK, &lifecycle, &Ledger::new());
    Fixture::keeping(ranges, (folder, lifecycle))
}

async fn snowflake() -> Fixture<Flake<FixedNode, SystemClock>> {
    let folder = tempfile::tempdir().unwrap();
    let db = sqlite(&folder).await;
    let lock = folder.path().join("node.lock");
    flake(FixedNode::open(db, &Layout::TWITTER, 7, &lock).await.unwrap(), folder).await
}

async fn leased_from_memory() -> Fixture<Flake<MemoryNodes<SystemClock>, SystemClock>> {
    flake(MemoryNodes::new(4, LEASE, SystemClock), ()).await
}

async fn leased_from_postgres() -> Fixture<Flake<PostgresNodes, SystemClock>> {
    let migrations = stages::migrations_of_leases();
    let db = stores::Postgres::open(&engines::postgres(), 2, &migrations, &Ledger::new()).await;
    flake(
        PostgresNodes::open(db.unwrap(), &Layout::TWITTER, LEASE).await.unwrap(),
        (),
    )
    .await
}

async fn leased_from_redis() -> Fixture<Flake<RedisNodes, SystemClock>> {
    let redis = stores::Redis::open(&engines::redis(), &Ledger::new()).await.unwrap();
    flake(RedisNodes::open(redis, &Layout::TWITTER, LEASE).await.unwrap(), ()).await
}

testkit::contract! {
    cases: [
        gives_exactly_as_many_as_asked_for,
        each_answer_is_greater_than_those_before,
        many_at_once_never_get_one_id_twice,
        those_who_hang_up_double_nothing,
    ],
    memory,
    ticket_row,
    ranges,
    snowflake,
    leased_from_memory,
    leased_from_postgres,
    leased_from_redis,
}

/// Reads, waits, and writes: what a `SELECT` and an `UPDATE` in two statements do.
#[derive(Default)]
struct ReadThenWrite(AtomicU64);

impl Ids for ReadThenWrite {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        let first = self.0.load(Ordering::SeqCst) + 1;
        tokio::task::yield_now().await;
        self.0.store(first + u64::from(count.get()), Ordering::SeqCst);
        Ok((first..first + u64::from(count.get())).collect())
    }
}

#[test]
#[should_panic(expected = "an id came twice")]
fn ids_that_are_read_and_written_in_two_steps_break_the_contract() {
    testkit::contract::run(async { many_at_once_never_get_one_id_twice(&ReadThenWrite::default()).await });
}

/// Gives one too few where many are asked for.
struct Short(Counter);

impl Ids for Short {
    async fn next(&self, count: Count) -> Result<Vec<u64>, Error> {
        let mut given = self.0.next(count).await?;
        given.truncate(9_999);
        Ok(given)
    }
}

#[test]
#[should_panic(expected = "assertion")]
fn an_answer_that_is_short_breaks_the_contract() {
    testkit::contract::run(async { gives_exactly_as_many_as_asked_for(&Short(Counter::default())).await });
}
