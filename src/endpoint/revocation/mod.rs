//! The revocation endpoint (RFC 7009).
//!
//! The layer forwards the revocation with the upstream token. If the inner service confirms it, the
//! token is removed. If the inner service is unavailable, the token is marked as revocation
//! pending: it has ended for every purpose, except that its client can repeat the revocation for
//! [`PENDING_FOR`](forward::PENDING_FOR). A refresh token ends with its grant. The grant of a
//! revoked access token continues.

use bytes::Bytes;

use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::upstream::Inner;
use crate::error::RefreshError;
use crate::store::Store;
use crate::token::{AccessToken, RefreshToken};
use crate::wire::client::Client;
use crate::wire::token_request::{Param, TokenRequest};

mod access_token;
mod forward;
mod refresh_token;

/// Handles a revocation request.
pub(crate) async fn revoke<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
    client: Result<Client<'_>, RefreshError>,
) -> Outcome<I::ResBody, I::Error> {
    let missing = RefreshError::InvalidRequest("the parameter token is missing");
    let token = form.get(Param::Token).ok_or(missing)?;
    let config = context.shared.config();
    let unnamed = RefreshError::InvalidClient { basic: false };
    let client_id = client.and_then(|client| client.id.ok_or(unnamed));
    if config.reference
        && let Some(token) = AccessToken::parse(&config.access_prefix, token)
    {
        let client_id = client_id?;
        let revoked = access_token::revoke(context, upstream, form, &token, &client_id);
        return Box::pin(revoked).await;
    }
    let Some(token) = RefreshToken::parse(&config.prefix, token) else {
        return context.pass(upstream, body).await;
    };
    let client_id = client_id?;
    let revoked = refresh_token::revoke(context, upstream, form, token, &client_id);
    Box::pin(revoked).await
}
