//! The load generator: open loop, one thread, one event loop.
//!
//! # The problem
//!
//! A generator that sends the next request when the last answer is in (a *closed loop*) slows down with the server that
//! it measures: during a stall it sends nothing, so the requests that users would have sent, and would have waited for,
//! are missing from its statistics. That is *coordinated omission*; it turns a one-second stall into one slow sample.
//!
//! # The idea
//!
//! Arrivals are scheduled ahead ([`Schedule`]) and know nothing of the server. The *response time* of an operation runs
//! from the instant it was scheduled for, the *service time* from the instant it was sent. A stall of one second at
//! 1,000 arrivals a second then shows as 1,000 operations that waited up to a second each, because that is what it cost.
//!
//! ```text
//! schedule      |  a  |  b  |  c  |  d  |
//! sent          a     .     .     bcd            the server stalls while it holds a
//! response a    [-----------------]
//! response b          [-----------]              service time of b: almost nothing
//! ```
//!
//! In flight is bounded by the number of connections. An arrival that finds all of them busy waits in a bounded queue,
//! its clock running; one that finds the queue full is *dropped*, and counted. What the generator itself sends more than
//! 5 ms after its time is *late*, and counted: a run with many of them says something about the generator, not the server.
//!
//! # What it costs, and how it is kept low
//!
//! One read and one write an operation, and a share of one `epoll_wait`: the readiness is edge-triggered and a read that
//! returns less than the buffer holds has emptied the socket. Requests are bytes written into a reused buffer, answers are
//! parsed where they lie. Sleep ends by a timerfd where there is one: the timeout of `epoll_wait` counts in milliseconds,
//! and that tick would be the median of every fast server. Connections are made before time zero and kept between runs.
//! Arrivals that fall due while a batch of answers is handled are sent between two answers, not after the batch.
//!
//! # Several servers
//!
//! A stage of several nodes is loaded at all of them, without a balancer that would be measured too: connections go to the
//! nodes in turn, and arrivals to the connection that has been idle longest. Nodes that answer alike get alike; one that
//! stalls keeps its connections, and gets less until it answers.
//!
//! # Left out
//!
//! HTTP/2, TLS, pipelining, several threads. One core of generator saturates several cores of most of what is written in
//! a handler; its own CPU use is measured in each run, and the caller refuses to conclude anything from a busy one.

mod arrivals;
mod connection;
mod outcome;
mod run;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use mio::{Events, Poll, Token};

pub use arrivals::{Arrivals, Schedule};
pub use outcome::{KindOutcome, Latencies, Outcome, Second, Times};

use crate::http::Target;
use crate::http::client::explain;
use crate::platform::{self, Timer};
use crate::rig;
use crate::stop::Stop;
use crate::workload::Workload;
use connection::{Connection, State};

const TIMER: Token = Token(usize::MAX - 1);
/// How long all connections together may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many are made at a time: more would overflow a short accept queue, and a lost SYN is sent again after a second.
const CONNECT_AT_ONCE: usize = 32;
/// An operation sent later than this after its time, with a connection free, is late.
pub const LATE: Duration = Duration::from_millis(5);

/// How hard to load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// This many arrivals a second, whatever the server does.
    Open {
        /// Arrivals a second.
        rate: f64,
        /// Their spread over time.
        arrivals: Arrivals,
    },
    /// This many operations in flight at all times: the raw ceiling, blind to what waits outside.
    Closed {
        /// Connections in use.
        concurrency: usize,
    },
}

/// One run of the generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// How hard.
    pub load: Load,
    /// For how long arrivals are scheduled.
    pub duration: Duration,
    /// How many arrivals may wait for a connection.
    pub queue: usize,
    /// How long an operation may take from its sending.
    pub timeout: Duration,
    /// How long to wait for answers after the last arrival.
    pub drain: Duration,
    /// Decides the arrival instants.
    pub seed: u64,
}

impl Plan {
    /// An open loop with the usual bounds: a queue of half a second of arrivals, 5 s for an operation, 2 s of drain.
    pub fn open(rate: f64, duration: Duration, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a queue length")]
        let queue = (rate / 2.0).max(1024.0) as usize;
        Self {
            load: Load::Open {
                rate,
                arrivals: Arrivals::Poisson,
            },
            duration,
            queue,
            timeout: Duration::from_secs(5),
            drain: Duration::from_secs(2),
            seed,
        }
    }

    /// A closed loop of this many operations at a time.
    pub fn closed(concurrency: usize, duration: Duration) -> Self {
        Self {
            load: Load::Closed { concurrency },
            ..Self::open(0.0, duration, 0)
        }
    }
}

/// What looks on while a run goes on.
pub struct Watch<'a> {
    /// Ends the run with an error when it is set.
    pub stop: &'a Stop,
    /// Called about twenty times a second with the time since time zero. It must be quick: it runs on the generator's thread.
    pub tick: &'a mut dyn FnMut(Duration),
}

/// Connections to the nodes of one stage, and the event loop that drives them.
#[derive(Debug)]
pub struct Generator {
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl Generator {
    /// Makes the connections, to the targets in turn; a server that is not there is an error now, not during the run.
    ///
    /// # Errors
    /// No connection, in words that say why; or fewer connections than targets, which would leave one without load.
    pub fn connect(targets: &[Target], connections: usize) -> Result<Self> {
        ensure!(
            (1..=connections).contains(&targets.len()),
            "{connections} connection(s) cannot be spread over {} servers",
            targets.len()
        );
        rig::descriptors(connections, platform::raise_file_limit()).map_err(anyhow::Error::msg)?;
        let poll = Poll::new().context("the system gives no event queue")?;
        let timer = Timer::new(&poll, TIMER).context("the system gives no timer")?;
        let addresses = targets.iter().map(|target| target.address).cycle();
        let mut generator = Self {
            poll,
            timer,
            connections: addresses.take(connections).map(Connection::new).collect(),
            buffer: vec![0; 64 * 1024],
        };
        generator.ready()?;
        Ok(generator)
    }

    /// How many connections it has.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Runs one plan to its end.
    ///
    /// # Errors
    /// A connection that cannot be made before time zero, a failing event queue, or an interruption.
    pub fn run<W: Workload + ?Sized>(
        &mut self,
        workload: &mut W,
        plan: &Plan,
        watch: &mut Watch<'_>,
    ) -> Result<Outcome> {
        self.ready()?;
        run::Run::new(self, workload, plan).drive(watch)
    }

    /// Makes every connection idle: replaces those that the server has closed since the last run. A run does this before
    /// its time zero; whoever measures around a run does it before that.
    ///
    /// # Errors
    /// A connection cannot be made.
    pub fn ready(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        self.timer.wait(&mut self.poll, &mut events, Duration::ZERO)?;
        for connection in &mut self.connections {
            let quiet =
                matches!(connection.state, State::Idle) && matches!(connection.read(&mut self.buffer), Ok(None));
            if !quiet {
                connection.close();
            }
        }
        let refused = |at: SocketAddr, error: io::Error| anyhow!("cannot connect to {at}: {}", explain(&error));
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        loop {
            let mut waiting = 0;
            let mut slow = None;
            for (index, connection) in self.connections.iter_mut().enumerate() {
                let address = connection.address;
                match connection.state {
                    State::Idle | State::Busy(_) => continue,
                    State::Down if waiting >= CONNECT_AT_ONCE => {
                        waiting += 1;
                        continue;
                    }
                    State::Down => connection
                        .connect(self.poll.registry(), Token(index))
                        .map_err(|error| refused(address, error))?,
                    State::Connecting => {}
                }
                if !connection.connected().map_err(|error| refused(address, error))? {
                    waiting += 1;
                    slow = Some(address);
                }
            }
            let Some(slow) = slow else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(refused(slow, io::ErrorKind::TimedOut.into()));
            }
            self.timer
                .wait(&mut self.poll, &mut events, Duration::from_millis(20))?;
        }
    }
}
