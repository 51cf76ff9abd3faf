//! The reason why a request to the provider failed.

use axum::http::StatusCode;
use tower_oauth_refresh::store::StoreError;

use crate::error::OauthError;

/// The reason why a request to the provider failed without a usable response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("the identity provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the response of the identity provider is too large")]
    TooLarge,
    #[error("the discovery document of the identity provider could not be read yet")]
    NotReady,
    #[error("the identity provider sent status {0}")]
    Status(StatusCode),
    #[error("the response of the identity provider is malformed")]
    Malformed,
    #[error("the request could not be signed")]
    NotSigned(#[source] StoreError),
}

impl From<ProviderError> for OauthError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unreachable(_)
            | ProviderError::NotReady
            | ProviderError::Status(_)
            | ProviderError::NotSigned(_) => {
                Self::unavailable("the identity provider cannot be reached")
            }
            ProviderError::TooLarge | ProviderError::Malformed => {
                Self::server_error("the identity provider sent an invalid response")
            }
        }
    }
}
