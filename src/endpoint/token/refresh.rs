use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, sleep, timeout_at};

use super::commit;
use super::entropy::Entropy;
use super::lease::{LeaseGuard, Purpose as LeasePurpose, TAKEOVER_PAUSE};
use super::replay::Answer;
use super::request::RefreshRequest;
use super::{adopt, replay};
use crate::body::ResponseBody;
use crate::codec::DecodeError;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::precheck::precheck;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::{refuse, refuse_and_end_on_reuse, unreadable};
use crate::endpoint::upstream::{Granted, Inner, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{
    Proceed, Record, Refusal, Standing, Verdict, decide, may_replay, without_answer,
};
use crate::key_lock::KeyLockGuard;
use crate::seal::Sealer;
use crate::store::{Change, Claim, ClaimTag, Lease, Store, Swap};
use crate::token::RefreshToken;
use crate::wire::client::Client;
use crate::wire::token_request::{Param, TokenRequest};

/// The first pause between two claims of a grant that another request is rotating. Each pause is
/// twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Handles a request with `grant_type=refresh_token`.
pub(crate) async fn refresh<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
    client: &Client<'_>,
) -> Outcome<I::ResBody, I::Error> {
    let missing = RefreshError::InvalidRequest("the parameter refresh_token is missing");
    let token = form.get(Param::RefreshToken).ok_or(missing)?;
    let client_id = client
        .id
        .as_ref()
        .ok_or(RefreshError::InvalidClient { basic: false })?;
    let ask = RefreshRequest::read(form, client)?;
    let Some(token) = RefreshToken::parse(&exchange.shared.config().prefix, token) else {
        // Boxed because adoption is rare, and unboxed it would enlarge the future of every request.
        return Box::pin(adopt::adopt(
            exchange, upstream, body, token, client_id, &ask,
        ))
        .await;
    };
    let presentation = PresentedToken::new(token, client_id);
    precheck(exchange, &presentation)?;

    let deadline = exchange.deadline();
    let turn = timeout_at(deadline, exchange.shared.key_lock().lock(presentation.hash));
    let (turn, waited) = turn.await.map_err(|_| RefreshError::Busy)?;
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
        Acquired::Lease(held) => {
            rotate(exchange, upstream, form, &presentation, &ask, held, turn).await
        }
    }
}

/// The result of a claim that was not refused.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
enum Acquired<St: Store> {
    /// The right to rotate.
    Lease(Held<St>),
    /// The stored answer of the last rotation.
    Replay(Box<(Granted, Bytes)>),
}

struct Held<St: Store> {
    lease: LeaseGuard<St>,
    record: Record,
    /// The hash of the current token, as named by the claim.
    claimed: ClaimTag,
    purpose: LeasePurpose,
    /// The randomness for the next token.
    draw: Entropy,
}

/// Claims the grant and decides about the presented token, until there is nothing more to wait for.
///
/// Each pass claims once: the store returns the entry of the grant and, if its tag is `target` and
/// the lease is free or has expired, gives the lease to this request. Depending on the verdict, the
/// pass then
///
/// - returns the lease, to rotate or recover;
/// - waits for [`TAKEOVER_PAUSE`], if the lease replaced an expired one, and claims again;
/// - claims again with the tag of the current token, because a recovery presents the previous
///   token, whose hash is not the tag of the entry;
/// - looks for the stored answer and returns it, or remembers that it does not exist and claims
///   again;
/// - waits while another request holds the lease, until the deadline; or
/// - refuses.
///
/// Three invariants hold:
///
/// - A lease is returned only with a verdict about the entry that the same claim returned. With a
///   verdict about an earlier read, this request could rotate a grant that was revoked or rotated
///   in between.
/// - A lease that was taken over is used only if the claim is granted again after the pause.
///   Otherwise this request and the commit of the previous holder could both use the same upstream
///   token, and the inner service would end the session.
/// - Where the previous token may still be replayed, the stored answer is looked for first, and the
///   existence of that answer decides between replay and recovery. If the clock decided, an
///   instance whose clock is ahead would recover and so invalidate the token that the client has
///   just received.
async fn acquire<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    mut waited: bool,
    deadline: Instant,
) -> Result<Acquired<St>, RefreshError> {
    let mut pause = FIRST_PAUSE;
    let mut goal = (presentation.hash, LeasePurpose::Rotation);
    let mut taken_over = None;
    // The hash of a current token for which no stored answer was found.
    let mut gone = None;
    loop {
        let (target, purpose) = goal;
        exchange.progress.begin();
        let again = taken_over.is_some();
        let claimed = claim(exchange, presentation, &target, purpose, taken_over.take()).await?;
        let Some((mut lease, claim, draw)) = claimed else {
            return Err(refuse(exchange, presentation, Refusal::Unknown));
        };
        let (key, entry) = (presentation.key, &claim.entry);
        let record = match Record::decode(&key, &entry.tag, &entry.value) {
            Ok(record) => record.at(exchange.shared.now()),
            Err(error) => {
                settle(lease, &claim).await;
                return Err(unreadable(exchange, presentation, error));
            }
        };
        let (now, standing, grant) = (
            exchange.shared.now(),
            standing(&claim),
            (&record, &entry.tag),
        );
        let mut verdict = decide(Some(grant), presentation.presented(), standing, waited, now);
        if may_replay(grant, presentation.presented(), standing, now) {
            let current = entry.tag;
            if gone != Some(current) {
                settle(lease, &claim).await;
                match Box::pin(replay::find(exchange, presentation, ask, &current)).await? {
                    Answer::Opened(granted, body) => {
                        let (verdict, generation) = (
                            Verdict::Proceed(Proceed::Replay),
                            presentation.token.generation(),
                        );
                        tracing::trace!(?verdict, grant = ?key, generation, waited, "decided");
                        return Ok(Acquired::Replay(Box::new((granted, body))));
                    }
                    Answer::Different if verdict == Verdict::Proceed(Proceed::Replay) => {
                        return Err(refuse(exchange, presentation, Refusal::Late));
                    }
                    Answer::Different | Answer::Gone => {}
                }
                gone = Some(current);
                continue;
            }
            verdict = without_answer(verdict, &record, standing, now);
        }
        tracing::trace!(?verdict, grant = ?key, generation = presentation.token.generation(), waited, "decided");
        let proceed = match verdict {
            Verdict::Proceed(proceed) => proceed,
            Verdict::Refuse(refusal) => {
                settle(lease, &claim).await;
                let refused = refuse_and_end_on_reuse(exchange, presentation, refusal, claim.entry);
                return Err(Box::pin(refused).await);
            }
        };
        match (proceed, claim.lease) {
            (Proceed::Rotate | Proceed::Recover, Lease::Taken) if claim.taken_over && !again => {
                lease.granted(claim.entry, true);
                sleep(TAKEOVER_PAUSE).await;
                taken_over = Some((lease, draw));
                waited = true;
            }
            (Proceed::Rotate | Proceed::Recover, Lease::Taken) => {
                lease.granted(claim.entry, false);
                return Ok(Acquired::Lease(Held {
                    lease,
                    record,
                    claimed: target,
                    purpose,
                    draw,
                }));
            }
            (Proceed::Recover, Lease::OtherTag(_)) => {
                lease.refused();
                goal = (entry.tag, LeasePurpose::Recovery);
            }
            (Proceed::Rotate | Proceed::Recover | Proceed::Busy, _) => {
                lease.refused();
                exchange.progress.rest();
                if exchange.progress.detached() || Instant::now() + pause > deadline {
                    return Err(RefreshError::Busy);
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                waited = true;
                goal = (presentation.hash, LeasePurpose::Rotation);
            }
            (Proceed::Replay, _) => {
                settle(lease, &claim).await;
                return Err(RefreshError::Busy);
            }
        }
    }
}

/// Makes one call to the store: reads the grant, and takes its lease if it is available. With
/// `taken`, repeats an earlier claim to find out whether this request still has the lease.
///
/// Returns `None` if the grant does not exist.
async fn claim<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    target: &ClaimTag,
    purpose: LeasePurpose,
    taken: Option<(LeaseGuard<St>, Entropy)>,
) -> Result<Option<(LeaseGuard<St>, Claim, Entropy)>, RefreshError> {
    let (lease, draw) = match taken {
        Some(taken) => taken,
        None => {
            let draw = Entropy::new(&exchange.shared)?;
            let version = purpose.version(draw.claim());
            (
                LeaseGuard::claiming(&exchange.shared, presentation.key, version),
                draw,
            )
        }
    };
    let version = purpose.version(draw.claim());
    let length = exchange.shared.config().lease();
    match exchange
        .store()
        .claim(&presentation.key, target, version, length)
        .await
    {
        Ok(Some(claim)) => Ok(Some((lease, claim, draw))),
        Ok(None) => {
            lease.refused();
            Ok(None)
        }
        // The claim may have been granted although its reply was lost. Dropping the guard checks
        // this and releases the lease.
        Err(error) => Err(exchange.store_failed(error, presentation.subject())),
    }
}

/// Releases an unused lease, and leaves the record unchanged.
async fn settle<St: Store>(mut lease: LeaseGuard<St>, claim: &Claim) {
    if claim.lease == Lease::Taken {
        lease.granted(claim.entry.clone(), claim.taken_over);
        lease.give_back().await;
    } else {
        lease.refused();
    }
}

fn standing(claim: &Claim) -> Standing {
    match claim.lease {
        Lease::Taken => Standing::Ours,
        Lease::Held(_) | Lease::OtherTag(Some(_)) => Standing::Held,
        Lease::OtherTag(None) => match claim.entry.lease {
            Some(_) if LeasePurpose::of(claim.entry.version) == LeasePurpose::Rotation => {
                Standing::RanOut
            }
            _ => Standing::Free,
        },
    }
}

/// Calls the inner service with the upstream token, then commits the rotation. This request holds
/// the lease.
///
/// If there is nothing to commit, the lease is released. The current token still counts as
/// presented then: a client that presents it has received the answer that contained it, so the
/// previous token must not be replayed or recovered any more.
async fn rotate<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    held: Held<St>,
    turn: KeyLockGuard,
) -> Outcome<I::ResBody, I::Error> {
    let Held {
        mut lease,
        record,
        claimed,
        purpose,
        draw,
    } = held;
    if purpose == LeasePurpose::Rotation {
        lease.presented(&record);
    }
    if let Err(error) = ask.within(&record.binding) {
        lease.give_back().await;
        return Err(error.into());
    }
    let sealer = Sealer::new(presentation.token.secret());
    let Some(token) = presentation.unseal(&sealer, &record, &claimed) else {
        lease.give_back().await;
        return Err(unreadable(exchange, presentation, DecodeError::Damaged).into());
    };
    let generation = record.next_generation(purpose == LeasePurpose::Recovery);
    let minted = draw.next(&presentation.token, generation);

    let request = form.replace(Param::RefreshToken, &token);
    let reply = exchange.refresh(upstream, request, &token, presentation.subject());
    match reply.await {
        Ok(Reply::Granted(granted)) => {
            let rotation = commit::Rotation {
                presentation,
                ask,
                sealer,
                record,
                claimed,
                purpose,
                token,
                minted,
            };
            rotation.commit(exchange, lease, turn, granted).await
        }
        Ok(Reply::Rejected(response)) => {
            Box::pin(rejected(
                exchange,
                presentation,
                ask,
                lease,
                &claimed,
                response,
            ))
            .await
        }
        Ok(Reply::Refused(response)) => {
            lease.give_back().await;
            Ok(response)
        }
        Err(failure) => {
            lease.give_back().await;
            Err(failure)
        }
    }
}

/// Ends the grant because the inner service has rejected its upstream token. If another request has
/// rotated the grant in the meantime, decides again, against the new record.
async fn rejected<St: Store, ResBody, E>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    lease: LeaseGuard<St>,
    claimed: &ClaimTag,
    response: Response<ResponseBody<ResBody>>,
) -> Outcome<ResBody, E> {
    let (version, _running) = lease.into_commit();
    match exchange
        .store()
        .swap(&presentation.key, Some(version), Change::Remove, None)
        .await
    {
        Ok(Swap::Swapped) => {
            exchange.announce(&presentation.key).await;
            exchange.emit(EventKind::UpstreamRejected, presentation.subject());
        }
        Ok(Swap::Conflict(Some(found))) if found.tag != *claimed => {
            return Ok(commit::decide_again(exchange, presentation, ask, found).await?);
        }
        Ok(Swap::Conflict(_)) => {}
        // The grant stays in the store. The inner service will reject its next refresh, too.
        Err(error) => {
            let _ = exchange.store_failed(error, presentation.subject());
        }
    }
    Ok(response)
}
