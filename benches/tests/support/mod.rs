//! A tiny HTTP server in this process, with whatever bad manners a test needs.
#![allow(clippy::unwrap_used, reason = "a helper of tests")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::generator::{Generator, Outcome, Plan, Watch};
use lab::http::{Client, Response, Target};
use lab::stop::Stop;
use lab::workload::{Checked, Kind, Operation, Verified, Workload};

/// What became of a request.
pub(crate) enum Act {
    /// These bytes, and the connection stays open.
    Answer(Vec<u8>),
    /// These bytes, and then the connection is closed.
    AnswerAndClose(Vec<u8>),
    /// Nothing, for a long time.
    Silence,
}

/// Counts what a server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

/// Starts a server that answers each request line with what `act` says; it lives as long as the process.
pub(crate) fn serve(act: impl Fn(&str) -> Act + Send + Sync + 'static) -> (SocketAddr, Arc<Seen>) {
    serve_bodies(move |line, _| act(line))
}

/// The same for a server that looks at the body, too.
pub(crate) fn serve_bodies(act: impl Fn(&str, &[u8]) -> Act + Send + Sync + 'static) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let (act, counted) = (Arc::new(act), Arc::clone(&seen));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (act, seen) = (Arc::clone(&act), Arc::clone(&counted));
            thread::spawn(move || talk(stream, &*act, &seen));
        }
    });
    (address, seen)
}

fn talk(mut stream: TcpStream, act: &dyn Fn(&str, &[u8]) -> Act, seen: &Seen) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        let mut body = Vec::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            if let Some(length) = line.strip_prefix("Content-Length: ") {
                body.resize(length.trim().parse().ok()?, 0);
            }
        }
        reader.read_exact(&mut body).ok()?;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        let result = act(first.trim(), &body);
        seen.now.fetch_sub(1, Ordering::SeqCst);
        match result {
            Act::Answer(bytes) => stream.write_all(&bytes).ok()?,
            Act::AnswerAndClose(bytes) => {
                stream.write_all(&bytes).ok()?;
                return None;
            }
            Act::Silence => thread::sleep(Duration::from_secs(30)),
        }
    }
}

/// The plainest answer.
pub(crate) fn ok() -> Act {
    Act::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
}

/// A server that answers nothing between `from` and `from + length` after its first request.
pub(crate) fn stalling(from: Duration, length: Duration) -> SocketAddr {
    let start = std::sync::OnceLock::new();
    serve(move |_| {
        let begin = *start.get_or_init(Instant::now) + from;
        let now = Instant::now();
        if now >= begin && now < begin + length {
            thread::sleep(begin + length - now);
        }
        ok()
    })
    .0
}

/// Runs a plan against a server.
pub(crate) fn run(address: SocketAddr, connections: usize, workload: &mut dyn Workload, plan: &Plan) -> Outcome {
    let mut generator = Generator::connect(&[Target::of(address)], connections).unwrap();
    let mut watch = Watch {
        stop: &Stop::default(),
        tick: &mut |_| (),
    };
    generator.run(workload, plan, &mut watch).unwrap()
}

/// A number of operations of another workload.
struct Limited {
    left: u64,
    inner: Box<dyn Workload>,
}

impl Workload for Limited {
    fn kinds(&self) -> &[Kind] {
        self.inner.kinds()
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Option<Operation> {
        self.left = self.left.checked_sub(1)?;
        self.inner.next(request)
    }

    fn check(&mut self, operation: Operation, answer: &Response<'_>, request: &mut Vec<u8>) -> Checked {
        self.inner.check(operation, answer, request)
    }

    fn lost(&mut self, operation: Operation) {
        self.inner.lost(operation);
    }
}

/// Prepares a workload, loads a server with so many of its operations, eight at a time, and verifies.
pub(crate) fn load(client: &mut Client, workload: Box<dyn Workload>, operations: u64) -> (Outcome, Verified) {
    let stop = Stop::default();
    let mut limited = Limited {
        left: operations,
        inner: workload,
    };
    limited.inner.prepare(client, &stop).unwrap();
    let mut generator = Generator::connect(&[client.target().clone()], 8).unwrap();
    let mut watch = Watch {
        stop: &stop,
        tick: &mut |_| (),
    };
    let plan = Plan::closed(8, Duration::from_secs(60));
    let outcome = generator.run(&mut limited, &plan, &mut watch).unwrap();
    let verified = limited.inner.verify(client, &mut generator, &stop).unwrap();
    (outcome, verified)
}
