use std::fmt;

use serde::{Deserialize, Serialize};
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
    /// `None` for a public client.
    pub(crate) secret: Option<SecretHash>,
}

impl Client {
    /// Returns whether the client registered this redirect URI. A loopback address matches with any
    /// port (RFC 6749 §3.1.2.3, RFC 8252 §7.3).
    pub(crate) fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|registered| rules::same(registered, uri))
    }

    /// Returns whether this is the client's secret. Always `false` for a public client.
    pub(crate) fn verify_secret(&self, secret: &str) -> bool {
        self.secret.is_some_and(|hash| hash.is_of(secret))
    }
}

/// The hash of a client secret. One round of a plain hash is enough, because the secret is a random
/// key.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    pub(crate) fn of(secret: &str) -> Self {
        Self(
            Sha256::new()
                .chain_update(b"mcp client secret")
                .chain_update(secret)
                .finalize()
                .into(),
        )
    }

    /// Compares in constant time.
    fn is_of(self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
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
