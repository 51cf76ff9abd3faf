use std::error::Error;
use std::io;
use std::sync::Arc;

use sqlx::Error as SqlError;

use crate::store::StoreError;
use crate::store::remote::failure;
use crate::store::remote::printable::printable;

/// The reason why a [`PostgresStore`](super::PostgresStore) could not be connected.
///
/// It contains neither a password nor a value that was sent to a server.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresConnectError {
    /// The URL is invalid, or names a certificate that cannot be read.
    #[error("invalid PostgreSQL URL")]
    Url(#[source] Arc<dyn Error + Send + Sync>),
    /// A setting of the builder is invalid.
    #[error("{setting}: {reason}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The reason why it is invalid.
        reason: &'static str,
    },
    /// The server cannot be reached, or was not ready in time.
    #[error("PostgreSQL cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// The server rejected the user or the password.
    #[error("PostgreSQL rejected the user or the password")]
    Authentication(#[source] Arc<dyn Error + Send + Sync>),
    /// The role lacks a right that the store needs: see
    /// [`PostgresStore`](super::PostgresStore#access-rights).
    #[error("the PostgreSQL role lacks a right that the store needs")]
    Permission(#[source] Arc<dyn Error + Send + Sync>),
    /// The server is older than PostgreSQL 13.
    #[error("PostgreSQL {found} is too old: 13 or later is needed")]
    TooOld {
        /// The version that the server reports, such as `120004`.
        found: i32,
    },
    /// The schema is missing or older than the store needs, and the store may not migrate it.
    #[error("the schema has version {found} and {needed} is needed: apply the missing migrations")]
    Schema {
        /// The version of the schema; 0 if it is missing.
        found: i32,
        /// The version that the store needs.
        needed: i32,
    },
    /// The server can be reached, but cannot be used: it is read-only, for example.
    #[error("PostgreSQL cannot be used")]
    Unusable(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<Failure> for PostgresConnectError {
    fn from(failure: Failure) -> Self {
        let kind = failure.kind();
        let source = Arc::new(failure);
        match kind {
            Kind::Gone | Kind::Slow => Self::Unreachable(source),
            Kind::Authentication => Self::Authentication(source),
            Kind::Permission => Self::Permission(source),
            Kind::Url => Self::Url(source),
            Kind::OutOfStep
            | Kind::ReadOnly
            | Kind::Conflict
            | Kind::Late
            | Kind::Corrupt
            | Kind::Other => Self::Unusable(source),
        }
    }
}

/// An error of a call to PostgreSQL.
pub(super) type Failure = failure::Failure<Kind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection was closed. No copy of the call can still arrive on it.
    Gone,
    /// No reply in time.
    Slow,
    /// An unexpected message. What follows on the connection cannot be trusted.
    OutOfStep,
    /// The server rejects writes: it is a standby, or was made read-only.
    ReadOnly,
    /// The transaction conflicts with another one, and was undone.
    Conflict,
    /// The call arrived after its deadline, by the clock of the server.
    Late,
    Authentication,
    Permission,
    Corrupt,
    Url,
    Other,
}

impl Failure {
    pub(super) fn slow() -> Self {
        Self::new(Kind::Slow, "PostgreSQL did not answer in time")
    }

    pub(super) fn moved() -> Self {
        Self::new(Kind::Gone, "the store moved to another server")
    }

    pub(super) fn corrupt(message: &str) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// Returns whether the connection may still be used.
    pub(super) fn keeps_connection(&self) -> bool {
        !matches!(
            self.kind(),
            Kind::Gone | Kind::Slow | Kind::OutOfStep | Kind::ReadOnly
        )
    }

    /// Returns whether the reason may be that another server is the primary now.
    pub(super) fn may_be_a_failover(&self) -> bool {
        matches!(self.kind(), Kind::Gone | Kind::Slow | Kind::ReadOnly)
    }

    /// Returns whether the same call may succeed at once. None of these errors leaves a copy of the
    /// call that can still take effect.
    pub(super) fn may_be_repeated(&self) -> bool {
        matches!(self.kind(), Kind::Gone | Kind::Conflict | Kind::Late)
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        let (kind, message) = match &error {
            SqlError::Database(error) => {
                let code = error.code().unwrap_or_default();
                let message = format!("{} ({code})", printable(error.message()));
                (kind_of(&code), message)
            }
            SqlError::Io(error) => {
                let is_slow = error.kind() == io::ErrorKind::TimedOut;
                let kind = if is_slow { Kind::Slow } else { Kind::Gone };
                (kind, printable(&error.to_string()))
            }
            SqlError::PoolTimedOut => (
                Kind::Slow,
                "no connection could be opened or was free in time".to_owned(),
            ),
            SqlError::PoolClosed => (Kind::Other, "the pool was closed".to_owned()),
            SqlError::Configuration(error) => (Kind::Url, printable(&error.to_string())),
            SqlError::Tls(error) => (Kind::Other, printable(&error.to_string())),
            SqlError::Protocol(_) => (Kind::OutOfStep, "unexpected reply".to_owned()),
            // These quote the value.
            SqlError::ColumnDecode { .. } | SqlError::Decode(_) => {
                let message = "a column has an unexpected type or length";
                (Kind::Corrupt, message.to_owned())
            }
            _ => (Kind::Other, printable(&error.to_string())),
        };
        Self::new(kind, message)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.kind() {
            Kind::Corrupt => Self::corrupt(failure),
            _ => Self::unavailable(failure),
        }
    }
}

/// Returns the kind of an error of the server by its SQLSTATE.
fn kind_of(code: &str) -> Kind {
    match code {
        // The server ends this connection: it shuts down, or was told to end the backend.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Kind::Gone,
        "25006" => Kind::ReadOnly,
        "40001" | "40P01" => Kind::Conflict,
        "TR001" => Kind::Late,
        "28000" | "28P01" => Kind::Authentication,
        "42501" => Kind::Permission,
        "XX001" | "XX002" => Kind::Corrupt,
        code if code.starts_with("08") => Kind::Gone,
        _ => Kind::Other,
    }
}
