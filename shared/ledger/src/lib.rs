//! The ledger: who is busy, who waits, and how much there is.
//!
//! A *resource* is anything a request can wait for: a database writer, a pool of connections, a block of keys, a lock, a
//! CPU. The ledger keeps three counters and one gauge for each:
//!
//! | kept          | is                                                        | answers                  |
//! |---------------|-----------------------------------------------------------|--------------------------|
//! | operations    | how many times it was used                                | how much work            |
//! | busy time     | how long it was held, added up over all holders           | how full                 |
//! | wait time     | how long those who could not have it at once stood there  | how much it hurts        |
//! | backlog       | how many stand there now                                  | whether the queue grows  |
//!
//! Two readings of these, an interval apart, are all that the USE method (Gregg, "Thinking Methodically about
//! Performance", 2012) and the operational laws (Denning and Buzen, 1978) ask for:
//!
//! ```text
//! utilisation  U = busy / (interval x capacity)       full when it nears 1
//! saturation     = wait / interval                    how many stood waiting, on average
//! demand       D = busy / completed requests          what one request costs this resource
//! ceiling      X = capacity / D                       no more requests a second than this
//! ```
//!
//! # Walk-through
//!
//! One writer, three requests that each hold it for 2 ms, arriving together. Read after 10 ms:
//!
//! ```text
//! time      0    1    2    3    4    5    6    7    8    9   10 ms
//! request 1 [== held ==]
//! request 2 .. waits ..[== held ==]
//! request 3 ...... waits ........[== held ==]
//!
//! operations 3, busy 6 ms, wait 0 + 2 + 4 = 6 ms
//! utilisation 6 / (10 x 1) = 0.6; demand 2 ms; ceiling 500 requests a second
//! ```
//!
//! # What it costs
//!
//! Measuring must not become the bottleneck it looks for. Entering and leaving reads the cycle counter twice and does two
//! additions; a third reading is taken only by those who waited. The additions go to counters that belong to the running
//! thread alone, so that two cores never fight over a cache line and no locked instruction is needed. `benches/micro`
//! measures all of it, beside the clock's own cost.
//!
//! # Slowing
//!
//! For proofs a resource can be slowed: held for a multiple of its work, see `slowing`. A holder asks [`Held::owes`] when it
//! has entered, and keeps still for that long.
//!
//! # Left out
//!
//! No histograms (a mean demand and a utilisation name the full resource; the lab has the latencies), no labels, no HTTP
//! and no async types: whoever holds a resource says so, however it came by it.

mod counters;
mod slowing;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use counters::Counters;
use slowing::Slowing;

/// All resources of one process. Cheap to clone: every clone is the same ledger.
#[derive(Clone, Default)]
pub struct Ledger {
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// Resources that are entered and left, and those that somebody else already counts.
enum Entry {
    Counted(Resource),
    Sampled(Sampled),
}

struct Sampled {
    name: &'static str,
    unit: &'static str,
    sample: Box<dyn Fn() -> Sample + Send + Sync>,
}

/// What a sampled resource says of itself when the ledger is read (see [`Ledger::sampled`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How much of it there is, in the resource's unit.
    pub capacity: f64,
    /// Operations since the process started.
    pub operations: u64,
    /// Busy time since the process started, in seconds, added up over all units.
    pub busy_seconds: f64,
}

/// One resource as read at one moment. Counters only ever grow; subtract two readings to get an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name by which a verdict calls it, such as `sqlite_writer`.
    pub name: &'static str,
    /// What the capacity counts: `connections`, `cores`, `requests`.
    pub unit: &'static str,
    /// How many can hold it at once.
    pub capacity: f64,
    /// How often it was used.
    pub operations: u64,
    /// How long it was held, in seconds, added up over all holders. A hold counts when it ends.
    pub busy_seconds: f64,
    /// How long holders had to wait for it, in seconds, added up. A wait counts when it ends.
    pub wait_seconds: f64,
    /// How many wait for it at this moment.
    pub backlog: u64,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a resource of which `capacity` units exist. Declaring a name again gives the resource that has it, so
    /// that two adapters over one pool share one line.
    #[must_use]
    pub fn resource(&self, name: &'static str, unit: &'static str, capacity: f64) -> Resource {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().find_map(|entry| match entry {
            Entry::Counted(resource) if resource.inner.name == name => Some(resource.clone()),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let resource = Resource::new(name, unit, capacity);
            entries.push(Entry::Counted(resource.clone()));
            resource
        })
    }

    /// Declares a resource that is counted elsewhere, such as the CPU, which the kernel counts: `sample` is called at each
    /// reading and gives its totals.
    pub fn sampled(&self, name: &'static str, unit: &'static str, sample: impl Fn() -> Sample + Send + Sync + 'static) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry::Sampled(Sampled {
            name,
            unit,
            sample: Box::new(sample),
        }));
    }

    /// Stretches every hold of a resource from now on: each lasts `factor` times as long as its work takes, on average.
    /// 1 ends it. For proofs: a server that sets its pace by this resource slows with it, and no other does.
    ///
    /// A holder has to do its part ([`Held::owes`]).
    ///
    /// # Errors
    /// No resource of that name is entered and left, or the factor is not between 1 and 1,000.
    pub fn slow(&self, name: &str, factor: f64) -> Result<(), NotSlowed> {
        if !(1.0..=1_000.0).contains(&factor) {
            return Err(NotSlowed::Factor);
        }
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = entries.iter().find_map(|entry| match entry {
            Entry::Counted(resource) if resource.inner.name == name => Some(resource),
            _ => None,
        });
        resource.ok_or(NotSlowed::Unknown)?.inner.slowing.set(factor);
        Ok(())
    }

    /// Reads every resource, in the order in which they were declared.
    #[must_use]
    pub fn read(&self) -> Vec<Row> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(Entry::read).collect()
    }
}

/// Why a resource was not slowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSlowed {
    /// There is none of that name, or it is one that is only sampled.
    Unknown,
    /// The factor is below 1, above 1,000, or no number.
    Factor,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.read()).finish()
    }
}

impl Entry {
    fn read(&self) -> Row {
        match self {
            Self::Counted(resource) => resource.read(),
            Self::Sampled(Sampled { name, unit, sample }) => {
                let sample = sample();
                Row {
                    name,
                    unit,
                    capacity: sample.capacity,
                    operations: sample.operations,
                    busy_seconds: sample.busy_seconds,
                    wait_seconds: 0.0,
                    backlog: 0,
                }
            }
        }
    }
}

/// A resource that is entered and left. Cheap to clone: every clone is the same resource.
#[derive(Clone)]
pub struct Resource {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    unit: &'static str,
    capacity: f64,
    clock: quanta::Clock,
    slowing: Slowing,
    counters: Counters,
}

/// A moment on the ledger's clock: good only for measuring distances.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

impl Resource {
    fn new(name: &'static str, unit: &'static str, capacity: f64) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                unit,
                capacity,
                clock: quanta::Clock::new(),
                slowing: Slowing::default(),
                counters: Counters::new(),
            }),
        }
    }

    /// Takes note that the resource is held from now on, without having been waited for, until the answer is dropped.
    #[must_use = "the resource counts as held until this is dropped"]
    pub fn enter(&self) -> Held<'_> {
        Held::new(self, self.now())
    }

    /// Takes note that somebody waits from now on: call it only after the first try to have the resource failed. The
    /// wait ends with [`Waiting::enter`], or with a drop where the waiter gave up; both count the time.
    #[must_use = "the wait counts until this is entered or dropped"]
    pub fn wait(&self) -> Waiting<'_> {
        Waiting {
            resource: self,
            since: self.begin_wait(),
        }
    }

    /// A wait that begins in one task and ends in another, which gets the answer and calls [`Resource::end_wait`] with it.
    #[must_use = "the wait stands in the backlog until it is ended"]
    pub fn begin_wait(&self) -> Moment {
        self.inner.counters.begin_wait();
        self.now()
    }

    /// Ends a wait; the moment at which it ended.
    pub fn end_wait(&self, since: Moment) -> Moment {
        let now = self.now();
        self.inner.counters.end_wait(now.0.saturating_sub(since.0));
        now
    }

    /// Ends a hold of one operation that outlived its borrow ([`Held::outlive`]); how long it lasted. Where the resource is
    /// slowed, it owes nothing: such a hold lasts as long as its holder likes, not as long as the work takes.
    pub fn end_hold(&self, since: Moment) -> Duration {
        let busy = self.now().0.saturating_sub(since.0);
        self.inner.counters.add_hold(1, busy);
        Duration::from_nanos(self.inner.clock.delta_as_nanos(0, busy))
    }

    fn now(&self) -> Moment {
        Moment(self.inner.clock.raw())
    }

    fn read(&self) -> Row {
        let inner = &*self.inner;
        let totals = inner.counters.read();
        Row {
            name: inner.name,
            unit: inner.unit,
            capacity: inner.capacity,
            operations: totals.operations,
            busy_seconds: self.seconds(totals.busy),
            wait_seconds: self.seconds(totals.wait),
            backlog: totals.backlog,
        }
    }

    fn ticks_a_second(&self) -> f64 {
        const TICKS: u64 = 1 << 40;
        TICKS as f64 / self.seconds(TICKS)
    }

    fn seconds(&self, ticks: u64) -> f64 {
        self.inner.clock.delta_as_nanos(0, ticks) as f64 / 1e9
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// The resource is held; dropping this leaves it.
#[derive(Debug)]
pub struct Held<'a> {
    resource: &'a Resource,
    since: Moment,
    operations: u64,
    /// When this holder began to keep still, and how many ticks it is to.
    paying: Option<(Moment, u64)>,
    /// Ticks of the hold in which it did.
    paid: u64,
}

impl<'a> Held<'a> {
    fn new(resource: &'a Resource, since: Moment) -> Self {
        Self {
            resource,
            since,
            operations: 1,
            paying: None,
            paid: 0,
        }
    }

    /// How long the holder must keep still before it begins, because the resource is slowed ([`Ledger::slow`]): almost
    /// always not at all. It sleeps for that long, holding the resource, and then says [`Held::paid`].
    pub fn owes(&mut self) -> Option<Duration> {
        let slowing = &self.resource.inner.slowing;
        if !slowing.is_on() {
            return None;
        }
        let (ticks, pause) = slowing.take(self.resource.ticks_a_second())?;
        self.paying = Some((self.resource.now(), ticks));
        Some(pause)
    }

    /// The holder has kept still, and begins.
    pub fn paid(&mut self) {
        if let Some((since, owed)) = self.paying.take() {
            let kept = self.resource.now().0.saturating_sub(since.0);
            self.resource.inner.slowing.settle(owed, kept);
            self.paid += kept;
        }
    }

    /// This one hold serves `operations` at once: a batch of writes under one commit.
    pub fn serves(&mut self, operations: u64) {
        self.operations = operations;
    }

    /// Leaves the resource and says for how long it was held, from the same two readings of the clock.
    pub fn leave(mut self) -> Duration {
        let busy = self.count();
        let nanos = self.resource.inner.clock.delta_as_nanos(0, busy);
        std::mem::forget(self);
        Duration::from_nanos(nanos)
    }

    /// Lets the hold outlive its borrow, for a holder that moves to another task: it began at the moment given back, and is
    /// over when that task calls [`Resource::end_hold`] with it.
    #[must_use = "the hold counts once it is ended with this moment"]
    pub fn outlive(self) -> Moment {
        let since = self.since;
        std::mem::forget(self);
        since
    }

    fn count(&mut self) -> u64 {
        let busy = self.resource.now().0.saturating_sub(self.since.0);
        let inner = &self.resource.inner;
        inner.counters.add_hold(self.operations, busy);
        if inner.slowing.is_on() {
            self.paid(); // who gave up while it kept still
            self.resource.inner.slowing.owe(busy.saturating_sub(self.paid));
        }
        busy
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

/// Somebody waits for the resource.
#[derive(Debug)]
pub struct Waiting<'a> {
    resource: &'a Resource,
    since: Moment,
}

impl<'a> Waiting<'a> {
    /// The wait is over: the resource is held from now on.
    pub fn enter(self) -> Held<'a> {
        let resource = self.resource;
        // One reading of the clock serves as the wait's end and the hold's start.
        let since = resource.end_wait(self.since);
        std::mem::forget(self);
        Held::new(resource, since)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.resource.end_wait(self.since);
    }
}

/// What the ledger measures time with: the processor's cycle counter where it runs at one pace on all cores, the
/// operating system's clock elsewhere (a reading then costs about three times as much).
#[must_use]
pub fn clock_source() -> &'static str {
    let clock = quanta::Clock::new();
    // The operating system's clock already counts nanoseconds: a delta of a million ticks then is a million of them.
    if clock.delta_as_nanos(0, 1_000_000) == 1_000_000 {
        "operating system"
    } else {
        "cycle counter"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn only(ledger: &Ledger) -> Row {
        let rows = ledger.read();
        assert_eq!(rows.len(), 1);
        rows.into_iter().next().unwrap()
    }

    #[test]
    fn a_hold_counts_once_it_ends_and_for_as_long_as_it_lasted() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        let outside = Instant::now();
        let held = writer.enter();
        let inside = Instant::now();
        while inside.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert_eq!(only(&ledger).operations, 0);
        drop(held);
        let row = only(&ledger);
        assert_eq!((row.operations, row.backlog), (1, 0));
        assert!(row.busy_seconds >= 0.0049, "{row:?}");
        assert!(row.busy_seconds <= outside.elapsed().as_secs_f64(), "{row:?}");
        assert_eq!(row.wait_seconds, 0.0);
    }

    #[test]
    fn a_wait_shows_as_backlog_while_it_lasts_and_as_time_after_it() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        let waiting = writer.wait();
        assert_eq!(only(&ledger).backlog, 1);
        let held = waiting.enter();
        let row = only(&ledger);
        assert_eq!(row.backlog, 0);
        assert!(row.wait_seconds > 0.0);
        assert_eq!(row.operations, 0);
        drop(held);
        assert_eq!(only(&ledger).operations, 1);
    }

    #[test]
    fn a_waiter_who_gives_up_leaves_the_backlog_and_its_time_counts() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        drop(writer.wait());
        let row = only(&ledger);
        assert_eq!((row.operations, row.backlog), (0, 0));
        assert!(row.wait_seconds > 0.0);
    }

    #[test]
    fn a_hold_that_serves_a_batch_counts_every_operation_of_it() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        writer.enter().serves(100);
        assert_eq!(only(&ledger).operations, 100);
    }

    #[test]
    fn a_hold_that_outlives_its_borrow_counts_once_it_is_ended() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        let since = writer.enter().outlive();
        assert_eq!(only(&ledger).operations, 0);
        thread::sleep(Duration::from_millis(2));
        let lasted = writer.end_hold(since);
        let row = only(&ledger);
        assert_eq!(row.operations, 1);
        assert!(lasted >= Duration::from_millis(2), "{lasted:?}");
        assert!(
            (row.busy_seconds - lasted.as_secs_f64()).abs() < 1e-6,
            "{row:?}, {lasted:?}"
        );
    }

    #[test]
    fn a_name_declared_twice_is_one_resource() {
        let ledger = Ledger::new();
        drop(ledger.resource("pool", "connections", 4.0).enter());
        drop(ledger.resource("pool", "connections", 4.0).enter());
        assert_eq!(only(&ledger).operations, 2);
    }

    #[test]
    fn more_threads_than_private_counters_lose_no_operation() {
        let ledger = Ledger::new();
        let lock = ledger.resource("lock", "locks", 1.0);
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1_000).for_each(|_| drop(lock.enter())));
            }
        });
        assert_eq!(only(&ledger).operations, 40_000);
    }

    #[test]
    fn a_slowed_resource_is_held_for_longer_by_the_factor() {
        let ledger = Ledger::new();
        let writer = ledger.resource("writer", "connections", 1.0);
        ledger.slow("writer", 3.0).unwrap();
        let (mut worked, mut overslept) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..50 {
            let mut held = writer.enter();
            if let Some(pause) = held.owes() {
                let begun = Instant::now();
                thread::sleep(pause);
                held.paid();
                overslept = overslept.max(begun.elapsed().saturating_sub(pause));
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(400) {
                std::hint::spin_loop();
            }
            worked += begun.elapsed();
        }
        let (busy, worked) = (only(&ledger).busy_seconds, worked.as_secs_f64());
        assert!(busy >= 2.5 * worked, "{busy} s for {worked} s of work");
        // What the last one slept too long is a credit that nobody has used; on a busy machine it may be long.
        let most = 3.0 * worked + overslept.as_secs_f64() + 0.005;
        assert!(
            busy <= most * 1.2,
            "{busy} s for {worked} s of work, {overslept:?} too long"
        );
        ledger.slow("writer", 1.0).unwrap();
        assert_eq!(writer.enter().owes(), None);
    }

    #[test]
    fn what_cannot_be_slowed_is_said() {
        let ledger = Ledger::new();
        let _writer = ledger.resource("writer", "connections", 1.0);
        assert_eq!(ledger.slow("reader", 2.0), Err(NotSlowed::Unknown));
        for factor in [0.5, f64::NAN, f64::INFINITY, -2.0] {
            assert_eq!(ledger.slow("writer", factor), Err(NotSlowed::Factor));
        }
    }

    #[test]
    fn a_sampled_resource_is_asked_at_each_reading() {
        let ledger = Ledger::new();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        ledger.sampled("cpu", "cores", move || Sample {
            capacity: 2.0,
            operations: count.fetch_add(1, Ordering::Relaxed),
            busy_seconds: 0.5,
        });
        assert_eq!(only(&ledger).operations, 0);
        assert_eq!(only(&ledger).operations, 1);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
