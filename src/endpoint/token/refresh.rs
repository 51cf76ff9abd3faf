use bytes::Bytes;
use http::Response;
use tokio::time::timeout_at;

use super::acquire::{Acquired, acquire};
use super::adopt::{self, Foreign, Resolved};
use super::commit;
use super::held::{Held, OpenGrant};
use super::lease::LeaseGuard;
use super::request::ClientRequest;
use crate::body::ResponseBody;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::refuse_reuse;
use crate::endpoint::upstream::{Inner, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::Proceed;
use crate::key_lock::KeyLockGuard;
use crate::store::{Change, Store, Swap};
use crate::token::RefreshToken;
use crate::wire::client::{Client, Proofs};
use crate::wire::token_request::{Param, TokenRequest};

/// Handles a request with `grant_type=refresh_token`.
pub(crate) async fn refresh<St: Store, I: Inner>(
    context: &RequestContext<St>,
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
    let request = ClientRequest::new(form, client, proofs);
    request.check()?;
    // Asked before anything is read or locked, because the callback of the application may panic.
    let policies = &context.shared.config().rotation_policy;
    let policy = policies.of(|| request.client_info(client_id));
    let deadline = context.deadline();
    let presented = match RefreshToken::parse(&context.shared.config().prefix, token) {
        Some(token) => PresentedToken::new(context, token, client_id),
        // Boxed because adoption is rare, and unboxed it would enlarge the future of every request.
        None => {
            let foreign = Foreign::new(context, token, client_id);
            match Box::pin(adopt::resolve(&foreign, deadline)).await? {
                Resolved::Successor(token) => PresentedToken {
                    adopted: true,
                    ..PresentedToken::new(context, token, client_id)
                },
                Resolved::Reused(token, found) => {
                    let presented = PresentedToken::new(context, token, client_id);
                    let refused = refuse_reuse(&presented, upstream, form, *found);
                    return Box::pin(refused).await;
                }
                Resolved::Reserved(reservation) => {
                    let adopted = adopt::adopt(&foreign, upstream, body, &request, reservation);
                    return Box::pin(adopted).await;
                }
                Resolved::Forward => return context.pass(upstream, body).await,
            }
        }
    };
    presented.precheck()?;

    let guard = context.shared.key_lock.lock(presented.hash);
    let guard = timeout_at(deadline, guard).await;
    let (guard, waited) = guard.map_err(|_| RefreshError::Busy)?;
    if waited {
        // The request ahead of this one may have found that the grant has ended. If so, the store
        // need not be asked again.
        presented.precheck()?;
    }
    match acquire(&presented, &request, waited, deadline).await? {
        Acquired::Replay(replayed) => {
            let (granted, body) = *replayed;
            presented.emit(EventKind::Replayed);
            Ok(granted.respond_for(&presented.key, body))
        }
        Acquired::Reuse(found) => {
            let refused = refuse_reuse(&presented, upstream, form, *found);
            Box::pin(refused).await
        }
        Acquired::Lease(held, mut proceed) => {
            let config = context.shared.config();
            // The client has hung up, and a repeated request cannot get this response. If the claim
            // was delayed, another instance may already have answered the repeated request, and
            // handed the upstream token back. Using that token here would then end the session.
            if context.progress.detached() && !request.replayable(config.windows) {
                return held.lease.release_and(Err(RefreshError::Busy.into())).await;
            }
            if proceed == Proceed::Rotate
                && !config.hand_back
                && held.grant.record.keeps(policy, context.shared.now())
            {
                proceed = Proceed::Keep;
            }
            rotate(upstream, &request, held, proceed, guard).await
        }
    }
}

/// Calls the inner service with the upstream token, then commits the rotation. This request holds
/// the lease.
///
/// If there is nothing to commit, the lease is released.
async fn rotate<St: Store, I: Inner>(
    upstream: Box<I>,
    request: &ClientRequest<'_>,
    held: Box<Held<'_, St>>,
    proceed: Proceed,
    guard: KeyLockGuard,
) -> Outcome<I::ResBody, I::Error> {
    let Held {
        lease,
        grant,
        entropy,
    } = *held;
    let presented = grant.presented;
    let context = presented.context;
    if let Err(error) = request.within(&grant.record.binding) {
        return lease.release_and(Err(error.into())).await;
    }
    // A grant that is handed back needs no other token of the layer.
    let keeps = matches!(proceed, Proceed::Converge | Proceed::Keep);
    let minted = if keeps || context.shared.config().hand_back {
        entropy.keep(grant.current.clone())
    } else {
        let generation = grant.record.next_generation(proceed == Proceed::Recover);
        entropy.mint(grant.current.id(), generation)
    };

    let token = &grant.upstream_token;
    let form = request.form.replace(Param::RefreshToken, token);
    let reply = context.refresh(upstream, form, token, presented.subject());
    match reply.await {
        Ok(Reply::Granted(granted)) => {
            let replaced = granted
                .response
                .refresh_token()
                .is_some_and(|new| new != token.as_str());
            if context.shared.config().hand_back
                && !replaced
                && let Err(error) =
                    Box::pin(adopt::forget(context, token, presented.client_id)).await
            {
                return lease.release_and(Err(error.into())).await;
            }
            let rotation = commit::Rotation {
                request,
                grant,
                proceed,
                minted,
            };
            rotation.commit(lease, guard, granted).await
        }
        Ok(Reply::Rejected(response)) => Box::pin(rejected(request, lease, &grant, response)).await,
        Ok(Reply::Refused(response)) => lease.release_and(Ok(response)).await,
        Err(failure) => lease.release_and(Err(failure)).await,
    }
}

/// Ends the grant because the inner service has rejected its upstream token. If another request has
/// rotated the grant in the meantime, decides again, against the new record.
async fn rejected<St: Store, ResBody, E>(
    request: &ClientRequest<'_>,
    lease: LeaseGuard<St>,
    grant: &OpenGrant<'_, St>,
    response: Response<ResponseBody<ResBody>>,
) -> Outcome<ResBody, E> {
    let presented = grant.presented;
    let context = presented.context;
    let (version, _in_flight) = lease.into_commit();
    match context
        .store()
        .swap(&presented.key, Some(version), Change::Remove, &[])
        .await
    {
        Ok(Swap::Swapped) => {
            context.announce(&presented.key).await;
            presented.emit(EventKind::UpstreamRejected);
        }
        Ok(Swap::Conflict(Some(found))) => {
            let record = presented.decode(&found)?;
            if record.revision(found.tag) != grant.record.revision(grant.claimed) {
                return Ok(commit::decide_again(presented, request, found).await?);
            }
        }
        Ok(Swap::Conflict(None)) => {}
        // The grant stays in the store. The inner service will reject its next refresh, too.
        Err(error) => {
            let _ = presented.store_failed(error);
        }
    }
    Ok(response)
}
