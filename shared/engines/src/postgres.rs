//! What is particular to Postgres: how it starts, and what it says.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Kind;
use crate::keeper::RunAs;

/// Postgres, durable as it is by default. The URL is that of the database `postgres`, its superuser, and needs no
/// password.
pub static POSTGRES: Kind = Kind {
    name: "Postgres",
    binary: "postgres",
    beside_path: Some(("/usr/lib/postgresql", "bin")),
    ready: "database system is ready to accept connections",
    port_taken: "Address already in use",
    // Immediate shutdown. After a SIGKILL its shared memory would stay until the next reboot.
    end_signal: "QUIT",
    users_for_root: &["postgres", "nobody"],
    args,
    prepare: initdb,
    url: |port| format!("postgres://postgres@127.0.0.1:{port}/postgres"),
};

fn args(port: u16, folder: &Path) -> Vec<String> {
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        // In the data folder, which is removed; elsewhere it would outlive a killed server.
        "dynamic_shared_memory_type=mmap".to_owned(),
    ];
    let data = ["-D".to_owned(), data(folder).display().to_string()];
    data.into_iter()
        .chain(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]))
        .collect()
}

fn initdb(postgres: &Path, folder: &Path, run_as: Option<RunAs>) -> Result<(), String> {
    // Beside the real binary: the one on `PATH` may be a link to it, alone in its folder.
    let postgres = postgres
        .canonicalize()
        .map_err(|error| format!("cannot find {}: {error}", postgres.display()))?;
    let mut initdb = Command::new(postgres.with_file_name("initdb"));
    initdb
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ])
        .arg(data(folder))
        .current_dir(folder);
    if let Some(user) = run_as {
        user.apply(&mut initdb);
    }
    let output = initdb.output().map_err(|error| format!("cannot run initdb: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "initdb failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}
