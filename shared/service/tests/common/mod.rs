//! A service to test: this test binary itself, started again with `SERVE` set, which then is a server and nothing else.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part of these helpers"
)]

pub(crate) mod probe;

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use clap::Parser;
use http::Method;
use http_body_util::BodyExt as _;
use service::{Class, Host, Routes, ServiceConfig};
use testkit::http::Answer;
use testkit::server::Server;
use tokio_stream::StreamExt as _;
use utoipa::OpenApi;

/// Starts the service under test with these flags, on free ports.
pub(crate) fn start(flags: &[&str]) -> Server {
    Server::spawn(command(flags))
}

/// The command that [`start`] runs.
pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut arguments = vec![
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--workers",
        "2",
    ];
    arguments.extend(flags);
    command
        .args(["server_under_test", "--exact", "--nocapture"])
        .env("SERVE", arguments.join(" "));
    command
}

/// Serves and ends the process, if this is the process that was started for it.
pub(crate) fn serve_if_asked() {
    let Ok(arguments) = std::env::var("SERVE") else {
        return;
    };
    let flags = Flags::parse_from(std::iter::once("service").chain(arguments.split(' ')));
    let code = service::run(&flags.service, async |host| build(&host));
    // libtest would make an exit code of its own out of it.
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Flags {
    #[command(flatten)]
    service: ServiceConfig,
}

#[derive(OpenApi)]
#[openapi(paths(fast, slow, busy, panics, echo, bulk, ticks))]
struct Document;

fn build(host: &Host) -> anyhow::Result<Routes> {
    host.lifecycle.spawn("flush", |stopping| async move {
        stopping.requested().await;
        eprintln!("flushed");
    });
    Ok(Routes::new(Document::openapi())
        .add(Class::Read, Method::GET, "/fast", fast)
        .add(Class::Read, Method::GET, "/slow/{ms}", slow)
        .add(Class::Read, Method::GET, "/busy", busy)
        .add(Class::Read, Method::GET, "/panic", panics)
        .add(Class::Write, Method::POST, "/echo", echo)
        .add(Class::Bulk, Method::POST, "/bulk", bulk)
        .add(Class::Stream, Method::GET, "/ticks", ticks)
        .grpc(probe::Probe, &probe::METHODS)
        .with_state(()))
}

#[utoipa::path(get, path = "/fast")]
async fn fast() -> &'static str {
    "fast"
}

#[utoipa::path(get, path = "/slow/{ms}")]
async fn slow(request: Request) -> Response {
    let ms = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Response::default()
}

#[utoipa::path(get, path = "/busy")]
async fn busy() -> String {
    count_for_a_while().to_string()
}

/// Uses a few milliseconds of CPU time, in no function but itself.
#[inline(never)]
fn count_for_a_while() -> u64 {
    let mut state = std::hint::black_box(1_u64);
    let mut left = 2_000_000_u32;
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        left -= 1;
    }
    state
}

#[utoipa::path(get, path = "/panic")]
async fn panics() -> Response {
    panic!("on purpose")
}

#[utoipa::path(post, path = "/echo")]
async fn echo(request: Request) -> String {
    request
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .len()
        .to_string()
}

#[utoipa::path(post, path = "/bulk")]
async fn bulk(request: Request) -> String {
    echo(request).await
}

/// One line, and then nothing for ever.
#[utoipa::path(get, path = "/ticks")]
async fn ticks() -> Response {
    let lines = tokio_stream::once(Ok::<_, std::convert::Infallible>("tick\n")).chain(tokio_stream::pending());
    Response::new(axum::body::Body::from_stream(lines))
}

/// POST of plain bytes.
pub(crate) fn post(addr: SocketAddr, path: &str, body: &[u8]) -> Answer {
    testkit::http::request(addr, "POST", path, &[], body).unwrap()
}

/// Checks that an answer is a problem of this status and outcome, whole and of the documented shape.
pub(crate) fn assert_problem(answer: &Answer, status: u16, outcome: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["outcome"]),
        (&status.into(), &outcome.into()),
        "{body}"
    );
    for member in ["type", "title", "instance", "code"] {
        assert!(body[member].is_string(), "no {member} in {body}");
    }
}

/// What `work` answers, from `n` threads at once, in no order.
pub(crate) fn in_parallel<T: Send + 'static>(n: usize, work: impl Fn(usize) -> T + Clone + Send + 'static) -> Vec<T> {
    let threads: Vec<_> = (0..n)
        .map(|i| {
            let work = work.clone();
            thread::spawn(move || work(i))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Waits until something holds, or fails after 20 s.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

/// A figure from the metrics page.
pub(crate) fn gauge(server: &Server, name: &str) -> f64 {
    let page = testkit::http::get(server.admin(), "/metrics").unwrap();
    let line = page
        .text()
        .lines()
        .find(|line| line.starts_with(name))
        .map(str::to_owned);
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}
