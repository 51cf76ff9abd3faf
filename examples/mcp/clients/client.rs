use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::rules;

/// A client, as far as this server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    /// What it calls itself: nobody has checked that.
    pub(crate) client_name: Option<String>,
    pub(crate) client_uri: Option<String>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) scope: Option<String>,
    /// None: a public client.
    pub(crate) secret: Option<SecretHash>,
}

impl Client {
    /// Whether the client may be answered there (RFC 6749 §3.1.2.3; RFC 8252 §7.3: a loopback
    /// address with any port).
    pub(crate) fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|registered| rules::same(registered, uri))
    }

    /// Whether this is the client's secret; never, if it has none.
    pub(crate) fn verify_secret(&self, secret: &str) -> bool {
        self.secret.is_some_and(|hash| hash.is_of(secret))
    }
}

/// A secret that only its client knows. It is as random as a key, so that one round of a plain hash
/// protects it.
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

    /// In constant time.
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
    fn a_secret_is_verified_and_not_shown() {
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
