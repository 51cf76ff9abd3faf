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
    F: Fn(&Entry) -> Result<Change, StoreError>,
{
    let subject = revocation.subject;
    let failed = |error| context.store_failed(error, subject);
    let probe = revocation.needs_proof.then(|| upstream.clone());
    let call = async {
        let secret = &revocation.upstream_token;
        let request = form.replace(Param::Token, secret);
        match upstream.send(request, Accept::Plain).await {
            Ok(response) => confirm(response, context.reading(Some(secret))).await,
            Err(_) => Confirmed::Unavailable,
        }
    };
    let answered = timeout(context.shared.config().upstream_timeout(), call).await;
    let response = match answered.unwrap_or(Confirmed::Unavailable) {
        Confirmed::Revoked(response) => Ok(response),
        Confirmed::Unsupported => {
            if let Some(probe) = probe
                && let Some(response) = unproven(context, probe, form, subject).await?
            {
                return Ok(response);
            }
            Ok(revoked())
        }
        Confirmed::Unavailable => Err(RefreshError::UpstreamUnavailable.into()),
        Confirmed::Refused(response) => return Ok(response),
        Confirmed::Unreadable => {
            context.emit(EventKind::UpstreamUnreadable, subject);
            return Err(RefreshError::UpstreamUnreadable.into());
        }
    };
    let (store, key) = (context.store(), revocation.key);
    if response.is_ok() {
        let removed = cas::remove(store, key, revocation.entry).await;
        removed.map_err(failed)?;
    } else {
        // An entry that does not exist any more needs no mark.
        let mark = |found: Option<&Entry>| found.map(&revocation.pending).transpose();
        let marked = cas::write(store, key, Some(revocation.entry), mark).await;
        marked.map_err(failed)?;
    }
    context.announce(key).await;
    context.emit(revocation.event, subject);
    response
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
    /// The inner service failed, returned a 5xx status or did not respond in time.
    Unavailable,
    /// The token stays valid.
    Refused(Response<ResponseBody<ResBody>>),
    /// An error response that cannot be read or would disclose a token. The token stays valid.
    Unreadable,
}

/// Classifies the response of the inner service to a revocation. A success that would disclose a
/// token is replaced by an empty success.
async fn confirm<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
) -> Confirmed<ResBody> {
    match response.status() {
        status if status.is_success() => {
            let response = upstream::checked(response, reading).await;
            Confirmed::Revoked(response.unwrap_or_else(revoked))
        }
        status if status.is_server_error() => Confirmed::Unavailable,
        // The inner service has no revocation endpoint.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Confirmed::Unsupported,
        status => {
            let Some((head, bytes)) = upstream::read(response, reading.limit).await else {
                return Confirmed::Unreadable;
            };
            let response = TokenResponse::parse(bytes.clone()).ok();
            let error = response.as_ref().and_then(TokenResponse::error);
            // The inner service does not revoke tokens of this type (RFC 7009 §2.2.1).
            if status == StatusCode::BAD_REQUEST && error == Some("unsupported_token_type") {
                return Confirmed::Unsupported;
            }
            let response = reading.harmless(head, bytes);
            response.map_or(Confirmed::Unreadable, Confirmed::Refused)
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
