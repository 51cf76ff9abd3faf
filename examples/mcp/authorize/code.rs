//! Authorization codes: what one stands for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a code is good, and how long it is remembered that it was used.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// What a code stands for; sealed under it, with [`crate::records::Kind::Code`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Code {
    Fresh(Fresh),
    /// A request is exchanging it, and has no answer yet.
    InUse(InUse),
    Used(Used),
}

impl Code {
    /// Returns the binding that a request must match in every state: another client, or one without
    /// the verifier, cannot use the code.
    pub(crate) const fn binding(&self) -> &CodeBinding {
        match self {
            Self::Fresh(fresh) => &fresh.binding,
            Self::InUse(used) => &used.binding,
            Self::Used(used) => &used.binding,
        }
    }
}

/// The client and the request that a code was issued for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeBinding {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// The challenge of the client (RFC 7636, S256).
    pub(crate) code_challenge: String,
}

/// An exchange of a code that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InUse {
    pub(crate) binding: CodeBinding,
    /// The request that exchanges it.
    pub(crate) attempt: String,
    /// The start of the exchange, in milliseconds since 1970.
    pub(crate) since: u64,
}

/// The exchange of a code that has succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) binding: CodeBinding,
    /// The request that has exchanged it.
    pub(crate) attempt: String,
    /// The grant that began with it. It ends if the client uses the code again after its answer is
    /// no longer offered (RFC 6749 §4.1.2). Absent if the provider issued only an access token,
    /// which expires soon.
    pub(crate) grant: Option<String>,
}

/// A code that nobody has exchanged.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub(crate) binding: CodeBinding,
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
        f.debug_struct("Fresh")
            .field("client_id", &self.binding.client_id)
            .finish_non_exhaustive()
    }
}
