use bytes::Bytes;
use http::Response;
use tokio::time::timeout_at;

use super::acquire::{Acquired, Held, acquire};
use super::adopt::{self, Foreign, Resolved};
use super::lease::LeaseGuard;
use super::request::RefreshRequest;
use super::{commit, replay};
use crate::body::ResponseBody;
use crate::codec::DecodeError;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::precheck::precheck;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::{refuse_reuse, unreadable};
use crate::endpoint::upstream::{Inner, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{Proceed, Record, Revision};
use crate::key_lock::KeyLockGuard;
use crate::seal::Sealer;
use crate::store::{Change, Store, Swap};
use crate::token::RefreshToken;
use crate::wire::client::{Client, Proofs};
use crate::wire::token_request::{Param, TokenRequest};

/// Handles a request with `grant_type=refresh_token`.
pub(crate) async fn refresh<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
    client: &Client<'_>,
    proofs: Proofs,
) -> Outcome<I::ResBody, I::Error> {
    let missing = RefreshError::InvalidRequest("the parameter refresh_token is missing");
    let token = form.get(Param::RefreshToken).ok_or(missing)?;
    let client_id = client
        .id
        .as_ref()
        .ok_or(RefreshError::InvalidClient { basic: false })?;
    let ask = RefreshRequest::read(form, client, proofs)?;
    // Asked before anything is read or locked, because the callback of the application may panic.
    let policies = &exchange.shared.config().rotation_policy;
    let policy = policies.of(|| ask.client_info(client_id));
    let deadline = exchange.deadline();
    let presentation = match RefreshToken::parse(&exchange.shared.config().prefix, token) {
        Some(token) => PresentedToken::new(token, client_id),
        // Boxed because adoption is rare, and unboxed it would enlarge the future of every request.
        None => {
            let foreign = Foreign::new(token, client_id);
            match Box::pin(adopt::resolve(exchange, &foreign, deadline)).await? {
                Resolved::Successor(token) => PresentedToken {
                    adopted: true,
                    ..PresentedToken::new(token, client_id)
                },
                Resolved::Reused(token, found) => {
                    let presentation = PresentedToken::new(token, client_id);
                    let refused = refuse_reuse(exchange, upstream, form, &presentation, *found);
                    return Box::pin(refused).await;
                }
                Resolved::Reserved(reservation) => {
                    let adopted =
                        adopt::adopt(exchange, upstream, body, &foreign, &ask, reservation);
                    return Box::pin(adopted).await;
                }
                Resolved::Forward => return exchange.pass(upstream, body).await,
            }
        }
    };
    precheck(exchange, &presentation)?;

    let turn = exchange.shared.key_lock().lock(presentation.hash);
    let turn = timeout_at(deadline, turn).await;
    let (turn, waited) = turn.map_err(|_| RefreshError::Busy)?;
    if waited {
        // The request ahead of this one may have found that the grant has ended. If so, the store
        // need not be asked again.
        precheck(exchange, &presentation)?;
    }
    match acquire(exchange, &presentation, &ask, waited, deadline).await? {
        Acquired::Replay(replayed) => {
            let (granted, body) = *replayed;
            Ok(replay::respond(exchange, &presentation, granted, body))
        }
        Acquired::Reuse(found) => {
            let refused = refuse_reuse(exchange, upstream, form, &presentation, *found);
            Box::pin(refused).await
        }
        Acquired::Lease(mut held) => {
            let config = exchange.shared.config();
            if held.proceed == Proceed::Rotate
                && !config.hand_back
                && held.record.keeps(policy, exchange.shared.now())
            {
                held.proceed = Proceed::Keep;
            }
            rotate(exchange, upstream, &presentation, &ask, held, turn).await
        }
    }
}

/// Calls the inner service with the upstream token, then commits the rotation. This request holds
/// the lease.
///
/// If there is nothing to commit, the lease is released.
async fn rotate<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    held: Box<Held<St>>,
    turn: KeyLockGuard,
) -> Outcome<I::ResBody, I::Error> {
    let Held {
        lease,
        record,
        current,
        claimed,
        proceed,
        entropy,
    } = *held;
    if let Err(error) = ask.within(&record.binding) {
        return lease.release_and(Err(error.into())).await;
    }
    let sealer = Sealer::new(current.secret());
    let Some(token) = presentation.unseal(&sealer, &record) else {
        lease.release().await;
        return Err(unreadable(exchange, presentation, DecodeError::Damaged).into());
    };
    let profile = presentation.open_profile(&sealer, &record);
    // A grant that is handed back needs no other token of the layer.
    let keeps = matches!(proceed, Proceed::Converge | Proceed::Keep);
    let minted = if keeps || exchange.shared.config().hand_back {
        entropy.keep(current)
    } else {
        let generation = record.next_generation(proceed == Proceed::Recover);
        entropy.next(&presentation.token, generation)
    };

    let request = ask.with_token(&token);
    let reply = exchange.refresh(upstream, request, &token, presentation.subject());
    match reply.await {
        Ok(Reply::Granted(granted)) => {
            let replaced = granted
                .answer
                .refresh_token()
                .is_some_and(|new| new != &**token);
            if exchange.shared.config().hand_back
                && !replaced
                && let Err(error) =
                    Box::pin(adopt::forget(exchange, &token, presentation.client_id)).await
            {
                return lease.release_and(Err(error.into())).await;
            }
            let rotation = commit::Rotation {
                presentation,
                ask,
                sealer,
                record,
                claimed,
                proceed,
                token,
                profile,
                minted,
            };
            rotation.commit(exchange, lease, turn, granted).await
        }
        Ok(Reply::Rejected(response)) => {
            let claimed = record.revision(claimed);
            let rejected = rejected(exchange, presentation, ask, lease, &claimed, response);
            Box::pin(rejected).await
        }
        Ok(Reply::Refused(response)) => lease.release_and(Ok(response)).await,
        Err(failure) => lease.release_and(Err(failure)).await,
    }
}

/// Ends the grant because the inner service has rejected its upstream token. If another request has
/// rotated the grant in the meantime, decides again, against the new record.
async fn rejected<St: Store, ResBody, E>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    lease: LeaseGuard<St>,
    claimed: &Revision,
    response: Response<ResponseBody<ResBody>>,
) -> Outcome<ResBody, E> {
    let (version, _in_flight) = lease.into_commit();
    match exchange
        .store()
        .swap(&presentation.key, Some(version), Change::Remove, &[])
        .await
    {
        Ok(Swap::Swapped) => {
            exchange.announce(&presentation.key).await;
            exchange.emit(EventKind::UpstreamRejected, presentation.subject());
        }
        Ok(Swap::Conflict(Some(found))) => {
            let record = Record::decode(&presentation.key, &found.tag, &found.value)
                .map_err(|error| unreadable(exchange, presentation, error))?;
            if record.revision(found.tag) != *claimed {
                return Ok(commit::decide_again(exchange, presentation, ask, found).await?);
            }
        }
        Ok(Swap::Conflict(None)) => {}
        // The grant stays in the store. The inner service will reject its next refresh, too.
        Err(error) => {
            let _ = exchange.store_failed(error, presentation.subject());
        }
    }
    Ok(response)
}
