use std::error::Error;
use std::io;
use std::sync::Arc;

use super::super::StoreError;

/// The reason why a file could not be opened as a [`RedbStore`](super::RedbStore).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedbOpenError {
    /// A setting of the builder is invalid. The file has not been opened.
    #[error("{setting}: {reason}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The reason why it is invalid.
        reason: &'static str,
    },
    /// Another process, or another store of this process, has the file open. Only one store can
    /// open a file at a time.
    #[error("the file is in use by another store")]
    InUse(#[source] Arc<dyn Error + Send + Sync>),
    /// The file is damaged or is not a database. It has not been changed.
    #[error("the file is damaged or is not a database")]
    Unreadable(#[source] Arc<dyn Error + Send + Sync>),
    /// The file is a database of another program. It has not been changed.
    #[error("the file is a database of another program")]
    Foreign,
    /// The file was written by a version of this crate, or of redb, whose layout this version does
    /// not know. It has not been changed.
    #[error(
        "the file has layout {found}, but this version of tower-oauth-refresh reads only layout {known}"
    )]
    OtherLayout {
        /// The number of the layout in the file.
        found: u64,
        /// The number of the layout that this version reads and writes.
        known: u64,
    },
    /// The file could not be created, read or written, or a thread could not be started.
    #[error("the file cannot be opened")]
    Io(#[source] Arc<io::Error>),
    /// Any other error of redb.
    #[error("the database cannot be opened")]
    Database(#[source] Arc<dyn Error + Send + Sync>),
}

// These conversions are not `From` implementations, because those would be part of the public API.
impl RedbOpenError {
    /// Converts an error of the operating system.
    pub(super) fn io(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }

    /// Converts an error of redb.
    pub(super) fn of(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            error @ (redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                Self::InUse(Arc::new(error))
            }
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::io(error),
            error @ (redb::Error::Io(_)
            | redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)) => Self::Unreadable(Arc::new(error)),
            error => Self::Database(Arc::new(error)),
        }
    }

    /// Converts the error of a failed reopening for the calls that follow.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Io(_) | Self::InUse(_) | Self::Database(_) => StoreError::unavailable(self),
            error => StoreError::corrupt(error),
        }
    }
}

/// The error for a record that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the record is corrupt or has an unknown format")]
pub(super) struct Unreadable;

/// The reason why an operation on the tables failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// One record is unreadable; other records are not affected.
    Record(Unreadable),
    /// The database failed, so the transaction must be abandoned.
    Database(redb::Error),
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Record(error)
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Record(error) => Self::corrupt(error),
            Failure::Database(error @ redb::Error::Corrupted(_)) => Self::corrupt(error),
            Failure::Database(error) => Self::unavailable(error),
        }
    }
}
