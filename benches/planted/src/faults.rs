//! The faults, one an item: what is wrong, and what the lab has to say about it.
//!
//! Times are chosen so that each service breaks between a few hundred and a few thousand requests a second, far below what
//! the HTTP around it carries on one core: then nothing but the fault can give first.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use http::StatusCode;
use ledger::Resource;
use serde::Serialize;
use service::Host;
use tokio::sync::{mpsc, oneshot};

use crate::parts::{Gate, Remote, spin};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Every request computes for 200 us: the CPU
    CpuInHandler,
    /// Every request writes a long list as JSON: the CPU
    CpuInSerialisation,
    /// One lock around a call to another service
    GlobalLock,
    /// A lock a key, and nine of ten requests want the same key
    HotKeyLock,
    /// A fast store behind a pool of one connection
    OneConnection,
    /// A store that gets slower the more it is asked at once, behind a pool that is never used up
    SlowStore,
    /// One writer that syncs each write to the disk
    SyncedWriter,
    /// A bounded queue with one consumer
    OneConsumer,
    /// Too few threads: each request blocks the one that it runs on
    FewWorkers,
    /// A store that reads all of its data each time, and the data grow
    GrowingStore,
    /// Twenty calls to the store for one request
    ChattyStore,
    /// A quarter of a megabyte an answer: the CPU, which copies it
    LargeResponses,
    /// A rate limit: more than 1,500 requests a second are refused
    RateLimit,
    /// A background job takes half of the core: the CPU
    BackgroundWork,
    /// Nothing: an answer takes 50 ms whoever asks, and the rig is the limit
    Nothing,
}

/// A service with its fault.
pub(crate) enum Planted {
    Spins,
    Serialises(Vec<Item>),
    Gated {
        gate: Gate,
        remote: Remote,
        call: Duration,
        calls: u32,
    },
    Striped {
        locks: Vec<Gate>,
        remote: Remote,
    },
    Crowded {
        store: Gate,
        remote: Remote,
        inside: AtomicU32,
    },
    Writes(Worker),
    Consumes(Worker),
    Blocks,
    Scans {
        store: Gate,
        remote: Remote,
        calls: AtomicU64,
    },
    Fills,
    Limited(Arc<Bucket>),
    Shares,
    Waits(Remote),
}

/// A row of the long list.
#[derive(Serialize)]
pub(crate) struct Item {
    id: u64,
    name: String,
    price: f64,
    tags: [&'static str; 3],
}

/// The stripes of the lock a key.
const STRIPES: u64 = 64;
/// What the rate limit lets through a second.
const LIMIT: u64 = 1_500;

impl Planted {
    /// Plants the fault.
    pub(crate) fn new(fault: Fault, pool: u32, data: &Path, host: &Host) -> anyhow::Result<Self> {
        let gate = |places: u32, name, unit| Gate::new(places, host.ledger.resource(name, unit, f64::from(places)));
        let gated = |gate, micros, calls| Self::Gated {
            gate,
            remote: Remote::new(),
            call: Duration::from_micros(micros),
            calls,
        };
        Ok(match fault {
            Fault::CpuInHandler => Self::Spins,
            Fault::CpuInSerialisation => Self::Serialises((0..600).map(item).collect()),
            Fault::GlobalLock => gated(gate(1, "global_lock", "locks"), 500, 1),
            Fault::HotKeyLock => {
                let resource = host.ledger.resource("key_locks", "locks", STRIPES as f64);
                Self::Striped {
                    locks: (0..STRIPES).map(|_| Gate::new(1, resource.clone())).collect(),
                    remote: Remote::new(),
                }
            }
            Fault::OneConnection => gated(gate(pool, "pool", "connections"), 400, 1),
            Fault::SlowStore => Self::Crowded {
                store: gate(512, "store", "connections"),
                remote: Remote::new(),
                inside: AtomicU32::new(0),
            },
            Fault::SyncedWriter => {
                std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
                let path = data.join("log");
                let log = OpenOptions::new().create(true).append(true).open(&path);
                let log = log.with_context(|| format!("cannot open {}", path.display()))?;
                Self::Writes(Worker::start(host, "writer", "writers", 256, Job::Sync(log)))
            }
            Fault::OneConsumer => Self::Consumes(Worker::start(host, "consumer", "consumers", 64, Job::Sleep)),
            Fault::FewWorkers => Self::Blocks,
            Fault::GrowingStore => Self::Scans {
                store: gate(1, "store", "connections"),
                remote: Remote::new(),
                calls: AtomicU64::new(0),
            },
            Fault::ChattyStore => gated(gate(8, "store", "connections"), 200, 20),
            Fault::LargeResponses => Self::Fills,
            Fault::RateLimit => Self::Limited(Bucket::start(host)),
            Fault::BackgroundWork => {
                thread::spawn(|| {
                    loop {
                        spin(Duration::from_millis(5));
                        thread::sleep(Duration::from_millis(5));
                    }
                });
                Self::Shares
            }
            Fault::Nothing => Self::Waits(Remote::new()),
        })
    }

    /// Serves one request.
    pub(crate) async fn work(&self, key: u64) -> Response {
        match self {
            Self::Spins => spin(Duration::from_micros(200)),
            Self::Serialises(items) => return axum::Json(items).into_response(),
            Self::Gated {
                gate,
                remote,
                call,
                calls,
            } => {
                for _ in 0..*calls {
                    let _pass = gate.enter().await;
                    remote.call(*call).await;
                }
            }
            Self::Striped { locks, remote } => {
                if let Some(lock) = locks.get((key % STRIPES) as usize) {
                    let _pass = lock.enter().await;
                    remote.call(Duration::from_micros(500)).await;
                }
            }
            Self::Crowded { store, remote, inside } => {
                let _pass = store.enter().await;
                // The more are inside, the longer each takes: 1,600 a second at the very most.
                let crowd = inside.fetch_add(1, Ordering::Relaxed) + 1;
                remote
                    .call(Duration::from_micros(5_000) + Duration::from_micros(625) * crowd)
                    .await;
                inside.fetch_sub(1, Ordering::Relaxed);
            }
            Self::Writes(worker) | Self::Consumes(worker) => worker.done().await,
            Self::Blocks => thread::sleep(Duration::from_millis(1)),
            Self::Scans { store, remote, calls } => {
                let _pass = store.enter().await;
                // One request in twenty adds a row.
                let rows = 10_000 + calls.fetch_add(1, Ordering::Relaxed) / 20;
                remote
                    .call(Duration::from_micros(100) + Duration::from_nanos(20 * rows))
                    .await;
            }
            Self::Fills => return format!("{key:<64}").repeat(4_096).into_response(),
            Self::Limited(bucket) => {
                if !bucket.take() {
                    return StatusCode::TOO_MANY_REQUESTS.into_response();
                }
            }
            Self::Shares => spin(Duration::from_micros(100)),
            Self::Waits(remote) => remote.call(Duration::from_millis(50)).await,
        }
        "done\n".into_response()
    }
}

fn item(id: u64) -> Item {
    Item {
        id,
        name: format!("the thing that has the number {id}"),
        price: id as f64 * 1.25,
        tags: ["plain", "useful", "in stock"],
    }
}

/// One that works on what others hand over, in order.
pub(crate) struct Worker {
    jobs: mpsc::Sender<(ledger::Moment, oneshot::Sender<()>)>,
    resource: Resource,
}

enum Job {
    Sync(File),
    Sleep,
}

impl Job {
    fn run(&mut self) {
        match self {
            // A full disk would show as errors of the design; here nobody reads the log.
            Self::Sync(log) => drop(
                log.write_all(b"a line that must not be lost\n")
                    .and_then(|()| log.sync_data()),
            ),
            Self::Sleep => thread::sleep(Duration::from_micros(450)),
        }
    }
}

impl Worker {
    fn start(host: &Host, name: &'static str, unit: &'static str, queue: usize, mut job: Job) -> Self {
        let resource = host.ledger.resource(name, unit, 1.0);
        let (jobs, mut queue) = mpsc::channel::<(ledger::Moment, oneshot::Sender<()>)>(queue);
        let worker = resource.clone();
        thread::spawn(move || {
            while let Some((since, done)) = queue.blocking_recv() {
                worker.end_wait(since);
                let mut held = worker.enter();
                if let Some(pause) = held.owes() {
                    thread::sleep(pause);
                    held.paid();
                }
                job.run();
                drop(held);
                // Who hung up does not want to know.
                let _ = done.send(());
            }
        });
        Self { jobs, resource }
    }

    async fn done(&self) {
        let (done, answer) = oneshot::channel();
        // The worker lives as long as the process. A wait begins when it cannot be broken off any more: the worker ends it.
        if let Ok(place) = self.jobs.reserve().await {
            place.send((self.resource.begin_wait(), done));
            let _ = answer.await;
        }
    }
}

/// A token bucket. In the ledger: `rate_limit`, busy for as long as the tokens take to come back that were used.
pub(crate) struct Bucket {
    missing: AtomicU64,
}

impl Bucket {
    /// The most tokens: 20 ms of them.
    const MOST: u64 = LIMIT / 50;

    fn start(host: &Host) -> Arc<Self> {
        let bucket = Arc::new(Self {
            missing: AtomicU64::new(0),
        });
        let refill = host.ledger.resource("rate_limit", "limits", 1.0);
        let filled = Arc::clone(&bucket);
        thread::spawn(move || {
            let mut part = 0;
            loop {
                // Tokens come back one after the other; as many as were used in the last two milliseconds, at once.
                let most = LIMIT / 500;
                let missing = filled.missing.load(Ordering::Relaxed).min(most);
                if missing == 0 {
                    thread::sleep(Duration::from_micros(200));
                    continue;
                }
                let mut held = refill.enter();
                held.serves(missing);
                if let Some(pause) = held.owes() {
                    thread::sleep(pause);
                    held.paid();
                }
                let begun = std::time::Instant::now();
                thread::sleep(Duration::from_secs_f64(missing as f64 / LIMIT as f64));
                // As many as the time was really worth, the rest of a token next time.
                part += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0) * LIMIT;
                drop(held);
                let tokens = (part / 1_000_000_000).min(filled.missing.load(Ordering::Relaxed));
                part %= 1_000_000_000;
                filled.missing.fetch_sub(tokens, Ordering::Relaxed);
            }
        });
        bucket
    }

    fn take(&self) -> bool {
        let taken = self
            .missing
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |missing| {
                (missing < Self::MOST).then_some(missing + 1)
            });
        taken.is_ok()
    }
}
