//! What tests need of Postgres: its version, and a database for each.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, test_kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use url::Url;

/// For the server that a test binary shares: its tests run side by side, each with a pool, and nothing in it outlives
/// the binary anyway.
pub(super) const SHARED: &[&str] = &[
    "-c",
    "max_connections=300",
    "-c",
    "fsync=off",
    "-c",
    "full_page_writes=off",
];

/// What the server says its version is.
pub(super) fn version(url: &str) -> Result<String, String> {
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
