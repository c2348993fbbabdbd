//! The pool with a store that can be told what to do: nothing is doubled, whatever fails and whoever leaves.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;

/// What becomes of a claim.
#[derive(Clone, Copy)]
enum Fate {
    Works,
    /// The mark moved, and the store does not say so.
    IsUnknown,
    FindsNoSpace,
    Panics,
}

/// Numbers from a mark, as a store would keep it.
struct Store {
    mark: AtomicUsize,
    block: usize,
    /// What becomes of the next claims; the rest work.
    fates: Mutex<Vec<Fate>>,
    asked: AtomicUsize,
    /// A claim is answered for each permit.
    answers: Semaphore,
}

impl Store {
    fn with_blocks_of(block: usize) -> Arc<Self> {
        Arc::new(Self {
            mark: AtomicUsize::new(0),
            block,
            fates: Mutex::new(Vec::new()),
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// A store that keeps its answers back until it gets permits.
    fn that_waits(block: usize, fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self {
            mark: AtomicUsize::new(0),
            block,
            fates: Mutex::new(fates.to_vec()),
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(0),
        })
    }

    async fn is_asked(&self, times: usize) {
        until(|| self.asked.load(Ordering::SeqCst) >= times).await;
    }
}

impl Blocks for Arc<Store> {
    type Item = usize;
    type Block = Range<usize>;
    type Error = Error;

    async fn claim(&self) -> Result<Range<usize>, Error> {
        let fate = self.fates.lock().unwrap().pop().unwrap_or(Fate::Works);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        match fate {
            Fate::FindsNoSpace => return Err(Error::Full(Arc::new(std::fmt::Error))),
            Fate::Panics => panic!("on purpose"),
            Fate::Works | Fate::IsUnknown => {}
        }
        let start = self.mark.fetch_add(self.block, Ordering::SeqCst);
        match fate {
            Fate::IsUnknown => Err(Error::unknown("broken off")),
            _ => Ok(start..start + self.block),
        }
    }
}

struct Server {
    pool: Arc<BlockPool<Arc<Store>>>,
    life: Lifecycle,
    ledger: Ledger,
}

fn server(store: &Arc<Store>) -> Server {
    let (life, ledger) = (Lifecycle::new(), Ledger::new());
    let pool = BlockPool::start("numbers", Arc::clone(store), &life, &ledger);
    Server {
        pool: Arc::new(pool),
        life,
        ledger,
    }
}

impl Server {
    /// Until `many` wait for a block.
    async fn has_waiting(&self, many: u64) {
        until(|| self.ledger.read()[0].backlog == many).await;
    }

    fn take(&self, count: usize) -> tokio::task::JoinHandle<Result<Vec<usize>, Error>> {
        let pool = Arc::clone(&self.pool);
        tokio::spawn(async move { pool.take(count).await })
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn across_the_seam_of_two_blocks_exactly_as_many_come_in_order() {
    let server = server(&Store::with_blocks_of(5));
    assert_eq!(server.pool.take(3).await.unwrap(), [0, 1, 2]);
    assert_eq!(server.pool.take(4).await.unwrap(), [3, 4, 5, 6]);
    assert_eq!(server.pool.next().await.unwrap(), 7);
    assert!(server.pool.take(0).await.unwrap().is_empty());
    // More than two blocks, and then none is claimed before it is needed.
    assert_eq!(server.pool.take(12).await.unwrap(), (8..20).collect::<Vec<_>>());
    let row = &server.ledger.read()[0];
    assert_eq!((row.name, row.operations, row.backlog), ("numbers", 4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_takers_of_small_blocks_get_exactly_what_they_ask_for_and_nothing_twice() {
    let store = Store::with_blocks_of(3);
    let server = server(&store);
    let takers: Vec<_> = (1..=40).map(|count| (count, server.take(count))).collect();
    let mut given = HashSet::new();
    for (count, taker) in takers {
        let items = taker.await.unwrap().unwrap();
        assert_eq!(items.len(), count);
        assert!(items.is_sorted(), "{items:?}");
        for item in items {
            assert!(given.insert(item), "{item} was given twice");
        }
    }
    // A crash now would lose what is left of one block.
    let lost = store.mark.load(Ordering::SeqCst) - given.len();
    assert!(lost < 3, "{lost} numbers are claimed and not given");
}

#[tokio::test]
async fn a_claim_that_fails_is_told_to_all_who_wait_and_the_next_works() {
    let store = Store::that_waits(4, &[Fate::FindsNoSpace]);
    let server = server(&store);
    let waiting = [server.take(1), server.take(2), server.take(9)];
    server.has_waiting(3).await;
    store.answers.add_permits(1);
    for taker in waiting {
        let refused = taker.await.unwrap();
        assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    }
    store.answers.add_permits(10);
    assert_eq!(server.pool.take(5).await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_claim_of_unknown_outcome_was_not_done_for_those_who_wait_and_doubles_nothing() {
    let store = Store::that_waits(4, &[Fate::IsUnknown, Fate::Works]);
    let server = server(&store);
    let taker = server.take(6);
    // It has the first four by the time the second claim breaks off.
    store.answers.add_permits(2);
    let refused = taker.await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    store.answers.add_permits(10);
    // The block that was lost on the way is not handed out, nor are the four that were taken.
    assert_eq!(server.pool.take(3).await.unwrap(), [8, 9, 10]);
}

#[tokio::test]
async fn a_caller_who_leaves_during_a_claim_loses_no_block() {
    let store = Store::that_waits(4, &[]);
    let server = server(&store);
    let leaver = server.take(2);
    store.is_asked(1).await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    store.answers.add_permits(1);
    assert_eq!(server.pool.take(3).await.unwrap(), [0, 1, 2]);
    assert_eq!(store.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.ledger.read()[0].backlog, 0);
}

#[tokio::test]
async fn once_nobody_claims_any_more_what_is_left_is_given_and_then_an_answer() {
    let server = server(&Store::with_blocks_of(2));
    assert_eq!(server.pool.next().await.unwrap(), 0);
    assert!(server.life.stop(Duration::from_secs(5)).await);
    assert_eq!(server.pool.next().await.unwrap(), 1);
    let refused = server.pool.next().await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_claim_that_panics_leaves_nobody_waiting() {
    let store = Store::that_waits(2, &[Fate::Panics]);
    let server = server(&store);
    let waiting = [server.take(1), server.take(1)];
    server.has_waiting(2).await;
    store.answers.add_permits(1);
    for taker in waiting {
        let refused = taker.await.unwrap();
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    until(|| server.life.is_broken()).await;
}
