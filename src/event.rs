//! Events for operators.
//!
//! Everything that happens to a grant is an [`Event`]. [`emit`] writes it to the log and passes it
//! to the callback that the application set with
//! [`on_event`](crate::RefreshLayerBuilder::on_event).

mod reuse;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::reuse::{ClientProof, Reuse};
use crate::grant::GrantKey;
use crate::store::{Key, StoreError};
use crate::wire::client::ClientId;

/// An event in the life of a grant, for logs, metrics and alerts. It never contains a token or a
/// secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The kind of event.
    pub kind: EventKind,
    /// The client that the request identified, if known.
    pub client_id: Option<ClientId>,
    /// The grant of the presented token, if the token has the format of the layer. It is set even
    /// if the store has no such grant. Log lines have its [short form](GrantKey::short).
    pub grant: Option<GrantKey>,
    /// The generation of the presented token. For [`EventKind::Issued`] and [`EventKind::Adopted`]
    /// that of the issued token, for [`EventKind::EndedByApplication`] that of the grant.
    pub generation: Option<u32>,
    /// The details of a reused token. `Some` for [`EventKind::ReuseDetected`] and
    /// [`EventKind::ReuseUnproven`].
    pub reuse: Option<Reuse>,
    /// The time since the layer began to handle the request. For an `AccessLayer` it is the time
    /// that reading the token from the store took, or zero if the cache answered.
    pub elapsed: Duration,
}

/// Defines [`EventKind`] by a table: the level at which the layer logs a kind, its name, and its
/// label for metrics.
macro_rules! event_kinds {
    (@is_warning debug) => { false };
    (@is_warning warn) => { true };
    ($($(#[$doc:meta])* $level:ident $kind:ident = $label:literal,)*) => {
        /// The kind of an [`Event`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// All kinds of events of this version, for example to register a metric for each at
            /// the start.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Returns the kind in lower case with underscores, as a label for metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)*
                }
            }

            /// Returns whether the event needs the attention of an operator. The layer logs such
            /// events at `warn` and all others at `debug`.
            #[must_use]
            pub const fn is_warning(self) -> bool {
                match self {
                    $(Self::$kind => event_kinds!(@is_warning $level),)*
                }
            }
        }
    };
}

event_kinds! {
    /// A grant began.
    debug Issued = "issued",
    /// A refresh token was exchanged for the next one.
    debug Rotated = "rotated",
    /// The stored response was returned again, within the retry window. The request presented the
    /// token of the last rotation, or one that leads to the current token.
    debug Replayed = "replayed",
    /// A refresh was answered with the presented token again, because the
    /// [rotation policy](crate::RefreshLayerBuilder::rotation_policy) of its client says so.
    debug Kept = "kept",
    /// An old token was exchanged for the current one, in its
    /// [shared token window](crate::RefreshLayerBuilder::shared_token_window). Another process with
    /// a copy of the token sends such a request, or a client whose request cannot be replayed, or a
    /// thief.
    debug Converged = "converged",
    /// The grant was rotated from the previous token after its shared token window, because its
    /// successor was never presented.
    debug Recovered = "recovered",
    /// An old token was rejected that does not lead to the current one, but that a conforming
    /// client may still hold. The grant continues.
    debug Late = "late",
    /// An old token was rejected whose windows are over: it was stolen, or it is a stale copy. The
    /// grant has ended. [`Event::reuse`] helps to find out which it is.
    warn ReuseDetected = "reuse_detected",
    /// Like [`ReuseDetected`](Self::ReuseDetected), but the client of the grant authenticates
    /// itself, and the request did not prove that it comes from this client. The grant continues.
    warn ReuseUnproven = "reuse_unproven",
    /// A token was rejected because another client presented it. The grant continues.
    warn ClientMismatch = "client_mismatch",
    /// A token was rejected because its grant has expired.
    debug Expired = "expired",
    /// A token was rejected because it does not have the format of the layer, or because its grant
    /// does not exist or has ended.
    debug Unknown = "unknown",
    /// The layer has renewed the upstream access token of an access token in use
    /// ([`upstream_refresh`](crate::AccessLayerBuilder::upstream_refresh)).
    debug Renewed = "renewed",
    /// An upstream access token was not renewed, because the inner service refused the request or
    /// could not be reached. Other causes have their own events, such as
    /// [`UpstreamTimeout`](Self::UpstreamTimeout).
    warn RenewalFailed = "renewal_failed",
    /// The client revoked a grant (RFC 7009).
    debug Revoked = "revoked",
    /// The client revoked an access token (RFC 7009). Its grant continues.
    debug AccessRevoked = "access_revoked",
    /// The application ended a grant ([`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant),
    /// [`end_sessions`](crate::RefreshLayer::end_sessions)). Without a grant: all grants of the
    /// client ([`end_client`](crate::RefreshLayer::end_client)), or without a client all grants
    /// ([`end_all`](crate::RefreshLayer::end_all)).
    debug EndedByApplication = "ended_by_application",
    /// A session of a user could not be listed, because the store was unavailable for too long or
    /// the user has more than 1,000 sessions. The session itself works.
    /// [`RefreshLayer::sessions`](crate::RefreshLayer::sessions) does not return it, and
    /// [`RefreshLayer::end_sessions`](crate::RefreshLayer::end_sessions) does not end it.
    warn SessionUnlisted = "session_unlisted",
    /// An [`AccessLayer`](crate::AccessLayer) rejected an access token that has not expired: it was
    /// revoked, or its grant has ended. The event is emitted only while the store or the cache of
    /// the layer still has the token or its end. Expired and unknown tokens emit no event.
    debug AccessRefused = "access_refused",
    /// A grant was adopted: it began from a refresh token that the inner service issued before the
    /// layer was installed.
    debug Adopted = "adopted",
    /// A grant was handed back to the inner service: its client received the upstream refresh token
    /// ([`hand_back`](crate::RefreshLayerBuilder::hand_back)).
    debug HandedBack = "handed_back",
    /// The inner service rejected the upstream token with `invalid_grant`. The grant has ended.
    debug UpstreamRejected = "upstream_rejected",
    /// The inner service returned a response that cannot be read or must not be passed on. Or it
    /// has no revocation endpoint, and its token endpoint does not say whether a revocation comes
    /// from the client of the grant. The client got 502.
    warn UpstreamUnreadable = "upstream_unreadable",
    /// The inner service did not answer within the time limit: a refresh, a log-in, an
    /// introspection, or the revocation of a token of another format. The client got 503, or 504
    /// for a log-in.
    warn UpstreamTimeout = "upstream_timeout",
    /// The inner service has revoked the upstream token of a grant that the layer had ended itself.
    debug UpstreamRevoked = "upstream_revoked",
    /// The upstream token of a grant that the layer had ended could not be revoked, and stays valid
    /// at the inner service until it expires. The cause is in the log.
    warn UpstreamRevocationFailed = "upstream_revocation_failed",
    /// A call of the store failed.
    warn StoreUnavailable = "store_unavailable",
    /// The stored entry is corrupt or has an unknown format.
    warn StoreCorrupt = "store_corrupt",
    /// The inner service answered, but the response could not be committed to the store. If the
    /// inner service rotates its own tokens, the session is lost.
    warn CommitLost = "commit_lost",
    /// A token was rejected because it is newer than its grant: the store has lost a write, or the
    /// token is forged.
    warn Ahead = "ahead",
    /// A token was rejected because it has the id of a grant but was never issued.
    warn Forged = "forged",
    /// An old token was rejected because a link that should lead from it to the current one cannot
    /// be opened: an attacker has written to the store, or the entry is damaged. The grant
    /// continues.
    warn LinkInvalid = "link_invalid",
    /// An old token was rejected because more than 64 links lead from it to the current one: the
    /// grant was rotated that often within the
    /// [shared token window](crate::RefreshLayerBuilder::shared_token_window). The grant continues.
    warn TooFarBehind = "too_far_behind",
    /// The inner service issued a refresh token for a request that does not identify a client. The
    /// refresh token was withheld from the client.
    warn Unbound = "unbound",
}

impl EventKind {
    /// Returns the kind of event for a store error.
    pub(crate) const fn of_failure(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::StoreUnavailable,
            StoreError::Corrupt(_) => Self::StoreCorrupt,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The subject of an event: the client, and the key and the generation of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventSubject<'a> {
    pub(crate) client_id: Option<&'a ClientId>,
    pub(crate) grant: Option<(&'a Key, Option<u32>)>,
}

impl<'a> EventSubject<'a> {
    /// The subject of a request that names no grant.
    pub(crate) const fn client(client_id: Option<&'a ClientId>) -> Self {
        Self {
            client_id,
            grant: None,
        }
    }

    /// The subject of a request that names a grant.
    pub(crate) const fn grant(
        client_id: Option<&'a ClientId>,
        key: &'a Key,
        generation: Option<u32>,
    ) -> Self {
        Self {
            client_id,
            grant: Some((key, generation)),
        }
    }
}

pub(crate) type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

/// The details of an event, in addition to its subject.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Detail<'a> {
    /// The cause of a failure. It is only logged, and only with warnings.
    pub(crate) cause: Option<&'a (dyn Error + 'static)>,
    pub(crate) reuse: Option<Reuse>,
}

/// Logs an event and passes it to the callback, if there is one. `token` is the kind of token that
/// the event is about.
pub(crate) fn emit(
    callback: Option<&Callback>,
    token: &'static str,
    kind: EventKind,
    subject: EventSubject<'_>,
    elapsed: Duration,
    Detail { cause, reuse }: Detail<'_>,
) {
    // Text fields are logged as strings, so that the log format quotes them. Quotes alone are not
    // enough: some viewers treat U+2028 as the end of a line, and U+202E reverses the text after
    // it.
    let cause = cause.map(|cause| printable(cause.to_string().into()));
    let cause = cause.as_deref();
    let client_id = subject
        .client_id
        .map(|client_id| printable(client_id.as_str().into()));
    let client_id = client_id.as_deref();
    let grant = subject.grant.map(|(key, _)| GrantKey::from(*key));
    let generation = subject.grant.and_then(|(_, generation)| generation);
    let short = grant.as_ref().map(GrantKey::short);
    let short = short.as_ref().map(tracing::field::display);
    if kind.is_warning() {
        tracing::warn!(
            event = kind.as_str(),
            client_id,
            grant = short,
            generation,
            generations_behind = reuse.map(|reuse| reuse.generations_behind),
            rotated_away_secs = reuse.map(|reuse| reuse.rotated_away_for.as_secs()),
            client_proof = reuse.map(|reuse| reuse.client_proof.as_str()),
            cause,
            "{token}"
        );
    } else {
        tracing::debug!(
            event = kind.as_str(),
            client_id,
            grant = short,
            generation,
            "{token}"
        );
    }
    if let Some(callback) = callback {
        let client_id = subject.client_id.cloned();
        callback(&Event {
            kind,
            client_id,
            grant,
            generation,
            reuse,
            elapsed,
        });
    }
}

/// Escapes text from a client or another server for the log. Characters that are not printable
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
    // `escape_debug` decides which characters are printable. The log format itself escapes quotes
    // and backslashes.
    if char.is_ascii() {
        char.is_ascii_control()
    } else {
        char.escape_debug().len() > 1
    }
}

#[cfg(test)]
mod tests;
