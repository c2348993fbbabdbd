//! Starts a design's server as a child process, and takes it away again on every way out.
//!
//! A [`Server`] owns all that a started stage leaves on the machine: the process, its engines, its data directory, its control
//! group.
//! Dropping it (an error, a panic, Ctrl-C) kills the process and removes the rest. [`Server::stop`] is the polite way: SIGTERM,
//! and the promise that a drained server exits with 0 is checked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use crate::http::{Client, Target};
use crate::layout::Layout;
use crate::needs::{Engines, Need};
use crate::platform::Quota;
use crate::stop::Stop;

/// How long a server may take until it is ready, and until it has drained.
const START: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);

/// What a design's binary says of itself (`--describe`).
#[derive(Debug, Clone, Deserialize)]
pub struct Description {
    /// Version of this shape.
    pub schema: u32,
    /// The design's name.
    pub design: String,
    /// Its stages, the naive one first.
    pub stages: Vec<Stage>,
}

/// One stage of a design.
#[derive(Debug, Clone, Deserialize)]
pub struct Stage {
    /// Its name: an idea.
    pub name: String,
    /// The idea in a sentence.
    pub idea: String,
    /// Engines that it needs beside it.
    pub needs: Vec<String>,
    /// Capacities that a flag sets.
    #[serde(default)]
    pub knobs: Vec<Knob>,
}

/// A capacity that can be turned.
#[derive(Debug, Clone, Deserialize)]
pub struct Knob {
    /// The resource.
    pub resource: String,
    /// The flag that sets its capacity, without dashes.
    pub flag: String,
}

/// A design's binary, found beside the lab's own.
#[derive(Debug, Clone)]
pub struct Binary {
    path: PathBuf,
}

impl Binary {
    /// Finds the binary of a design in the directory of this executable: both come from the same build.
    ///
    /// # Errors
    /// It is not there; the text says how to build it.
    pub fn find(design: &str) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find the lab's own executable")?;
        let path = own.with_file_name(design);
        ensure!(
            path.is_file(),
            "{} is not there: build it first (cargo build --release -p {design})",
            path.display()
        );
        Ok(Self { path })
    }

    /// Asks the binary what it has.
    ///
    /// # Errors
    /// It cannot be run, or says what the lab does not understand.
    pub fn describe(&self) -> Result<Description> {
        let output = Command::new(&self.path)
            .arg("--describe")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        ensure!(
            output.status.success(),
            "{} --describe ended with {}: {}",
            self.path.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let description: Description = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} --describe printed what the lab cannot read", self.path.display()))?;
        ensure!(
            description.schema == 1,
            "{} --describe speaks schema {}, this lab speaks 1: build both from the same source",
            self.path.display(),
            description.schema
        );
        Ok(description)
    }
}

/// How a stage is started.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The design's binary.
    pub binary: &'a Binary,
    /// Which cores it gets.
    pub layout: &'a Layout,
    /// Further flags, as `--key value`.
    pub set: &'a [(String, String)],
    /// Where its data directory is made.
    pub data_root: &'a Path,
    /// The share of the CPU that it gets, in cores.
    pub quota_cores: Option<f64>,
    /// Whether it lets the lab slow its resources and take profiles.
    pub lab: bool,
}

/// A running stage.
#[derive(Debug)]
pub struct Server {
    stage: String,
    child: Child,
    /// Where it serves.
    pub public: Target,
    /// Where it answers about itself.
    pub admin: Target,
    log: Log,
    // Dropped after the process: first the engines, then the group that they are in, then the directory.
    engines: Engines,
    quota: Option<Quota>,
    _data: TempDir,
}

/// The last lines of a server's standard error.
#[derive(Debug, Default)]
struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a stage, after the engines that it needs, on free ports with an empty data directory and waits until it is
    /// ready.
    ///
    /// # Errors
    /// It or an engine does not start, dies, or is not ready in time; the text ends with its last line.
    pub fn start(setup: &Setup<'_>, stage: &str, needs: &[Need], stop: &Stop) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix(&format!("lab-{stage}-"))
            .tempdir_in(setup.data_root)
            .with_context(|| format!("cannot make a data directory in {}", setup.data_root.display()))?;
        let quota = setup.quota_cores.map(|cores| Quota::new(stage, cores)).transpose()?;
        let spawned = thread::scope(|scope| {
            let start = scope.spawn(|| {
                setup.layout.pin_server();
                let group = quota.as_ref().map(Quota::procs);
                let engines = Engines::start(needs, setup.data_root, group.as_deref())?;
                let child = command(setup, stage, data.path(), group.as_deref(), &engines)
                    .spawn()
                    .with_context(|| format!("cannot start {}", setup.binary.path.display()))?;
                Ok((engines, child))
            });
            start.join()
        });
        let spawned = spawned.map_err(|_| anyhow!("the thread that starts a server panicked"))?;
        let (engines, mut child) = spawned.or_else(|error: anyhow::Error| {
            stop.check()?; // Ctrl-C ends an engine's helpers too, which is no fault of the engine
            Err(error)
        })?;
        let (log, addresses) = Log::follow(child.stderr.take());
        let nowhere = Target::of(([0, 0, 0, 0], 0).into());
        let mut server = Self {
            stage: stage.to_owned(),
            child,
            public: nowhere.clone(),
            admin: nowhere,
            log,
            engines,
            quota,
            _data: data,
        };
        server.wait_until_ready(&addresses, stop)?;
        Ok(server)
    }

    /// The cores that a quota leaves it.
    pub fn quota_cores(&self) -> Option<f64> {
        self.quota.as_ref().map(Quota::cores)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The engines beside it.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// An error with its last words when the server, or an engine of its own, is no longer there.
    ///
    /// # Errors
    /// One of them has died.
    pub fn check_alive(&mut self) -> Result<()> {
        self.engines.check_alive()?;
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.log.wait_for_the_end();
                bail!("stage {} died ({status}){}", self.stage, self.log.last_words())
            }
        }
    }

    /// Ends the server at once, for a way out of an error.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // what is gone already needs no end
    }

    /// Ends the server by SIGTERM and checks that it drains and exits with 0.
    ///
    /// # Errors
    /// It does not end in time, or with another code.
    pub fn stop(mut self) -> Result<()> {
        self.check_alive()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self
            .wait(DRAIN)?
            .ok_or_else(|| anyhow!("stage {} is still there {DRAIN:?} after SIGTERM", self.stage))?;
        ensure!(
            status.success(),
            "stage {} ended with {status} after SIGTERM{}",
            self.stage,
            self.log.last_words()
        );
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
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

    fn wait_until_ready(&mut self, addresses: &Receiver<Address>, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + START;
        let (mut public, mut admin) = (None, None);
        loop {
            stop.check()?;
            match addresses.recv_timeout(TICK) {
                Ok(Address::Public(url)) => public = Some(Target::parse(&url)?),
                Ok(Address::Admin(url)) => admin = Some(Target::parse(&url)?),
                Err(_) => self.check_alive()?,
            }
            if let (Some(public), Some(admin)) = (&public, &admin) {
                (self.public, self.admin) = (public.clone(), admin.clone());
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "stage {} did not say where it listens within {START:?}{}",
                self.stage,
                self.log.last_words()
            );
        }
        let mut client = Client::new(self.public.clone(), None).timeout(Duration::from_secs(2));
        while !client.get("/readyz").is_ok_and(|answer| answer.status == 200) {
            stop.check()?;
            self.check_alive()?;
            ensure!(
                Instant::now() < deadline,
                "stage {} is not ready after {START:?}",
                self.stage
            );
            thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` both do nothing. Otherwise this is the way out of an error, and the data is thrown away anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// Reads the server's standard error to its end, so that the server never blocks on a full pipe.
    fn follow(stderr: Option<ChildStderr>) -> (Self, Receiver<Address>) {
        let (sender, receiver) = channel();
        let mut log = Self::default();
        if let Some(stderr) = stderr {
            let lines = Arc::clone(&log.lines);
            log.reader = Some(thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if announce(&line, &sender) {
                        continue;
                    }
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if lines.len() == 20 {
                        lines.pop_front();
                    }
                    lines.push_back(line);
                }
            }));
        }
        (log, receiver)
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

    fn last_words(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.back().map_or_else(String::new, |line| format!(": {line}"))
    }
}

enum Address {
    Public(String),
    Admin(String),
}

fn command(setup: &Setup<'_>, stage: &str, data: &Path, group: Option<&Path>, engines: &Engines) -> Command {
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
            stage,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(data)
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

/// Whether the line said where the server listens; then it has been passed on, and is no last word.
fn announce(line: &str, sender: &Sender<Address>) -> bool {
    let address = if let Some(url) = line.strip_prefix("listening on ") {
        Address::Public(url.trim().to_owned())
    } else if let Some(url) = line.strip_prefix("admin on ") {
        Address::Admin(url.trim().to_owned())
    } else {
        return false;
    };
    // Nobody listens any more once the server is ready.
    let _ = sender.send(address);
    true
}
