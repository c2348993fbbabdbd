//! A pool of connections whose every hold and wait is in the ledger.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use ledger::{Held, Ledger, Resource};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{Connection, Database};

use crate::Error;

/// A bounded set of connections to one database. Cheap to clone.
#[derive(Debug)]
pub struct Pool<DB: Database> {
    connections: sqlx::Pool<DB>,
    trusted_for: Duration,
    resource: Resource,
}

/// A connection, held until dropped.
#[derive(Debug)]
pub struct Lease<'a, DB: Database> {
    connection: PoolConnection<DB>,
    since: Instant,
    trusted_for: Duration,
    _held: Held<'a>,
}

impl<DB: Database> Pool<DB> {
    /// Opens all `size` connections. In the ledger they stand as `name`.
    pub(crate) async fn open(
        name: &'static str,
        size: u32,
        options: PoolOptions<DB>,
        connect: <DB::Connection as Connection>::Options,
        ledger: &Ledger,
    ) -> Result<Self, sqlx::Error> {
        let connections = options
            .max_connections(size)
            .min_connections(size)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(connect)
            .await?;
        // All of them now: the first requests should not pay for connecting.
        let mut opened = Vec::new();
        for _ in 0..size {
            opened.push(connections.acquire().await?);
        }
        drop(opened);
        Ok(Self {
            connections,
            trusted_for: Duration::MAX,
            resource: ledger.resource(name, "connections", f64::from(size)),
        })
    }

    /// The same pool, which closes a connection that was held for longer than this, and makes a new one when it needs it.
    pub(crate) fn trusting_for(self, longest: Duration) -> Self {
        Self {
            trusted_for: longest,
            ..self
        }
    }

    /// A connection, at once or after a bounded wait.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none came free in time.
    pub async fn get(&self) -> Result<Lease<'_, DB>, Error> {
        if let Some(connection) = self.connections.try_acquire() {
            return Ok(self.lease(connection, service::hold(&self.resource).await));
        }
        let waiting = self.resource.wait();
        let connection = self.connections.acquire().await.map_err(Error::before_commit)?;
        let mut held = waiting.enter();
        service::pay(&mut held).await;
        Ok(self.lease(connection, held))
    }

    fn lease<'a>(&self, connection: PoolConnection<DB>, held: Held<'a>) -> Lease<'a, DB> {
        Lease {
            connection,
            since: Instant::now(),
            trusted_for: self.trusted_for,
            _held: held,
        }
    }

    pub(crate) fn connections(&self) -> &sqlx::Pool<DB> {
        &self.connections
    }
}

impl<DB: Database> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            trusted_for: self.trusted_for,
            resource: self.resource.clone(),
        }
    }
}

impl<DB: Database> Deref for Lease<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Lease<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Lease<'_, DB> {
    fn drop(&mut self) {
        if self.since.elapsed() > self.trusted_for {
            self.connection.close_on_drop();
        }
    }
}
