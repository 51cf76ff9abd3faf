//! Sends the identity of the user to the MCP server behind this one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use server_common::forward::AddedHeaders;
use server_common::headers::{remove_all, remove_users};
use tower_oauth_refresh::AccessGrant;

use crate::cli::IdentityFlags;
use crate::issuer::Issuer;
use crate::records::random;
use crate::signing::SigningKey;

const USER: &str = "x-forwarded-user";
const EMAIL: &str = "x-forwarded-email";
const GROUPS: &str = "x-forwarded-groups";
const TOKEN: &str = "x-identity-token";

/// The lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(60);

/// Adds the user to requests. Clones share the key.
#[derive(Clone, Debug)]
pub(crate) struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    headers: bool,
    /// The first key signs, and all are published.
    keys: Vec<SigningKey>,
    issuer: Issuer,
    /// The claim with the groups of a user.
    groups_claim: String,
}

/// The user, as the guarded server receives it.
struct KnownUser<'a> {
    id: &'a str,
    email: Option<String>,
    groups: Vec<String>,
}

impl Identity {
    /// Reads the flags. Returns an error if they contradict each other, or if the key cannot be
    /// read.
    pub(crate) fn new(
        flags: &IdentityFlags,
        issuer: &Issuer,
        groups_claim: &str,
    ) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            headers: flags.identity_headers,
            keys: flags.keys()?,
            issuer: issuer.clone(),
            groups_claim: groups_claim.to_owned(),
        })))
    }

    /// Returns the public keys for tokens, as a key set.
    pub(crate) fn key_set(&self) -> Option<Value> {
        let keys = &self.0.keys;
        (!keys.is_empty()).then(|| SigningKey::key_set(keys))
    }

    /// Replaces the headers that name the user: removes those of the client or of a reverse proxy,
    /// and adds those for the user of the access token.
    pub(super) fn replace_user(&self, mut request: Request) -> Request {
        remove_users(request.headers_mut());
        remove_all(request.headers_mut(), &[TOKEN]);
        let grant = request.extensions().get::<AccessGrant>();
        let added = grant.and_then(|grant| self.headers(grant));
        if let Some(added) = added {
            request.extensions_mut().insert(AddedHeaders(added));
        }
        request
    }

    /// Returns the headers for a user; `None` if the user is unknown.
    fn headers(&self, grant: &AccessGrant) -> Option<HeaderMap> {
        let Inner {
            headers: is_on,
            keys,
            groups_claim,
            ..
        } = &*self.0;
        let is_verified = grant.claim("email_verified") == Some(true);
        let user = KnownUser {
            id: grant.subject()?.id(),
            email: grant.claim("email").filter(|_| is_verified),
            groups: grant.claim(groups_claim).unwrap_or_default(),
        };
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            // Names that are not ASCII are sent as UTF-8.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        // HTTP removes the blanks around a value, so that ` admin` would arrive as another user.
        let is_carried = |value: &str| value.trim() == value;
        if *is_on && is_carried(user.id) {
            add(USER, user.id);
            if let Some(email) = user.email.as_deref().filter(|email| is_carried(email)) {
                add(EMAIL, email);
            }
            // A group with a comma in its name would be read as two groups.
            let groups = user.groups.iter().map(String::as_str);
            let groups = groups.filter(|group| !group.contains(',') && is_carried(group));
            let groups: Vec<_> = groups.collect();
            if !groups.is_empty() {
                add(GROUPS, &groups.join(","));
            }
        }
        if let Some(token) = keys.first().and_then(|key| self.token(key, grant, &user)) {
            add(TOKEN, &token);
        }
        Some(headers)
    }

    fn token(&self, key: &SigningKey, grant: &AccessGrant, user: &KnownUser<'_>) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let id: [u8; 16] = random().ok()?;
        let mut claims = json!({
            "iss": self.0.issuer.as_str(),
            "aud": self.0.issuer.resource(),
            "sub": user.id,
            "client_id": grant.client_id(),
            "scope": grant.scopes().collect::<Vec<_>>().join(" "),
            "iat": now.as_secs(),
            "exp": (now + LIFETIME).as_secs(),
            "jti": URL_SAFE_NO_PAD.encode(id),
        });
        if let Some(email) = &user.email {
            claims["email"] = email.as_str().into();
        }
        if !user.groups.is_empty() {
            claims["groups"] = json!(user.groups);
        }
        let signed = key.sign("JWT", &claims);
        if signed.is_err() {
            tracing::error!(
                "an identity token could not be signed: the request is sent without one"
            );
        }
        signed.ok()
    }
}
