use axum::http::HeaderMap;
use server_common::demo::client::{OauthError, Parameters, WRONG, credentials};
use subtle::ConstantTimeEq as _;

/// The client ID of this server at the demo provider. The ID and the secret are public, because the
/// demo protects nothing.
pub(super) const CLIENT: &str = "mcp-demo";
pub(super) const SECRET: &str = "mcp-demo-secret";

pub(super) fn authenticate(
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<&'static str, OauthError> {
    let (client_id, secret) = credentials(headers, form)?;
    let right = bool::from(
        secret
            .unwrap_or_default()
            .as_bytes()
            .ct_eq(SECRET.as_bytes()),
    );
    if client_id.as_deref() == Some(CLIENT) && right {
        Ok(CLIENT)
    } else {
        Err(WRONG)
    }
}
