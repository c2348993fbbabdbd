//! Who gets in: a bound on the requests worked on at once, a bounded queue before it, and a quick no beyond that.
//!
//! A server that takes in more than it can finish finishes less and less, because it works on answers nobody waits for any
//! more. So the number of requests under way is capped, a few more may wait for a moment, and all others hear 503 at once,
//! while it costs almost nothing to say so. Writes are shed first: they may take only three quarters of the places, so
//! that a flood of them leaves room for reads. Streams hold a place for as long as their clients like, so they may take
//! only a quarter, and of what writes may take: whatever they do, reads have theirs and writes two of the four quarters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ledger::{Held, Ledger, Moment, Resource};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::routes::Class;
use crate::slowing::{hold, pay};

/// How long a request waits for a place. Longer, and most of those who waited would be answered too late to matter.
const PATIENCE: Duration = Duration::from_millis(50);

/// The gate's name in the ledger.
pub(crate) const RESOURCE: &str = "admission";

pub(crate) struct Admission {
    all: Semaphore,
    writes: Semaphore,
    streams: Semaphore,
    in_flight: usize,
    /// Places that outlive their request's head.
    lasting: AtomicUsize,
    queued: AtomicUsize,
    most_queued: usize,
    ledger: Resource,
}

/// A place among the requests under way; dropping it gives it up.
pub(crate) struct Place<'a> {
    class: Class,
    permits: Permits<'a>,
    held: Held<'a>,
}

/// One of each gate that a class has to pass.
type Permits<'a> = [Option<SemaphorePermit<'a>>; 3];

/// A place that goes on after its request's head is answered; given up by [`Admission::leave`] and by nothing else.
#[must_use = "the place is held until it is left"]
pub(crate) struct Lasting {
    class: Class,
    since: Moment,
}

/// Why there was no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    QueueFull,
    WaitedTooLong,
    NoStream,
}

impl Shed {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "the in-flight limit is reached and the queue is full",
            Self::WaitedTooLong => "no place came free in time",
            Self::NoStream => "there is no place for another stream",
        }
    }
}

impl Admission {
    pub(crate) fn new(in_flight: usize, most_queued: usize, ledger: &Ledger) -> Self {
        let in_flight = in_flight.min(Semaphore::MAX_PERMITS);
        let writes = in_flight.saturating_mul(3).div_ceil(4).max(1);
        Self {
            all: Semaphore::new(in_flight),
            writes: Semaphore::new(writes),
            streams: Semaphore::new((in_flight / 4).max(1)),
            in_flight,
            lasting: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            most_queued,
            ledger: ledger.resource(RESOURCE, "requests", in_flight as f64),
        }
    }

    /// Takes a place, at once or after a short wait; a stream does not wait, since those before it may stay for ever.
    pub(crate) async fn enter(&self, class: Class) -> Result<Place<'_>, Shed> {
        if let Some(permits) = self.try_permits(class) {
            return Ok(Place {
                class,
                permits,
                held: hold(&self.ledger).await,
            });
        }
        if class == Class::Stream {
            return Err(Shed::NoStream);
        }
        let _queued = self.queue()?;
        let waiting = self.ledger.wait();
        let permits = tokio::time::timeout(PATIENCE, self.permits(class)).await;
        match permits {
            Ok(Some(permits)) => {
                let mut held = waiting.enter();
                pay(&mut held).await;
                Ok(Place { class, permits, held })
            }
            _ => Err(Shed::WaitedTooLong),
        }
    }

    /// Gives up a place that outlived its request's head, and says how long it was held.
    pub(crate) fn leave(&self, place: Lasting) -> Duration {
        self.lasting.fetch_sub(1, Ordering::Relaxed);
        for gate in self.gates(place.class).into_iter().flatten() {
            gate.add_permits(1);
        }
        self.ledger.end_hold(place.since)
    }

    /// Keeps a place beyond its request's head, for the stream that follows.
    pub(crate) fn keep(&self, place: Place<'_>) -> Lasting {
        self.lasting.fetch_add(1, Ordering::Relaxed);
        for permit in place.permits.into_iter().flatten() {
            permit.forget();
        }
        Lasting {
            class: place.class,
            since: place.held.outlive(),
        }
    }

    /// How many requests are being worked on whose head is not answered.
    pub(crate) fn under_way(&self) -> usize {
        let taken = self.in_flight.saturating_sub(self.all.available_permits());
        taken.saturating_sub(self.lasting.load(Ordering::Relaxed))
    }

    /// The gates that a class passes, the narrowest first: who waits there takes nobody's place.
    fn gates(&self, class: Class) -> [Option<&Semaphore>; 3] {
        match class {
            Class::Read => [None, None, Some(&self.all)],
            Class::Write | Class::Bulk => [None, Some(&self.writes), Some(&self.all)],
            Class::Stream => [Some(&self.streams), Some(&self.writes), Some(&self.all)],
        }
    }

    fn try_permits(&self, class: Class) -> Option<Permits<'_>> {
        let mut permits = Permits::default();
        for (permit, gate) in permits.iter_mut().zip(self.gates(class)) {
            *permit = gate.map(Semaphore::try_acquire).transpose().ok()?;
        }
        Some(permits)
    }

    async fn permits(&self, class: Class) -> Option<Permits<'_>> {
        let mut permits = Permits::default();
        for (permit, gate) in permits.iter_mut().zip(self.gates(class)) {
            if let Some(gate) = gate {
                *permit = Some(gate.acquire().await.ok()?);
            }
        }
        Some(permits)
    }

    fn queue(&self) -> Result<Queued<'_>, Shed> {
        let joined = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                (queued < self.most_queued).then_some(queued + 1)
            });
        joined.map(|_| Queued(&self.queued)).map_err(|_| Shed::QueueFull)
    }
}

impl Place<'_> {
    /// Gives the place up and says how long it was held.
    pub(crate) fn leave(self) -> Duration {
        self.held.leave()
    }
}

/// A place in the queue, given up on drop: also when the client goes away while it waits.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_cap_one_waits_and_the_next_is_shed_at_once() {
        let gate = Admission::new(1, 1, &Ledger::new());
        let first = gate.enter(Class::Read).await.ok().unwrap();
        let (second, third) = tokio::join!(gate.enter(Class::Read), async {
            let third = gate.enter(Class::Read).await.map(drop);
            drop(first);
            third
        });
        assert!(second.is_ok());
        assert_eq!(third, Err(Shed::QueueFull));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_patience() {
        let gate = Admission::new(1, 8, &Ledger::new());
        let _first = gate.enter(Class::Read).await.ok().unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(gate.enter(Class::Read).await.map(drop), Err(Shed::WaitedTooLong));
        assert!(started.elapsed() <= PATIENCE + Duration::from_millis(1));
        assert_eq!(gate.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_writes_leaves_room_for_reads() {
        let gate = Admission::new(4, 0, &Ledger::new());
        let mut writes = Vec::new();
        while let Ok(place) = gate.enter(Class::Write).await {
            writes.push(place);
        }
        assert_eq!(writes.len(), 3);
        assert!(gate.enter(Class::Read).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_leave_room_for_writes_and_writes_for_reads() {
        let gate = Admission::new(8, 0, &Ledger::new());
        let mut places = Vec::new();
        for (class, most) in [(Class::Stream, 2), (Class::Bulk, 4), (Class::Read, 2)] {
            for _ in 0..most {
                places.push(gate.enter(class).await.ok().unwrap());
            }
            assert!(gate.enter(class).await.is_err(), "{class:?}");
        }
    }

    #[tokio::test]
    async fn a_place_that_is_kept_is_held_until_it_is_left_and_nobody_works_on_it() {
        let ledger = Ledger::new();
        let gate = Admission::new(4, 8, &ledger);
        let place = gate.enter(Class::Stream).await.ok().unwrap();
        assert_eq!(gate.under_way(), 1);
        let kept = gate.keep(place);
        assert_eq!(gate.under_way(), 0);
        assert_eq!(gate.enter(Class::Stream).await.map(drop), Err(Shed::NoStream));
        assert_eq!(ledger.read()[0].operations, 0);
        gate.leave(kept);
        assert_eq!(ledger.read()[0].operations, 1);
        assert!(gate.enter(Class::Stream).await.is_ok());
        assert_eq!((gate.all.available_permits(), gate.writes.available_permits()), (4, 3));
    }
}
