//! A server that does nothing, and a generator that waits for nobody.
//!
//! The first answers "how many requests a second does a core serve": axum as it comes, one route, one thread on the server's
//! cores, kept busy by the lab's generator in closed loop. Everything that a design does comes on top of it. The second
//! answers "how many can the lab make": the same generator against a responder that reads a request's last bytes and writes
//! an answer that it has ready.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use axum::Router;
use axum::routing::get;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::sync::oneshot;

use super::{Bench, Samples};
use crate::generator::{Generator, Outcome, Plan, Watch};
use crate::http::Target;
use crate::layout::Layout;
use crate::workloads::get::Get;

/// Requests in flight. More make neither side faster.
const CONNECTIONS: usize = 64;
/// A run of the generator lasts so many spans: a second of it is many wake-ups of two event loops.
const SPANS: u32 = 10;
/// The responder's answer, always the same.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let places = match bench.setup.layout.generator_core {
        Some(_) => "on a core of its own",
        None => "not pinned: it shares its core with the generator",
    };
    let server = BareServer::start(bench.setup.layout)?;
    let mut generator = Generator::connect(&[Target::of(server.address)], CONNECTIONS)?;
    let runs = load(bench, &mut generator, server.address)?;
    let used = Samples::new(runs.iter().map(|run| run.generator_cpu).collect()).quantile(0.5);
    drop(generator);
    server.stop()?;
    bench.add(
        "http_request",
        "HTTP request, bare server",
        format!(
            "axum with one route and one thread, {places}; closed loop of {CONNECTIONS}, the generator used {:.0} % of its core",
            used * 100.0,
        ),
        &Samples::new(runs.iter().map(|run| 1.0 / run.achieved_rps()).collect()),
    );

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut generator = Generator::connect(&[Target::of(address)], CONNECTIONS)?;
    let layout = bench.setup.layout;
    let runs = thread::scope(|scope| {
        let responder = scope.spawn(move || {
            layout.pin_server();
            respond(&listener)
        });
        let runs = load(bench, &mut generator, address);
        drop(generator); // closes the connections, which ends the responder
        responder.join().map_err(|_| anyhow!("the responder panicked"))??;
        runs
    })?;
    let reached = Samples::new(runs.iter().map(Outcome::achieved_rps).collect()).quantile(0.5);
    bench.add(
        "generator_operation",
        "The lab's generator, one operation",
        format!(
            "CPU time of the generator an operation, in closed loop of {CONNECTIONS} against a responder with a fixed answer, {places}; \
             {reached:.0} a second were reached"
        ),
        &Samples::new(runs.iter().map(own_time).collect()),
    );
    Ok(())
}

/// The generator's CPU time an operation, in seconds.
fn own_time(run: &Outcome) -> f64 {
    run.generator_cpu * run.elapsed.as_secs_f64() / run.completed.max(1) as f64
}

/// Runs in closed loop, one to warm up and one a sample.
fn load(bench: &Bench<'_>, generator: &mut Generator, address: SocketAddr) -> Result<Vec<Outcome>> {
    let effort = bench.setup.effort;
    let plan = Plan::closed(CONNECTIONS, effort.span * SPANS);
    let mut runs = Vec::new();
    for _ in 0..=effort.samples {
        let mut workload = Get::new(&Target::of(address));
        let mut watch = Watch {
            stop: bench.stop,
            tick: &mut |_| (),
        };
        let run = generator.run(&mut workload, &plan, &mut watch)?;
        ensure!(
            run.completed > 0 && run.failed() == 0,
            "the server failed: {} answers, {:?}",
            run.completed,
            run.errors
        );
        runs.push(run);
    }
    runs.remove(0);
    Ok(runs)
}

/// A bare axum server in a thread of this process, on the server's cores. Gone when it is dropped.
struct BareServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl BareServer {
    fn start(layout: &Layout) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let layout = layout.clone();
        let thread = thread::Builder::new().name("bare-server".to_owned()).spawn(move || {
            layout.pin_server();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let router = Router::new().route("/", get(|| async { "ok" }));
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.context("the bare server"),
                    // Dropping the sender counts as well.
                    _ = stopped => Ok(()),
                }
            })
        })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// It has ended before, and why.
    fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.take();
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .unwrap_or(Ok(Ok(())))
            .map_err(|_| anyhow!("the bare server panicked"))?
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // An error that is under way says more than this one.
        let _ = self.end();
    }
}

/// Answers on the connections that wait to be accepted, until all of them are closed.
fn respond(listener: &TcpListener) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..CONNECTIONS {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        connections.push(Some(stream));
    }
    let mut events = Events::with_capacity(CONNECTIONS);
    let mut buffer = [0; 4096];
    let mut open = CONNECTIONS;
    while open > 0 {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            let Some(stream) = &mut connections[event.token().0] else {
                continue;
            };
            let read = loop {
                match stream.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            match read {
                // The generator sends one request at a time, and the end of its head is the end of it.
                Ok(n) if n > 0 => {
                    if buffer[..n].ends_with(b"\r\n\r\n") {
                        stream.write_all(ANSWER)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    connections[event.token().0] = None;
                    open -= 1;
                }
            }
        }
    }
    Ok(())
}
