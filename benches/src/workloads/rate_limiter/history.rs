//! Every decision of a run, held against what a limit promises.
//!
//! When a server decided, nobody outside knows: some time in [sent, answered]. So an admission counts into an interval only
//! if all of that lies inside, and for a refusal everything counts that may have been charged before it. What is found so is
//! certain; what cannot be told is not said. Clocks differ, too: the server's is granted [`TICK_NS`] for its rounding, and one
//! part in [`DRIFT`] for its rate.
//!
//! # Never too many
//!
//! For every interval of any length `d`, no more than `burst + L x d / W` are admitted. The shortest interval that holds a
//! set of decisions begins with a sending and ends with an answer, so these are all that there are to look at. With `N(a)`
//! the admissions that were sent at `a` or later, and `b` the answer that has just come in, the promise is broken if for the
//! sending `a` of any admission
//!
//! ```text
//! N(a) > burst + L x (b - a) / W        or:   N(a) x W + L x a  >  burst x W + L x b
//! ```
//!
//! Answers come in order, sendings need not: only a request that is under way can still be answered. Every later one of the
//! user was sent at or after the oldest of those, so for all `a` before it each admission to come adds one to `N(a)`, and
//! which left side is the largest never changes again. One number stands for all of them; the others are as few as are sent
//! while one request takes. That is exact: `tests` compares it with the definition, over all pairs.
//!
//! An admission that breaks the promise is counted, and then left out, as if a limiter that keeps it had refused: so the
//! count is of requests that were too many, not of intervals that they spoil.
//!
//! # Never too few
//!
//! A refusal is right if a limiter may have been at its end by either reading of a limit: the bucket was empty, or the last
//! window had `L` in it. (By the bucket alone, a log of the window would refuse wrongly, which it does not: it promises less.)
//! Counted are all charges that may have been carried out before the refusal was answered: those admitted, as late as may be,
//! and those under way or lost, as not having leaked at all. What is lost may be carried out at any later time, so it counts
//! for ever.
//!
//! # Memory
//!
//! A user takes about 200 bytes, and 16 for each admission of the last window, of which there is no more than the limit lets
//! through.

use std::collections::VecDeque;

/// What a server's clock may round by: Redis tells microseconds.
const TICK_NS: u64 = 1_000;
/// Two clocks run at rates that differ by less than one part in so many: 500 ppm, as much as NTP corrects a clock by.
const DRIFT: u64 = 2_000;

/// What a server promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    /// Requests in a window.
    pub(super) limit: u64,
    /// The window, in nanoseconds.
    pub(super) window_ns: u64,
    /// Requests at once.
    pub(super) burst: u64,
    /// What all servers together may admit beyond that, and refuse before it.
    pub(super) excess: u64,
}

impl Promise {
    /// A request, in units of which a nanosecond leaks a whole number.
    fn request(&self) -> i128 {
        i128::from(self.window_ns) * i128::from(DRIFT)
    }

    /// What leaks in a time, by a clock as fast as it may be.
    fn leaked_fast(&self, ns: u64) -> i128 {
        i128::from(self.limit) * i128::from(DRIFT + 1) * i128::from(ns)
    }

    /// What leaks in a time, by a clock as slow as it may be.
    fn leaked_slowly(&self, ns: u64) -> i128 {
        i128::from(self.limit) * i128::from(DRIFT - 1) * i128::from(ns)
    }

    /// So many requests.
    fn requests(&self, count: u64) -> i128 {
        self.request() * i128::from(count)
    }

    /// The most that is allowed in one window.
    fn most_in_a_window(&self) -> u64 {
        self.burst.saturating_add(self.limit).saturating_add(self.excess)
    }

    /// Whatever was carried out before this is in no window that ends with a decision at that time or later.
    fn window_before(&self, time_ns: u64) -> u64 {
        let window_ns = self.window_ns + self.window_ns / DRIFT + TICK_NS;
        time_ns.saturating_sub(window_ns)
    }
}

/// All users' decisions.
#[derive(Debug)]
pub(super) struct History {
    promise: Promise,
    users: Vec<User>,
    counts: Counts,
    /// The most that was admitted within one window.
    most: u64,
}

/// How many decisions there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Admitted.
    pub(super) admitted: u64,
    /// Refused.
    pub(super) refused: u64,
    /// Those of which nobody knows whether they were charged.
    pub(super) unknown: u64,
    /// Of those admitted, the ones that the promise does not allow.
    pub(super) too_many: u64,
    /// Of those refused, the ones that it does.
    pub(super) refused_wrongly: u64,
}

#[derive(Debug, Default)]
struct User {
    flights: Flights,
    /// Charges whose outcome is unknown.
    lost: u64,
    beginnings: Beginnings,
    /// When those admitted in the window that ends now were sent, in order.
    in_sight: VecDeque<u64>,
    pours: Pours,
}

/// Requests under way.
#[derive(Debug, Default)]
struct Flights {
    /// How many were over before the first one here.
    before: u32,
    /// In the order in which they were sent.
    queue: VecDeque<Flight>,
    under_way: u64,
}

#[derive(Debug)]
struct Flight {
    sent_ns: u64,
    over: bool,
}

/// Where the interval in which too many were admitted may begin.
#[derive(Debug, Default)]
struct Beginnings {
    /// The worst of those that lie before all that is under way.
    settled: Option<Beginning>,
    /// The others, in the order of their times.
    open: Vec<Beginning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beginning {
    sent_ns: u64,
    /// Admissions that were sent then or later.
    admitted: u64,
}

/// A leaky bucket into which every admission is poured as late as may be: when it is answered.
#[derive(Debug, Default)]
struct Pours {
    /// What is in the bucket after the first `poured` of `answers`, in units of the promise.
    level: i128,
    /// When that was so.
    at_ns: u64,
    poured: usize,
    /// When admissions were answered, those of the last window and those that are not poured yet.
    answers: VecDeque<u64>,
}

impl History {
    /// Nothing yet, of so many users.
    pub(super) fn new(promise: Promise, users: usize) -> Self {
        let mut history = Self {
            promise,
            users: Vec::new(),
            counts: Counts::default(),
            most: 0,
        };
        history.users.resize_with(users, User::default);
        history
    }

    /// A user that nobody has seen.
    pub(super) fn newcomer(&mut self) -> usize {
        self.users.push(User::default());
        self.users.len() - 1
    }

    /// How many users there are.
    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// A charge of one is sent by this user; says which of his it is. Times never decrease from a call to the next.
    pub(super) fn sent(&mut self, user: usize, now_ns: u64) -> u32 {
        self.users[user].flights.start(now_ns)
    }

    /// It was admitted.
    ///
    /// # Errors
    /// More were admitted than was promised.
    pub(super) fn admitted(&mut self, user: usize, which: u32, now_ns: u64) -> Result<(), String> {
        let promise = self.promise;
        let user = &mut self.users[user];
        let Some(sent_ns) = user.flights.end(which) else {
            return Ok(());
        };
        self.counts.admitted += 1;
        self.most = self.most.max(user.see(&promise, sent_ns, now_ns));
        user.pours.answers.push_back(now_ns);
        let judged = user.beginnings.admit(&promise, sent_ns, now_ns);
        user.settle(&promise, now_ns);
        self.counts.too_many += u64::from(judged.is_err());
        judged
    }

    /// It was refused.
    ///
    /// # Errors
    /// Whatever may have been charged before, there was room for it.
    pub(super) fn refused(&mut self, user: usize, which: u32, now_ns: u64) -> Result<(), String> {
        let promise = self.promise;
        let user = &mut self.users[user];
        let Some(sent_ns) = user.flights.end(which) else {
            return Ok(());
        };
        self.counts.refused += 1;
        let judged = user.room(&promise, sent_ns);
        user.settle(&promise, now_ns);
        self.counts.refused_wrongly += u64::from(judged.is_err());
        judged
    }

    /// Nobody knows what became of it, or will become.
    pub(super) fn lost(&mut self, user: usize, which: u32, now_ns: u64) {
        let user = &mut self.users[user];
        if user.flights.end(which).is_some() {
            self.counts.unknown += 1;
            user.lost += 1;
            user.settle(&self.promise, now_ns);
        }
    }

    /// It was not carried out, and never will be.
    pub(super) fn dropped(&mut self, user: usize, which: u32, now_ns: u64) {
        let user = &mut self.users[user];
        if user.flights.end(which).is_some() {
            user.settle(&self.promise, now_ns);
        }
    }

    /// The most that was admitted within one window, over what is allowed in one.
    pub(super) fn most_in_a_window(&self) -> f64 {
        self.most as f64 / self.promise.most_in_a_window().max(1) as f64
    }

    /// How many decisions there were so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

impl User {
    /// Takes down when an admission was sent; how many were admitted in the window that ends with its answer.
    fn see(&mut self, promise: &Promise, sent_ns: u64, now_ns: u64) -> u64 {
        // Nearly always the end: answers are nearly in the order of their requests.
        let place = self.in_sight.partition_point(|other| *other <= sent_ns);
        self.in_sight.insert(place, sent_ns);
        let from_ns = now_ns.saturating_sub(promise.window_ns);
        while self.in_sight.front().is_some_and(|sent| *sent < from_ns) {
            self.in_sight.pop_front();
        }
        self.in_sight.len() as u64
    }

    /// Whether a charge that was sent at this time may have been refused rightly.
    fn room(&self, promise: &Promise, sent_ns: u64) -> Result<(), String> {
        let possible = self.flights.under_way + self.lost + promise.excess;
        let level = self.pours.level(promise, sent_ns) + promise.requests(possible);
        let from_ns = promise.window_before(sent_ns);
        let window = self.pours.since(from_ns) + possible;
        if level + promise.request() <= promise.requests(promise.burst) && window < promise.limit {
            return Err(format!(
                "refused, though at most {window} of {} were admitted in the window before it",
                promise.limit
            ));
        }
        Ok(())
    }

    /// Forgets what can matter no more, whatever is still to be answered.
    fn settle(&mut self, promise: &Promise, now_ns: u64) {
        let oldest_ns = self.flights.oldest().unwrap_or(now_ns);
        self.beginnings.settle(promise, oldest_ns);
        self.pours.settle(promise, oldest_ns);
    }
}

impl Flights {
    fn start(&mut self, sent_ns: u64) -> u32 {
        self.queue.push_back(Flight { sent_ns, over: false });
        self.under_way += 1;
        self.before + u32::try_from(self.queue.len() - 1).unwrap_or(u32::MAX)
    }

    /// Ends one; when it was sent, unless it had ended before.
    fn end(&mut self, which: u32) -> Option<u64> {
        let place = usize::try_from(which.checked_sub(self.before)?).ok()?;
        let flight = self.queue.get_mut(place).filter(|flight| !flight.over)?;
        flight.over = true;
        self.under_way -= 1;
        let sent_ns = flight.sent_ns;
        while self.queue.front().is_some_and(|flight| flight.over) {
            self.queue.pop_front();
            self.before += 1;
        }
        Some(sent_ns)
    }

    fn oldest(&self) -> Option<u64> {
        self.queue.front().map(|flight| flight.sent_ns)
    }
}

impl Beginning {
    /// By how much the interval from here to any answer is filled, but for what depends on the answer.
    fn weight(self, promise: &Promise) -> i128 {
        promise.requests(self.admitted) + promise.leaked_fast(self.sent_ns)
    }

    fn describe(self, promise: &Promise, answered_ns: u64) -> String {
        let length_ns = answered_ns - self.sent_ns;
        let filled = u128::from(promise.limit) * u128::from(length_ns) / u128::from(promise.window_ns);
        let allowed = u128::from(promise.burst) + u128::from(promise.excess) + filled;
        format!(
            "{} were admitted within {:.3} s, {allowed} at the most were promised",
            self.admitted,
            length_ns as f64 / 1e9
        )
    }
}

impl Beginnings {
    /// Counts an admission, unless it is one too many.
    fn admit(&mut self, promise: &Promise, sent_ns: u64, answered_ns: u64) -> Result<(), String> {
        let place = self.open.partition_point(|other| other.sent_ns <= sent_ns);
        let own = Beginning {
            sent_ns,
            admitted: (self.open.len() - place) as u64 + 1,
        };
        let earlier = self.settled.iter().chain(&self.open[..place]).map(|other| Beginning {
            admitted: other.admitted + 1,
            ..*other
        });
        let worst = earlier.fold(own, |worst, other| {
            if other.weight(promise) > worst.weight(promise) {
                other
            } else {
                worst
            }
        });
        let allowed = promise.requests(promise.burst.saturating_add(promise.excess));
        if worst.weight(promise) > allowed + promise.leaked_fast(answered_ns + TICK_NS) {
            return Err(worst.describe(promise, answered_ns));
        }
        for other in self.settled.iter_mut().chain(&mut self.open[..place]) {
            other.admitted += 1;
        }
        self.open.insert(place, own);
        Ok(())
    }

    /// Keeps one of those that no later admission can have been sent before.
    fn settle(&mut self, promise: &Promise, oldest_ns: u64) {
        let settled = self.open.partition_point(|other| other.sent_ns <= oldest_ns);
        let all = self.open.drain(..settled).chain(self.settled);
        self.settled = all.max_by_key(|other| other.weight(promise));
    }
}

impl Pours {
    /// The bucket after one more, which was poured at this time.
    fn pour(promise: &Promise, (level, at_ns): (i128, u64), time_ns: u64) -> (i128, u64) {
        let left = level - promise.leaked_slowly(time_ns - at_ns);
        (left.max(0) + promise.request(), time_ns)
    }

    /// The most that may have been in the bucket at any time after this, if nothing has leaked since.
    fn level(&self, promise: &Promise, time_ns: u64) -> i128 {
        let upto = self.answers.partition_point(|answer| *answer <= time_ns);
        let poured = self.answers.range(self.poured..upto.max(self.poured));
        let (level, at_ns) = poured.fold((self.level, self.at_ns), |bucket, answer| {
            Self::pour(promise, bucket, *answer)
        });
        let left = level - promise.leaked_slowly(time_ns.saturating_sub(at_ns + TICK_NS));
        left.max(0) + promise.requests((self.answers.len() - upto) as u64)
    }

    /// How many admissions were answered since.
    fn since(&self, from_ns: u64) -> u64 {
        let before = self.answers.partition_point(|answer| *answer < from_ns);
        (self.answers.len() - before) as u64
    }

    /// Nobody asks about a time before this any more.
    fn settle(&mut self, promise: &Promise, oldest_ns: u64) {
        while let Some(answer) = self.answers.get(self.poured).copied()
            && answer <= oldest_ns
        {
            (self.level, self.at_ns) = Self::pour(promise, (self.level, self.at_ns), answer);
            self.poured += 1;
        }
        let from_ns = promise.window_before(oldest_ns);
        while self.answers.front().is_some_and(|answer| *answer < from_ns) {
            self.answers.pop_front();
            self.poured -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
