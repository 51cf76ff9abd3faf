//! The proof that a request comes from the client of a grant.
//!
//! The layer authenticates no client. Before a request ends the grant of a client that
//! authenticates itself, [`prove`] asks the inner service. It sends the same request with a refresh
//! token that was never issued, so that nothing can be used up. The inner service authenticates the
//! client before it looks at the token (RFC 6749 §6), so its error says which of the two it
//! rejects.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;

use crate::body::ResponseBody;
use crate::endpoint::context::RequestContext;
use crate::endpoint::upstream::{self, Accept, Inner, Reading, error_code, rejects_token};
use crate::error::RefreshError;
use crate::store::Store;
use crate::wire::token_request::{FormError, Param, TokenRequest};
use crate::wire::token_response::TokenResponse;

/// The result of asking the inner service for a proof.
pub(crate) enum Proof<ResBody> {
    /// The inner service accepts the client: it rejects only the token.
    Proved,
    /// The inner service rejects the client with this response.
    Disproved(Response<ResponseBody<ResBody>>),
    /// The inner service did not answer in time, or its response says nothing about the client.
    Missing,
}

/// Asks the inner service whether the request with this form comes from the client that it names.
/// The request may be a refresh or a revocation. It is sent as a refresh to the token endpoint.
///
/// A request without a credential is sent, too. The inner service accepts it only if the client
/// needs none. So a thief of a public client's token cannot turn off the detection of reuse by a
/// rotation with a made-up credential that the inner service ignores.
pub(crate) async fn prove<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
) -> Result<Proof<I::ResBody>, RefreshError> {
    let config = context.shared.config();
    let token = context.never_issued()?;
    let Some(upstream) = upstream.to_path(&config.paths.token) else {
        return Ok(Proof::Missing);
    };
    let Ok(form) = probe(form, &token) else {
        return Ok(Proof::Missing);
    };
    let call = async {
        let response = upstream.send(form, Accept::Json).await.ok()?;
        classify(response, context.reading(None)).await
    };
    let answered = timeout(config.upstream_timeout(), call).await;
    Ok(answered.ok().flatten().unwrap_or(Proof::Missing))
}

/// Returns a refresh request with this token instead of every token in the form.
fn probe(form: &TokenRequest, token: &str) -> Result<Bytes, FormError> {
    let body = form.replace(Param::GrantType, "refresh_token");
    let body = TokenRequest::parse(body)?.replace(Param::RefreshToken, token);
    if form.get(Param::Token).is_none() {
        return Ok(body);
    }
    Ok(TokenRequest::parse(body)?.replace(Param::Token, token))
}

/// Classifies the response of the inner service. Returns `None` if it proves nothing.
///
/// A rejection of the client is passed on like any error of the inner service, except if it
/// discloses a token.
async fn classify<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
) -> Option<Proof<ResBody>> {
    let (head, bytes) = upstream::read(response, reading.limit).await?;
    let response = TokenResponse::parse(bytes.clone()).ok();
    let error = error_code(response.as_ref());
    let rejects_client = error == Some("invalid_client") && !head.status.is_server_error();
    if head.status == StatusCode::UNAUTHORIZED || rejects_client {
        let unreadable = || RefreshError::UpstreamUnreadable.into_response(StatusCode::BAD_REQUEST);
        let response = reading.harmless(head, bytes).unwrap_or_else(unreadable);
        return Some(Proof::Disproved(response));
    }
    rejects_token(head.status, error).then_some(Proof::Proved)
}
