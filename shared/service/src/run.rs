//! From start to drain: the whole of a design's `main`.
//!
//! The address is bound first, so that a port that is taken is the first thing said; the stage is built next; then the two
//! lines that tools wait for are written; then it serves until SIGTERM or Ctrl-C. A second signal ends it at once.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ledger::{Ledger, Sample};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ServiceConfig;
use crate::guard::{Guard, Health};
use crate::lifecycle::Lifecycle;
use crate::listener::Listener;
use crate::metrics::{Metrics, RouteMetrics};
use crate::routes::Routes;
use crate::slowing::{self, CPU, Drag, WORKERS};
use crate::{admin, docs, health, profile};

/// How long background tasks get to flush once the last request is answered.
const FLUSH: Duration = Duration::from_secs(2);

/// What the service gives to the design that runs in it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where adapters declare their resources.
    pub ledger: Ledger,
    /// What starts background tasks and ends them.
    pub lifecycle: Lifecycle,
}

/// Runs a design until it is told to stop: binds, lets `build` put the stage together, serves, drains.
///
/// Exit code 0 after a clean drain, 1 if something failed or requests had to be cut off, 2 for flags that contradict each
/// other. Every failure is one line on standard error. With `--health`, it only asks the server that runs already.
pub fn run(config: &ServiceConfig, build: impl AsyncFnOnce(Host) -> anyhow::Result<Routes>) -> ExitCode {
    if config.health {
        return match health::ask(config.admin_listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("error: not ready: {why}");
                ExitCode::FAILURE
            }
        };
    }
    if let Err(reason) = config.validate() {
        eprintln!("error: {reason}");
        return ExitCode::from(2);
    }
    log_to_stderr();
    let served = runtime(config)
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(serve(config, build)));
    match served {
        Ok(0) => ExitCode::SUCCESS,
        Ok(cut_off) => {
            eprintln!("error: {cut_off} requests were cut off at the drain deadline");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One worker needs no work stealing: the single-threaded runtime spares each request the hand-over.
fn runtime(config: &ServiceConfig) -> std::io::Result<tokio::runtime::Runtime> {
    let workers = config.worker_threads();
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build()
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    // A second call, in a test that runs several services, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Serves until a signal; the number of requests that were cut off.
async fn serve(
    config: &ServiceConfig,
    build: impl AsyncFnOnce(Host) -> anyhow::Result<Routes>,
) -> anyhow::Result<usize> {
    // The signals first: one that comes while the stage is built must not kill it half-way.
    let mut signals = Signals::new().context("cannot watch for signals")?;
    let socket = bind(config.listen).await?;
    let admin_socket = bind(config.admin_listen).await?;
    let address = socket.local_addr().context("the listener has no address")?;
    let admin_address = admin_socket.local_addr().context("the admin listener has no address")?;

    let host = Host {
        address,
        ledger: Ledger::new(),
        lifecycle: Lifecycle::new(),
    };
    let routes = tokio::select! {
        routes = build(host.clone()) => routes?,
        () = signals.next() => return Ok(0),
    };
    let also = match routes.other_address() {
        Some(also) => {
            config.validate_address(also.address).map_err(anyhow::Error::msg)?;
            Some((also.name, bind(also.address).await?))
        }
        None => None,
    };
    let health = Arc::new(Health::new(host.lifecycle.clone()));
    let (listener, admin) = listeners(config, &host, routes, &health)?;

    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(Arc::clone(&listener).serve(socket, stop.clone()));
    // Never stopped: an orchestrator asks it how the drain goes.
    tokio::spawn(admin.serve(admin_socket, CancellationToken::new()));
    health.started();
    eprintln!("listening on http://{address}");
    eprintln!("admin on http://{admin_address}");
    if let Some((name, socket)) = also {
        eprintln!("{name} on http://{}", socket.local_addr()?);
        serving.spawn(Arc::clone(&listener).serve(socket, stop.clone()));
    }

    signals.next().await;
    tracing::info!("draining");
    health.drain();
    stop.cancel();
    tokio::select! {
        cut_off = finish(config, &host, serving, &listener) => Ok(cut_off),
        () = signals.next() => anyhow::bail!("ended by a second signal"),
    }
}

/// Lets requests finish, then background tasks flush.
async fn finish(config: &ServiceConfig, host: &Host, mut serving: JoinSet<()>, listener: &Listener) -> usize {
    while let Some(served) = serving.join_next().await {
        if let Err(error) = served {
            tracing::error!(%error, "an accept loop failed");
        }
    }
    let cut_off = listener.drained(config.drain().saturating_sub(FLUSH)).await;
    if !host.lifecycle.stop(FLUSH).await {
        tracing::error!("a background task did not end in time: what it had not flushed is lost");
    }
    cut_off
}

fn listeners(
    config: &ServiceConfig,
    host: &Host,
    routes: Routes,
    health: &Arc<Health>,
) -> anyhow::Result<(Arc<Listener>, Arc<Listener>)> {
    let (routes, document) = routes.into_parts()?;
    let counts: Arc<[RouteMetrics]> = routes
        .iter()
        .map(|route| RouteMetrics::new(&route.method, &route.path))
        .collect();
    declare_cpu(&host.ledger, Arc::clone(&counts));
    declare_workers(&host.ledger, Arc::clone(&counts));
    let metrics = Arc::new(Metrics::new(&host.ledger, &counts));

    let others = docs::router(document).merge(admin::health(Arc::clone(health)));
    let paths = [&docs::PATHS[..], &admin::HEALTH_PATHS].concat();
    let drag = Arc::new(Drag::default());
    let guard = Guard::new(routes, others, &paths, counts, config, &host.ledger, Arc::clone(health))?;
    let guard = guard.dragged(Arc::clone(&drag));

    let mut admin = admin::router(Arc::clone(health), metrics);
    if config.lab {
        admin = admin
            .merge(slowing::router(host.ledger.clone(), drag))
            .merge(profile::router());
    }
    let aside = Ledger::new(); // looking at the service must not show in what is looked at
    let admin = Guard::new(Vec::new(), admin, &[], Arc::new([]), config, &aside, Arc::clone(health))?;
    Ok((
        Arc::new(Listener::new(guard, config)),
        Arc::new(Listener::new(admin, config)),
    ))
}

/// The CPU as a resource: what the kernel charged this process, over the requests it answered.
fn declare_cpu(ledger: &Ledger, routes: Arc<[RouteMetrics]>) {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    ledger.sampled(CPU, "cores", move || {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Sample {
            capacity: cores,
            operations: routes.iter().map(RouteMetrics::answered).sum(),
            busy_seconds: used.tv_sec as f64 + used.tv_nsec as f64 / 1e9,
        }
    });
}

/// The threads that serve requests: busy from when one wakes until it sleeps again, whether it works or is blocked.
fn declare_workers(ledger: &Ledger, routes: Arc<[RouteMetrics]>) {
    let runtime = tokio::runtime::Handle::current().metrics();
    ledger.sampled(WORKERS, "threads", move || {
        let threads = 0..runtime.num_workers();
        Sample {
            capacity: threads.len() as f64,
            operations: routes.iter().map(RouteMetrics::answered).sum(),
            busy_seconds: threads
                .map(|thread| runtime.worker_total_busy_duration(thread).as_secs_f64())
                .sum(),
        }
    });
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// SIGTERM and Ctrl-C, which mean the same here.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
