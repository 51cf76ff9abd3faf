//! The revocation endpoint (RFC 7009), for refresh tokens.
//!
//! The layer forwards the revocation with the upstream token. If the inner service confirms it, the
//! grant is removed. If the inner service is unavailable, the grant is marked as revocation
//! pending: it has ended for every purpose, except that its client can repeat the revocation for
//! [`ENDED_FOR`]. [`confirm`] classifies the response of the inner service for both kinds of token.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::codec::DecodeError;
use crate::endpoint::access_revocation;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::token::{PresentedToken, end, refuse, refuse_by_hint, unreadable, unseal};
use crate::endpoint::upstream::{self, Reading, Upstream};
use crate::error::Error;
use crate::event::EventKind;
use crate::grant::{Record, Standing, Verdict, decide};
use crate::seal::Sealer;
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl, Version};
use crate::token::{AccessToken, RefreshToken};
use crate::wire::client::Client;
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::TokenResponse;

/// The time in which a client can repeat a pending revocation.
pub(crate) const ENDED_FOR: Duration = Duration::from_secs(600);

/// Handles a revocation request.
pub(crate) async fn revoke<St, S, B, ResBody>(
    exchange: &RequestContext<St>,
    mut upstream: Box<Upstream<S, B>>,
    body: Bytes,
    form: &TokenRequest,
    client: Result<Client<'_>, Error>,
) -> Outcome<ResBody, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let missing = Error::InvalidRequest("the parameter token is missing");
    let token = form.get(Param::Token).ok_or(missing)?;
    let config = exchange.shared.config();
    if let Some(token) =
        AccessToken::parse(&config.access_prefix, token).filter(|_| config.reference)
    {
        let client_id = client?.id.ok_or(Error::InvalidClient { basic: false })?;
        return Box::pin(access_revocation::revoke(
            exchange, upstream, form, &token, &client_id,
        ))
        .await;
    }
    let Some(token) = RefreshToken::parse(&config.prefix, token) else {
        return exchange.pass(upstream, body).await;
    };
    let client_id = client?.id.ok_or(Error::InvalidClient { basic: false })?;
    let presentation = PresentedToken::new(token, &client_id);

    exchange.progress.begin();
    let _in_flight = exchange.shared.in_flight().token();
    let Some((entry, record)) = find(exchange, &presentation).await? else {
        return Ok(revoked());
    };
    let sealer = Sealer::new(presentation.token.secret());
    let Some(token) = unseal(&sealer, &presentation, &record, &entry.tag) else {
        return Err(unreadable(exchange, &presentation, DecodeError::Damaged).into());
    };
    upstream.ask_for_plain();
    let call = async {
        let response = upstream
            .call(form.replace(Param::Token, &token))
            .await
            .ok()?;
        let unavailable = response.status().is_server_error();
        if unavailable {
            None
        } else {
            Some(confirm(response, exchange.reading(Some(&token))).await)
        }
    };
    let Some(reply) = timeout(exchange.shared.config().upstream_timeout(), call)
        .await
        .ok()
        .flatten()
    else {
        // The inner service is unavailable, but the user wants to log out, so the grant ends here.
        let ended = mark(exchange, &presentation.key, entry, record).await;
        ended.map_err(|error| exchange.store_failed(error, presentation.subject()))?;
        exchange.announce(&presentation.key).await;
        exchange.emit(EventKind::Revoked, presentation.subject());
        return Err(Error::UpstreamUnavailable.into());
    };
    let Some(Confirmed { ended, response }) = reply else {
        exchange.emit(EventKind::UpstreamUnreadable, presentation.subject());
        return Err(Error::UpstreamUnreadable.into());
    };
    if ended {
        let removed = end(exchange.store(), &presentation.key, entry).await;
        removed.map_err(|error| exchange.store_failed(error, presentation.subject()))?;
        exchange.announce(&presentation.key).await;
        exchange.emit(EventKind::Revoked, presentation.subject());
    }
    Ok(response)
}

/// Returns the grant to revoke. Returns `None` if the token is invalid or already revoked, which is
/// not an error (RFC 7009 §2.2).
async fn find<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
) -> Result<Option<(Entry, Record)>, Error> {
    if refuse_by_hint(exchange, presentation).is_err() {
        return Ok(None);
    }
    let found = exchange.store().get(&presentation.key).await;
    let Some(entry) =
        found.map_err(|error| exchange.store_failed(error, presentation.subject()))?
    else {
        let _ = refuse(exchange, presentation, Verdict::Unknown, None).await;
        return Ok(None);
    };
    let now = exchange.shared.now();
    let record = Record::decode(&presentation.key, &entry.tag, &entry.value)
        .map_err(|error| unreadable(exchange, presentation, error))?
        .at(now);
    let verdict = decide(
        Some((&record, &entry.tag)),
        presentation.presented(),
        Standing::Free,
        false,
        now,
    );
    tracing::trace!(?verdict, grant = ?presentation.key, "decided about a revocation");
    match verdict {
        Verdict::Rotate | Verdict::Busy | Verdict::Replay | Verdict::Recover => {
            Ok(Some((entry, record)))
        }
        // A revocation with this token is pending: forward it again.
        Verdict::Ended if record.opens_with(&presentation.hash, &entry.tag) => {
            Ok(Some((entry, record)))
        }
        // An older token of the grant, within the retry window. A refresh with it is only rejected,
        // because a conforming client may still send one. A revocation ends the grant with any of
        // its tokens; the grant's id, its client and an older generation are also enough to detect
        // reuse. This token cannot open the upstream token, so the inner service is not called.
        Verdict::Late => {
            let ended = end(exchange.store(), &presentation.key, entry).await;
            ended.map_err(|error| exchange.store_failed(error, presentation.subject()))?;
            exchange.announce(&presentation.key).await;
            exchange.emit(EventKind::Revoked, presentation.subject());
            Ok(None)
        }
        verdict => match refuse(exchange, presentation, verdict, Some(entry)).await {
            error @ Error::Store(_) => Err(error),
            _ => Ok(None),
        },
    }
}

/// Marks the grant as revocation pending. Retries if another request changes the entry at the same
/// time.
async fn mark<St: Store>(
    exchange: &RequestContext<St>,
    key: &Key,
    mut entry: Entry,
    mut record: Record,
) -> Result<(), StoreError> {
    const ATTEMPTS: usize = 32;
    let shared = &exchange.shared;
    for _ in 0..ATTEMPTS {
        let now = shared.now();
        let version = Version::new(shared.random().map_err(StoreError::unavailable)?);
        let until = record.time(now).saturating_add(ENDED_FOR);
        let ended = record.ended(until);
        let ttl = Ttl::After(ended.time_to_live(now));
        let marked = Entry::new(version, entry.tag, ended.encode(key, &entry.tag));
        match shared
            .store()
            .swap(
                key,
                Some(entry.version),
                Change::Put { entry: marked, ttl },
                None,
            )
            .await?
        {
            Swap::Swapped | Swap::Conflict(None) => return Ok(()),
            Swap::Conflict(Some(current)) => {
                record = Record::decode(key, &current.tag, &current.value)
                    .map_err(StoreError::corrupt)?
                    .at(now);
                entry = current;
            }
        }
    }
    Err(StoreError::unavailable(
        "too many concurrent changes of the entry",
    ))
}

/// The result of a revocation by the inner service.
pub(crate) struct Confirmed<ResBody> {
    /// Whether the token must end in the layer, too.
    pub(crate) ended: bool,
    pub(crate) response: Response<ResponseBody<ResBody>>,
}

/// Classifies the response of the inner service to a revocation. Returns `None` for an error
/// response that cannot be read or would disclose a token. A success that would disclose one is
/// replaced by an empty success.
pub(crate) async fn confirm<ResBody: Body<Data = Bytes>>(
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
            Some(Confirmed {
                ended: true,
                response,
            })
        }
        // The inner service has no revocation endpoint, so it is enough to end the grant here.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Confirmed {
            ended: true,
            response: revoked(),
        }),
        status => {
            let (head, bytes) = upstream::read(response, limit).await?;
            let answer = TokenResponse::parse(bytes.clone()).ok();
            let error = answer.as_ref().and_then(TokenResponse::error);
            // The inner service does not revoke tokens of this type (RFC 7009 §2.2.1).
            if status == StatusCode::BAD_REQUEST && error == Some("unsupported_token_type") {
                return Some(Confirmed {
                    ended: true,
                    response: revoked(),
                });
            }
            if withheld.discloses(&head.headers, &bytes, secret.as_slice()) {
                return None;
            }
            Some(Confirmed {
                ended: false,
                response: Response::from_parts(head, ResponseBody::full(bytes)),
            })
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
