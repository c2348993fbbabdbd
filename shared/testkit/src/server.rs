//! A design's server as a child process: started, watched, and treated badly.
//!
//! ```no_run
//! use testkit::server::Server;
//! # let binary = "url-shortener";
//! // in a design's tests: let binary = env!("CARGO_BIN_EXE_url-shortener");
//! let server = Server::start(binary, &["--stage", "cached", "--listen", "127.0.0.1:0"]);
//! let answer = testkit::http::get(server.addr(), "/livez").unwrap();
//! ```
//!
//! Every server of this house says on standard error when it is ready, in two lines:
//! `listening on http://ADDR` and `admin on http://ADDR`. Starting waits for these, so a
//! test neither guesses a port nor sleeps. Dropped, the server is killed; when the test
//! process itself is killed, a small shell does it (`shared/engines/src/keeper.rs`).

mod stderr;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engines::Keeper;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use self::stderr::Stderr;

/// How long a server may take to be ready, and how long to end after SIGTERM: it promises
/// 8 s for the latter, and a debug build on a busy machine gets as much again.
const PATIENCE: Duration = Duration::from_secs(16);

/// A running server. Its methods send signals to this process and no other.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Kills the child when dropped, or when this process dies. Goes before the child is
    /// waited for: as long as nobody has, its process id is no one else's.
    keeper: Option<Keeper>,
    stderr: Arc<Stderr>,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts `binary` and waits until it is ready.
    ///
    /// # Panics
    /// When it ends first or takes too long; the message holds its standard error.
    pub fn start<S: AsRef<OsStr>>(binary: impl AsRef<Path>, args: &[S]) -> Self {
        let mut command = Command::new(binary.as_ref());
        command.args(args);
        Self::spawn(command)
    }

    /// As [`Server::start`], with a command that may have an environment or a folder of its own.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let keeper = Keeper::at_end(&["kill", "-9", &child.id().to_string()]).expect("there is a shell");
        let stderr = Stderr::follow(child.stderr.take().expect("stderr was asked for as a pipe"));
        let Some((addr, admin)) = stderr.wait_for_addresses(PATIENCE) else {
            drop(keeper);
            let _ = child.wait();
            stderr.wait_for_end();
            panic!("{command:?} is not ready; its standard error:\n{}", stderr.text());
        };
        Self {
            child,
            keeper: Some(keeper),
            stderr,
            addr,
            admin,
        }
    }

    /// Where it serves its users.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it serves its operator: health and metrics.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// `kill -9`; returns when it is dead.
    pub fn kill(&mut self) {
        self.reap();
    }

    /// Freezes it (SIGSTOP): connections stay open and nobody answers.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM and does not wait.
    pub fn begin_termination(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM and waits for the end, 16 s at most.
    ///
    /// # Panics
    /// When it has not ended by then.
    pub fn terminate(&mut self) -> ExitStatus {
        self.begin_termination();
        self.wait()
    }

    /// Waits for its end, 16 s at most.
    ///
    /// # Panics
    /// When it has not ended by then; the message holds its standard error.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(
                Instant::now() < deadline,
                "still running after {PATIENCE:?}; its standard error:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.reap()
    }

    /// Whether it has ended, without taking note of it: its process id stays reserved.
    fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.keeper.is_none()
            || waitid(WaitId::Pid(self.rustix_pid()), look)
                .expect("it is our child")
                .is_some()
    }

    /// Ends it if need be, and returns how it ended. Its last words are in [`Server::stderr`].
    fn reap(&mut self) -> ExitStatus {
        drop(self.keeper.take()); // kills it; a process that has ended does not mind
        let status = self.child.wait().expect("a child can be waited for");
        self.stderr.wait_for_end();
        status
    }

    fn rustix_pid(&self) -> Pid {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child has a process id")
    }

    fn signal(&self, signal: Signal) {
        assert!(
            self.keeper.is_some(),
            "this server has ended, and its process id may be somebody else's"
        );
        kill_process(self.rustix_pid(), signal)
            .unwrap_or_else(|error| panic!("cannot send {signal:?} to {}: {error}", self.child.id()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.reap();
    }
}

/// The sum of a metric of a server over all its lines that have these labels, `status="500"` and the like.
///
/// # Panics
/// When the server does not tell.
pub fn metric(server: &Server, name: &str, labels: &[&str]) -> f64 {
    let page = crate::http::get(server.admin(), "/metrics").expect("a server tells its metrics");
    let lines = page.text().lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| rest.contains(label))
    });
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// A server that reads the head of one request, sends these bytes and closes.
#[cfg(test)]
pub(crate) fn canned(answer: &'static str) -> SocketAddr {
    use std::io::{BufRead, BufReader, Write};

    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = BufReader::new(&stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty());
        assert!(head.count() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    addr
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const READY: &str =
        "echo starting >&2; echo listening on http://127.0.0.1:4000 >&2; echo admin on http://127.0.0.1:4001 >&2;";

    fn server(script: &str) -> Server {
        Server::start("/bin/sh", &["-c", &format!("{READY} {script}")])
    }

    #[test]
    fn tells_where_the_server_listens() {
        let server = server("exec sleep 600");
        assert_eq!(server.addr().port(), 4000);
        assert_eq!(server.admin().port(), 4001);
        assert!(server.stderr().starts_with("starting\nlistening on"));
    }

    #[test]
    fn reports_the_exit_status_after_sigterm() {
        let mut server = server("trap 'echo bye >&2; exit 3' TERM; while :; do sleep 0.01; done");
        assert_eq!(server.terminate().code(), Some(3));
        assert!(server.stderr().ends_with("bye\n"));
    }

    #[test]
    fn kills_at_once_and_when_dropped() {
        let mut killed = server("trap '' TERM; exec sleep 600");
        killed.kill();
        assert_eq!(killed.wait().signal(), Some(9));

        let dropped = server("exec sleep 600");
        let pid = Pid::from_raw(dropped.pid().try_into().unwrap()).unwrap();
        drop(dropped);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn a_stopped_server_ends_only_after_it_is_continued() {
        let mut server = server("exec sleep 600");
        server.stop();
        server.begin_termination();
        assert!(!server.has_ended());
        server.cont();
        assert_eq!(server.wait().signal(), Some(15));
    }

    #[test]
    #[should_panic(expected = "somebody else's")]
    fn a_server_that_has_ended_gets_no_signals() {
        let mut server = server("exit 0");
        server.wait();
        server.stop();
    }

    #[test]
    #[should_panic(expected = "no such flag")]
    fn a_server_that_does_not_start_shows_its_standard_error() {
        Server::start("/bin/sh", &["-c", "echo no such flag >&2; exit 2"]);
    }
}
