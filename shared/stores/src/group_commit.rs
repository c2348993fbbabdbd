//! Group commit: many writers, one fsync, each answered after its own commit.
//!
//! # The problem
//!
//! A durable write waits for the disk to say that it has it. A disk says so perhaps two thousand times a second, however
//! little is written each time: one commit a request means no more requests than that.
//!
//! # The idea
//!
//! While one commit is on its way to the disk, other writers arrive. Let them wait for the *next* commit, together. A
//! commit of a hundred rows costs hardly more than a commit of one, so the busier the server, the cheaper a write
//! (DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984, section 5).
//!
//! ```text
//! time       0        1        2        3 fsyncs
//! disk       [== A ==][= BCD =][== EF ==]
//! A arrives  ^ answered at 1
//! B, C, D      ^ ^ ^  arrive during A's commit; all answered at 2
//! E, F                  ^ ^  arrive during that one; answered at 3
//! ```
//!
//! Nobody is answered before *its own* commit is done, so nothing acknowledged can be lost.
//!
//! # Gathering
//!
//! Answering a batch wakes its writers, whose next requests come back a moment later. A commit that starts at once takes
//! only the first few of them, and the rest pay a whole commit more. So after the first write arrives, the committer yields
//! to the runtime, which lets requests that are ready reach the queue, until yielding twice brings nothing new. Under load
//! batches grow several times; a lone writer loses two passes through the scheduler, microseconds.
//!
//! # What it costs
//!
//! A write waits for up to one commit before its own. Batches are bounded, and so is the queue: a writer that finds it full
//! waits in its own request, where the deadline and the admission gate see it.

use std::future::Future;

use ledger::{Ledger, Moment, Resource};
use service::Lifecycle;
use tokio::sync::{mpsc, oneshot};

/// Writes that wait for the next commit, at the most.
const QUEUE: usize = 4_096;

/// Gathers writes of type `T` into batches and hands each its own reply of type `R`. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T, R> {
    queue: mpsc::Sender<Write<T, R>>,
    resource: Resource,
}

#[derive(Debug)]
struct Write<T, R> {
    operation: T,
    reply: oneshot::Sender<R>,
    since: Moment,
}

/// Why a write has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The service is ending; the write was not begun.
    #[error("the service is ending")]
    Ending,
    /// The committer broke off; the write may have been done.
    #[error("the commit broke off")]
    BrokenOff,
}

impl<T: Send + 'static, R: Send + 'static> GroupCommit<T, R> {
    /// Starts the committer. `commit` makes a batch durable as a whole and returns one reply for each write, in order. A
    /// batch has at most `most` writes; batches never overlap.
    ///
    /// In the ledger: `group_commit`, busy while a batch is committed, waited for until one's own batch begins.
    pub fn start<C, F>(most: usize, lifecycle: &Lifecycle, ledger: &Ledger, commit: C) -> Self
    where
        C: Fn(Vec<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let (queue, writes) = mpsc::channel(QUEUE);
        let resource = ledger.resource("group_commit", "committers", 1.0);
        let committer = Committer {
            writes,
            most,
            resource: resource.clone(),
        };
        lifecycle.spawn("group commit", |stopping| async move {
            committer.run(commit, stopping).await;
        });
        Self { queue, resource }
    }

    /// Hands over a write and waits until its commit is done. If the caller goes away before the write's batch begins, it
    /// is left out.
    ///
    /// # Errors
    /// [`Refused`], which says whether the write may have been done.
    pub async fn submit(&self, operation: T) -> Result<R, Refused> {
        let (reply, answer) = oneshot::channel();
        let permit = self.queue.reserve().await.map_err(|_| Refused::Ending)?;
        permit.send(Write {
            operation,
            reply,
            since: self.resource.begin_wait(),
        });
        answer.await.map_err(|_| Refused::BrokenOff)
    }
}

impl<T, R> Clone for GroupCommit<T, R> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            resource: self.resource.clone(),
        }
    }
}

struct Committer<T, R> {
    writes: mpsc::Receiver<Write<T, R>>,
    most: usize,
    resource: Resource,
}

impl<T, R> Committer<T, R> {
    /// Commits batch after batch; once told to stop, those still queued too.
    async fn run<C, F>(mut self, commit: C, stopping: service::Stopping)
    where
        C: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<R>>,
    {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                taken = self.writes.recv_many(&mut batch, self.most) => if taken == 0 { return },
                () = stopping.requested(), if !self.writes.is_closed() => {
                    self.writes.close();
                    continue;
                }
            }
            self.gather(&mut batch).await;
            self.commit(batch, &commit).await;
        }
    }

    /// Adds writes that are about to arrive, until yielding twice brings none.
    async fn gather(&mut self, batch: &mut Vec<Write<T, R>>) {
        let mut quiet = 0;
        while quiet < 2 && batch.len() < self.most {
            tokio::task::yield_now().await;
            let before = batch.len();
            while batch.len() < self.most {
                match self.writes.try_recv() {
                    Ok(write) => batch.push(write),
                    Err(_) => break,
                }
            }
            quiet = if batch.len() == before { quiet + 1 } else { 0 };
        }
    }

    async fn commit<C, F>(&self, batch: Vec<Write<T, R>>, commit: &C)
    where
        C: Fn(Vec<T>) -> F,
        F: Future<Output = Vec<R>>,
    {
        let (mut operations, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for write in batch {
            self.resource.end_wait(write.since);
            // Nobody waits for it any more, and it has not begun.
            if !write.reply.is_closed() {
                operations.push(write.operation);
                replies.push(write.reply);
            }
        }
        if operations.is_empty() {
            return;
        }
        let mut held = service::hold(&self.resource).await;
        held.serves(operations.len() as u64);
        let answers = commit(operations).await;
        drop(held);
        for (reply, answer) in replies.into_iter().zip(answers) {
            // A caller who left in the meantime does not want to know.
            let _ = reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn writes_that_arrive_together_share_a_commit_and_get_their_own_replies() {
        let (life, ledger) = (Lifecycle::new(), Ledger::new());
        let commits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&commits);
        let group = GroupCommit::start(1_000, &life, &ledger, move |batch: Vec<u32>| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { batch.into_iter().map(|n| n * 2).collect() }
        });
        let writers: Vec<_> = (0..100_u32)
            .map(|n| {
                let group = group.clone();
                tokio::spawn(async move { assert_eq!(group.submit(n).await, Ok(n * 2)) })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(commits.load(Ordering::Relaxed) < 100);
        let row = &ledger.read()[0];
        assert_eq!((row.operations, row.backlog), (100, 0));
    }

    #[tokio::test]
    async fn nobody_is_answered_before_its_own_commit_is_done() {
        let (life, ledger) = (Lifecycle::new(), Ledger::new());
        let disk = Arc::new(Semaphore::new(0));
        let fsync = Arc::clone(&disk);
        let group = GroupCommit::start(10, &life, &ledger, move |batch: Vec<()>| {
            let fsync = Arc::clone(&fsync);
            async move {
                fsync.acquire().await.unwrap().forget();
                batch
            }
        });
        let write = group.submit(());
        tokio::pin!(write);
        tokio::select! {
            biased;
            _ = &mut write => panic!("answered before the commit"),
            () = async { for _ in 0..50 { tokio::task::yield_now().await } } => {}
        }
        disk.add_permits(1);
        assert_eq!(write.await, Ok(()));
    }

    #[tokio::test]
    async fn a_write_whose_caller_left_before_its_batch_is_not_done() {
        let (life, ledger) = (Lifecycle::new(), Ledger::new());
        let done = Arc::new(Mutex::new(Vec::<u32>::new()));
        let disk = Arc::new(Semaphore::new(0));
        let (log, fsync) = (Arc::clone(&done), Arc::clone(&disk));
        let group = GroupCommit::start(10, &life, &ledger, move |batch: Vec<u32>| {
            let (log, fsync) = (Arc::clone(&log), Arc::clone(&fsync));
            async move {
                fsync.acquire().await.unwrap().forget();
                log.lock().unwrap().extend(&batch);
                batch
            }
        });
        let first = tokio::spawn({
            let group = group.clone();
            async move { group.submit(1).await }
        });
        while ledger.read()[0].backlog > 0 || Arc::strong_count(&disk) < 3 {
            tokio::task::yield_now().await;
        }
        // The first is being committed; this one queues behind it and gives up.
        assert!(
            tokio::time::timeout(Duration::from_millis(1), group.submit(2))
                .await
                .is_err()
        );
        disk.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(group.submit(3).await, Ok(3));
        assert_eq!(*done.lock().unwrap(), [1, 3]);
    }

    #[tokio::test]
    async fn at_the_end_what_is_queued_is_committed_and_nothing_more_is_taken() {
        let (life, ledger) = (Lifecycle::new(), Ledger::new());
        let group = GroupCommit::start(2, &life, &ledger, |batch: Vec<u32>| async move { batch });
        let queued: Vec<_> = (0..9)
            .map(|n| {
                let group = group.clone();
                tokio::spawn(async move { group.submit(n).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(life.stop(Duration::from_secs(5)).await);
        for (n, write) in (0..).zip(queued) {
            assert_eq!(write.await.unwrap(), Ok(n));
        }
        assert_eq!(group.submit(7).await, Err(Refused::Ending));
    }

    #[tokio::test]
    async fn a_committer_that_dies_leaves_its_writers_an_unknown_outcome() {
        let (life, ledger) = (Lifecycle::new(), Ledger::new());
        let group = GroupCommit::start(10, &life, &ledger, |_: Vec<()>| async { panic!("on purpose") });
        let group: GroupCommit<(), ()> = group;
        assert_eq!(group.submit(()).await, Err(Refused::BrokenOff));
        assert!(!life.stop(Duration::from_secs(5)).await);
    }
}
