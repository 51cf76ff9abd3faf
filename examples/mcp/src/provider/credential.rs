//! The authentication of this server at the provider (RFC 6749 §2.3, RFC 7523).

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tower_oauth_refresh::store::StoreError;

use crate::records::random;
use crate::signing::SigningKey;

/// The lifetime of a client assertion.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

/// A method of client authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthMethod {
    /// No authentication: the provider knows this server as a public client. PKCE protects the
    /// codes
    #[value(name = "none")]
    None,
    #[value(name = "client_secret_basic")]
    Basic,
    #[value(name = "client_secret_post")]
    Post,
    /// An assertion that is signed with --client-key (RFC 7523)
    #[value(name = "private_key_jwt")]
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Returns the name of the method in metadata (RFC 7591 §2).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// The secret or the key of this server at the provider.
#[derive(Clone)]
pub(crate) enum Credential {
    None,
    Secret(String),
    Key(SigningKey),
}

impl Credential {
    /// Returns the methods that this credential allows. The first one is preferred.
    pub(crate) const fn methods(&self) -> &'static [AuthMethod] {
        match self {
            Self::None => &[AuthMethod::None],
            Self::Secret(_) => &[AuthMethod::Basic, AuthMethod::Post],
            Self::Key(_) => &[AuthMethod::PrivateKeyJwt],
        }
    }

    /// Adds the authentication to a form.
    ///
    /// `audience` is the token endpoint: providers accept its URL in assertions, and not all accept
    /// their issuer identifier. Returns the value of `Authorization`, if the method has one.
    pub(crate) fn authenticate(
        &self,
        method: AuthMethod,
        client_id: &str,
        audience: &str,
        form: &mut form_urlencoded::Serializer<'_, String>,
    ) -> Result<Option<Basic>, StoreError> {
        match self {
            // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
            Self::Secret(secret) if method == AuthMethod::Basic => {
                return Ok(Some(Basic {
                    user: encoded(client_id),
                    password: encoded(secret),
                }));
            }
            Self::Secret(secret) => form.append_pair("client_secret", secret),
            Self::Key(key) => form
                .append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", &assertion(key, client_id, audience)?),
            Self::None => form,
        };
        form.append_pair("client_id", client_id);
        Ok(None)
    }
}

/// HTTP Basic credentials.
pub(crate) struct Basic {
    pub(crate) user: String,
    pub(crate) password: String,
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Returns a new assertion of this server (RFC 7523 §3).
fn assertion(key: &SigningKey, client_id: &str, audience: &str) -> Result<String, StoreError> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let id: [u8; 16] = random()?;
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "iat": now.as_secs(),
        "exp": (now + ASSERTION_LIFETIME).as_secs(),
    });
    key.sign("JWT", &claims)
        .map_err(|_| StoreError::unavailable("the system's random number generator failed"))
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret",
            Self::Key(_) => "Key",
        })
    }
}
