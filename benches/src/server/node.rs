//! One process of a stage: how it is started, what it says of itself, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{DRAIN, START, Setup, Stage, TICK};
use crate::http::{Client, Target};
use crate::needs::Engines;

/// One process of a running stage. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    /// What it is called in errors.
    name: String,
    child: Child,
    /// Where it serves.
    pub public: Target,
    /// Where it answers about itself.
    pub admin: Target,
    log: Log,
}

impl Node {
    /// Starts node `number`, counted from 1, with a directory of its own in `data`. It gets the cores and the priority of the
    /// calling thread, and nobody listens to it yet.
    pub(super) fn start(
        setup: &Setup<'_>,
        stage: &Stage,
        number: u32,
        data: &Path,
        group: Option<&Path>,
        engines: &Engines,
    ) -> Result<Self> {
        let data = data.join(format!("node-{number}"));
        fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let child = command(setup, stage, &data, group, engines)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.binary.path.display()))?;
        let nowhere = Target::of(([0, 0, 0, 0], 0).into()); // until it has said where
        Ok(Self {
            name: match stage.nodes {
                1 => format!("stage {}", stage.name),
                _ => format!("node {number} of stage {}", stage.name),
            },
            child,
            public: nowhere.clone(),
            admin: nowhere,
            log: Log::default(),
        })
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Listens to what it says, in a thread that gets the cores of the calling one.
    pub(super) fn listen(&mut self) {
        self.log.follow(self.child.stderr.take());
    }

    /// Whether it has said where it serves, and is ready there.
    pub(super) fn is_ready(&mut self) -> Result<bool> {
        let Some((public, admin)) = self.log.addresses() else {
            return Ok(false);
        };
        (self.public, self.admin) = (Target::parse(&public)?, Target::parse(&admin)?);
        let mut client = Client::new(self.public.clone(), None).timeout(Duration::from_secs(2));
        Ok(client.get("/readyz").is_ok_and(|answer| answer.status == 200))
    }

    /// What is to be said of it when it was given time to be ready, and is not.
    pub(super) fn not_ready(&self) -> anyhow::Error {
        let what = if self.log.addresses().is_some() {
            "is not ready"
        } else {
            "did not say where it listens"
        };
        anyhow!("{} {what} after {START:?}{}", self.name, self.log.last_words())
    }

    /// An error with its last words when it is no longer there.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.log.wait_for_the_end();
                bail!("{} died ({status}){}", self.name, self.log.last_words())
            }
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill(); // what is gone already needs no end
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        Ok(())
    }

    /// Waits until it has ended, as it was asked to, and checks that it did so with 0.
    pub(super) fn drained(&mut self, deadline: Instant) -> Result<()> {
        let status = self
            .wait(deadline)?
            .ok_or_else(|| anyhow!("{} is still there {DRAIN:?} after SIGTERM", self.name))?;
        if status.success() {
            return Ok(());
        }
        self.log.wait_for_the_end();
        bail!(
            "{} ended with {status} after SIGTERM{}",
            self.name,
            self.log.last_words()
        )
    }

    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(TICK);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // After it has drained both do nothing. Otherwise this is the way out of an error, and the data is thrown away anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server says on its standard error.
#[derive(Debug, Default)]
struct Log {
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Said {
    public: Option<String>,
    admin: Option<String>,
    /// The last line of everything else.
    last: Option<String>,
}

impl Log {
    /// Reads the server's standard error to its end, so that the server never blocks on a full pipe.
    fn follow(&mut self, stderr: Option<ChildStderr>) {
        let said = Arc::clone(&self.said);
        self.reader = stderr.map(|stderr| {
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    lock(&said).hear(line);
                }
            })
        });
    }

    /// A process can be gone before its last line has been read.
    fn wait_for_the_end(&self) {
        for _ in 0..50 {
            if self.reader.as_ref().is_none_or(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(TICK);
        }
    }

    /// Where it serves, and where it answers about itself, once it has said both.
    fn addresses(&self) -> Option<(String, String)> {
        let said = lock(&self.said);
        Some((said.public.clone()?, said.admin.clone()?))
    }

    fn last_words(&self) -> String {
        let said = lock(&self.said);
        said.last.as_ref().map_or_else(String::new, |line| format!(": {line}"))
    }
}

impl Said {
    fn hear(&mut self, line: String) {
        if let Some(url) = line.strip_prefix("listening on ") {
            self.public = Some(url.trim().to_owned());
        } else if let Some(url) = line.strip_prefix("admin on ") {
            self.admin = Some(url.trim().to_owned());
        } else {
            self.last = Some(line);
        }
    }
}

/// A thread that panicked while it wrote down a line has left nothing half done.
fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(setup: &Setup<'_>, stage: &Stage, data: &Path, group: Option<&Path>, engines: &Engines) -> Command {
    let mut command = match group {
        None => Command::new(&setup.binary.path),
        Some(group) => {
            // The shell joins the group before it becomes the server, so that no part of the server runs outside.
            let mut command = Command::new("sh");
            command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
            command.arg(group).arg(&setup.binary.path);
            command
        }
    };
    command
        .args([
            "--stage",
            &stage.name,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(data)
        .args(
            stage
                .listens
                .iter()
                .flat_map(|flag| [format!("--{flag}"), "127.0.0.1:0".to_owned()]),
        )
        .args(engines.flags())
        .args(setup.lab.then_some("--lab"))
        .args(
            setup
                .set
                .iter()
                .flat_map(|(key, value)| [format!("--{key}"), value.clone()]),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal reaches the lab alone, which then ends its servers in order.
        .process_group(0);
    command
}
