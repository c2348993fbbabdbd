//! What went wrong in an engine, told by what the caller must know: did the write happen?

use std::sync::Arc;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// A failed call. The source is for the log; a client is told only which of the three it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not answer, or refused; nothing was changed.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// There is no space left; nothing was changed.
    #[error("the store is full: {0}")]
    Full(Arc<dyn std::error::Error + Send + Sync>),
    /// The engine failed while it made the change durable; it may have happened.
    #[error("the store failed during a commit: {0}")]
    Unknown(Arc<dyn std::error::Error + Send + Sync>),
}

/// What a failure says about the transaction it ended.
enum Verdict {
    RolledBack,
    NoSpace,
    MayHaveCommitted,
}

impl Error {
    /// Something other than an engine's own error speaks against the call; nothing was changed.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(reason.into()))
    }

    /// The change may have happened.
    pub fn unknown(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unknown(Arc::from(reason.into()))
    }

    /// A failure before the commit was asked for: whatever was begun is rolled back.
    #[must_use]
    pub fn before_commit(error: sqlx::Error) -> Self {
        match verdict(&error) {
            Verdict::NoSpace => Self::Full(Arc::new(error)),
            Verdict::RolledBack | Verdict::MayHaveCommitted => Self::Unavailable(Arc::new(error)),
        }
    }

    /// A failure of the commit itself, or of a statement that commits on its own.
    #[must_use]
    pub fn at_commit(error: sqlx::Error) -> Self {
        match verdict(&error) {
            Verdict::NoSpace => Self::Full(Arc::new(error)),
            Verdict::RolledBack => Self::Unavailable(Arc::new(error)),
            Verdict::MayHaveCommitted => Self::Unknown(Arc::new(error)),
        }
    }
}

fn verdict(error: &sqlx::Error) -> Verdict {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::RowNotFound => Verdict::RolledBack,
        sqlx::Error::Database(error) => engine_verdict(error.as_ref()),
        // The connection broke, or the answer could not be read: only the engine knows.
        _ => Verdict::MayHaveCommitted,
    }
}

fn engine_verdict(error: &dyn DatabaseError) -> Verdict {
    if let Some(error) = error.try_downcast_ref::<SqliteError>() {
        return sqlite_verdict(error.code().as_deref());
    }
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return match error.code() {
            "53100" => Verdict::NoSpace,
            // Connection failures, and a server that is shutting down.
            code if code.starts_with("08") || code.starts_with("57P") => Verdict::MayHaveCommitted,
            _ => Verdict::RolledBack,
        };
    }
    Verdict::MayHaveCommitted
}

/// Result codes as listed at <https://sqlite.org/rescode.html>; the low byte of an extended code is the primary one.
fn sqlite_verdict(code: Option<&str>) -> Verdict {
    const IO_ERROR: u32 = 10;
    const FULL: u32 = 13;
    match code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        Some(FULL) => Verdict::NoSpace,
        // A write or fsync failed: what reached the disk, nobody knows until the log is read again.
        Some(IO_ERROR) | None => Verdict::MayHaveCommitted,
        Some(_) => Verdict::RolledBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_lock_change_nothing_but_a_failed_fsync_may_have() {
        assert!(matches!(sqlite_verdict(Some("13")), Verdict::NoSpace));
        assert!(matches!(sqlite_verdict(Some("5")), Verdict::RolledBack));
        // SQLITE_IOERR_FSYNC
        assert!(matches!(sqlite_verdict(Some("1034")), Verdict::MayHaveCommitted));
    }

    #[test]
    fn a_broken_connection_is_unknown_only_once_the_commit_was_asked_for() {
        let broken = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(Error::before_commit(broken()), Error::Unavailable(_)));
        assert!(matches!(Error::at_commit(broken()), Error::Unknown(_)));
    }

    #[test]
    fn nobody_who_got_no_connection_has_changed_anything() {
        assert!(matches!(
            Error::at_commit(sqlx::Error::PoolTimedOut),
            Error::Unavailable(_)
        ));
    }
}
