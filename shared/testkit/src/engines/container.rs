//! The last resort: an engine in a container.
//!
//! The container library removes a container when its value is dropped, which never
//! happens to a value in a `static`, nor to any after a kill. So the value is forgotten
//! here and a [`Keeper`] removes the container, by way of the `docker` command.

use ::engines::Keeper;
use testcontainers_modules::postgres::Postgres;
use testcontainers_modules::redis::Redis;
use testcontainers_modules::testcontainers::core::error::Result;
use testcontainers_modules::testcontainers::runners::SyncRunner;
use testcontainers_modules::testcontainers::{Container, Image, ImageExt, TestcontainersError};

/// A Redis in a container: its URL, and what removes it when dropped.
pub(super) fn redis() -> std::result::Result<(String, Keeper), String> {
    let (address, keeper) = on_own_thread(|| hand_over(Redis::default().with_tag("7.0-bookworm").start()?, 6379))?;
    Ok((format!("redis://{address}"), keeper))
}

/// A Postgres in a container: the URL of its superuser, and what removes it when dropped.
pub(super) fn postgres() -> std::result::Result<(String, Keeper), String> {
    let (address, keeper) = on_own_thread(|| hand_over(Postgres::default().with_tag("15-bookworm").start()?, 5432))?;
    Ok((format!("postgres://postgres:postgres@{address}/postgres"), keeper))
}

/// Gives the container to a keeper; returns the address of its `port` on this machine.
fn hand_over<I: Image>(container: Container<I>, port: u16) -> Result<(String, Keeper)> {
    let address = format!("{}:{}", container.get_host()?, container.get_host_port_ipv4(port)?);
    let keeper = Keeper::at_end(&["docker", "rm", "--force", "--volumes", container.id()])
        .map_err(TestcontainersError::other)?;
    std::mem::forget(container);
    Ok((address, keeper))
}

/// The library's blocking calls start a runtime, which must not happen inside another one.
fn on_own_thread<T: Send>(start: impl FnOnce() -> Result<T> + Send) -> std::result::Result<T, String> {
    let outcome = std::thread::scope(|scope| scope.spawn(start).join());
    let one_line =
        |error: TestcontainersError| error.to_string().lines().next().unwrap_or("no reason given").to_owned();
    outcome
        .unwrap_or_else(|_| Err(TestcontainersError::other("the container library panicked")))
        .map_err(one_line)
}
