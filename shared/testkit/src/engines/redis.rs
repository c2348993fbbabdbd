//! What tests need of Redis: its version, and a database for each.
//!
//! A test gets a logical database of the shared server. Those are separate for keys, not
//! for channels, scripts or `FLUSHALL`: a test that needs those alone takes
//! [`Engine::own_redis`](super::Engine::own_redis).

use std::sync::atomic::{AtomicU64, Ordering};

use url::Url;

/// More logical databases than a test binary has tests.
pub(super) const MANY_DATABASES: &[&str] = &["--databases", "1024"];

/// What `INFO server` says its version is.
pub(super) fn version(url: &str) -> Result<String, String> {
    let info: String = ask(url, ::redis::cmd("INFO").arg("server"))?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| format!("Redis at {url} does not tell its version"))
}

/// The URL of a logical database that no other test of this process has, emptied.
///
/// Counting starts at the database that `server` names, so that a server which also
/// holds other things can lend the tests its upper ones: `redis://host/8`.
pub(super) fn fresh_database(server: &str, taken: &AtomicU64) -> Result<String, String> {
    let mut url = Url::parse(server).map_err(|error| format!("not a Redis URL: {server}: {error}"))?;
    let first: u64 = url.path().trim_matches('/').parse().unwrap_or(0);
    let database = first + taken.fetch_add(1, Ordering::SeqCst);
    url.set_path(&database.to_string());
    ask::<()>(url.as_str(), &::redis::cmd("FLUSHDB"))
        .map_err(|error| format!("no logical database {database} to take: {error}"))?;
    Ok(url.into())
}

/// Removes everything from a server.
pub(super) fn empty(url: &str) -> Result<(), String> {
    ask(url, &::redis::cmd("FLUSHALL"))
}

fn ask<T: ::redis::FromRedisValue>(url: &str, command: &::redis::Cmd) -> Result<T, String> {
    let problem = |error| format!("Redis at {url} does not answer: {error}");
    let mut connection = ::redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .map_err(problem)?;
    command.query(&mut connection).map_err(problem)
}
