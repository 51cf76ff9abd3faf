//! [`AccessGrant`] as an extractor of axum.

use std::convert::Infallible;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::HeaderValue;
use http::request::Parts;

use crate::access::body::AccessBody;
use crate::access::challenge::AccessError;
use crate::access::route::AnonymousRoute;
use crate::access_token::grant::AccessGrant;

/// The rejection of a request from which an [`AccessGrant`] could not be extracted.
///
/// Its response has the error as JSON and, for 401, the challenge of the
/// [`AccessLayer`](crate::AccessLayer) (RFC 6750 §3).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct AccessRejection {
    error: AccessError,
    challenge: Option<HeaderValue>,
}

impl AccessRejection {
    /// Returns the reason: [`AccessError::TokenMissing`] or [`AccessError::Unguarded`].
    #[must_use]
    pub const fn error(&self) -> &AccessError {
        &self.error
    }
}

impl IntoResponse for AccessRejection {
    fn into_response(self) -> Response {
        let response = self.error.respond(self.challenge);
        response.map(|body: AccessBody<Body>| Body::new(body))
    }
}

/// Extracts the grant of the access token that an [`AccessLayer`](crate::AccessLayer) accepted.
/// Needs the feature `axum`.
///
/// If the layer passed a request without a token because of
/// [`allow_anonymous`](crate::AccessLayerBuilder::allow_anonymous) or
/// [`pass_preflights`](crate::AccessLayerBuilder::pass_preflights), the request is rejected with
/// 401 and the challenge of the layer. If no `AccessLayer` guards the route, every request is
/// rejected with 500 and an error is logged, also if the request has no token: 401 would make
/// clients refresh tokens that are valid.
impl<S: Send + Sync> FromRequestParts<S> for AccessGrant {
    type Rejection = AccessRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AccessRejection> {
        if let Some(grant) = parts.extensions.get::<Self>() {
            return Ok(grant.clone());
        }
        let Some(AnonymousRoute(route)) = parts.extensions.get() else {
            tracing::error!(
                "a handler extracts an AccessGrant, but no AccessLayer guards its route: add the layer"
            );
            return Err(AccessRejection {
                error: AccessError::Unguarded,
                challenge: None,
            });
        };
        let error = AccessError::TokenMissing;
        let challenge = route.challenge(&error);
        Err(AccessRejection { error, challenge })
    }
}

/// Extracts the grant of the access token that an [`AccessLayer`](crate::AccessLayer) accepted, or
/// `None`. Needs the feature `axum`.
///
/// It is `None` if the layer passed a request without a token (see
/// [`allow_anonymous`](crate::AccessLayerBuilder::allow_anonymous)), and if no `AccessLayer` guards
/// the route. In the latter case the request may have a token, which nothing has checked.
impl<S: Send + Sync> OptionalFromRequestParts<S> for AccessGrant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}
