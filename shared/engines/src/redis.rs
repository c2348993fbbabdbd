//! What is particular to Redis: how it starts, and what it says.

use std::path::Path;

use crate::engine::Kind;

/// Redis, in memory only unless its `args` say otherwise (`["--appendonly", "yes"]`).
pub static REDIS: Kind = REDIS_KIND;

const REDIS_KIND: Kind = Kind {
    name: "Redis",
    binary: "redis-server",
    beside_path: None,
    ready: "Ready to accept connections",
    port_taken: "Address already in use",
    end_signal: "KILL",
    users_for_root: &[],
    args,
    prepare: |_, _, _| Ok(()),
    url: |port| format!("redis://127.0.0.1:{port}"),
};

/// A node of a Redis Cluster. [`crate::Cluster`] starts several that know each other.
pub static REDIS_CLUSTER: Kind = Kind {
    name: "Redis Cluster",
    // It accepts connections before it serves: not until it has found the others.
    ready: "Cluster state changed: ok",
    ..REDIS_KIND
};

fn args(port: u16, folder: &Path) -> Vec<String> {
    let port = port.to_string();
    let folder = folder.display().to_string();
    ["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--save", ""]
        .map(str::to_owned)
        .to_vec()
}
