//! A Redis Cluster of three processes on this machine.
//!
//! A cluster is usually made by a client that introduces empty nodes to each other. There is no client in this crate, and none
//! is needed: what a node knows of its cluster it keeps in a file, `nodes.conf`, and reads at its start. So each node is
//! started with a file that names all three, and finds the others by itself; that takes about two seconds, the time for which
//! Redis keeps a node that has just started from answering.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::{Deref, DerefMut};

use crate::engine::{Engine, Failure, Installed, PORT_TRIES, Setup};
use crate::machine::free_ports;

/// Nodes, each with a third of the slots.
const NODES: usize = 3;

/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

const NODES_FILE: &str = "nodes.conf";

/// A running cluster that belongs to this process. Its nodes are engines: one may be killed, frozen and started again.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Engine>,
    url: String,
}

impl Cluster {
    /// Starts three nodes of [`crate::REDIS_CLUSTER`], and waits until all of them serve. They have no replicas, and when one
    /// is gone the others go on with what is theirs.
    ///
    /// # Errors
    /// One does not start; the text ends with its log.
    pub fn start(redis: &Installed, setup: &Setup<'_>) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match Self::start_once(redis, setup) {
                Ok(nodes) => {
                    let urls: Vec<&str> = nodes.iter().map(Engine::url).collect();
                    return Ok(Self {
                        url: urls.join(","),
                        nodes,
                    });
                }
                Err(Failure::PortTaken(port)) => last = format!("port {port}, or the one for its peers, was taken"),
                Err(Failure::Other(problem)) => return Err(problem),
            }
        }
        Err(redis.no_port(&last))
    }

    fn start_once(redis: &Installed, setup: &Setup<'_>) -> Result<Vec<Engine>, Failure> {
        let ports = free_ports::<{ 2 * NODES }>()?;
        let ids: [String; NODES] = std::array::from_fn(|_| id());
        let mut nodes = Vec::with_capacity(NODES);
        for nth in 0..NODES {
            // Beside the port of its clients each has one for its peers, 10,000 higher unless it is told.
            let peers = ports[NODES + nth].to_string();
            let mut args = vec![
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                NODES_FILE,
                "--cluster-port",
                &peers,
                "--cluster-require-full-coverage",
                "no",
            ];
            args.extend(setup.args);
            let setup = Setup { args: &args, ..*setup };
            let known = nodes_file(&ids, &ports, nth);
            nodes.push(redis.spawn_on(ports[nth], &setup, &[(NODES_FILE, &known)])?);
        }
        // All have to run before any is ready.
        nodes.iter_mut().try_for_each(|node| node.wait_until_ready(0))?;
        Ok(nodes)
    }

    /// Where all of its nodes answer, with commas between.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// As a list of its nodes: the first has the first third of the slots.
impl Deref for Cluster {
    type Target = [Engine];

    fn deref(&self) -> &[Engine] {
        &self.nodes
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut [Engine] {
        &mut self.nodes
    }
}

/// Forty hexadecimal digits that no other cluster has: nodes of two that took each other for their own would become one.
fn id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}{:08x}", random(), random(), random() & 0xffff_ffff)
}

/// What node `own` knows: a line for each node, in the format that `CLUSTER NODES` documents, and the last epoch.
fn nodes_file(ids: &[String; NODES], ports: &[u16; 2 * NODES], own: usize) -> String {
    let mut file = String::new();
    for (nth, id) in ids.iter().enumerate() {
        let (port, peers) = (ports[nth], ports[NODES + nth]);
        let flags = if nth == own { "myself,master" } else { "master" };
        let (first, last) = (nth * SLOTS / NODES, (nth + 1) * SLOTS / NODES - 1);
        let epoch = nth + 1;
        file += &format!("{id} 127.0.0.1:{port}@{peers} {flags} - 0 0 {epoch} connected {first}-{last}\n");
    }
    file + &format!("vars currentEpoch {NODES} lastVoteEpoch 0\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::REDIS_CLUSTER;

    #[test]
    fn three_nodes_share_all_slots_and_no_two_clusters_an_id() {
        let ids: [String; NODES] = std::array::from_fn(|_| id());
        assert!(ids.iter().all(|id| id.len() == 40) && ids[0] != ids[1] && ids[1] != ids[2]);
        let file = nodes_file(&ids, &[1, 2, 3, 4, 5, 6], 1);
        let slots: Vec<&str> = file
            .lines()
            .take(NODES)
            .filter_map(|line| line.split(' ').nth(8))
            .collect();
        assert_eq!(slots, ["0-5460", "5461-10921", "10922-16383"]);
        assert_eq!(file.matches("myself").count(), 1);
    }

    #[test]
    fn a_cluster_starts_and_a_node_of_it_comes_back_after_a_kill() {
        let redis = REDIS_CLUSTER
            .find()
            .unwrap_or_else(|| panic!("no redis-server: run `make deps`"));
        let setup = Setup {
            root: &std::env::temp_dir(),
            args: &[],
            group: None,
        };
        let mut cluster = Cluster::start(&redis, &setup).unwrap();
        assert_eq!((cluster.len(), cluster.url().matches("redis://").count()), (3, 3));
        let folders: Vec<_> = cluster.iter().map(|node| node.folder().to_owned()).collect();
        cluster[1].restart().unwrap();
        assert!(cluster.iter_mut().all(|node| node.check_alive().is_ok()));
        drop(cluster);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
