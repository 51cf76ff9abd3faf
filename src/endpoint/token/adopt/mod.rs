mod complete;
mod foreign;
mod reserve;

use bytes::Bytes;
use http::Response;
use tokio::time::timeout_at;

use self::complete::Adopted;
use self::foreign::{DONE, Foreign};
use self::reserve::{Reserved, reserve};
use super::entropy::Entropy;
use super::replay;
use super::request::RefreshRequest;
use crate::body::ResponseBody;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::upstream::{Inner, Reply};
use crate::error::RefreshError;
use crate::event::{EventKind, Subject};
use crate::store::{ClaimTag, Store, Version};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// Handles a refresh with a token that is not in the layer's format: adopts its grant, if adoption
/// is configured and has not ended.
pub(crate) async fn adopt<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    token: &str,
    client_id: &ClientId,
    ask: &RefreshRequest<'_>,
) -> Outcome<I::ResBody, I::Error> {
    let config = exchange.shared.config();
    let foreign = Foreign::new(token, client_id);
    let stranger = foreign.subject();
    let Some(end) = config.adopt_until else {
        return Err(unknown(exchange, stranger).into());
    };
    if exchange.shared.now() >= end {
        // Adoption has ended, but the answer of an adoption that was made shortly before may still
        // be replayed.
        let late =
            exchange.shared.now() < end.saturating_add(config.lease() + config.windows.retry);
        let found = if late {
            exchange.store().get(&foreign.key).await
        } else {
            Ok(None)
        };
        let found = found.map_err(|error| exchange.store_failed(error, stranger))?;
        let Some(done) = found.filter(|entry| entry.tag == DONE) else {
            return Err(unknown(exchange, stranger).into());
        };
        return Ok(answer_again(exchange, &foreign, ask, &done.value)?);
    }
    let deadline = exchange.deadline();
    let tag = ClaimTag::new(*foreign.key.as_bytes());
    let turn = timeout_at(deadline, exchange.shared.key_lock().lock(tag)).await;
    let (turn, _) = turn.map_err(|_| RefreshError::Busy)?;
    // Drawn before the upstream token is used, as in a rotation.
    let entropy = Entropy::new(&exchange.shared)?;
    let version = Version::new(exchange.shared.random()?);
    let lease = match reserve(exchange, &foreign, deadline).await? {
        Reserved::Lease(lease) => lease,
        Reserved::Done(sealed) => return Ok(answer_again(exchange, &foreign, ask, &sealed)?),
    };
    match exchange.refresh(upstream, body, token, stranger).await {
        Ok(Reply::Granted(granted)) => {
            let adopted = Adopted {
                foreign: &foreign,
                ask,
                token,
                minted: entropy.first(),
                version,
            };
            adopted
                .complete(exchange, lease, turn, granted)
                .await
                .map_err(Into::into)
        }
        Ok(Reply::Rejected(response)) => {
            lease.release().await;
            exchange.emit(EventKind::UpstreamRejected, stranger);
            Ok(response)
        }
        Ok(Reply::Refused(response)) => {
            lease.release().await;
            Ok(response)
        }
        Err(failure) => {
            lease.release().await;
            Err(failure)
        }
    }
}

fn unknown<St: Store>(exchange: &RequestContext<St>, stranger: Subject<'_>) -> RefreshError {
    exchange.emit(EventKind::Unknown, stranger);
    RefreshError::InvalidGrant
}

/// Replays the answer of an adoption, but only to the same request.
fn answer_again<St: Store, ResBody>(
    exchange: &RequestContext<St>,
    foreign: &Foreign<'_>,
    ask: &RefreshRequest<'_>,
    sealed: &[u8],
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let now = exchange.shared.now();
    let opened = if ask.replayable() {
        replay::open(&foreign.sealer, foreign.context(), ask, sealed, now).ok()
    } else {
        None
    };
    let Some((granted, body)) = opened else {
        exchange.emit(EventKind::Late, foreign.subject());
        return Err(RefreshError::InvalidGrant);
    };
    exchange.emit(EventKind::Replayed, foreign.subject());
    let given = granted.answer.refresh_token();
    match given.and_then(|token| RefreshToken::parse(&exchange.shared.config().prefix, token)) {
        Some(token) => Ok(granted.respond_for(&token.key(), body)),
        None => Ok(granted.respond(body)),
    }
}
