//! Background tasks that start with the service and end with it.
//!
//! A refill, a flush, a group commit: each is started through [`Lifecycle::spawn`], is told when to stop, and is waited
//! for. They stop *after* the last request was answered, so that what a request left to them still gets done. A task that
//! ends before it was told to, by a panic or otherwise, makes the service unready: a server whose flush died quietly is
//! worse than one that is gone.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts background tasks, and stops them when the service ends. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    tasks: TaskTracker,
    stop: CancellationToken,
    broken: Arc<AtomicBool>,
}

/// Tells a background task when to stop.
#[derive(Clone, Debug)]
pub struct Stopping(CancellationToken);

impl Lifecycle {
    /// A lifecycle of its own, for tests and tools; a service has one already.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a background task. It must return soon after [`Stopping::requested`] does, its work flushed.
    pub fn spawn<F>(&self, name: &'static str, task: impl FnOnce(Stopping) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = tokio::spawn(task(Stopping(self.stop.clone())));
        let stop = self.stop.clone();
        let broken = Arc::clone(&self.broken);
        self.tasks.spawn(async move {
            let ended = work.await;
            if ended.is_err() || !stop.is_cancelled() {
                broken.store(true, Ordering::Release);
                tracing::error!(task = name, result = ?ended, "a background task ended on its own: the service is unready");
            }
        });
    }

    /// Tells all tasks to stop and waits for them, at most `patience` long. Says whether all of them ended well.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(patience, self.tasks.wait()).await;
        ended.is_ok() && !self.is_broken()
    }

    /// Whether a task ended that should not have.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl Stopping {
    /// Waits until the task is to stop.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Waits for `pause`, or until the task is to stop; says whether to go on.
    pub async fn pause(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.requested()).await.is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_gets_to_finish_its_work_before_the_service_ends() {
        let life = Lifecycle::new();
        let flushed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&flushed);
        life.spawn("flush", |stopping| async move {
            stopping.requested().await;
            flag.store(true, Ordering::Release);
        });
        assert!(life.stop(Duration::from_secs(5)).await);
        assert!(flushed.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_noticed() {
        let life = Lifecycle::new();
        life.spawn("doomed", |_| async { panic!("on purpose") });
        while !life.is_broken() {
            tokio::task::yield_now().await;
        }
        assert!(!life.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_does_not_hold_up_the_end() {
        let life = Lifecycle::new();
        life.spawn("stubborn", |_| std::future::pending());
        assert!(!life.stop(Duration::from_millis(10)).await);
    }
}
