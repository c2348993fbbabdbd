//! What a server's CPU does at its knee: whose code runs, and which functions of ours are the hottest.
//!
//! The server samples its own stacks (`GET /lab/profile`, `shared/service/src/profile.rs`) and hands them over *folded*: one
//! line a stack, root first, `frame;frame;frame count`. What is done with them here is plain counting.
//!
//! **Three shares, which make one.** How much of the server's CPU time is the *kernel's* says the kernel (`/proc`), not the
//! samples: the stack of a sample in a system call ends at the call. Samples outside of system calls divide the rest by who
//! was at work: the asynchronous *runtime* (`POLLERS`, `HTTP`), or the *server*, which is our code and its libraries (a
//! database, a JSON parser). `at_work` says how that is seen.
//!
//! **Own and total.** A function of ours has in `total` the samples with it anywhere on the stack, and in `own` those in which
//! it was at work: itself, and what libraries and the kernel did for it. The hottest are the highest in `own`; by `total`,
//! `main` would always win. What the runtime does, its system calls included, is nobody's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use inferno::flamegraph::{self, Options};

use crate::http::{Client, Target};
use crate::output::climb::{HotFunction, ProfileReport};
use crate::platform;

/// Samples a second of CPU time: a prime number, so that it does not beat with what happens every so many milliseconds.
const HZ: u32 = 199;
/// How long the server may take to look its functions' names up.
const NAMES: Duration = Duration::from_secs(60);
/// How many functions are named.
const HOTTEST: usize = 5;

/// Crates of ours that a server is made of, beside its design's own.
const OURS: [&str; 3] = ["service", "ledger", "stores"];
/// The runtime that polls tasks, for timers and sockets. What it polls is not its work.
const POLLERS: [&str; 5] = ["tokio", "tokio_util", "mio", "futures_core", "futures_util"];
/// Where tokio decides what runs next: what lies further out has started it, and called nothing.
const SCHEDULER: &str = "tokio::runtime::";
/// HTTP as the runtime does it. What it calls is its work, until it calls a handler of ours.
const HTTP: [&str; 4] = ["hyper", "hyper_util", "h2", "httparse"];
/// The standard library, whose frames say nothing of who is at work.
const STD: [&str; 3] = ["std", "core", "alloc"];
/// Functions of the C library that are a system call and little else, without what libraries put around the names.
const SYSTEM_CALLS: [&str; 49] = [
    "accept",
    "accept4",
    "clock_nanosleep",
    "close",
    "connect",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "fallocate",
    "fcntl",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "getrandom",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "open",
    "openat",
    "poll",
    "ppoll",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "sched_yield",
    "send",
    "sendfile",
    "sendmsg",
    "sendto",
    "shutdown",
    "stat",
    "syscall",
    "unlink",
    "write",
    "writev",
    "lll_lock_wait",
    "lll_lock_wake",
];

/// Whether flame graphs can be written into a directory, which is made when it is not there.
///
/// # Errors
/// It cannot be made, or written into.
pub fn directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .and_then(|()| tempfile::tempfile_in(path))
        .with_context(|| format!("--profile: cannot write into {}", path.display()))?;
    Ok(())
}

/// Folded stacks of a server, and how its CPU time was divided meanwhile.
#[derive(Debug)]
pub struct Sampled {
    folded: String,
    /// The kernel's share of the CPU time, from 0 to 1; `None` where the system does not tell.
    kernel: Option<f64>,
}

/// Lets the server sample itself for `time`, which should be a busy one. Blocks for a little longer than that.
///
/// # Errors
/// The server gives no profile.
pub fn sample(admin: &Target, process: u32, time: Duration) -> Result<Sampled> {
    let path = format!("/lab/profile?seconds={}&hz={HZ}", time.as_secs_f64());
    let mut client = Client::new(admin.clone(), None).timeout(time + NAMES);
    let (answer, kernel) = thread::scope(|scope| {
        let before = platform::cpu_split(process);
        let asked = scope.spawn(|| client.get(&path));
        // Not until the answer: the server looks the names up first, which takes time of its CPU.
        thread::sleep(time);
        let after = platform::cpu_split(process);
        (asked.join(), kernel_share(before, after))
    });
    let answer = answer.map_err(|_| anyhow!("the thread that asks for a profile panicked"))??;
    ensure!(
        answer.status == 200,
        "the server gives no profile: {} {}",
        answer.status,
        answer.excerpt()
    );
    Ok(Sampled {
        folded: String::from_utf8_lossy(&answer.body).into_owned(),
        kernel,
    })
}

/// From CPU time in user code and in the kernel, before and after.
fn kernel_share(before: Option<[Duration; 2]>, after: Option<[Duration; 2]>) -> Option<f64> {
    let ([user, system], [user_after, system_after]) = (before?, after?);
    let (user, system) = (user_after.saturating_sub(user), system_after.saturating_sub(system));
    let all = (user + system).as_secs_f64();
    (all > 0.0).then(|| system.as_secs_f64() / all)
}

/// Writes the flame graph and says what is in it. `design` is the design's name, `rate` the arrivals a second.
///
/// # Errors
/// There is no sample, or the file cannot be written.
pub fn write(sampled: &Sampled, directory: &Path, design: &str, stage: &str, rate: f64) -> Result<ProfileReport> {
    let stacks = Stacks::parse(&sampled.folded);
    ensure!(stacks.samples() > 0, "the server was on no CPU while it was sampled");
    let path = directory.join(format!("{design}-{stage}.svg"));
    let mut svg = Vec::new();
    let mut options = Options::default();
    options.title = format!("{design}, stage {stage}, {rate:.0} arrivals/s: the server's CPU time");
    options.count_name = "samples".to_owned();
    options.deterministic = true;
    let lines = stacks.folded();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
        .and_then(|()| std::fs::write(&path, &svg))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut report = stacks.report(design, sampled.kernel);
    (report.file, report.svg) = (path.display().to_string(), String::from_utf8_lossy(&svg).into_owned());
    Ok(report)
}

/// Stacks with cleaned names, root first, and how often each was seen.
#[derive(Debug, Default, PartialEq)]
struct Stacks(BTreeMap<Vec<String>, u64>);

impl Stacks {
    /// Lines that are no folded stack are left out.
    fn parse(folded: &str) -> Self {
        let mut stacks = Self::default();
        for line in folded.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else { continue };
            let frames = without_plumbing(stack.split(';').filter(|name| !name.is_empty()).map(clean).collect());
            if count > 0 && !frames.is_empty() {
                *stacks.0.entry(frames).or_default() += count;
            }
        }
        stacks
    }

    fn samples(&self) -> u64 {
        self.0.values().sum()
    }

    fn folded(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(frames, count)| format!("{} {count}", frames.join(";")))
            .collect()
    }

    fn report(&self, design: &str, kernel: Option<f64>) -> ProfileReport {
        let ours: Vec<String> = OURS
            .iter()
            .map(ToString::to_string)
            .chain([design.replace('-', "_")])
            .collect();
        let mut seen = [0, 0, 0];
        let mut functions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (frames, count) in &self.0 {
            let of_ours = |frame: &&String| ours.iter().any(|name| name == krate(frame));
            let worker = at_work(frames, of_ours);
            let class = match worker {
                _ if frames.last().is_some_and(|frame| is_system_call(frame)) => 1,
                Worker::Ours(_) | Worker::Library => 0,
                Worker::Runtime => 2,
            };
            seen[class] += count;
            // A function that calls itself is on the stack once.
            for function in frames.iter().filter(of_ours).collect::<BTreeSet<_>>() {
                functions.entry(function).or_default().1 += count;
            }
            if let Worker::Ours(function) = worker {
                functions.entry(function).or_default().0 += count;
            }
        }
        let samples = self.samples();
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let [server, kernel_seen, runtime] = seen;
        let kernel = kernel.unwrap_or_else(|| share(kernel_seen, samples));
        let runtime = (1.0 - kernel) * share(runtime, server + runtime);
        let mut hottest: Vec<HotFunction> = functions
            .into_iter()
            .map(|(function, (own, total))| HotFunction {
                function: function.to_owned(),
                total: share(total, samples),
                own: share(own, samples),
            })
            .collect();
        hottest.sort_by(|a, b| b.own.total_cmp(&a.own).then(b.total.total_cmp(&a.total)));
        hottest.truncate(HOTTEST);
        ProfileReport {
            file: String::new(),
            svg: String::new(),
            samples,
            server: if samples == 0 { 0.0 } else { 1.0 - kernel - runtime },
            kernel,
            runtime,
            hottest,
        }
    }
}

/// Whose work a sample saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker<'a> {
    /// This function of ours.
    Ours(&'a str),
    /// A library on its own account, like a database's thread.
    Library,
    Runtime,
}

/// From the innermost frame outwards: the first that is of ours, or of the runtime and at work. A library works for whoever
/// called it, so it is passed over, up to the scheduler; what the runtime has only polled is not the runtime's.
fn at_work(frames: &[String], of_ours: impl Fn(&&String) -> bool) -> Worker<'_> {
    let mut polled = false;
    for frame in frames.iter().rev().filter(|frame| is_telling(frame)) {
        let poller = POLLERS.contains(&krate(frame));
        if of_ours(&frame) {
            return Worker::Ours(frame);
        }
        if HTTP.contains(&krate(frame)) || poller && !polled {
            return Worker::Runtime;
        }
        if frame.starts_with(SCHEDULER) {
            return Worker::Library;
        }
        polled |= !poller;
    }
    Worker::Library
}

/// The crate of a cleaned name; empty for what has none, like a function of the C library.
fn krate(frame: &str) -> &str {
    frame.split_once("::").map_or("", |(krate, _)| krate)
}

/// Whether a frame says who is at work.
fn is_telling(frame: &str) -> bool {
    let krate = krate(frame);
    !krate.is_empty() && !STD.contains(&krate)
}

fn is_system_call(frame: &str) -> bool {
    let name = frame
        .trim_start_matches("__GI_")
        .trim_start_matches("__libc_")
        .trim_start_matches('_');
    let name = name.strip_suffix("_nocancel").unwrap_or(name);
    let name = name.strip_suffix("64").unwrap_or(name);
    SYSTEM_CALLS.contains(&name)
}

/// Leaves out frames of the standard library that only pass a call on (`call_once`, `catch_unwind`), that is all above which
/// some crate is at work, and the repeats that cleaned names have.
fn without_plumbing(mut frames: Vec<String>) -> Vec<String> {
    if let Some(last) = frames.iter().rposition(|frame| is_telling(frame)) {
        let mut index = 0;
        frames.retain(|frame| {
            index += 1;
            index > last || is_telling(frame)
        });
    }
    frames.dedup();
    frames
}

/// A name for people: without its hash, its type parameters, and the braces of what the compiler has made out of it. A
/// closure and an `async fn` bear the name of the function that they are written in.
fn clean(name: &str) -> String {
    let name = match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    };
    let (head, rest) = match name.strip_prefix('<').and_then(closing) {
        Some((inner, rest)) => (of_type(inner), rest),
        None => (String::new(), name),
    };
    let mut path = head;
    for part in without_parameters(rest).split("::") {
        if !part.is_empty() && !part.starts_with('{') {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(part);
        }
    }
    if path.is_empty() {
        return name.to_owned();
    }
    if !path.contains("::") && rest.contains("::{") {
        // `tokio::{closure#0}`, whose function nobody knows: the crate alone would be no path.
        path.push_str("::closure");
    }
    path
}

/// Of `<T as Trait>` what is known: the type, or the trait when the type is only a parameter.
fn of_type(inner: &str) -> String {
    let (own, of) = split_as(inner);
    let own = own
        .trim_start_matches(['&', '*'])
        .trim_start_matches("mut ")
        .trim_start_matches("dyn ");
    if own.contains("::") {
        clean(own)
    } else {
        of.map_or_else(|| without_parameters(own), clean)
    }
}

/// What stands before the `>` that closes, and what behind it.
fn closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' && depth == 0 => return Some((&text[..at], &text[at + 1..])),
            '>' if before != '-' => depth -= 1,
            _ => (),
        }
        before = c;
    }
    None
}

/// At the ` as ` that is in no brackets.
fn split_as(text: &str) -> (&str, Option<&str>) {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                if let Some(of) = text[at..].strip_prefix(" as ") {
                    return (&text[..at], Some(of));
                }
            }
            _ => (),
        }
    }
    (text, None)
}

fn without_parameters(text: &str) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '<' | '(' => depth += 1,
            '>' if before == '-' => (),
            '>' | ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => (),
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server has sent them, shortened.
    const RECORDED: &str = "\
_start;main;service::run::run;tokio::runtime::scheduler::current_thread::CurrentThread::block_on;core::ops::call;url_shortener::http::redirect::{{closure}};url_shortener::codes::Permutation::permute 30
_start;main;service::run::run;tokio::runtime::scheduler::current_thread::CurrentThread::block_on;hyper::proto::h1::role::parse;core::slice::iter 20
_start;main;service::run::run;tokio::runtime::scheduler::current_thread::CurrentThread::block_on;mio::poll::Poll::poll;epoll_wait 25
_start;main;service::run::run;tokio::runtime::scheduler::current_thread::CurrentThread::block_on;url_shortener::http::redirect::{{closure}};<alloc::vec::Vec<T,A> as core::clone::Clone>::clone;_int_malloc 10
_start;clone3;url_shortener::store::run;libsqlite3_sys::sqlite3_step;__GI___libc_pwrite64 15
";

    fn report(folded: &str, kernel: Option<f64>) -> ProfileReport {
        Stacks::parse(folded).report("url-shortener", kernel)
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn shares_are_the_kernels_word_and_a_division_of_the_rest() {
        let found = report(RECORDED, Some(0.5));
        assert_eq!(found.samples, 100);
        // 60 samples outside of system calls: 40 of the server, 20 of the runtime.
        assert!(near(found.kernel, 0.5) && near(found.runtime, 0.5 / 3.0), "{found:?}");
        assert!(near(found.server + found.kernel + found.runtime, 1.0));
    }

    #[test]
    fn without_the_kernels_word_samples_in_system_calls_stand_for_it() {
        let found = report(RECORDED, None);
        assert!(
            near(found.kernel, 0.4) && near(found.runtime, 0.2) && near(found.server, 0.4),
            "{found:?}"
        );
    }

    #[test]
    fn the_hottest_are_ours_and_what_the_runtime_does_is_nobodys() {
        let hottest: Vec<(String, f64, f64)> = report(RECORDED, None)
            .hottest
            .into_iter()
            .map(|hot| (hot.function, hot.own, hot.total))
            .collect();
        let expected = [
            ("url_shortener::codes::Permutation::permute", 0.30, 0.30),
            ("url_shortener::store::run", 0.15, 0.15),
            ("url_shortener::http::redirect", 0.10, 0.40),
            ("service::run::run", 0.00, 0.85),
        ];
        assert_eq!(
            hottest,
            expected.map(|(name, own, total)| (name.to_owned(), own, total))
        );
    }

    #[test]
    fn a_library_works_for_whoever_called_it_and_not_for_who_polled_it() {
        let worker = |stack: &str| {
            let frames: Vec<String> = stack.split(' ').map(str::to_owned).collect();
            format!("{:?}", at_work(&frames, |frame| krate(frame) == "stores"))
        };
        for (stack, expected) in [
            ("tokio::task::poll stores::a bytes::grow malloc", "Ours(\"stores::a\")"),
            (
                "tokio::task::poll stores::a tokio::time::Timeout::poll redis::send bytes::grow",
                "Ours(\"stores::a\")",
            ),
            (
                "tokio::task::poll stores::a tokio::sync::mpsc::send core::swap",
                "Runtime",
            ),
            ("tokio::task::poll stores::a hyper::poll bytes::grow malloc", "Runtime"),
            ("tokio::task::poll redis::driver bytes::grow", "Library"),
            (
                "stores::main tokio::runtime::park::block_on redis::driver bytes::grow",
                "Library",
            ),
            (
                "stores::main tokio::runtime::park::block_on tokio::time::poll",
                "Runtime",
            ),
            ("tokio::runtime::park mio::poll epoll_wait", "Runtime"),
            ("clone3 libsqlite3_sys::sqlite3_step malloc", "Library"),
            ("clone3 malloc", "Library"),
        ] {
            assert_eq!(worker(stack), expected, "{stack}");
        }
    }

    #[test]
    fn a_function_that_calls_itself_is_counted_once() {
        let found = report(
            "stores::a;stores::b;stores::a;stores::b;stores::a 4\nstores::b 6\n",
            None,
        );
        let counted: Vec<(&str, f64, f64)> = found
            .hottest
            .iter()
            .map(|hot| (hot.function.as_str(), hot.own, hot.total))
            .collect();
        assert_eq!(counted, [("stores::b", 0.6, 1.0), ("stores::a", 0.4, 0.4)]);
    }

    #[test]
    fn at_most_five_are_named() {
        let folded: String = (0..9).map(|n| format!("stores::f{n} {}\n", n + 1)).collect();
        let found = report(&folded, None);
        let names: Vec<&str> = found.hottest.iter().map(|hot| hot.function.as_str()).collect();
        assert_eq!(
            names,
            ["stores::f8", "stores::f7", "stores::f6", "stores::f5", "stores::f4"]
        );
    }

    #[test]
    fn an_empty_profile_has_no_shares() {
        let found = report("", None);
        assert_eq!(
            (found.samples, found.server, found.kernel, found.runtime),
            (0, 0.0, 0.0, 0.0)
        );
        assert!(found.hottest.is_empty());
        let nothing = Sampled {
            folded: String::new(),
            kernel: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let error = write(&nothing, dir.path(), "d", "s", 1.0).unwrap_err();
        assert_eq!(error.to_string(), "the server was on no CPU while it was sampled");
    }

    #[test]
    fn lines_that_are_no_stack_are_left_out() {
        let folded =
            "no count\n;; 3\n 4\nservice::a -1\nservice::a 0\nservice::a 99999999999999999999999\n\nservice::a 2";
        assert_eq!(Stacks::parse(folded).folded(), ["service::a 2"]);
    }

    #[test]
    fn names_lose_what_only_the_compiler_needs() {
        for (name, cleaned) in [
            ("a::b::h0123456789abcdef", "a::b"),
            ("a::b::help", "a::b::help"),
            (
                "url_shortener::http::redirect::{{closure}}::{{closure}}",
                "url_shortener::http::redirect",
            ),
            ("exp::main::{async_block#0}", "exp::main"),
            (
                "tokio::runtime::task::core::Core<T,S>::poll",
                "tokio::runtime::task::core::Core::poll",
            ),
            ("std::sys::run::<std::sys::File, fn(i32) -> Vec<u8>>", "std::sys::run"),
            ("<std::fs::File as std::io::Read>::read", "std::fs::File::read"),
            (
                "<&mut alloc::string::String as core::fmt::Write>::write_str",
                "alloc::string::String::write_str",
            ),
            (
                "<A as core::slice::cmp::SliceOrd>::compare",
                "core::slice::cmp::SliceOrd::compare",
            ),
            ("<a::F<T> as b::C<D as E>>::call", "a::F::call"),
            (
                "core::slice::cmp::<impl core::cmp::PartialOrd for [A]>::lt",
                "core::slice::cmp::lt",
            ),
            ("tokio::{closure#0}<a::b::{closure_env#0}>", "tokio::closure"),
            ("tokio::with_budget<(), a::b>", "tokio::with_budget"),
            ("__libc_open64", "__libc_open64"),
            ("<broken", "<broken"),
            ("", ""),
        ] {
            assert_eq!(clean(name), cleaned, "{name}");
        }
    }

    #[test]
    fn system_calls_are_known_whatever_stands_around_their_names() {
        for name in [
            "epoll_wait",
            "__GI___libc_write",
            "__libc_open64",
            "__GI___close",
            "syscall",
            "__libc_pread64",
        ] {
            assert!(is_system_call(name), "{name}");
        }
        for name in [
            "_int_malloc",
            "__memcpy_avx_unaligned",
            "url_shortener::read",
            "std::io::write",
        ] {
            assert!(!is_system_call(name), "{name}");
        }
    }

    #[test]
    fn a_call_that_is_only_passed_on_is_left_out_and_the_end_is_kept() {
        let frames = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            without_plumbing(frames(&[
                "_start",
                "std::rt::start",
                "a::b",
                "a::b",
                "core::call",
                "a::c",
                "core::clone",
                "malloc"
            ])),
            frames(&["a::b", "a::c", "core::clone", "malloc"])
        );
        assert_eq!(
            without_plumbing(frames(&["_start", "main"])),
            frames(&["_start", "main"])
        );
    }

    #[test]
    fn the_graph_is_written_where_it_was_asked_for_and_says_what_it_shows() {
        let dir = tempfile::tempdir().unwrap();
        let sampled = Sampled {
            folded: RECORDED.to_owned(),
            kernel: Some(0.4),
        };
        let found = write(&sampled, dir.path(), "url-shortener", "permuted", 1234.4).unwrap();
        let path = dir.path().join("url-shortener-permuted.svg");
        assert_eq!(found.file, path.display().to_string());
        let svg = std::fs::read_to_string(path).unwrap();
        assert_eq!(found.svg, svg, "the page shows it without the file");
        for part in [
            "url-shortener, stage permuted, 1234 arrivals/s",
            "Permutation::permute (30 samples, 30.00%)",
            "</svg>",
        ] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_said_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        directory(&dir.path().join("a/b")).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = format!("{:#}", directory(&file).unwrap_err());
        assert!(
            error.starts_with("--profile: cannot write into ") && error.lines().count() == 1,
            "{error}"
        );
    }

    #[test]
    fn the_kernels_share_is_of_the_time_between() {
        let ms = Duration::from_millis;
        let share = |before, after| kernel_share(Some(before), Some(after));
        assert_eq!(share([ms(100), ms(50)], [ms(400), ms(150)]), Some(0.25));
        assert_eq!(share([ms(100), ms(50)], [ms(100), ms(50)]), None);
        assert_eq!(kernel_share(None, Some([ms(1), ms(1)])), None);
    }
}
