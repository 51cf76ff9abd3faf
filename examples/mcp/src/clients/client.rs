use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::rules;

/// The metadata of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    /// The name that the client chose. It is not verified.
    pub(crate) client_name: Option<String>,
    pub(crate) client_uri: Option<String>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) scope: Option<String>,
    /// `None` for a client without a secret.
    pub(crate) secret: Option<SecretHash>,
    /// The keys of a client that authenticates with `private_key_jwt`.
    #[serde(default)]
    pub(crate) keys: Option<ClientKeys>,
}

/// The keys with which a client signs its assertions (RFC 7523).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientKeys {
    pub(crate) location: KeyLocation,
    /// The only algorithm of the assertions, if the client named one.
    pub(crate) algorithm: Option<String>,
    /// Whether the client must send an assertion. A client that also lists the method `none` need
    /// not.
    pub(crate) required: bool,
}

/// The keys themselves, or the URL at which they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyLocation {
    Jwks(Value),
    JwksUri(String),
}

impl Client {
    /// Returns whether the client registered this redirect URI. A loopback address matches with any
    /// port (RFC 6749 §3.1.2.3, RFC 8252 §7.3).
    pub(crate) fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|registered| rules::same(registered, uri))
    }

    /// Returns whether the client may send a request without a credential.
    pub(crate) fn is_public(&self) -> bool {
        self.secret.is_none() && self.keys.as_ref().is_none_or(|keys| !keys.required)
    }

    /// Returns whether this is the client's secret. Always `false` for a client
    /// without one.
    pub(crate) fn verify_secret(&self, secret: &str) -> bool {
        self.secret.is_some_and(|hash| hash.is_of(secret))
    }
}

/// The hash of a client secret. One round of a plain hash is enough, because the secret is a random
/// key.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub(crate) struct SecretHash {
    hash: [u8; 32],
    /// Whether it is a hash of nothing but the secret. Only a client of the operator has one, which
    /// is not stored.
    is_plain: bool,
}

impl SecretHash {
    pub(crate) fn of(secret: &str) -> Self {
        Self::from(digest(b"mcp client secret", secret))
    }

    /// Takes the plain SHA-256 of a secret.
    pub(super) const fn plain(hash: [u8; 32]) -> Self {
        Self {
            hash,
            is_plain: true,
        }
    }

    /// Compares in constant time.
    fn is_of(self, secret: &str) -> bool {
        let other = if self.is_plain {
            Self::plain(digest(b"", secret))
        } else {
            Self::of(secret)
        };
        self.hash.ct_eq(&other.hash).into()
    }
}

fn digest(prefix: &[u8], secret: &str) -> [u8; 32] {
    let hash = Sha256::new().chain_update(prefix).chain_update(secret);
    hash.finalize().into()
}

impl From<[u8; 32]> for SecretHash {
    fn from(hash: [u8; 32]) -> Self {
        Self {
            hash,
            is_plain: false,
        }
    }
}

impl From<SecretHash> for [u8; 32] {
    fn from(secret: SecretHash) -> Self {
        secret.hash
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_verified_and_redacted() {
        let mut client = Client {
            client_id: "x".into(),
            client_name: None,
            client_uri: None,
            redirect_uris: Vec::new(),
            scope: None,
            secret: Some(SecretHash::of("secret")),
            keys: None,
        };
        assert!(client.verify_secret("secret"));
        for wrong in ["", "Secret", "secret "] {
            assert!(!client.verify_secret(wrong), "{wrong:?}");
        }
        assert!(
            format!("{client:?}").contains("Some(SecretHash)"),
            "{client:?}"
        );
        client.secret = None;
        assert!(!client.verify_secret("") && !client.verify_secret("secret"));
    }
}
