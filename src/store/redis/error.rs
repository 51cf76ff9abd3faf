use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::target::RedisUrlError;
use crate::store::StoreError;

/// Why a [`RedisStore`](super::RedisStore) could not be connected.
///
/// Neither a password nor anything else that was sent to a server is part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConnectError {
    /// The URL makes no sense.
    #[error("the URL of Redis makes no sense: {0}")]
    Url(#[source] RedisUrlError),
    /// The URL asks for TLS, and the crate was built without it.
    #[error("TLS to Redis needs the feature `redis-tls` of tower-oauth-refresh")]
    TlsFeature,
    /// A setting of the builder makes no sense.
    #[error("{setting}: {reason}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A certificate or key that was given cannot be read.
    #[error("a certificate or key for Redis cannot be used")]
    Certificate(#[source] Arc<dyn Error + Send + Sync>),
    /// No server can be reached, or none is ready in time.
    #[error("Redis cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// The server knows no such user or password, or wants some and was given none.
    #[error("Redis refuses the user or the password")]
    Authentication(#[source] Arc<dyn Error + Send + Sync>),
    /// The user may not run what the store needs: see
    /// [`RedisStore`](super::RedisStore#access-rights).
    #[error("the user of Redis may not do what the store needs")]
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
    /// The server can be reached, but cannot be used: a replica, one that is out of memory, without
    /// scripts, without such a database.
    #[error("Redis cannot be used")]
    Unusable(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<RedisUrlError> for RedisConnectError {
    fn from(error: RedisUrlError) -> Self {
        Self::Url(error)
    }
}

impl From<Failure> for RedisConnectError {
    fn from(failure: Failure) -> Self {
        let kind = failure.kind;
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

/// What went wrong between us and Redis. It quotes nothing that was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection is gone, or what comes over it makes no sense.
    Gone,
    /// No answer in time.
    Slow,
    /// A reply that cannot be the reply to this call: the replies after it belong to other calls,
    /// too.
    OutOfStep,
    /// The server cannot be written to now, and perhaps another should be: a replica, or one that
    /// loads its data.
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
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn out_of_step() -> Self {
        Self::new(
            Kind::OutOfStep,
            "a reply from Redis does not belong to the command that was sent: reconnecting",
        )
    }

    pub(super) fn slow() -> Self {
        Self::new(Kind::Slow, "Redis did not answer in time")
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether another connection could do better.
    pub(super) fn wants_another_connection(&self) -> bool {
        matches!(self.kind, Kind::Gone | Kind::Standby | Kind::OutOfStep)
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let kind = kind(&error);
        let message = match error.kind() {
            // These quote what came.
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => error.category().to_owned(),
            _ => printable(without_arguments(&error.to_string())),
        };
        Self { kind, message }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::WrongType => Self::corrupt(failure),
            _ => Self::unavailable(failure),
        }
    }
}

/// A server that does not know a command quotes what came with it, a password for instance.
fn without_arguments(message: &str) -> &str {
    match message.find("with args") {
        Some(at) => message
            .get(..at)
            .unwrap_or_default()
            .trim_end_matches([' ', ',']),
        None => message,
    }
}

/// Returns the text of a server for the log: at most 200 characters of printable ASCII.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut printable = String::new();
    for character in text.chars() {
        let plain = character == ' ' || character.is_ascii_graphic();
        let length = if plain {
            1
        } else {
            character.escape_default().len()
        };
        if printable.len() + length > LONGEST {
            printable.push_str("...");
            break;
        }
        if plain {
            printable.push(character);
        } else {
            printable.extend(character.escape_default());
        }
    }
    printable
}

fn kind(error: &RedisError) -> Kind {
    match error.kind() {
        ErrorKind::AuthenticationFailed => return Kind::Authentication,
        ErrorKind::Io if error.is_timeout() => return Kind::Slow,
        ErrorKind::Io => return Kind::Gone,
        _ => {}
    }
    // Within a script, Redis before 7 hides the code of an error in its text.
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
    fn the_text_of_a_server_is_cut_and_escaped() {
        assert_eq!(printable("ERR wrong 'get' \\ x"), "ERR wrong 'get' \\ x");
        assert_eq!(
            printable("a\nlevel=error\u{202e}\u{1b}[2J\0"),
            "a\\nlevel=error\\u{202e}\\u{1b}[2J\\u{0}"
        );
        for long in ["a".repeat(100_000), "\u{202e}".repeat(100_000)] {
            let cut = printable(&long);
            assert!(
                cut.len() <= 203 && cut.len() > 190 && cut.ends_with("..."),
                "{cut}"
            );
        }
        assert_eq!(printable(&"a".repeat(200)).len(), 200);
    }
}
