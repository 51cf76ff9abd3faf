use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::OauthError;

/// What the layer gets for a refresh token, and seals: the provider's, and the scope that goes with
/// it. A provider need not repeat the scope when it refreshes (RFC 6749 §5.1), and some grant
/// whatever is asked for (Entra).
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) scope: String,
    #[serde(flatten)]
    pub(super) token: KeptToken,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeptToken {
    Refresh(String),
    /// An access token without an end, in place of a refresh token: OAuth apps of GitHub get such.
    Access(String),
}

impl Kept {
    /// JSON: no provider's token looks like it, as none that fits into `Authorization: Bearer`
    /// does.
    pub(super) fn encode(&self) -> Result<String, OauthError> {
        serde_json::to_string(self)
            .map_err(|_| OauthError::server_error("the token cannot be kept"))
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether this scope is within the granted one. `offline_access` asks for a refresh token, and
    /// is in no answer.
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
