use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{ErrorKind, RedisError};
use tokio::time::{Instant, timeout_at};

use super::target::RedisUrlError;
use crate::store::StoreError;
use crate::store::remote::failure;
use crate::store::remote::printable::printable;

/// The reason why a [`RedisStore`](super::RedisStore) could not be connected.
///
/// It contains neither a password nor anything else that was sent to a server.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConnectError {
    /// The URL is invalid.
    #[error("invalid Redis URL: {0}")]
    Url(#[from] RedisUrlError),
    /// The URL requires TLS, but the crate was built without the feature.
    #[error("TLS to Redis needs the feature `redis-tls` of tower-oauth-refresh")]
    TlsFeature,
    /// A setting of the builder is invalid.
    #[error("{setting}: {reason}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The reason why it is invalid.
        reason: &'static str,
    },
    /// A configured certificate or key cannot be read.
    #[error("a certificate or key for Redis cannot be used")]
    Certificate(#[source] Arc<dyn Error + Send + Sync>),
    /// No server can be reached, or none was ready in time.
    #[error("Redis cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// The server rejected the user or the password, or requires one and none was configured.
    #[error("Redis rejected the user or the password")]
    Authentication(#[source] Arc<dyn Error + Send + Sync>),
    /// The user lacks a permission that the store needs: see
    /// [`RedisStore`](super::RedisStore#access-rights).
    #[error("the Redis user lacks a permission that the store needs")]
    Permission(#[source] Arc<dyn Error + Send + Sync>),
    /// The server is older than Redis 6.0.
    #[error("Redis {found} is too old: 6.0 or later is needed, or Valkey")]
    TooOld {
        /// The version that the server reports.
        found: String,
    },
    /// A `redis-cluster://` URL names a server that is not part of a cluster.
    #[error("the server is not part of a Redis Cluster: the URL should be redis:// or rediss://")]
    NotACluster,
    /// A `redis://` URL names a server that is part of a cluster.
    #[error(
        "the server is part of a Redis Cluster: the URL should be redis-cluster:// or rediss-cluster://"
    )]
    PartOfACluster,
    /// The server can be reached, but cannot be used: it is a replica, is out of memory, has no
    /// scripts, or does not have the database.
    #[error("Redis cannot be used")]
    Unusable(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<Failure> for RedisConnectError {
    fn from(failure: Failure) -> Self {
        let kind = failure.kind();
        let source = Arc::new(failure);
        match kind {
            Kind::Gone | Kind::Slow => Self::Unreachable(source),
            Kind::Authentication => Self::Authentication(source),
            Kind::Permission => Self::Permission(source),
            Kind::Moved => Self::PartOfACluster,
            Kind::NotACluster => Self::NotACluster,
            Kind::OutOfStep | Kind::NoScript | Kind::Standby | Kind::WrongType | Kind::Other => {
                Self::Unusable(source)
            }
        }
    }
}

/// An error of a call to Redis.
pub(super) type Failure = failure::Failure<Kind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection was lost, or the data on it is not the Redis protocol.
    Gone,
    /// No reply in time.
    Slow,
    /// A reply that cannot belong to this call. The replies after it belong to other calls, too.
    OutOfStep,
    /// The server does not accept writes now, and another may have to be used: it is a replica, or
    /// is loading its data.
    Standby,
    Authentication,
    Permission,
    NoScript,
    Moved,
    NotACluster,
    WrongType,
    Other,
}

impl Failure {
    pub(super) fn out_of_step() -> Self {
        Self::new(
            Kind::OutOfStep,
            "a reply from Redis does not belong to the command that was sent: reconnecting",
        )
    }

    pub(super) fn slow() -> Self {
        Self::new(Kind::Slow, "Redis did not answer in time")
    }

    /// Returns whether the call may succeed on a new connection.
    pub(super) fn wants_another_connection(&self) -> bool {
        matches!(self.kind(), Kind::Gone | Kind::Standby | Kind::OutOfStep)
    }
}

/// Limits a call to `limit`. After it, the call fails with [`Kind::Slow`].
pub(super) fn within<T, E: Into<Failure>>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, Failure>> {
    until(Instant::now() + limit, call)
}

/// Like [`within`], but with a deadline that several calls may share.
pub(super) fn until<T, E: Into<Failure>>(
    deadline: Instant,
    call: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, Failure>> {
    timeout_at(deadline, call).map(|answer| match answer {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::slow()),
    })
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let kind = kind(&error);
        let message = match error.kind() {
            // These quote the reply.
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => error.category().to_owned(),
            _ => printable(without_arguments(&error.to_string())),
        };
        Self::new(kind, message)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.kind() {
            Kind::WrongType => Self::corrupt(failure),
            _ => Self::unavailable(failure),
        }
    }
}

/// Removes the arguments that a server quotes when it does not know a command. They may contain a
/// password.
fn without_arguments(message: &str) -> &str {
    match message.find("with args") {
        Some(at) => message
            .get(..at)
            .unwrap_or_default()
            .trim_end_matches([' ', ',']),
        None => message,
    }
}

fn kind(error: &RedisError) -> Kind {
    match error.kind() {
        ErrorKind::AuthenticationFailed => return Kind::Authentication,
        ErrorKind::Io if error.is_timeout() => return Kind::Slow,
        ErrorKind::Io => return Kind::Gone,
        _ => {}
    }
    // In a script, Redis before 7 reports the code of an error only in its text.
    let text = error.to_string();
    let codes = [
        ("WRONGTYPE", Kind::WrongType),
        ("READONLY", Kind::Standby),
        ("MASTERDOWN", Kind::Standby),
        ("LOADING", Kind::Standby),
        ("CLUSTERDOWN", Kind::Standby),
        ("NOAUTH", Kind::Authentication),
        ("WRONGPASS", Kind::Authentication),
        ("NOPERM", Kind::Permission),
        ("The user executing the script can't", Kind::Permission),
        // Redis 7.2, Valkey.
        ("ACL failure in script", Kind::Permission),
        ("NOSCRIPT", Kind::NoScript),
        ("MOVED", Kind::Moved),
        ("cluster support disabled", Kind::NotACluster),
    ];
    let known = codes
        .iter()
        .find(|(code, _)| error.code() == Some(code) || text.contains(code));
    match known {
        Some((_, kind)) => *kind,
        None if error.is_unrecoverable_error() => Kind::Gone,
        None => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_command_of_a_script_is_a_lack_of_permission() {
        let texts = [
            "The user executing the script can't run this command or subcommand script: f_1, on @user_script:8.",
            "ACL failure in script: User app has no permissions to run the 'get' command script: on @user_script:8.",
        ];
        for text in texts {
            let error = redis::make_extension_error("ERR".to_owned(), Some(text.to_owned()));
            assert_eq!(Failure::from(error).kind(), Kind::Permission, "{text}");
        }
    }
}
