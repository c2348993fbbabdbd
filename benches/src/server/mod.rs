//! Starts a stage of a design as child processes, and takes them away again on every way out.
//!
//! Most stages are one process. One that shares its state in an engine may need several beside each other: these are its
//! *nodes*, processes of the same binary with the same flags, each with its own data directory and ports, and all on the
//! server's cores.
//!
//! A [`Server`] owns all that a started stage leaves on the machine: the nodes, their engines, their data, their control group.
//! Dropping it (an error, a panic, Ctrl-C) kills the nodes and removes the rest. [`Server::stop`] is the polite way: SIGTERM,
//! and the promise that a drained server exits with 0 is checked of each.

mod node;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use tempfile::TempDir;

pub use node::Node;

use crate::http::Target;
use crate::layout::Layout;
use crate::needs::{Engines, Need};
use crate::platform::Quota;
use crate::stop::Stop;

/// How long all nodes of a stage may take until they are ready, and until they have drained.
const START: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);
/// A stage of more nodes than this is a slip.
const MOST_NODES: u32 = 16;

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
    /// How many processes of it run beside each other.
    #[serde(default = "one")]
    pub nodes: u32,
    /// Flags of further addresses that it listens on.
    #[serde(default)]
    pub listens: Vec<String>,
}

fn one() -> u32 {
    1
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
        for stage in &description.stages {
            ensure!(
                (1..=MOST_NODES).contains(&stage.nodes),
                "stage {} wants {} nodes, the lab starts 1 to {MOST_NODES}",
                stage.name,
                stage.nodes
            );
        }
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
    /// Where its data directories are made.
    pub data_root: &'a Path,
    /// The share of the CPU that it gets, in cores: all its nodes and engines together.
    pub quota_cores: Option<f64>,
    /// Whether it lets the lab slow its resources and take profiles.
    pub lab: bool,
}

/// A running stage.
#[derive(Debug)]
pub struct Server {
    /// At least one.
    nodes: Vec<Node>,
    // Dropped after the nodes: first the engines, then the group that they are in, then the directory.
    engines: Engines,
    quota: Option<Quota>,
    _data: TempDir,
}

impl Server {
    /// Starts all nodes of a stage at once, after the engines that they need, on free ports with empty data directories, and
    /// waits until all are ready.
    ///
    /// # Errors
    /// A node or an engine does not start, dies, or is not ready in time; the text ends with its last line.
    pub fn start(setup: &Setup<'_>, stage: &Stage, needs: &[Need], stop: &Stop) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix(&format!("lab-{}-", stage.name))
            .tempdir_in(setup.data_root)
            .with_context(|| format!("cannot make a data directory in {}", setup.data_root.display()))?;
        let quota = setup.quota_cores.map(|cores| Quota::new(&stage.name, cores));
        let quota = quota.transpose()?;
        let started = thread::scope(|scope| {
            let start = scope.spawn(|| {
                setup.layout.pin_server();
                let group = quota.as_ref().map(Quota::procs);
                let engines = Engines::start(needs, setup.data_root, group.as_deref())?;
                let nodes: Result<Vec<Node>> = (1..=stage.nodes)
                    .map(|number| Node::start(setup, stage, number, data.path(), group.as_deref(), &engines))
                    .collect();
                Ok((engines, nodes?))
            });
            start.join()
        });
        let started = started.map_err(|_| anyhow!("the thread that starts a server panicked"))?;
        let (engines, mut nodes) = started.or_else(|error: anyhow::Error| {
            stop.check()?; // Ctrl-C ends an engine's helpers too, which is no fault of the engine
            Err(error)
        })?;
        // Here, because the threads that read what they say are not to take time from their cores.
        nodes.iter_mut().for_each(Node::listen);
        let mut server = Self {
            nodes,
            engines,
            quota,
            _data: data,
        };
        server.wait_until_ready(stop)?;
        Ok(server)
    }

    /// Its nodes, of which there is at least one.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that is asked where one is enough.
    pub fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// Where its nodes serve.
    pub fn targets(&self) -> Vec<Target> {
        self.nodes.iter().map(|node| node.public.clone()).collect()
    }

    /// The cores that a quota leaves all of it together.
    pub fn quota_cores(&self) -> Option<f64> {
        self.quota.as_ref().map(Quota::cores)
    }

    /// The engines beside it.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// An error with its last words when a node, or an engine of the stage's own, is no longer there.
    ///
    /// # Errors
    /// One of them has died.
    pub fn check_alive(&mut self) -> Result<()> {
        self.engines.check_alive()?;
        self.nodes.iter_mut().try_for_each(Node::check_alive)
    }

    /// Ends all nodes at once, for a way out of an error.
    pub fn kill(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Ends all nodes by SIGTERM and checks that each drains and exits with 0.
    ///
    /// # Errors
    /// One does not end in time, or with another code.
    pub fn stop(mut self) -> Result<()> {
        self.check_alive()?;
        self.nodes.iter().try_for_each(Node::terminate)?;
        let deadline = Instant::now() + DRAIN;
        self.nodes.iter_mut().try_for_each(|node| node.drained(deadline))
    }

    fn wait_until_ready(&mut self, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + START;
        for place in 0..self.nodes.len() {
            while !self.nodes[place].is_ready()? {
                stop.check()?;
                self.check_alive()?;
                ensure!(Instant::now() < deadline, self.nodes[place].not_ready());
                thread::sleep(TICK);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use rustix::process::{Pid, test_kill_process};

    use super::*;

    /// Says to everybody who asks that all is well, for as long as the process lives.
    fn ready() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        });
        address
    }

    /// A binary whose nodes end with 0 when they are asked to, and the second with its last argument.
    fn binary(folder: &Path) -> Binary {
        let path = folder.join("pair");
        let address = ready();
        let script = format!(
            "#!/bin/sh\n\
             for code; do :; done; case \"$*\" in */node-1*) code=0;; esac\n\
             trap 'echo I end with $code >&2; exit $code' TERM\n\
             echo listening on http://{address} >&2; echo admin on http://{address} >&2\n\
             while :; do sleep 0.01; done\n"
        );
        // By a shell: while this process has the file open, one that another test starts would have it too, and what is open
        // for writing cannot be run.
        let write = Command::new("sh")
            .args(["-c", r#"printf %s "$1" > "$0" && chmod 755 "$0""#])
            .args([path.as_os_str(), script.as_ref()])
            .status();
        assert!(write.unwrap().success());
        Binary { path }
    }

    fn started(binary: &Binary, folder: &Path, second: &str) -> Server {
        let stage = Stage {
            name: "pair".to_owned(),
            idea: String::new(),
            needs: Vec::new(),
            knobs: Vec::new(),
            nodes: 2,
            listens: Vec::new(),
        };
        let setup = Setup {
            binary,
            layout: &Layout::detect(),
            set: &[("second".to_owned(), second.to_owned())],
            data_root: folder,
            quota_cores: None,
            lab: true,
        };
        Server::start(&setup, &stage, &[], &Stop::default()).unwrap()
    }

    #[test]
    fn all_nodes_are_asked_to_end_and_each_has_to_drain() {
        let folder = tempfile::tempdir().unwrap();
        let binary = binary(folder.path());
        let server = started(&binary, folder.path(), "0");
        assert_eq!((server.nodes().len(), server.targets().len()), (2, 2));
        server.stop().unwrap();

        let error = started(&binary, folder.path(), "5").stop().unwrap_err().to_string();
        assert_eq!(
            error,
            "node 2 of stage pair ended with exit status: 5 after SIGTERM: I end with 5"
        );
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "the binary alone: no data is left");
    }

    #[test]
    fn nodes_that_nobody_stops_are_gone_with_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let server = started(&binary(folder.path()), folder.path(), "0");
        let ids = server.nodes().iter().map(|node| i32::try_from(node.id()).unwrap());
        let ids: Vec<Pid> = ids.filter_map(Pid::from_raw).collect();
        let alive = |id: &Pid| test_kill_process(*id).is_ok();
        assert!(ids.len() == 2 && ids.iter().all(alive));
        drop(server);
        assert!(!ids.iter().any(alive));
    }
}
