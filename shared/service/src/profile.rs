//! `GET /lab/profile`: where this process spends its CPU time, as folded stacks. Only with `--lab`.
//!
//! While a profile is taken, the kernel sends SIGPROF after each slice of CPU time that the process uses (`ITIMER_PROF`), and
//! the handler notes the stack of the thread that was running. Who waits uses no CPU and is not seen: this is a profile of
//! work, not of time. A sample inside a system call shows the call; what the kernel does in it has no frames here.
//!
//! The answer has one line a stack, root first: `frame;frame;frame count`, as flame graph tools read it. A frame is a
//! function's path. Where the debug information has only the function's bare name (code of a library), the path is that of
//! the file which the function was written in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use rustix::time::{ClockId, clock_gettime};

use crate::problem::Problem;

/// What may be asked for: seconds of wall time, and samples a second of CPU time.
const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=30.0;
const HZ: std::ops::RangeInclusive<i32> = 1..=999;

/// The CPU time after which a first sample was taken for sure: five ticks of the slowest kernel clock.
const FIRST_SAMPLE: Duration = Duration::from_millis(50);

/// The route of a server that may be profiled.
pub(crate) fn router() -> Router {
    prepare();
    Router::new().route("/lab/profile", get(profile))
}

/// Takes one sample before the service serves. The sampler reads the unwind tables when it is first used, which is in the
/// signal handler, and there allocating is safe only while no thread holds the allocator's lock. Now none does: this one
/// counts, the others have nothing to do yet.
fn prepare() {
    let Ok(_guard) = ProfilerGuardBuilder::default().frequency(*HZ.end()).build() else {
        return; // a profile that is asked for will say so
    };
    let start = used();
    while used().saturating_sub(start) < FIRST_SAMPLE {
        std::hint::spin_loop();
    }
}

/// CPU time of this thread so far.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

async fn profile(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let Wanted { seconds, hz } = Wanted::parse(query.as_deref().unwrap_or_default()).map_err(bad_query)?;
    let guard = match ProfilerGuardBuilder::default().frequency(hz).build() {
        Ok(guard) => guard,
        Err(pprof::Error::Running) => return Err(running()),
        Err(error) => return Err(failed(&error)),
    };
    // A client that goes away takes the guard along, which ends the sampling.
    tokio::time::sleep(seconds).await;
    // Names are looked up in the debug information, which takes long enough to hold up requests.
    let stacks = tokio::task::spawn_blocking(move || folded(&guard)).await;
    let stacks = stacks
        .map_err(|_| Problem::internal())?
        .map_err(|error| failed(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], stacks).into_response())
}

fn bad_query(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", "The query cannot be understood").detail(detail)
}

fn running() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "profile_running",
        "A profile is being taken already",
    )
}

fn failed(error: &pprof::Error) -> Problem {
    tracing::error!(%error, "cannot take a profile");
    Problem::internal()
}

/// What a query asks for.
#[derive(Debug, PartialEq)]
struct Wanted {
    seconds: Duration,
    hz: i32,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, String> {
        let (mut seconds, mut hz) = (5.0, 199);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("seconds", value)) => seconds = within(value, SECONDS).ok_or("seconds: from 0.1 to 30")?,
                Some(("hz", value)) => hz = within(value, HZ).ok_or("hz: a whole number from 1 to 999")?,
                _ => return Err("there is seconds=N and hz=N".to_owned()),
            }
        }
        Ok(Self {
            seconds: Duration::from_secs_f64(seconds),
            hz,
        })
    }
}

fn within<T: std::str::FromStr + PartialOrd>(text: &str, range: std::ops::RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|value| range.contains(value))
}

fn folded(guard: &ProfilerGuard<'_>) -> pprof::Result<String> {
    let report = guard.report().build()?;
    // Stacks that differ in their addresses only, or in their threads, are one.
    let mut counts: BTreeMap<String, isize> = BTreeMap::new();
    for (stack, count) in &report.data {
        let symbols = stack.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
        let frames: Vec<String> = symbols
            .map(|symbol| frame(&symbol.name(), &symbol.filename()))
            .collect();
        if !frames.is_empty() {
            *counts.entry(frames.join(";")).or_default() += count;
        }
    }
    let mut text = String::new();
    for (stack, count) in counts {
        let _ = writeln!(text, "{stack} {count}"); // a String takes everything
    }
    Ok(text)
}

/// The function's path, in the characters that a folded stack allows.
fn frame(name: &str, file: &str) -> String {
    let name = name.replace(';', ",").replace(['\n', '\r'], " ");
    let path = name.split(['<', '{', '(']).next().unwrap_or_default();
    // `<T as Trait>::f` begins with its path; `f<T>`, `f` and `{closure}` have none.
    if name.starts_with('<') || path.contains("::") {
        return name;
    }
    match module(file) {
        Some(module) => format!("{module}::{name}"),
        None => name,
    }
}

/// The module that a library's source file is: `tokio::runtime::park` for `.../tokio-1.54.1/src/runtime/park.rs`, likewise for
/// the standard library; of a file in another language only the library.
fn module(file: &str) -> Option<String> {
    let (library, rest) = match file.split_once("/library/") {
        Some((_, rest)) => rest.split_once('/')?,
        None => {
            let folder = file.split('/').rev().skip(1).find(|folder| library(folder).is_some())?;
            (library(folder)?, file.rsplit_once(folder)?.1.trim_start_matches('/'))
        }
    };
    let inner = rest.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs"));
    let modules = inner
        .unwrap_or_default()
        .split('/')
        .filter(|name| !matches!(*name, "" | "lib" | "mod"));
    let path: Vec<&str> = std::iter::once(library).chain(modules).collect();
    Some(path.join("::").replace('-', "_"))
}

/// The library whose source folder has this name, like `tokio-1.54.1`.
fn library(folder: &str) -> Option<&str> {
    let (name, version) = folder.rsplit_once('-')?;
    (version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_bounds_and_nothing_that_is_not_known() {
        let wanted = |seconds, hz| {
            Ok(Wanted {
                seconds: Duration::from_secs_f64(seconds),
                hz,
            })
        };
        assert_eq!(Wanted::parse(""), wanted(5.0, 199));
        assert_eq!(Wanted::parse("seconds=0.1&hz=999"), wanted(0.1, 999));
        for bad in [
            "seconds=0",
            "seconds=31",
            "seconds=nan",
            "seconds=-1",
            "seconds=",
            "hz=0",
            "hz=1000",
            "hz=1.5",
            "hz",
            "a=1",
        ] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bare_name_gets_its_path_from_its_file() {
        let tokio = "/home/a/registry/src/index/tokio-1.54.1/src/runtime/park.rs";
        assert_eq!(frame("park", tokio), "tokio::runtime::park::park");
        assert_eq!(
            frame("{closure#0}<a::b>", tokio),
            "tokio::runtime::park::{closure#0}<a::b>"
        );
        assert_eq!(frame("tokio::a::park", tokio), "tokio::a::park");
        assert_eq!(frame("<a::B as c::D>::e", tokio), "<a::B as c::D>::e");
        assert_eq!(
            frame("with<a::b>", "/rustc/59807616/library/core/src/ops.rs"),
            "core::ops::with<a::b>"
        );
        assert_eq!(
            frame("sqlite3_step", "/x/libsqlite3-sys-0.38.1+3.51/sqlite3/sqlite3.c"),
            "libsqlite3_sys::sqlite3_step"
        );
        assert_eq!(frame("main", "Unknown"), "main");
        assert_eq!(frame("main", "designs/url-shortener/src/main.rs"), "main");
    }

    #[test]
    fn a_frame_never_breaks_its_line() {
        assert_eq!(frame("a::f<[u8; 4]>\n", ""), "a::f<[u8, 4]> ");
    }
}
