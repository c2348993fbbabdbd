//! What the faults are made of: a remote place that takes its time without taking the CPU, and work that does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ledger::{Held, Resource};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// A place beyond the network: a call takes as long as it is told to, and no CPU here. The runtime's own timers tick in
/// milliseconds, too coarse for a fast store, so a thread keeps the time.
#[derive(Debug)]
pub(crate) struct Remote {
    calls: Sender<Call>,
}

type Call = (Instant, oneshot::Sender<()>);

impl Remote {
    /// Starts the thread.
    pub(crate) fn new() -> Self {
        let (calls, queue) = channel();
        thread::spawn(move || answer(&queue));
        Self { calls }
    }

    /// A call that is answered after `time`.
    pub(crate) async fn call(&self, time: Duration) {
        let (answer, answered) = oneshot::channel();
        // Neither end goes away while the process lives.
        let _ = self.calls.send((Instant::now() + time, answer));
        let _ = answered.await;
    }
}

/// Answers each call when its time has come.
fn answer(queue: &Receiver<Call>) {
    let mut calls: Vec<Option<oneshot::Sender<()>>> = Vec::new();
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut free: Vec<usize> = Vec::new();
    loop {
        let wait = due.peek().map_or(Duration::from_secs(1), |Reverse((at, _))| {
            at.saturating_duration_since(Instant::now())
        });
        match queue.recv_timeout(wait) {
            Ok((at, call)) => {
                let place = free.pop().unwrap_or_else(|| {
                    calls.push(None);
                    calls.len() - 1
                });
                calls[place] = Some(call);
                due.push(Reverse((at, place)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, place))) = due.pop() {
                // Who hung up does not want to know.
                if let Some(call) = calls[place].take() {
                    let _ = call.send(());
                }
                free.push(place);
            }
        }
    }
}

/// A bounded number of something, whose every hold and wait is in the ledger: a pool, a lock.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    resource: Resource,
}

/// A place, held until dropped.
pub(crate) struct Pass<'a> {
    _held: Held<'a>,
    _place: Option<SemaphorePermit<'a>>,
}

impl Gate {
    pub(crate) fn new(places: u32, resource: Resource) -> Self {
        Self {
            places: Semaphore::new(places as usize),
            resource,
        }
    }

    /// A place, at once or after a wait.
    pub(crate) async fn enter(&self) -> Pass<'_> {
        if let Ok(place) = self.places.try_acquire() {
            return Pass {
                _held: service::hold(&self.resource).await,
                _place: Some(place),
            };
        }
        let waiting = self.resource.wait();
        // Never closed.
        let place = self.places.acquire().await.ok();
        let mut held = waiting.enter();
        service::pay(&mut held).await;
        Pass {
            _held: held,
            _place: place,
        }
    }
}

/// Works for so much CPU time of this thread.
pub(crate) fn spin(work: Duration) {
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let end = used() + work;
    while used() < end {
        std::hint::spin_loop();
    }
}
