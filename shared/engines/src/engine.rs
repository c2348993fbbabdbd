//! How an engine is started: one procedure for all kinds.
//!
//! What differs between Redis and Postgres is data: [`Kind`]. The rest is the same: find the
//! binary, make a folder, start it under a [keeper](crate::Keeper), read its log until it says
//! that it is ready. The log is the only witness that *this* process has the port: a
//! connection could as well be answered by a stranger who took it first. A port that was
//! taken between our asking and the engine's is tried again with another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::keeper::{Keeper, RunAs};
use crate::machine::{can_enter, find_binary, free_port, make_folder, user_for_root};

/// How long an engine may take to say that it is ready. Recovery of a killed Postgres on a
/// busy two-core machine takes seconds; a minute means that it hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often a free port may turn out to be taken.
pub(crate) const PORT_TRIES: usize = 5;

/// What the procedure needs to know about one engine.
pub struct Kind {
    /// As people write it, for messages.
    pub name: &'static str,
    /// The server binary.
    pub binary: &'static str,
    /// Where to look besides `PATH`: `(root, below)` means every `root/VERSION/below`.
    pub(crate) beside_path: Option<(&'static str, &'static str)>,
    /// What the log says once connections are accepted.
    pub(crate) ready: &'static str,
    /// What the log says when somebody else has the port.
    pub(crate) port_taken: &'static str,
    /// The signal that ends it at once and leaves nothing behind.
    pub(crate) end_signal: &'static str,
    /// Engines that refuse to run as root run as the first of these users that exists.
    pub(crate) users_for_root: &'static [&'static str],
    /// Its command line.
    pub(crate) args: fn(port: u16, folder: &Path) -> Vec<String>,
    /// What makes the folder ready before the first start.
    pub(crate) prepare: fn(binary: &Path, folder: &Path, run_as: Option<RunAs>) -> Result<(), String>,
    /// The URL it answers at.
    pub(crate) url: fn(port: u16) -> String,
}

impl Kind {
    /// Looks for the server binary on this machine.
    pub fn find(&'static self) -> Option<Installed> {
        find_binary(self).map(|binary| Installed { kind: self, binary })
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// An engine that this machine has.
#[derive(Clone, Debug)]
pub struct Installed {
    kind: &'static Kind,
    binary: PathBuf,
}

/// How an engine is to run.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Where its folder is made.
    pub root: &'a Path,
    /// Appended to its command line.
    pub args: &'a [&'a str],
    /// The `cgroup.procs` file of a control group that it joins.
    pub group: Option<&'a Path>,
}

impl Installed {
    /// The version that the binary says it has.
    ///
    /// # Errors
    /// It does not run, or says nothing like a version.
    pub fn version(&self) -> Result<String, String> {
        let binary = self.binary.display();
        let output = Command::new(&self.binary)
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot run {binary}: {error}"))?;
        version_in(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| format!("{binary} --version does not tell its version"))
    }

    /// Says why it cannot run in a folder below `root`, although it is there.
    ///
    /// # Errors
    /// It refuses to run as root, and there is no user for it, or this user cannot get to `root`.
    pub fn fits(&self, root: &Path) -> Result<(), String> {
        match user_for_root(self.kind)? {
            Some(user) if !can_enter(user, root) => Err(format!(
                "{} does not run as root, and the user it runs as instead cannot enter {}",
                self.kind.name,
                root.display()
            )),
            _ => Ok(()),
        }
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// It does not start; the text ends with its log.
    pub fn start(&self, setup: &Setup<'_>) -> Result<Engine, String> {
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match self.start_on(free_port()?, setup) {
                Ok(engine) => return Ok(engine),
                Err(Failure::PortTaken(port)) => last = format!("port {port} was taken"),
                Err(Failure::Other(problem)) => return Err(problem),
            }
        }
        Err(self.no_port(&last))
    }

    pub(crate) fn no_port(&self, last: &str) -> String {
        format!("{} did not get a port in {PORT_TRIES} tries: {last}", self.kind.name)
    }

    fn start_on(&self, port: u16, setup: &Setup<'_>) -> Result<Engine, Failure> {
        let mut engine = self.spawn_on(port, setup, &[])?;
        engine.wait_until_ready(0)?;
        Ok(engine)
    }

    /// Starts it on this port, in a folder that holds these files (name, content), and does not wait until it is ready.
    pub(crate) fn spawn_on(&self, port: u16, setup: &Setup<'_>, files: &[(&str, &str)]) -> Result<Engine, String> {
        let kind = self.kind;
        let run_as = user_for_root(kind)?;
        let folder = make_folder(kind, setup.root, run_as)?;
        for (name, content) in files {
            std::fs::write(folder.join(name), content)
                .map_err(|error| format!("cannot write {name} for {}: {error}", kind.name))?;
        }
        let mut args = (kind.args)(port, &folder);
        args.extend(setup.args.iter().map(ToString::to_string));
        let mut keeper = Keeper::of(&folder, kind.end_signal, run_as, &self.binary, &args)
            .map_err(|error| format!("cannot run `sh` to keep {}: {error}", kind.name))?;
        if let Some(group) = setup.group {
            std::fs::write(group, keeper.id().to_string())
                .map_err(|error| format!("{} cannot join {}: {error}", kind.name, group.display()))?;
        }
        (kind.prepare)(&self.binary, &folder, run_as)?;
        let pid = keeper.start();
        Ok(Engine {
            kind,
            keeper,
            url: (kind.url)(port),
            port,
            folder,
            pid,
        })
    }
}

/// `Redis server v=7.0.15 sha=...`, `postgres (PostgreSQL) 15.18 (Debian ...)`: the first word that is a number.
fn version_in(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches("v="))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// A running Redis or Postgres that belongs to this process: it may be killed, frozen and started again, and it is gone,
/// folder and all, when this value is dropped or this process dies.
#[derive(Debug)]
pub struct Engine {
    kind: &'static Kind,
    keeper: Keeper,
    url: String,
    port: u16,
    folder: PathBuf,
    pid: u32,
}

impl Engine {
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
    /// # Errors
    /// It does not become ready again.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let seen = self.log().len();
        self.pid = self.keeper.start();
        self.wait_until_ready(seen).map_err(|failure| match failure {
            Failure::PortTaken(port) => format!("{} cannot restart: somebody took port {port}", self.kind.name),
            Failure::Other(problem) => problem,
        })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has died; the text ends with its log.
    pub fn check_alive(&mut self) -> Result<(), String> {
        if self.keeper.is_alive() {
            return Ok(());
        }
        Err(format!("{} died:\n{}", self.kind.name, tail(&self.log())))
    }

    /// Reads the log from byte `seen` on until it tells how the start went.
    pub(crate) fn wait_until_ready(&mut self, seen: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let alive = self.keeper.is_alive(); // asked first: what a dead process has written is complete
            let log = self.log();
            let news = log.get(seen..).unwrap_or_default();
            if news.contains(self.kind.port_taken) {
                return Err(Failure::PortTaken(self.port));
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
pub(crate) enum Failure {
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{POSTGRES, REDIS};

    fn installed(kind: &'static Kind) -> Installed {
        kind.find()
            .unwrap_or_else(|| panic!("no {}: run `make deps`", kind.binary))
    }

    fn setup<'a>(root: &'a Path, args: &'a [&'a str]) -> Setup<'a> {
        Setup {
            root,
            args,
            group: None,
        }
    }

    #[test]
    fn a_taken_port_is_recognised_for_each_engine() {
        for kind in [&REDIS, &POSTGRES] {
            let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = taken.local_addr().unwrap().port();
            match installed(kind).start_on(port, &setup(&std::env::temp_dir(), &[])) {
                Err(Failure::PortTaken(reported)) => assert_eq!(reported, port),
                Err(Failure::Other(problem)) => panic!("{problem}"),
                Ok(_) => panic!("{} started on a port that was taken", kind.name),
            }
        }
    }

    #[test]
    fn an_engine_that_dies_shows_its_log() {
        let redis = installed(&REDIS);
        let problem = redis
            .start(&setup(&std::env::temp_dir(), &["--maxmemory", "nonsense"]))
            .unwrap_err();
        assert!(problem.contains("Redis died at its start"), "{problem}");
        assert!(problem.contains("maxmemory"), "{problem}");

        let mut engine = redis.start(&setup(&std::env::temp_dir(), &[])).unwrap();
        assert_eq!(engine.check_alive(), Ok(()));
        engine.kill();
        assert!(engine.check_alive().unwrap_err().starts_with("Redis died:\n"));
    }

    #[test]
    fn every_binary_tells_its_version() {
        let version = |text: &str| version_in(text).unwrap();
        assert_eq!(
            version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc"),
            "7.0.15"
        );
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), "15.18");
        for kind in [&REDIS, &POSTGRES] {
            installed(kind).version().unwrap();
        }
    }

    #[test]
    fn a_folder_that_the_engine_cannot_enter_is_noticed_before() {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let closed = rustix::process::geteuid().is_root();
        assert_eq!(installed(&POSTGRES).fits(root.path()).is_err(), closed);
        assert_eq!(installed(&REDIS).fits(root.path()), Ok(()));
    }
}
