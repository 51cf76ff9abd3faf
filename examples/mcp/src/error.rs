//! OAuth error responses (RFC 6749 §5.2, RFC 7591 §3.2.2).

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use server_common::causes::causes;
use server_common::oauth_error::oauth_error;
use tower_oauth_refresh::store::StoreError;

use crate::scopes::InvalidScope;

/// An error that is returned to the client as JSON.
#[derive(Debug)]
pub(crate) struct OauthError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) description: String,
}

impl OauthError {
    /// Creates an error with status 400.
    pub(crate) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            description: description.into(),
        }
    }

    pub(crate) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(crate) fn invalid_grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    /// Creates an error with status 503: the client can try again.
    pub(crate) fn unavailable(description: impl Into<String>) -> Self {
        Self::new("temporarily_unavailable", description)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Creates an error with status 502: the provider failed, or this server's configuration for it
    /// is wrong.
    pub(crate) fn server_error(description: impl Into<String>) -> Self {
        Self::new("server_error", description).with_status(StatusCode::BAD_GATEWAY)
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<InvalidScope> for OauthError {
    fn from(error: InvalidScope) -> Self {
        Self::new("invalid_scope", error.to_string())
    }
}

impl From<StoreError> for OauthError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = causes(&error), "a store operation failed");
        match error {
            StoreError::Unavailable(_) => {
                Self::unavailable("the store is unavailable: try again later")
            }
            _ => Self::new("server_error", "internal error")
                .with_status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let mut response = oauth_error(self.status, self.code, &self.description).map(Body::new);
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6749 §5.2.
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="mcp""#),
            );
        }
        response
    }
}

/// Responds to a request with an unsupported method.
pub(crate) async fn method_not_allowed() -> OauthError {
    OauthError::invalid_request("method not allowed").with_status(StatusCode::METHOD_NOT_ALLOWED)
}
