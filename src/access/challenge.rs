//! [`AccessError`], and the challenges of its responses (RFC 6750 §3).

use http::{HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;
use crate::error::{ConfigError, error_response};
use crate::store::StoreError;

/// The reason why an [`AccessLayer`](crate::AccessLayer) rejected a request.
///
/// The client gets a challenge (RFC 6750 §3) and the error as JSON. The application finds this
/// value in the extensions of that response.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// 401, with a challenge without an error code: the request has no access token.
    #[error("an access token is required")]
    TokenMissing,
    /// 400 `invalid_request`: the `Authorization` header is repeated or malformed.
    #[error("the Authorization header is repeated or malformed")]
    InvalidRequest,
    /// 401 `invalid_token`: the token is unknown, expired or revoked, or is not valid for the
    /// resource.
    #[error("the access token is invalid, expired or revoked")]
    InvalidToken,
    /// 403 `insufficient_scope`: the token does not have the required scope.
    #[error("the access token does not have the required scope")]
    #[non_exhaustive]
    InsufficientScope {
        /// The scope that the challenge names: what the token has, and what is missing. A client
        /// that requests it loses no scope, because the new token replaces the old one.
        scope: String,
    },
    /// 400 `invalid_request`: servers could resolve the path of the request to different resources
    /// (see [`path`](crate::path)). Only with
    /// [`resource_for`](crate::AccessLayerBuilder::resource_for).
    #[error("the path of the request can be read in more than one way")]
    AmbiguousPath,
    /// 501 `invalid_request`: the method is `TRACE`, or `TRACK` of IIS. The response of the inner
    /// service would contain the request, and so the upstream access token.
    #[error("TRACE and TRACK are not supported")]
    Trace,
    /// 500 `server_error`: a handler extracts an [`AccessGrant`](crate::AccessGrant), and no
    /// [`AccessLayer`](crate::AccessLayer) guards its route. Only with the feature `axum`.
    #[error("the route is not guarded")]
    Unguarded,
    /// 503 `temporarily_unavailable`, with `Retry-After`: the upstream access token has ended, and
    /// it could not be [renewed](crate::AccessLayerBuilder::upstream_refresh), because the inner
    /// service or the store is unavailable or takes too long.
    #[error("the authorization server is unavailable")]
    UpstreamUnavailable,
    /// 503 `temporarily_unavailable`: the store failed. 500 `server_error`: the stored entry is
    /// corrupt.
    #[error("the server is unavailable")]
    Store(#[source] StoreError),
}

impl AccessError {
    /// Returns the HTTP status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest | Self::AmbiguousPath => StatusCode::BAD_REQUEST,
            Self::InsufficientScope { .. } => StatusCode::FORBIDDEN,
            Self::Trace => StatusCode::NOT_IMPLEMENTED,
            Self::UpstreamUnavailable | Self::Store(StoreError::Unavailable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unguarded | Self::Store(StoreError::Corrupt(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// Returns the `error` code of the response (RFC 6750 §3.1). For
    /// [`TokenMissing`](Self::TokenMissing), which has no code there, it is `unauthorized`, in the
    /// body only.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "unauthorized",
            Self::InvalidRequest | Self::AmbiguousPath | Self::Trace => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::UpstreamUnavailable | Self::Store(StoreError::Unavailable(_)) => {
                "temporarily_unavailable"
            }
            Self::Unguarded | Self::Store(StoreError::Corrupt(_)) => "server_error",
        }
    }

    /// Returns the error response.
    pub(crate) fn respond<B>(self, challenge: Option<HeaderValue>) -> Response<ResponseBody<B>> {
        let mut response = error_response(self.status(), self.code(), &self, challenge);
        response.extensions_mut().insert(self);
        response
    }
}

/// The challenge for a request without a token that the layer accepts. It is in the extensions of
/// the request, so that a handler that needs a token can send it.
#[cfg(feature = "axum")]
#[derive(Clone, Debug)]
pub(crate) struct AnonymousChallenge(pub(crate) HeaderValue);

/// The `WWW-Authenticate` values of one route. Every value that does not depend on the token is
/// written when the layer is built.
#[derive(Debug)]
pub(crate) struct Challenges {
    realm: String,
    metadata: Option<String>,
    missing: HeaderValue,
    malformed: HeaderValue,
    invalid: HeaderValue,
}

impl Challenges {
    /// Writes the challenges. RFC 6750 §3 requires an attribute in every challenge, so there is
    /// always a realm.
    pub(crate) fn new(
        realm: &str,
        scope: Option<&str>,
        metadata: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let write = |error: Option<&AccessError>, scope: Option<&str>| {
            HeaderValue::try_from(challenge(realm, error, scope, metadata))
                .map_err(|_| ConfigError::Realm(realm.to_owned()))
        };
        Ok(Self {
            missing: write(None, scope)?,
            malformed: write(Some(&AccessError::InvalidRequest), None)?,
            invalid: write(Some(&AccessError::InvalidToken), None)?,
            realm: realm.to_owned(),
            metadata: metadata.map(str::to_owned),
        })
    }

    pub(crate) fn of(&self, error: &AccessError) -> Option<HeaderValue> {
        match error {
            AccessError::TokenMissing => Some(self.missing.clone()),
            AccessError::InvalidRequest => Some(self.malformed.clone()),
            AccessError::InvalidToken => Some(self.invalid.clone()),
            AccessError::InsufficientScope { scope } => {
                let metadata = self.metadata.as_deref();
                challenge(&self.realm, Some(error), Some(scope), metadata)
                    .try_into()
                    .ok()
            }
            AccessError::AmbiguousPath
            | AccessError::Trace
            | AccessError::Unguarded
            | AccessError::UpstreamUnavailable
            | AccessError::Store(_) => None,
        }
    }
}

fn challenge(
    realm: &str,
    error: Option<&AccessError>,
    scope: Option<&str>,
    metadata: Option<&str>,
) -> String {
    let mut text = String::from("Bearer realm=");
    quote(&mut text, realm);
    if let Some(error) = error {
        text.extend([", error=\"", error.code(), "\", error_description="]);
        quote(&mut text, &error.to_string());
    }
    for (name, value) in [(", scope=", scope), (", resource_metadata=", metadata)] {
        if let Some(value) = value {
            text.push_str(name);
            quote(&mut text, value);
        }
    }
    text
}

/// Appends a quoted string (RFC 9110 §5.6.4).
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}
