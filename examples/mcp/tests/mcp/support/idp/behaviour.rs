//! The behaviours, and the methods of client authentication.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{CLIENT, SECRET};
use crate::support::mcp::{Pairs, one};

/// The token responses that have a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Always,
    Never,
    /// If the scope has `offline_access`.
    OfflineAccess,
    /// If the request has `access_type=offline` and `prompt=consent`.
    OfflineConsent,
}

/// The signature of ID tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signature {
    Valid,
    /// With no valid signature.
    Forged,
    /// With the algorithm `none`.
    Missing,
    /// With HMAC and a secret that an attacker can know.
    Secret,
    /// With the type of an access token (RFC 9068).
    OfAccessToken,
}

/// The effect of the revocation of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    /// There is no endpoint.
    None,
    Token,
    /// The authorization of the user, with all its tokens.
    Authorization,
}

/// The behaviour of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// The path of the issuer.
    pub(crate) path: &'static str,
    /// The members of the discovery document besides the endpoints, or `None` for no document.
    pub(crate) document: Option<Value>,
    /// Whether only the path of RFC 8414 has the document.
    pub(crate) rfc8414: bool,
    /// The methods of client authentication at the token endpoint.
    pub(crate) methods: &'static [&'static str],
    /// Whether errors have status 200.
    pub(crate) errors_with_200: bool,
    /// Whether responses are forms unless the request accepts JSON.
    pub(crate) forms: bool,
    pub(crate) revocation: Revocation,
    pub(crate) refresh: Refresh,
    pub(crate) rotates: bool,
    pub(crate) expires_in: Option<u64>,
    /// The lifetime of refresh tokens, if responses have it.
    pub(crate) refresh_expires_in: Option<u64>,
    /// Returns the scope of a response, from the requested one.
    pub(crate) scope: fn(&str) -> Option<String>,
    /// The claims of ID tokens, if they are issued.
    pub(crate) id_token: Option<Value>,
    /// Scopes, and the claims that ID tokens and userinfo have only with them.
    pub(crate) scoped: &'static [(&'static str, &'static str)],
    pub(crate) signature: Signature,
    /// The response of the userinfo endpoint; `null` is status 503.
    pub(crate) userinfo: Value,
    /// The status of the userinfo endpoint, and the name of a header.
    pub(crate) userinfo_status: (u16, Option<&'static str>),
    /// The status of the list of addresses, and the name of a header.
    pub(crate) emails_status: (u16, Option<&'static str>),
    /// Whether the authorization response has `iss`.
    pub(crate) iss: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            path: "",
            document: Some(json!({})),
            rfc8414: false,
            methods: &["client_secret_basic"],
            errors_with_200: false,
            forms: false,
            revocation: Revocation::Token,
            refresh: Refresh::Always,
            rotates: true,
            expires_in: Some(3600),
            refresh_expires_in: None,
            scope: |asked| Some(asked.to_owned()),
            id_token: Some(json!({})),
            scoped: &[],
            signature: Signature::Valid,
            userinfo: json!({ "sub": "ada" }),
            userinfo_status: (200, None),
            emails_status: (200, None),
            iss: false,
        }
    }
}

/// Returns the method by which a request authenticates.
pub(super) fn method(headers: &HeaderMap, form: &Pairs) -> Option<&'static str> {
    let encoded =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(CLIENT), encoded(SECRET));
    let basic = format!("Basic {}", STANDARD.encode(pair));
    let given = headers.get("authorization");
    if let Some(given) = given {
        return (given == basic.as_str()).then_some("client_secret_basic");
    }
    if one(form, "client_id") != Some(CLIENT) {
        return None;
    }
    match (one(form, "client_secret"), one(form, "client_assertion")) {
        (None, None) => Some("none"),
        (Some(SECRET), None) => Some("client_secret_post"),
        // The test verifies the assertion.
        (None, Some(_)) => Some("private_key_jwt"),
        _ => None,
    }
}
