//! A deadline that costs nothing while it is not needed, and a net under panics.
//!
//! Most requests are answered at their first poll, from memory. A timer for each of them would be armed and disarmed for
//! nothing, so this one is armed only when the work is first seen to wait.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The work was dropped where it stood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CutOff {
    /// It was not done in time.
    Late,
    /// It panicked.
    Panicked,
}

/// Does `work`, but gives up `limit` after it first had to wait. A panic in it ends nothing else.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, CutOff> {
    let mut work = pin!(work);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(move |cx| {
        // After a panic the work is never polled again, so nobody sees it half changed.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Err(CutOff::Panicked)),
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).map(|()| Err(CutOff::Late))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_too_long_is_dropped() {
        let never = within(Duration::from_secs(2), std::future::pending::<()>());
        assert_eq!(never.await, Err(CutOff::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_time_is_done() {
        let work = async {
            sleep(Duration::from_secs(1)).await;
            7
        };
        assert_eq!(within(Duration::from_secs(2), work).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_only() {
        let doomed = within(Duration::from_secs(2), async { panic!("on purpose") });
        assert_eq!(doomed.await.map(|()| 0), Err(CutOff::Panicked));
    }
}
