//! [`AccessError`], and the challenges of its responses (RFC 6750 §3).

use http::{HeaderValue, Response, StatusCode};

use crate::access::body::AccessBody;
use crate::access::route::Route;
use crate::error::error_response;
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
        self.status_and_code().0
    }

    /// Returns the `error` code of the response (RFC 6750 §3.1). For
    /// [`TokenMissing`](Self::TokenMissing), which has no code there, it is `unauthorized`, in the
    /// body only.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::InvalidRequest | Self::AmbiguousPath => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::InsufficientScope { .. } => (StatusCode::FORBIDDEN, "insufficient_scope"),
            Self::Trace => (StatusCode::NOT_IMPLEMENTED, "invalid_request"),
            Self::UpstreamUnavailable | Self::Store(StoreError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Self::Unguarded | Self::Store(StoreError::Corrupt(_)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error")
            }
        }
    }

    /// Returns the error response.
    pub(crate) fn respond<B>(self, challenge: Option<HeaderValue>) -> Response<AccessBody<B>> {
        let mut response = error_response(self.status(), self.code(), &self, challenge);
        response.extensions_mut().insert(self);
        response.map(|body| AccessBody::new(body, None))
    }
}

impl Route {
    /// Returns the challenge of an error response, if it has one.
    ///
    /// RFC 6750 §3 requires an attribute in every challenge, so there is always a realm.
    pub(crate) fn challenge(&self, error: &AccessError) -> Option<HeaderValue> {
        let scope = match error {
            AccessError::TokenMissing => self.required_scope.as_deref(),
            AccessError::InvalidRequest | AccessError::InvalidToken => None,
            AccessError::InsufficientScope { scope } => Some(scope.as_str()),
            AccessError::AmbiguousPath
            | AccessError::Trace
            | AccessError::Unguarded
            | AccessError::UpstreamUnavailable
            | AccessError::Store(_) => return None,
        };
        let mut text = String::from("Bearer realm=");
        quote(&mut text, &self.realm);
        if !matches!(error, AccessError::TokenMissing) {
            text.extend([", error=\"", error.code(), "\", error_description="]);
            quote(&mut text, &error.to_string());
        }
        let metadata = self.requirements.metadata.as_deref();
        for (name, value) in [(", scope=", scope), (", resource_metadata=", metadata)] {
            if let Some(value) = value {
                text.push_str(name);
                quote(&mut text, value);
            }
        }
        text.try_into().ok()
    }
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
