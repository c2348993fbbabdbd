//! An engine of one's own: a server binary on a free port, in a folder that goes with it.
//!
//! What differs between Redis and Postgres is data: [`Kind`]. The rest is one procedure:
//! find the binary, make a folder, start it under a [keeper](crate::keeper), read its log
//! until it says that it is ready. The log is the only witness that *this* process has the
//! port: a connection could as well be answered by a stranger who took it first. A port
//! that was taken between our asking and the engine's is tried again with another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::machine::{find_binary, free_port, make_folder, user_for_root};
use crate::keeper::{Keeper, RunAs};

/// How long an engine may take to say that it is ready. Recovery of a killed Postgres on a
/// busy two-core machine takes seconds; a minute means that it hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often a free port may turn out to be taken.
const PORT_TRIES: usize = 5;

/// What the procedure needs to know about one engine.
pub(super) struct Kind {
    /// As people write it, for messages.
    pub(super) name: &'static str,
    /// The server binary.
    pub(super) binary: &'static str,
    /// Where to look besides `PATH`: `(root, below)` means every `root/VERSION/below`.
    pub(super) beside_path: Option<(&'static str, &'static str)>,
    /// What the log says once connections are accepted.
    pub(super) ready: &'static str,
    /// What the log says when somebody else has the port.
    pub(super) port_taken: &'static str,
    /// The signal that ends it at once and leaves nothing behind.
    pub(super) end_signal: &'static str,
    /// Engines that refuse to run as root run as the first of these users that exists.
    pub(super) users_for_root: &'static [&'static str],
    /// Its command line.
    pub(super) args: fn(port: u16, folder: &Path) -> Vec<String>,
    /// What makes the folder ready before the first start.
    pub(super) prepare: fn(binary: &Path, folder: &Path, run_as: Option<RunAs>) -> Result<(), String>,
    /// The URL it answers at.
    pub(super) url: fn(port: u16) -> String,
    /// Asks it for its version.
    pub(super) version: fn(url: &str) -> Result<String, String>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A Redis or Postgres server that belongs to one test: it may be killed, frozen and
/// started again, and it is gone when this value is dropped or the test process dies.
#[derive(Debug)]
pub struct Engine {
    kind: &'static Kind,
    keeper: Keeper,
    url: String,
    folder: PathBuf,
    pid: u32,
}

impl Engine {
    /// A Redis of its own, in memory only, with `args` appended to its command line
    /// (`["--appendonly", "yes"]` for one that remembers).
    ///
    /// # Panics
    /// When there is no `redis-server` on this machine, or it does not start.
    pub fn own_redis(args: &[&str]) -> Self {
        Self::own(&super::redis::KIND, args)
    }

    /// A Postgres of its own, durable as Postgres is by default, with `args` appended to
    /// its command line (`["-c", "synchronous_commit=off"]`). The URL is that of the
    /// database `postgres`, its superuser, and needs no password.
    ///
    /// # Panics
    /// When there is no `postgres` on this machine, or it does not start.
    pub fn own_postgres(args: &[&str]) -> Self {
        Self::own(&super::postgres::KIND, args)
    }

    fn own(kind: &'static Kind, args: &[&str]) -> Self {
        let Some(binary) = find_binary(kind) else {
            panic!(
                "this test needs a {} of its own, and there is no {} here: run `make deps`",
                kind.name, kind.binary
            );
        };
        let engine = Self::start(kind, &binary, args).and_then(|engine| {
            super::report(kind, "local server", &(kind.version)(&engine.url)?);
            Ok(engine)
        });
        engine.unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// Starts `binary`, on another port as long as the port it was given is taken.
    pub(super) fn start(kind: &'static Kind, binary: &Path, args: &[&str]) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match Self::start_on(kind, binary, args, free_port()) {
                Ok(engine) => return Ok(engine),
                Err(Failure::PortTaken(port)) => last = format!("port {port} was taken"),
                Err(Failure::Other(problem)) => return Err(problem),
            }
        }
        Err(format!(
            "{} did not get a port in {PORT_TRIES} tries: {last}",
            kind.name
        ))
    }

    fn start_on(kind: &'static Kind, binary: &Path, args: &[&str], port: u16) -> Result<Self, Failure> {
        let run_as = user_for_root(kind)?;
        let folder = make_folder(kind, run_as)?;
        let mut command_line = (kind.args)(port, &folder);
        command_line.extend(args.iter().map(ToString::to_string));
        let mut keeper = Keeper::of(&folder, kind.end_signal, run_as, binary, &command_line)
            .map_err(|error| Failure::Other(format!("cannot run `sh` to keep {}: {error}", kind.name)))?;
        (kind.prepare)(binary, &folder, run_as)?;
        let pid = keeper.start();
        let mut engine = Self {
            kind,
            keeper,
            url: (kind.url)(port),
            folder,
            pid,
        };
        engine.wait_until_ready(0, port)?;
        Ok(engine)
    }

    /// Where it answers, for as long as it lives: a restart keeps the port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id, to look at. Signals go through the methods below.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The folder that holds its data and its `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `kill -9`, its children included. Returns when it is dead.
    pub fn kill(&mut self) {
        self.keeper.kill();
    }

    /// Freezes it (SIGSTOP): connections stay open and nobody answers.
    pub fn stop(&mut self) {
        self.keeper.stop();
    }

    /// Lets a frozen engine go on (SIGCONT).
    pub fn cont(&mut self) {
        self.keeper.cont();
    }

    /// Starts it again on the same port and folder, after a `kill -9` if it still runs.
    ///
    /// # Panics
    /// When it does not become ready again.
    pub fn restart(&mut self) {
        self.kill();
        let seen = self.log().len();
        let port = url::Url::parse(&self.url)
            .ok()
            .and_then(|url| url.port())
            .expect("we made this URL with a port");
        self.pid = self.keeper.start();
        match self.wait_until_ready(seen, port) {
            Ok(()) => {}
            Err(Failure::PortTaken(port)) => panic!("{} cannot restart: somebody took port {port}", self.kind.name),
            Err(Failure::Other(problem)) => panic!("{problem}"),
        }
    }

    /// Reads the log from byte `seen` on until it tells how the start went.
    fn wait_until_ready(&mut self, seen: usize, port: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let alive = self.keeper.is_alive(); // asked first: what a dead process has written is complete
            let log = self.log();
            let news = log.get(seen..).unwrap_or_default();
            if news.contains(self.kind.port_taken) {
                return Err(Failure::PortTaken(port));
            }
            if news.contains(self.kind.ready) && alive {
                return Ok(());
            }
            if !alive || Instant::now() > deadline {
                let how = if alive { "hangs" } else { "died" };
                return Err(Failure::Other(format!(
                    "{} {how} at its start:\n{}",
                    self.kind.name,
                    tail(news)
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Why an engine did not start.
enum Failure {
    /// Somebody else has this port: worth another try.
    PortTaken(u16),
    /// Anything else: not worth one.
    Other(String),
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Self::Other(problem)
    }
}

/// The last lines of a log, enough to see what went wrong.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_taken_port_is_recognised_for_each_engine() {
        for kind in [&super::super::redis::KIND, &super::super::postgres::KIND] {
            let Some(binary) = find_binary(kind) else {
                panic!("no {}: run `make deps`", kind.binary)
            };
            let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = taken.local_addr().unwrap().port();
            match Engine::start_on(kind, &binary, &[], port) {
                Err(Failure::PortTaken(reported)) => assert_eq!(reported, port),
                Err(Failure::Other(problem)) => panic!("{problem}"),
                Ok(_) => panic!("{} started on a port that was taken", kind.name),
            }
        }
    }

    #[test]
    fn an_engine_that_dies_shows_its_log() {
        let binary = find_binary(&super::super::redis::KIND).expect("no redis-server: run `make deps`");
        let problem = Engine::start(&super::super::redis::KIND, &binary, &["--maxmemory", "nonsense"]).unwrap_err();
        assert!(problem.contains("Redis died at its start"), "{problem}");
        assert!(problem.contains("maxmemory"), "{problem}");
    }
}
