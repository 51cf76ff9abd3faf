//! What the operator is told.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::ClientId;
use crate::grant::GrantKey;
use crate::store::{Key, StoreError};

/// Something that happened to a grant, for logs, metrics and alarms. It never holds a token or a
/// secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The client that the request named, if it is known.
    pub client_id: Option<ClientId>,
    /// The grant that the presented token belongs to, if it has the layer's format.
    pub grant: Option<GrantName>,
    /// The handle of the same grant, whether there is one or not: for
    /// [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
    pub grant_key: Option<GrantKey>,
    /// The generation of the token that was presented or, for [`EventKind::Issued`] and
    /// [`EventKind::Adopted`], issued; for [`EventKind::Ended`], that of the grant.
    pub generation: Option<u32>,
    /// How long ago the request came in.
    pub elapsed: Duration,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A grant has begun.
    Issued,
    /// A refresh token was exchanged for the next one.
    Rotated,
    /// The same answer was given again, inside the retry window.
    Replayed,
    /// A rotation was done again from the previous token, whose successor had never been presented.
    Recovered,
    /// An old token was refused that an honest client may still hold. The grant lives.
    Late,
    /// An old token was refused that no honest client sends. The grant has ended: somebody may have
    /// stolen a token.
    ReuseDetected,
    /// A token was refused because another client presented it. The grant lives.
    ClientMismatch,
    /// A token was refused because its grant has expired.
    Expired,
    /// A token was refused that is not of the layer's format, belongs to no grant, or to one that
    /// has ended.
    Unknown,
    /// A grant was ended by its client (RFC 7009).
    Revoked,
    /// An access token was ended by its client (RFC 7009). Its grant lives.
    AccessRevoked,
    /// A grant was ended by the embedding program
    /// ([`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant)).
    Ended,
    /// An access token was refused whose own time is not over: it was revoked, or its grant has
    /// ended. An [`AccessLayer`](crate::AccessLayer) tells this, as long as anybody knows of the
    /// token; of one whose time is over it tells nothing.
    AccessRefused,
    /// A grant has begun from a refresh token that the inner service had issued before the layer
    /// was there.
    Adopted,
    /// The inner service refused the upstream token with `invalid_grant`. The grant has ended.
    UpstreamRejected,
    /// The inner service gave a success that cannot be read. It was withheld from the client.
    UpstreamUnreadable,
    /// The inner service did not answer a refresh, a log-in, an introspection or the revocation of
    /// a token that is not of the layer within the time limit. The client got 503, or 504 at a
    /// log-in.
    UpstreamTimeout,
    /// The store could not be reached.
    StoreUnavailable,
    /// What lies in the store cannot be read.
    StoreCorrupt,
    /// The inner service has answered, and the store did not take the answer: if the inner service
    /// replaces its tokens, the session is lost.
    CommitLost,
    /// A token was refused that is newer than its grant: the store has lost a write, or the token
    /// is forged.
    Ahead,
    /// A token was refused that was never issued.
    Forged,
    /// The inner service issued a refresh token to a request that names no client. It was withheld
    /// from the client.
    Unbound,
}

impl EventKind {
    /// The kind in lower case with underscores, as a label for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Rotated => "rotated",
            Self::Replayed => "replayed",
            Self::Recovered => "recovered",
            Self::Late => "late",
            Self::ReuseDetected => "reuse_detected",
            Self::ClientMismatch => "client_mismatch",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::AccessRevoked => "access_revoked",
            Self::Ended => "ended",
            Self::AccessRefused => "access_refused",
            Self::Adopted => "adopted",
            Self::UpstreamRejected => "upstream_rejected",
            Self::UpstreamUnreadable => "upstream_unreadable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreCorrupt => "store_corrupt",
            Self::CommitLost => "commit_lost",
            Self::Ahead => "ahead",
            Self::Forged => "forged",
            Self::Unbound => "unbound",
        }
    }

    /// What a failure of the store is told as.
    pub(crate) const fn of_failure(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::StoreUnavailable,
            StoreError::Corrupt(_) => Self::StoreCorrupt,
        }
    }

    /// Whether an operator should look at it; the layer logs those at `warn`, the others at
    /// `debug`.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        match self {
            Self::ReuseDetected
            | Self::ClientMismatch
            | Self::UpstreamUnreadable
            | Self::UpstreamTimeout
            | Self::StoreUnavailable
            | Self::StoreCorrupt
            | Self::CommitLost
            | Self::Ahead
            | Self::Forged
            | Self::Unbound => true,
            Self::Issued
            | Self::Rotated
            | Self::Replayed
            | Self::Recovered
            | Self::Late
            | Self::Expired
            | Self::Unknown
            | Self::Revoked
            | Self::AccessRevoked
            | Self::Ended
            | Self::AccessRefused
            | Self::Adopted
            | Self::UpstreamRejected => false,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a grant in logs and events: the first eight hexadecimal digits of its key, which
/// says nothing of its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantName([u8; 4]);

impl From<&Key> for GrantName {
    fn from(key: &Key) -> Self {
        let [a, b, c, d, ..] = *key.as_bytes();
        Self([a, b, c, d])
    }
}

impl From<&GrantKey> for GrantName {
    fn from(grant: &GrantKey) -> Self {
        grant.key().into()
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl fmt::Debug for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who and what an event is about: the client, and the key and the generation of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) client_id: Option<&'a ClientId>,
    pub(crate) grant: Option<(&'a Key, Option<u32>)>,
}

pub(crate) type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

/// Tells the log and, if it asks for it, the program of an event about a token of this kind; the
/// cause is for the log.
pub(crate) fn tell(
    callback: Option<&Callback>,
    token: &'static str,
    kind: EventKind,
    subject: Subject<'_>,
    elapsed: Duration,
    cause: Option<&(dyn Error + 'static)>,
) {
    // Text fields are logged as strings, so that the log quotes them. Quotes alone are not enough:
    // in some viewers U+2028 ends a line, and U+202E reverses the rest of it.
    let cause = cause.map(|cause| printable(cause.to_string().into()));
    let cause = cause.as_deref();
    let client_id = subject
        .client_id
        .map(|client_id| printable(client_id.as_str().into()));
    let client_id = client_id.as_deref();
    let grant = subject.grant.map(|(key, _)| GrantName::from(key));
    let generation = subject.grant.and_then(|(_, generation)| generation);
    let name = grant.as_ref().map(tracing::field::display);
    if kind.is_warning() {
        tracing::warn!(
            event = kind.as_str(),
            client_id,
            grant = name,
            generation,
            cause,
            "{token}"
        );
    } else {
        tracing::debug!(
            event = kind.as_str(),
            client_id,
            grant = name,
            generation,
            "{token}"
        );
    }
    if let Some(callback) = callback {
        let grant_key = subject.grant.map(|(key, _)| GrantKey::from(*key));
        let client_id = subject.client_id.cloned();
        callback(&Event {
            kind,
            client_id,
            grant,
            grant_key,
            generation,
            elapsed,
        });
    }
}

/// Escapes a text from a client or another server for the log: characters that are not printable
/// (control and format characters, line separators) are escaped as in Rust.
pub(crate) fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.chars().any(is_escaped) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_escaped(char) {
            escaped.extend(char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

fn is_escaped(char: char) -> bool {
    // `escape_debug` decides what is printable. The log format escapes quotes and backslashes.
    if char.is_ascii() {
        char.is_ascii_control()
    } else {
        char.escape_debug().len() > 1
    }
}

#[cfg(test)]
mod tests;
