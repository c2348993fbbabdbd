//! What is particular to Postgres: how it starts, what it says, and a database for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, test_kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use url::Url;

use super::local::Kind;
use crate::keeper::RunAs;

pub(super) const KIND: Kind = Kind {
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
    version,
};

/// For the server that a test binary shares: nothing in it outlives the binary anyway.
pub(super) const WITHOUT_DURABILITY: &[&str] = &["-c", "fsync=off", "-c", "full_page_writes=off"];

fn args(port: u16, folder: &Path) -> Vec<String> {
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        // In the data folder, which is removed; elsewhere it would outlive a killed server.
        "dynamic_shared_memory_type=mmap".to_owned(),
        // A test binary runs its tests side by side, each with a pool.
        "max_connections=300".to_owned(),
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

/// What the server says its version is.
fn version(url: &str) -> Result<String, String> {
    let answer = run(url, "SELECT split_part(current_setting('server_version'), ' ', 1)")?;
    answer
        .into_iter()
        .next()
        .ok_or_else(|| format!("Postgres at {url} does not tell its version"))
}

/// The URL of a new, empty database on `server`.
///
/// Its name holds our process id. On a server that stays (one from the environment), that
/// lets the next test process remove what a dead one has left: see [`sweep`].
pub(super) fn fresh_database(server: &str, taken: &AtomicU64) -> Result<String, String> {
    let number = taken.fetch_add(1, Ordering::SeqCst);
    let name = format!("{PREFIX}{}_{number}", std::process::id());
    run(server, &format!("DROP DATABASE IF EXISTS {name}"))?;
    run(server, &format!("CREATE DATABASE {name}"))?;
    let mut url = Url::parse(server).map_err(|error| format!("not a Postgres URL: {server}: {error}"))?;
    url.set_path(&name);
    Ok(url.into())
}

const PREFIX: &str = "loadbearing_test_";

/// Removes the databases of test processes that no longer run on this machine.
pub(super) fn sweep(server: &str) -> Result<(), String> {
    let names = run(
        server,
        &format!("SELECT datname::text FROM pg_database WHERE datname LIKE '{PREFIX}%'"),
    )?;
    for name in names.iter().filter(|name| is_left_over(name)) {
        run(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
    }
    Ok(())
}

/// Whether the process whose id stands in the name of this database is gone.
fn is_left_over(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('_').next()?.parse().ok())
        .and_then(Pid::from_raw);
    owner.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Runs one statement, returns the first column of its rows as text.
///
/// On a thread of its own: a test that asks for an engine may already be inside a runtime,
/// where another one must not block.
fn run(url: &str, statement: &str) -> Result<Vec<String>, String> {
    let query = async {
        let mut connection = PgConnection::connect(url).await?;
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await?;
        connection.close().await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<String>, sqlx::Error>>()
    };
    let on_own_thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|error| error.to_string())?
            .block_on(query)
            .map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| scope.spawn(on_own_thread).join())
        .expect("asking Postgres does not panic")
        .map_err(|error| format!("Postgres at {url} does not answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_databases_of_dead_processes_are_left_over() {
        assert!(!is_left_over(&format!("{PREFIX}{}_0", std::process::id())));
        assert!(is_left_over(&format!("{PREFIX}{}_0", i32::MAX)));
        assert!(!is_left_over("somebody_elses"));
        assert!(!is_left_over(&format!("{PREFIX}not_a_number")));
    }
}
