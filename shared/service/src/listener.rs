//! The accept loop: how a connection begins, what it may cost, and how it ends.
//!
//! axum's own `serve` has no header timer, no cap on connections and waits for ever at shutdown, so this loop stands on
//! hyper-util directly. Bounds for one connection: head at most 16 KiB and 64 headers, the first request's head within the
//! header timeout, any later one within it too (hyper has one timer for both, so it is also how long an idle connection is
//! kept), 100 streams on HTTP/2.
//!
//! # Shutdown
//!
//! ```text
//! SIGTERM    /readyz 503; answers say `Connection: close`; streams end; still accepting
//! + 250 ms   stop accepting, close idle connections; requests under way go on
//! ...        all connections gone: done
//! + 3 s      nothing under way any more, but clients hold on: leave them
//! + drain    leave, whatever is under way, and say how much it was
//! ```
//!
//! The first step is what keeps a promise: a request whose last byte was sent before SIGTERM is answered. Its bytes may
//! still lie in the socket, or its connection in the accept queue; closing at once would reset both.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ServiceConfig;
use crate::guard::Guard;

/// The most bytes a request's head may have.
const HEAD_BYTES: u32 = 16 << 10;
const HEAD_FIELDS: usize = 64;

/// How long to go on as if nothing had happened after SIGTERM, but for `Connection: close`.
const LAME_DUCK: Duration = Duration::from_millis(250);

/// How long clients with nothing under way may hold on to a connection once idle ones are closed.
const LINGER: Duration = Duration::from_secs(3);

/// Accepts connections and serves them through a guard.
pub(crate) struct Listener {
    guard: Arc<Guard>,
    http: auto::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    peers: Arc<Peers>,
    connections: TaskTracker,
    closing: CancellationToken,
    header_timeout: Duration,
    config: ServiceConfig,
}

/// Connections by address, for those addresses that are capped.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

impl Listener {
    pub(crate) fn new(guard: Guard, config: &ServiceConfig) -> Self {
        Self {
            guard: Arc::new(guard),
            http: http(config.header_timeout()),
            slots: Arc::new(Semaphore::new(config.max_connections.get())),
            peers: Arc::default(),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            header_timeout: config.header_timeout(),
            config: config.clone(),
        }
    }

    /// Serves until `stop` is cancelled, then a little longer (see the table above), then closes idle connections.
    /// Connections with a request under way outlive this call; [`Listener::drained`] waits for them.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener, stop: CancellationToken) {
        let end = async {
            stop.cancelled().await;
            tokio::time::sleep(LAME_DUCK).await;
        };
        let mut end = pin!(end);
        loop {
            // At the cap, accepting pauses: the kernel's queue is bounded, and beyond it clients see no answer to SYN.
            let slot = tokio::select! {
                () = &mut end => break,
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            let accepted = tokio::select! {
                () = &mut end => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip(), slot),
                Err(error) => pause_after(&error).await,
            }
        }
        drop(socket);
        self.closing.cancel();
        self.connections.close();
    }

    /// Waits until all connections are gone, until only idle clients hold on, or until `patience` runs out. Says how many
    /// requests were under way when it gave up.
    pub(crate) async fn drained(&self, patience: Duration) -> usize {
        let gone = self.connections.wait();
        if tokio::time::timeout(LINGER.min(patience), gone).await.is_ok() {
            return 0;
        }
        let deadline = tokio::time::Instant::now() + patience.saturating_sub(LINGER);
        while self.guard.under_way() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.guard.under_way()
    }

    fn admit(&self, stream: TcpStream, peer: IpAddr, slot: OwnedSemaphorePermit) {
        let capped = self.config.caps_peer(peer);
        if capped && !self.peers.join(peer, self.config.max_peer_connections) {
            return; // dropping the stream closes it
        }
        // Without it, Nagle's algorithm and delayed acknowledgements would make small answers wait for each other.
        let _ = stream.set_nodelay(true);
        let connection = self.converse(stream);
        let peers = Arc::clone(&self.peers);
        self.connections.spawn(async move {
            connection.await;
            if capped {
                peers.leave(peer);
            }
            drop(slot);
        });
    }

    /// One connection's life.
    fn converse(&self, stream: TcpStream) -> impl Future<Output = ()> + use<> {
        let guard = Arc::clone(&self.guard);
        let http = self.http.clone();
        let closing = self.closing.clone();
        let header_timeout = self.header_timeout;
        async move {
            let asked = AtomicBool::new(false);
            let service = service_fn(|request| {
                asked.store(true, Ordering::Relaxed);
                let guard = Arc::clone(&guard);
                async move { guard.answer(request).await }
            });
            let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
            // hyper starts its header timer once it knows which HTTP is spoken; until then this one watches.
            let mut first_request = pin!(tokio::time::sleep(header_timeout));
            let mut closed = pin!(closing.cancelled());
            let (mut watching, mut open, mut registered) = (true, true, false);
            // By hand and not by `select!`, which would ask the two timers at every wake-up of every connection. One
            // poll is enough to be woken; what woke us is then told by two flags.
            std::future::poll_fn(|cx| {
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if open && (!registered || guard.is_draining()) {
                    registered = true;
                    if closed.as_mut().poll(cx).is_ready() {
                        open = false;
                        connection.as_mut().graceful_shutdown();
                        if connection.as_mut().poll(cx).is_ready() {
                            return Poll::Ready(());
                        }
                    }
                }
                if watching {
                    watching = !asked.load(Ordering::Relaxed);
                    if watching && first_request.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            })
            .await;
        }
    }
}

fn http(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES as usize)
        .max_headers(HEAD_FIELDS);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(HEAD_BYTES)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(header_timeout)
        .keep_alive_timeout(header_timeout);
    http
}

/// After a failed accept: at once if the client went away, after a moment if we ran out of something.
async fn pause_after(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept connections for the moment");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Peers {
    fn join(&self, peer: IpAddr, most: usize) -> bool {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = peers.entry(peer).or_insert(0);
        let admitted = *connections < most;
        if admitted {
            *connections += 1;
        }
        admitted
    }

    fn leave(&self, peer: IpAddr) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = peers.get_mut(&peer) {
            *connections -= 1;
            if *connections == 0 {
                peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_capped_and_forgotten_when_it_is_gone() {
        let peers = Peers::default();
        let peer = IpAddr::from([192, 0, 2, 1]);
        assert!(peers.join(peer, 2));
        assert!(peers.join(peer, 2));
        assert!(!peers.join(peer, 2));
        peers.leave(peer);
        assert!(peers.join(peer, 2));
        peers.leave(peer);
        peers.leave(peer);
        assert!(peers.0.lock().unwrap().is_empty());
    }
}
