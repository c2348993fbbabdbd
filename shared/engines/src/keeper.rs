//! The keeper: a shell that outlives its owner by a moment, to clear up after it.
//!
//! A process can end in three ways: it returns, it panics, or it is killed. Rust's
//! `Drop` sees the first two, and not even those for a value in a `static`. The
//! operating system sees all three, for it closes the dead process's pipes. So the
//! engine is not a child of its owner but of a small shell that reads a pipe held by
//! the owner: at end of file it ends the engine, removes its folder and goes.
//!
//! ```text
//!   owner ==orders==> keeper (sh) --parent of--> redis-server
//!    dies  -> end of file -> ends the engine, removes the folder, exits
//! ```
//!
//! An engine that must not be root has a keeper that is not root either, and such a one can
//! empty the folder but not take it out of a folder that is root's. A second shell does that,
//! when the keeper has gone: it reads a pipe held by the keeper.
//!
//! Signals go through the keeper too. Only a parent can signal a process by its id
//! without the risk that the id has already been given to somebody else.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `sh -c KEEP keeper FOLDER END_SIGNAL PROGRAM ARGS...`, one order a line, one line back.
///
/// `jobs` makes the shell collect a child that has died, so that `kill -0` tells the truth.
/// The engine's own children are signalled with it: a frozen Postgres whose backends go on
/// is not frozen, and one that leaves them behind cannot be started again.
const KEEP: &str = r#"
folder=$1 ending=$2 pid=; shift 2
# When the owner dies while the engine is stopped, the kernel hangs up on the group of both.
trap '' HUP
alive() { jobs >/dev/null; [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
children() { pgrep -P "$pid" 2>/dev/null ||
    grep -ls "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status | cut -d/ -f3; }
signal() { alive && kill -"$1" "$pid" $(children) 2>/dev/null; }
end() { signal CONT; if alive; then kill -"$1" "$pid"; wait "$pid"; fi; pid=; }
while read -r order; do
    case $order in
        start) "$@" </dev/null >>"$folder/log" 2>&1 & pid=$!; echo "$pid" ;;
        alive) alive && echo yes || echo no ;;
        kill)  signal KILL; wait "$pid"; pid=; echo done ;;
        stop)  signal STOP; echo done ;;
        cont)  signal CONT; echo done ;;
    esac
done 2>/dev/null
end "$ending" 2>/dev/null
rm -rf "$folder"
"#;

/// `sh -c AT_END keeper PROGRAM ARGS...`: run the command at end of file, nothing before.
/// For what is not the keeper's child: a container, a server whose exit status its parent wants to see.
const AT_END: &str = r#"trap '' HUP; cat >/dev/null; "$@" >/dev/null 2>&1"#;

/// The user and group an engine runs as, when it must not be root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunAs {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl RunAs {
    /// Makes `command` run as this user.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// A running keeper. Dropped: its engine has ended and its folder is gone.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What removes the folder after a keeper that is not allowed to. Holds no pipe: the keeper does.
    after: Option<Box<Self>>,
}

impl Keeper {
    /// A keeper for `program`, not started yet; its output goes to `folder/log`.
    ///
    /// The folder is the keeper's from now on: it removes it when it ends.
    pub(crate) fn of<S: AsRef<OsStr>>(
        folder: &Path,
        end_signal: &str,
        run_as: Option<RunAs>,
        program: &Path,
        args: &[S],
    ) -> std::io::Result<Self> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", KEEP, "keeper"])
            .arg(folder)
            .arg(end_signal)
            .arg(program)
            .args(args);
        let Some(user) = run_as else {
            return Self::spawn(shell, Stdio::null());
        };
        user.apply(&mut shell);
        let mut after = Self::at_end(&[OsStr::new("rm"), OsStr::new("-rf"), folder.as_os_str()])?;
        // Nobody writes to it. It closes when the keeper has gone.
        let pipe = after.orders.take().map_or_else(Stdio::null, Stdio::from);
        let mut keeper = Self::spawn(shell, pipe)?;
        keeper.after = Some(Box::new(after));
        Ok(keeper)
    }

    /// A keeper that only waits for the end, then runs `command`: for what is not its child.
    ///
    /// # Errors
    /// `sh` cannot be run.
    pub fn at_end<S: AsRef<OsStr>>(command: &[S]) -> std::io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", AT_END, "keeper"]).args(command);
        Self::spawn(shell, Stdio::null())
    }

    fn spawn(mut shell: Command, stderr: Stdio) -> std::io::Result<Self> {
        let mut shell = shell
            // A group of its own: ctrl-C on the terminal ends the owner, and through it the engine.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        let orders = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("stdout was asked for as a pipe"));
        Ok(Self {
            shell,
            orders,
            answers,
            after: None,
        })
    }

    /// The keeper's own process id. What is true of it now (its cores, its control group) will be true of the engine.
    pub(crate) fn id(&self) -> u32 {
        self.shell.id()
    }

    /// Starts the engine and returns its process id.
    pub(crate) fn start(&mut self) -> u32 {
        self.order("start")
            .parse()
            .expect("the keeper answers `start` with a process id")
    }

    /// Whether the engine process is there (a stopped one is).
    pub(crate) fn is_alive(&mut self) -> bool {
        self.order("alive") == "yes"
    }

    /// SIGKILL to the engine and its children; returns when the engine is dead.
    pub(crate) fn kill(&mut self) {
        self.order("kill");
    }

    /// SIGSTOP to the engine and its children.
    pub(crate) fn stop(&mut self) {
        self.order("stop");
    }

    /// SIGCONT to the engine and its children.
    pub(crate) fn cont(&mut self) {
        self.order("cont");
    }

    fn order(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("orders are only taken away in drop");
        writeln!(orders, "{order}").expect("the keeper reads orders until it is dropped");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the keeper answers every order");
        answer.trim().to_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Waiting is what makes "dropped" mean "gone"; a failure to wait leaves nothing to do.
        let _ = self.shell.wait();
        drop(self.after.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper_of_a_sleeper(folder: &Path) -> Keeper {
        Keeper::of(folder, "KILL", None, Path::new("sleep"), &["600"]).unwrap()
    }

    /// A folder that the keeper is going to remove, so no `TempDir` guard.
    fn folder() -> std::path::PathBuf {
        tempfile::tempdir().unwrap().keep()
    }

    #[test]
    fn removes_the_folder_and_the_process_when_dropped() {
        let folder = folder();
        let mut keeper = keeper_of_a_sleeper(&folder);
        let pid = keeper.start();
        assert!(keeper.is_alive());
        drop(keeper);
        assert!(!folder.exists());
        assert!(!process_exists(pid));
    }

    /// As root, with a user who may not write beside the folder: as `make test` runs in a container.
    #[test]
    fn removes_the_folder_of_another_user() {
        let beside = tempfile::tempdir().unwrap();
        std::fs::set_permissions(beside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let folder = tempfile::tempdir_in(beside.path()).unwrap().keep();
        let user = rustix::process::geteuid()
            .is_root()
            .then_some(RunAs { uid: 65534, gid: 65534 });
        if let Some(user) = user {
            std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        }
        let mut keeper = Keeper::of(&folder, "KILL", user, Path::new("sleep"), &["600"]).unwrap();
        let pid = keeper.start();
        drop(keeper);
        assert!(!folder.exists() && !process_exists(pid));
    }

    #[test]
    fn ends_a_stopped_process_too() {
        let mut keeper = keeper_of_a_sleeper(&folder());
        let pid = keeper.start();
        keeper.stop();
        assert!(keeper.is_alive());
        drop(keeper);
        assert!(!process_exists(pid));
    }

    #[test]
    fn sees_that_a_process_ended_by_itself() {
        let mut keeper = Keeper::of(&folder(), "KILL", None, Path::new("true"), &[] as &[&str]).unwrap();
        keeper.start();
        while keeper.is_alive() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn starts_again_after_a_kill() {
        let mut keeper = keeper_of_a_sleeper(&folder());
        let first = keeper.start();
        keeper.kill();
        assert!(!keeper.is_alive());
        let second = keeper.start();
        assert!(keeper.is_alive());
        assert_ne!(first, second);
    }

    #[test]
    fn runs_a_command_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let keeper = Keeper::at_end(&["touch", mark.to_str().unwrap()]).unwrap();
        assert!(!mark.exists());
        drop(keeper);
        assert!(mark.exists());
    }

    fn process_exists(pid: u32) -> bool {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::test_kill_process(pid).is_ok()
    }
}
