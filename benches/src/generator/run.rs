//! The event loop of one run.
//!
//! All times are nanoseconds since time zero, which is taken after the last connection stands.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mio::event::Event;
use mio::{Events, Token};

use super::connection::{InFlight, State};
use super::outcome::{Outcome, Recorder};
use super::{Generator, LATE, Load, Plan, Schedule, TIMER, Watch};
use crate::http::client::explain;
use crate::platform;
use crate::workload::{Checked, Workload};

/// How often time-outs and broken connections are looked for.
const SWEEP: u64 = 50_000_000;

pub(super) struct Run<'a, W: ?Sized> {
    generator: &'a mut Generator,
    workload: &'a mut W,
    plan: &'a Plan,
    schedule: Option<Schedule>,
    /// The next arrival.
    next: Option<u64>,
    /// Scheduled instants of arrivals that wait for a connection.
    waiting: VecDeque<u64>,
    /// Connections without work, the one that has waited longest first: load is spread over all of them, as it is over
    /// the users of a real server, and none is left alone until the server closes it.
    idle: VecDeque<usize>,
    in_flight: usize,
    /// In a closed loop, the operations to keep in flight.
    concurrency: usize,
    record: Recorder,
    zero: Instant,
    end: u64,
}

impl<'a, W: Workload + ?Sized> Run<'a, W> {
    pub(super) fn new(generator: &'a mut Generator, workload: &'a mut W, plan: &'a Plan) -> Self {
        let (schedule, offered, idle) = match plan.load {
            Load::Open { rate, arrivals } => (
                Some(Schedule::new(arrivals, rate, plan.duration, plan.seed)),
                Some(rate),
                generator.connections.len(),
            ),
            Load::Closed { concurrency } => (None, None, concurrency.min(generator.connections.len())),
        };
        let planned = schedule.as_ref().map_or(0, Schedule::planned);
        let record = Recorder::new(workload.kinds(), offered, plan.duration, planned);
        Self {
            generator,
            workload,
            plan,
            schedule,
            next: None,
            waiting: VecDeque::with_capacity(plan.queue),
            idle: (0..idle).collect(),
            in_flight: 0,
            concurrency: idle,
            record,
            zero: Instant::now(),
            end: nanos(plan.duration),
        }
    }

    pub(super) fn drive(mut self, watch: &mut Watch<'_>) -> Result<Outcome> {
        let mut events = Events::with_capacity(1024);
        let cpu = platform::thread_cpu();
        self.zero = Instant::now();
        self.start();
        let mut sweep = SWEEP;
        loop {
            let now = self.now();
            self.issue_due(now);
            if now >= sweep {
                sweep = now + SWEEP;
                self.sweep(now);
                (watch.tick)(Duration::from_nanos(now));
                watch.stop.check()?;
            }
            let over = self.next.is_none() && self.waiting.is_empty() && (self.schedule.is_some() || now >= self.end);
            if (over && self.in_flight == 0) || now >= self.end.saturating_add(nanos(self.plan.drain)) {
                break;
            }
            let wake = self.next.unwrap_or(sweep).min(sweep);
            let wait = Duration::from_nanos(wake.saturating_sub(now));
            let Generator { timer, poll, .. } = &mut *self.generator;
            timer.wait(poll, &mut events, wait)?;
            for event in &events {
                self.handle(event);
            }
        }
        self.finish(cpu)
    }

    fn start(&mut self) {
        match &mut self.schedule {
            Some(schedule) => self.next = schedule.next(),
            None => {
                for _ in 0..self.idle.len() {
                    self.send_idle();
                }
            }
        }
    }

    fn finish(mut self, cpu: Duration) -> Result<Outcome> {
        let elapsed = self.zero.elapsed();
        let cpu = platform::thread_cpu().saturating_sub(cpu);
        for index in 0..self.generator.connections.len() {
            if let State::Busy(flight) = self.generator.connections[index].state {
                self.workload.lost(flight.operation);
                self.generator.connections[index].close();
            }
        }
        let unsent = self.waiting.len() as u64 + self.next.map_or(0, |_| 1);
        let rest = self.schedule.take().map_or(0, |schedule| schedule.count() as u64);
        let outcome = &mut self.record.outcome;
        outcome.unfinished = unsent + rest + self.in_flight as u64;
        if self.plan_is_closed() {
            self.record.outcome.planned = self.record.outcome.issued;
        }
        let outcome = self.record.finish(elapsed, cpu);
        ensure!(
            outcome.accounted(unsent + rest),
            "the generator lost count: planned {}, issued {}, dropped {}, never sent {}",
            outcome.planned,
            outcome.issued,
            outcome.dropped,
            unsent + rest
        );
        Ok(outcome)
    }

    fn plan_is_closed(&self) -> bool {
        matches!(self.plan.load, Load::Closed { .. })
    }

    fn now(&self) -> u64 {
        nanos(self.zero.elapsed())
    }

    /// Sends, queues or drops every arrival whose time has come.
    fn issue_due(&mut self, now: u64) {
        while let Some(at) = self.next
            && at <= now
        {
            self.next = self.schedule.as_mut().and_then(Iterator::next);
            let lag = now - at;
            self.record.arrived(self.in_flight + self.waiting.len(), lag);
            if let Some(index) = self.idle.pop_front() {
                if lag > nanos(LATE) {
                    self.record.outcome.late += 1;
                }
                self.send(index, at);
            } else if self.waiting.len() < self.plan.queue {
                self.waiting.push_back(at);
                self.record.outcome.queued += 1;
            } else {
                self.record.outcome.dropped += 1;
            }
        }
    }

    /// Gives a connection that has become free its next work: what waits longest, or in a closed loop simply the next.
    fn send_idle(&mut self) {
        if self.plan_is_closed() {
            let now = self.now();
            if now < self.end
                && self.in_flight < self.concurrency
                && let Some(index) = self.idle.pop_front()
            {
                self.send(index, now);
            }
        } else if let Some(at) = self.waiting.pop_front() {
            match self.idle.pop_front() {
                Some(index) => self.send(index, at),
                None => self.waiting.push_front(at),
            }
        }
    }

    fn send(&mut self, index: usize, scheduled: u64) {
        let connection = &mut self.generator.connections[index];
        connection.clear_request();
        let Some(operation) = self.workload.next(&mut connection.request) else {
            return self.exhaust(index);
        };
        self.record.outcome.issued += 1;
        self.in_flight += 1;
        let sent = nanos(self.zero.elapsed());
        connection.state = State::Busy(InFlight {
            operation,
            scheduled,
            sent: if self.schedule.is_some() { sent } else { scheduled },
        });
        self.write(index);
    }

    /// The workload has no more operations: what would still have arrived was never planned.
    fn exhaust(&mut self, index: usize) {
        self.idle.push_back(index);
        self.next = None;
        self.schedule = None;
        self.waiting.clear();
        self.end = self.now();
        self.record.outcome.planned = self.record.outcome.issued + self.record.outcome.dropped;
    }

    fn write(&mut self, index: usize) {
        if let Err(error) = self.generator.connections[index].write() {
            self.fail(index, explain(&error).into());
        }
    }

    fn handle(&mut self, event: &Event) {
        if event.token() == TIMER {
            return;
        }
        let index = event.token().0;
        if let State::Connecting = self.generator.connections[index].state {
            match self.generator.connections[index].connected() {
                Ok(true) => self.free(index),
                Ok(false) => {}
                Err(_) => {
                    self.record.outcome.connect_errors += 1;
                    self.generator.connections[index].close(); // the next sweep tries again
                }
            }
            return;
        }
        if event.is_writable() && self.generator.connections[index].half_written() {
            self.write(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed());
        }
    }

    /// Reads until an answer is whole or the socket is empty. `closing`: the server has already closed its half.
    fn read(&mut self, index: usize, closing: bool) {
        loop {
            let Generator {
                connections, buffer, ..
            } = &mut *self.generator;
            let connection = &mut connections[index];
            let State::Busy(flight) = connection.state else {
                // Nothing was asked: the server has closed, or sends what it should not.
                if !matches!(connection.read(buffer), Ok(None)) {
                    self.idle.retain(|&other| other != index);
                    self.reconnect(index);
                }
                return;
            };
            let n = match connection.read(buffer) {
                Ok(None) => return,
                Ok(Some(n)) => n,
                Err(error) => return self.fail(index, explain(&error).into()),
            };
            let no_body = flight.operation.no_body;
            // An answer to half a request is one to be rid of the rest: the connection ends with it.
            let early = connection.half_written();
            let request = &mut connection.request;
            let workload = &mut *self.workload;
            let mut judge = |answer: &crate::http::Response<'_>| {
                request.clear();
                (workload.check(flight.operation, answer, request), answer.keep_alive)
            };
            let judged = if n == 0 {
                connection.reader.end(no_body, &mut judge).map(Some)
            } else {
                connection.reader.push(&buffer[..n], no_body, &mut judge)
            };
            match judged {
                Err(bad) => return self.fail(index, bad.to_string().into()),
                Ok(Some((checked, keep_alive))) => {
                    let reusable = keep_alive && n > 0 && !early && !closing;
                    return self.answered(index, flight, checked, reusable);
                }
                // The rest of it, or the close, may be part of the same edge: only an empty socket ends the loop here.
                Ok(None) => {}
            }
        }
    }

    fn answered(&mut self, index: usize, flight: InFlight, checked: Checked, keep_alive: bool) {
        let kind = flight.operation.kind;
        if let Checked::Next(operation) = checked {
            if !keep_alive {
                return self.fail(index, "the server closed the connection inside an operation".into());
            }
            let connection = &mut self.generator.connections[index];
            connection.rewind();
            connection.state = State::Busy(InFlight { operation, ..flight });
            return self.write(index);
        }
        let now = self.now();
        self.record.roll(now);
        self.in_flight -= 1;
        if !matches!(checked, Checked::Failed(_)) {
            self.record
                .answered(kind, now - flight.scheduled.min(now), now - flight.sent.min(now));
        }
        match checked {
            Checked::Done => self.record.completed(kind),
            Checked::Failed(reason) => self.record.failed(kind, reason),
            Checked::Violation(text) => self.record.violation(kind, text),
            Checked::Next(_) => {}
        }
        if keep_alive {
            self.generator.connections[index].state = State::Idle;
            self.free(index);
        } else {
            self.reconnect(index);
        }
        self.issue_due(now);
    }

    fn free(&mut self, index: usize) {
        self.idle.push_back(index);
        self.send_idle();
    }

    /// The operation on this connection has no answer, and the connection has no future.
    fn fail(&mut self, index: usize, reason: Cow<'static, str>) {
        if let State::Busy(flight) = self.generator.connections[index].state {
            self.in_flight -= 1;
            self.record.failed(flight.operation.kind, reason);
            self.workload.lost(flight.operation);
        }
        self.generator.connections[index].close(); // the next sweep tries again
    }

    fn reconnect(&mut self, index: usize) {
        self.record.outcome.reconnects += 1;
        let Generator { connections, poll, .. } = &mut *self.generator;
        // When this fails the connection stays down and the next sweep tries again.
        if connections[index].connect(poll.registry(), Token(index)).is_err() {
            self.record.outcome.connect_errors += 1;
            connections[index].close();
        }
    }

    fn sweep(&mut self, now: u64) {
        self.record.roll(now);
        let limit = nanos(self.plan.timeout);
        for index in 0..self.generator.connections.len() {
            match self.generator.connections[index].state {
                State::Busy(flight) if now.saturating_sub(flight.sent) > limit => {
                    self.record.outcome.timed_out += 1;
                    self.fail(index, "timed out".into());
                    self.reconnect(index);
                }
                State::Down => self.reconnect(index),
                _ => {}
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
