use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::OauthError;
use crate::users::User;

/// The value that the layer gets as the upstream refresh token, and seals: the provider's token,
/// the granted scope and the user. A provider may omit the scope when it refreshes (RFC 6749 §5.1),
/// and some providers grant any requested scope (Entra ID), so that this server must remember it.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) scope: String,
    #[serde(flatten)]
    pub(super) token: KeptToken,
    /// The user as of the log-in or of the last refresh that named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeptToken {
    Refresh(String),
    /// An access token that never expires, used instead of a refresh token. GitHub issues such
    /// tokens to OAuth apps.
    Access(String),
}

impl Kept {
    /// Returns the value as JSON. A provider's token cannot be mistaken for it, because JSON
    /// contains characters that are not allowed in `Authorization: Bearer`.
    pub(super) fn encode(&self) -> Result<String, OauthError> {
        serde_json::to_string(self)
            .map_err(|_| OauthError::server_error("the token could not be encoded"))
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns whether the granted scope contains `scope`. `offline_access` is ignored: it requests
    /// a refresh token and does not occur in responses.
    pub(super) fn covers(&self, scope: &str) -> bool {
        let granted = |token: &str| self.scope.split(' ').any(|granted| granted == token);
        scope
            .split_whitespace()
            .all(|token| token == "offline_access" || granted(token))
    }
}

impl KeptToken {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Refresh(token) | Self::Access(token) => token,
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
