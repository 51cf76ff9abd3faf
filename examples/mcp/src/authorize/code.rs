//! The records of authorization codes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::device::Device;
use crate::users::User;

/// The lifetime of a code, and the time for which a used code is remembered.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// The record of a code, sealed under the code itself with [`crate::records::Kind::Code`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Code {
    Fresh(Fresh),
    /// A request is exchanging the code and has no response yet.
    InUse(InUse),
    Used(Used),
}

impl Code {
    /// Returns the client and the request to which the code is bound, in every state of the code.
    pub(crate) const fn binding(&self) -> &CodeBinding {
        match self {
            Self::Fresh(fresh) => &fresh.binding,
            Self::InUse(used) => &used.binding,
            Self::Used(used) => &used.binding,
        }
    }
}

/// The client and the authorization request to which a code is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeBinding {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// The client's code challenge (RFC 7636, method S256).
    pub(crate) code_challenge: String,
}

/// An exchange of a code that is in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InUse {
    pub(crate) binding: CodeBinding,
    /// The ID of the request that exchanges the code.
    pub(crate) attempt: String,
    /// The start of the exchange, in milliseconds since 1970.
    pub(crate) since: u64,
}

/// A successful exchange of a code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) binding: CodeBinding,
    /// The ID of the request that exchanged the code.
    pub(crate) attempt: String,
    /// The grant that began with the code. It ends if the client uses the code again after its
    /// response is no longer offered (RFC 6749 §4.1.2). Absent if the provider issued only an
    /// access token, which expires soon.
    pub(crate) grant: Option<String>,
}

/// A code that was not exchanged yet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub(crate) binding: CodeBinding,
    /// The granted scopes.
    pub(crate) scope: String,
    /// The requested resource, if any (RFC 8707).
    pub(crate) resource: Option<String>,
    /// The provider's token response, as JSON.
    pub(crate) answer: String,
    /// The user, if the provider has said who it is.
    #[serde(default)]
    pub(crate) user: Option<User>,
    /// The device at which the user logged in.
    #[serde(default)]
    pub(crate) device: Device,
    /// A lower bound for the time of that response, in milliseconds since 1970.
    pub(crate) received_at: u64,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh")
            .field("client_id", &self.binding.client_id)
            .finish_non_exhaustive()
    }
}
