//! The revocation flow of both kinds of token: forwards the request with the upstream token, and
//! ends the token in the layer by the response.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::body::ResponseBody;
use crate::cas;
use crate::endpoint::context::{Failure, Outcome, RequestContext};
use crate::endpoint::proof::{Proof, prove};
use crate::endpoint::upstream::{self, Accept, Inner, Reading};
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::store::{Change, Entry, Key, Store, StoreError};
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::TokenResponse;

/// The time in which a client can repeat a pending revocation.
pub(crate) const PENDING_FOR: Duration = Duration::from_secs(600);

/// A token to revoke.
pub(crate) struct Revocation<'a, F> {
    /// The key of the grant or of the access token.
    pub(crate) key: &'a Key,
    /// The stored entry.
    pub(crate) entry: Entry,
    /// The upstream token that the token stands for.
    pub(crate) upstream_token: Zeroizing<String>,
    /// Whether an inner service that does not revoke tokens must accept the client first.
    pub(crate) needs_proof: bool,
    /// Returns the change that marks an entry as revocation pending.
    pub(crate) pending: F,
    /// The event when the token has ended.
    pub(crate) event: EventKind,
    pub(crate) subject: EventSubject<'a>,
}

/// Forwards a revocation. If the inner service confirms it, the token ends. If the inner service is
/// unavailable, the token is marked as revocation pending: the user wants to log out, so the token
/// ends here.
pub(crate) async fn forward<St: Store, I: Inner, F>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    revocation: Revocation<'_, F>,
) -> Outcome<I::ResBody, I::Error>
where
    F: FnMut(&Entry) -> Result<Change, StoreError>,
{
    let Revocation {
        key,
        entry,
        upstream_token,
        needs_proof,
        pending,
        event,
        subject,
    } = revocation;
    let probe = needs_proof.then(|| upstream.clone());
    let call = async {
        let request = form.replace(Param::Token, &upstream_token);
        let response = upstream.send(request, Accept::Plain).await.ok()?;
        if response.status().is_server_error() {
            None
        } else {
            Some(confirm(response, context.reading(Some(&upstream_token))).await)
        }
    };
    let answered = timeout(context.shared.config().upstream_timeout(), call).await;
    let Some(reply) = answered.ok().flatten() else {
        cas::update(context.store(), key, entry, pending)
            .await
            .map_err(|error| context.store_failed(error, subject))?;
        context.announce(key).await;
        context.emit(event, subject);
        return Err(RefreshError::UpstreamUnavailable.into());
    };
    let response = match reply {
        Some(Confirmed::Revoked(response)) => response,
        Some(Confirmed::Unsupported) => {
            if let Some(probe) = probe
                && let Some(response) = unproven(context, probe, form, subject).await?
            {
                return Ok(response);
            }
            revoked()
        }
        Some(Confirmed::Refused(response)) => return Ok(response),
        None => {
            context.emit(EventKind::UpstreamUnreadable, subject);
            return Err(RefreshError::UpstreamUnreadable.into());
        }
    };
    cas::remove(context.store(), key, entry)
        .await
        .map_err(|error| context.store_failed(error, subject))?;
    context.announce(key).await;
    context.emit(event, subject);
    Ok(response)
}

/// Asks the inner service whether a revocation comes from the client, because no other response of
/// it says so. Returns `None` if it does, and the response to a client that it rejects.
pub(super) async fn unproven<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    subject: EventSubject<'_>,
) -> Result<Option<Response<ResponseBody<I::ResBody>>>, Failure<I::Error>> {
    match prove(context, upstream, form).await? {
        Proof::Proved => Ok(None),
        Proof::Disproved(response) => Ok(Some(response)),
        Proof::Missing => {
            context.emit(EventKind::UpstreamUnreadable, subject);
            Err(RefreshError::UpstreamUnreadable.into())
        }
    }
}

/// The result of a revocation by the inner service.
enum Confirmed<ResBody> {
    /// The token must end in the layer, too.
    Revoked(Response<ResponseBody<ResBody>>),
    /// The inner service does not revoke such tokens, so it is enough to end the token here.
    Unsupported,
    /// The token stays valid.
    Refused(Response<ResponseBody<ResBody>>),
}

/// Classifies the response of the inner service to a revocation. Returns `None` for an error
/// response that cannot be read or would disclose a token. A success that would disclose one is
/// replaced by an empty success.
async fn confirm<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
) -> Option<Confirmed<ResBody>> {
    let Reading {
        limit,
        secret,
        withheld,
        ..
    } = reading;
    match response.status() {
        status if status.is_success() => {
            let response = upstream::checked(response, limit, withheld, secret)
                .await
                .unwrap_or_else(revoked);
            Some(Confirmed::Revoked(response))
        }
        // The inner service has no revocation endpoint.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Confirmed::Unsupported),
        status => {
            let (head, bytes) = upstream::read(response, limit).await?;
            let answer = TokenResponse::parse(bytes.clone()).ok();
            let error = answer.as_ref().and_then(TokenResponse::error);
            // The inner service does not revoke tokens of this type (RFC 7009 §2.2.1).
            if status == StatusCode::BAD_REQUEST && error == Some("unsupported_token_type") {
                return Some(Confirmed::Unsupported);
            }
            if withheld.discloses(&head.headers, &bytes, secret.as_slice()) {
                return None;
            }
            let response = Response::from_parts(head, ResponseBody::full(bytes));
            Some(Confirmed::Refused(response))
        }
    }
}

/// Returns the response for a token that is no longer valid (RFC 7009 §2.2).
pub(crate) fn revoked<ResBody>() -> Response<ResponseBody<ResBody>> {
    let mut response = Response::new(ResponseBody::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
