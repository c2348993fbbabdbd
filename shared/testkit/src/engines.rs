//! Real engines for tests, from wherever this machine has them.
//!
//! A test that talks to a fake Redis proves that the fake works. So a test asks for
//! the URL of a real one:
//!
//! ```no_run
//! let url = testkit::engines::redis();     // an empty logical database
//! let url = testkit::engines::postgres();  // a new, empty database
//! ```
//!
//! and gets the first of these that there is:
//!
//! 1. the server named by `TEST_REDIS_URL` or `TEST_POSTGRES_URL`. **It is emptied**: Redis
//!    from the logical database in the URL upwards, while Postgres only gets databases
//!    named `loadbearing_test_*` and loses those of dead test processes;
//! 2. a server binary of this machine, started on a free port in a temporary folder;
//! 3. a container.
//!
//! If there is none, the test *fails*, in one line that says what to do. It does not
//! skip: a test run that quietly proves less than it claims is worse than a red one.
//!
//! A Redis Cluster has no logical databases, so a test has a whole one to itself: [`redis_cluster`].
//!
//! One server is shared by all tests of a test binary, and each call has a database of
//! its own in it. The server ends with the process, however that ends
//! (the crate `engines` says how). A test that wants to kill or freeze a server takes one of
//! its own: [`Engine`].
//!
//! Each call leaves a line in the file that `ENGINE_REPORT` names: engine, where it came
//! from, version, test. From these `make test` says what its engine tests ran on.

mod cluster;
mod container;
mod own;
mod postgres;
mod redis;

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use ::engines::{Installed, Keeper, Kind};

pub use self::cluster::{Cluster, redis_cluster};
pub use self::own::Engine;

/// The URL of an empty logical database on a real Redis. The module says where from.
///
/// # Panics
/// When there is no Redis to be had: the test fails.
pub fn redis() -> String {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let shared = SHARED.get_or_init(|| Shared::find(&REDIS));
    or_fail(shared.as_ref().map_err(Clone::clone).and_then(|server| {
        report(REDIS.kind, server.source, &server.version);
        redis::fresh_database(&server.url, &TAKEN)
    }))
}

/// The URL of a new, empty database on a real Postgres, owned by a superuser. The module
/// says where from.
///
/// # Panics
/// When there is no Postgres to be had: the test fails.
pub fn postgres() -> String {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let shared = SHARED.get_or_init(|| {
        let server = Shared::find(&POSTGRES)?;
        postgres::sweep(&server.url)?;
        Ok(server)
    });
    or_fail(shared.as_ref().map_err(Clone::clone).and_then(|server| {
        report(POSTGRES.kind, server.source, &server.version);
        postgres::fresh_database(&server.url, &TAKEN)
    }))
}

fn or_fail(url: Result<String, String>) -> String {
    url.unwrap_or_else(|problem| panic!("{problem}"))
}

/// Where to look for one engine.
struct Sources {
    kind: &'static Kind,
    variable: &'static str,
    /// Appended to the command line of a local server that a test binary shares.
    shared_args: &'static [&'static str],
    container: fn() -> Result<(String, Keeper), String>,
    /// Asks a running server for its version.
    version: fn(url: &str) -> Result<String, String>,
}

const REDIS: Sources = Sources {
    kind: &::engines::REDIS,
    variable: "TEST_REDIS_URL",
    shared_args: redis::MANY_DATABASES,
    container: container::redis,
    version: redis::version,
};

const POSTGRES: Sources = Sources {
    kind: &::engines::POSTGRES,
    variable: "TEST_POSTGRES_URL",
    shared_args: postgres::SHARED,
    container: container::postgres,
    version: postgres::version,
};

/// A running server that all tests of this process share.
struct Shared {
    url: String,
    source: &'static str,
    version: String,
    /// What ends the server with this process; a server from the environment has none.
    _kept: Option<Kept>,
}

/// Held, never read: what matters is the pipe that closes when this process ends.
enum Kept {
    Local { _engine: Engine },
    Container { _keeper: Keeper },
}

impl Shared {
    fn find(sources: &Sources) -> Result<Self, String> {
        let from_environment = std::env::var(sources.variable).ok().filter(|url| !url.is_empty());
        Self::from_first(sources, from_environment, sources.kind.find())
    }

    fn from_first(
        sources: &Sources,
        from_environment: Option<String>,
        installed: Option<Installed>,
    ) -> Result<Self, String> {
        let (source, url, kept) = if let Some(url) = from_environment {
            (sources.variable, url, None)
        } else if let Some(installed) = installed {
            let engine = Engine::start(&installed, sources.shared_args)?;
            (
                "local server",
                engine.url().to_owned(),
                Some(Kept::Local { _engine: engine }),
            )
        } else {
            let (url, keeper) = (sources.container)().map_err(|problem| nothing_found(sources, &problem))?;
            ("container", url, Some(Kept::Container { _keeper: keeper }))
        };
        let version = (sources.version)(&url)?;
        Ok(Self {
            url,
            source,
            version,
            _kept: kept,
        })
    }
}

/// One line for the closing words of `make test`. Without `ENGINE_REPORT`, none.
fn report(kind: &Kind, source: &str, version: &str) {
    let Some(file) = std::env::var_os("ENGINE_REPORT") else {
        return;
    };
    let line = report_line(kind.name, source, version);
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut report| report.write_all(line.as_bytes())); // one write: lines of parallel tests do not mix
    written.unwrap_or_else(|error| panic!("cannot write to ENGINE_REPORT={}: {error}", file.display()));
}

/// Engine, source, version and test, with tabs between.
///
/// The test harness names each thread after its test.
fn report_line(engine: &str, source: &str, version: &str) -> String {
    let binary = std::env::current_exe().ok();
    let binary = binary
        .as_deref()
        .and_then(Path::file_stem)
        .unwrap_or_default()
        .to_string_lossy();
    let binary = binary
        .rsplit_once('-')
        .filter(|(_, hash)| hash.len() == 16)
        .map_or(&*binary, |(name, _)| name);
    let thread = std::thread::current();
    format!(
        "{engine}\t{source}\t{version}\t{binary}::{}\n",
        thread.name().unwrap_or("unnamed")
    )
}

fn nothing_found(sources: &Sources, container: &str) -> String {
    format!(
        "no {name} for this test: run `make deps` ({variable} is not set, there is no {binary}, and no container: {container})",
        name = sources.kind.name,
        variable = sources.variable,
        binary = sources.kind.binary,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_to_be_had_one_line_says_what_to_do() {
        for sources in [REDIS, POSTGRES] {
            let sources = Sources {
                container: || Err("no Docker".to_owned()),
                ..sources
            };
            let problem = Shared::from_first(&sources, None, None).err().unwrap();
            assert!(
                problem.contains("make deps") && problem.contains(sources.variable),
                "{problem}"
            );
            assert_eq!(problem.lines().count(), 1);
        }
    }

    #[test]
    fn the_environment_comes_first_and_must_answer() {
        let dead = "redis://127.0.0.1:1".to_owned();
        let problem = Shared::from_first(&REDIS, Some(dead), REDIS.kind.find()).err().unwrap();
        assert!(problem.contains("redis://127.0.0.1:1"), "{problem}");
    }

    #[test]
    fn a_report_line_names_the_test() {
        let line = report_line("Redis", "local server", "7.0.15");
        let fields: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!(fields[..3], ["Redis", "local server", "7.0.15"]);
        assert!(
            fields[3].ends_with("::engines::tests::a_report_line_names_the_test"),
            "{line}"
        );
    }
}
