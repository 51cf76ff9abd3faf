use serde_json::{Value, json};

/// When a token response has a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Always,
    Never,
    /// If the scope has `offline_access`.
    OfflineAccess,
    /// If the request has `access_type=offline` and `prompt=consent`.
    OfflineConsent,
}

/// The behaviour of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// The path of the issuer.
    pub(crate) path: &'static str,
    /// The members of the discovery document, beside the endpoints; `None` if there is none.
    pub(crate) document: Option<Value>,
    /// Whether only the path of RFC 8414 has the document.
    pub(crate) rfc8414: bool,
    /// The methods of client authentication at the token endpoint.
    pub(crate) methods: &'static [&'static str],
    /// Whether errors have status 200.
    pub(crate) errors_with_200: bool,
    /// Whether responses are forms unless the request accepts JSON.
    pub(crate) forms: bool,
    pub(crate) refresh: Refresh,
    pub(crate) rotates: bool,
    pub(crate) expires_in: Option<u64>,
    /// Returns the scope of a response, from the requested one.
    pub(crate) scope: fn(&str) -> Option<String>,
    /// The claims of ID tokens, if they are issued.
    pub(crate) id_token: Option<Value>,
    /// The response of the userinfo endpoint.
    pub(crate) userinfo: Value,
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
            refresh: Refresh::Always,
            rotates: true,
            expires_in: Some(3600),
            scope: |asked| Some(asked.to_owned()),
            id_token: Some(json!({})),
            userinfo: json!({ "sub": "ada" }),
            iss: false,
        }
    }
}
