//! The registered clients of the demo.

use axum::http::HeaderMap;
use server_common::demo::client::{OauthError, Parameters, WRONG, credentials};
use subtle::ConstantTimeEq as _;

pub(super) const PUBLIC: &str = "demo";
pub(super) const CONFIDENTIAL: &str = "demo-confidential";
pub(super) const SECRET: &str = "demo-secret";

/// Returns the registered client with this ID.
pub(super) fn known(client_id: &str) -> Option<&'static str> {
    [PUBLIC, CONFIDENTIAL]
        .into_iter()
        .find(|known| *known == client_id)
}

/// Authenticates the client of a request to the token or revocation endpoint.
pub(super) fn authenticate(
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<&'static str, OauthError> {
    let (client_id, secret) = credentials(headers, form)?;
    let client = client_id.as_deref().and_then(known).ok_or(WRONG)?;
    let right = match secret {
        None => client == PUBLIC,
        Some(secret) => {
            client == CONFIDENTIAL && bool::from(secret.as_bytes().ct_eq(SECRET.as_bytes()))
        }
    };
    right.then_some(client).ok_or(WRONG)
}
