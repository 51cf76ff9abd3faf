use std::error::Error;
use std::io;
use std::sync::Arc;

use redb::{StorageError, TableError};

use super::super::StoreError;

/// Why a file could not be opened as a [`RedbStore`](super::RedbStore).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedbOpenError {
    /// A setting of the builder makes no sense. Nothing has been touched.
    #[error("{setting}: {reason}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process, or another store of this one, has the file open: a file belongs to one at a
    /// time.
    #[error("the file is in use by another store")]
    InUse(#[source] Arc<dyn Error + Send + Sync>),
    /// The file is no database, or a damaged one. It has not been touched.
    #[error("the file is no database, or it is damaged")]
    Unreadable(#[source] Arc<dyn Error + Send + Sync>),
    /// The file is a database, but none of this crate. It has not been touched.
    #[error("the file is the database of another program")]
    Foreign,
    /// The file was written by a version of this crate, or of redb, whose layout this one does not
    /// know. It has not been touched.
    #[error(
        "the file has layout {found}, this version of tower-oauth-refresh knows layout {known}"
    )]
    OtherLayout {
        /// The number of the layout in the file.
        found: u64,
        /// The number of the layout that this version reads and writes.
        known: u64,
    },
    /// The file could not be created, read or written, or a thread not be started.
    #[error("the file cannot be opened")]
    Io(#[source] Arc<io::Error>),
    /// Anything else that redb has to say.
    #[error("the database cannot be opened")]
    Database(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<io::Error> for RedbOpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl RedbOpenError {
    /// For what redb says. No `From`: which redb this is, is nobody else's business.
    pub(super) fn of(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            error @ (redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                Self::InUse(Arc::new(error))
            }
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => error.into(),
            error @ (redb::Error::Io(_)
            | redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)) => Self::Unreadable(Arc::new(error)),
            error => Self::Database(Arc::new(error)),
        }
    }
}

impl From<RedbOpenError> for StoreError {
    /// For the calls that come while a file that was open cannot be opened again.
    fn from(error: RedbOpenError) -> Self {
        match error {
            RedbOpenError::Io(_) | RedbOpenError::InUse(_) | RedbOpenError::Database(_) => {
                Self::unavailable(error)
            }
            error => Self::corrupt(error),
        }
    }
}

/// Why a call has no answer of the database.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the disk has not answered in time")]
    TimedOut,
    #[error("the thread that does the work has ended")]
    Stopped,
    #[error("the database panicked")]
    Panicked,
}

impl From<NoAnswer> for StoreError {
    fn from(error: NoAnswer) -> Self {
        Self::unavailable(error)
    }
}

/// A record that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a record cannot be read")]
pub(super) struct Unreadable;

/// Why an operation on the tables failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// One record is unreadable; the others are not concerned.
    Record(Unreadable),
    /// The transaction is of no use any more.
    Database(redb::Error),
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Record(error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Database(error.into())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Database(error.into())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Record(error) => Self::corrupt(error),
            Failure::Database(error) => store_error(error),
        }
    }
}

/// What callers are told when the database fails.
pub(super) fn store_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(_) => StoreError::corrupt(error),
        error => StoreError::unavailable(error),
    }
}
