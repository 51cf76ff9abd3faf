//! Authorization codes: what one stands for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a code is good, and how long it is remembered that it was used.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// What a code stands for; sealed under it, with [`crate::records::Kind::Code`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Code {
    Fresh(Fresh),
    /// In use by a request of which it is not known yet what becomes of it.
    InUse(InUse),
    /// Exchanged: the grant of this key began with it, and ends if the code is seen once more (RFC 6749 §4.1.2). None
    /// began if the provider gave an access token alone, which soon ends by itself.
    Used {
        grant: Option<String>,
    },
}

/// The use of a code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InUse {
    /// By which request.
    pub(crate) attempt: String,
    /// Since when, in milliseconds since 1970.
    pub(crate) since: u64,
    /// Whether it was seen once more.
    pub(crate) again: bool,
}

/// A code that nobody has exchanged.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// The client's (RFC 7636, S256).
    pub(crate) code_challenge: String,
    /// What the person has agreed to.
    pub(crate) scope: String,
    /// The resource that was asked for, if one was (RFC 8707).
    pub(crate) resource: Option<String>,
    /// The token answer of the provider: JSON.
    pub(crate) answer: String,
    /// When that was received, in milliseconds since 1970.
    pub(crate) received_at: u64,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
