use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use super::entropy::Entropy;
use super::held::{Held, OpenGrant};
use super::lease::{LeaseGuard, Purpose, TAKEOVER_PAUSE};
use super::replay;
use super::request::ClientRequest;
use super::step::{Claimed, Step, standing};
use crate::endpoint::context::RequestContext;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::upstream::Granted;
use crate::endpoint::upstream_revocation;
use crate::endpoint::walk::Walk;
use crate::epochs::Table;
use crate::error::RefreshError;
use crate::grant::{Proceed, Record, Refusal, Standing};
use crate::store::{ClaimTag, Entry, Key, Store, StoreError};

/// The first pause between two claims of a grant that another request is rotating. Each pause is
/// twice as long as the one before, up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The result of a claim that was not refused, or that found reuse.
pub(super) enum Acquired<'a, St: Store> {
    /// The right to rotate.
    // Boxed because it is moved through several futures.
    Lease(Box<Held<'a, St>>, Proceed),
    /// The stored answer of the last rotation, and its body.
    Replay(Box<(Granted, Bytes)>),
    /// The presented token is reused. The entry and the record of its grant.
    Reuse(Box<(Entry, Record)>),
}

/// The lease that a claim asks for.
struct Goal {
    tag: ClaimTag,
    purpose: Purpose,
    /// Whether an expired lease shows that the current token was presented ([`Standing::RanOut`]).
    /// The new lease replaces the expired one, so this request has to record it.
    presented: bool,
}

/// A lease to be claimed, and the randomness for the token that it allows to mint.
pub(super) struct Attempt<St: Store> {
    pub(super) lease: LeaseGuard<St>,
    pub(super) entropy: Entropy,
}

impl<St: Store> Attempt<St> {
    pub(super) fn new(
        context: &RequestContext<St>,
        key: Key,
        purpose: Purpose,
    ) -> Result<Self, RefreshError> {
        let entropy = Entropy::new(&context.shared)?;
        let version = purpose.version(entropy.claim);
        let lease = LeaseGuard::new(&context.shared, key, version);
        Ok(Self { lease, entropy })
    }
}

/// Claims the grant and executes the [`Step`] that follows, until there is nothing more to wait
/// for.
///
/// Each pass claims once: the store returns the entry of the grant and, if its tag is that of the
/// goal and the lease is free or has expired, gives the lease to this request. These invariants
/// hold:
///
/// - **The guard comes first.** It exists before the claim is sent, so that a request that is
///   cancelled, or whose claim was granted without a reply, releases its lease. Without it, every
///   other request with the token would wait until the lease expires.
/// - **The lease belongs to the verdict.** It is returned only with a verdict about the entry that
///   the same claim returned. With a verdict about an earlier read, this request could rotate a
///   grant that was revoked or rotated in between. So every step that leads to another claim
///   releases the lease first, except `WaitForTakeover`, which repeats its own claim.
/// - **A lease that was taken over is claimed twice**, with [`TAKEOVER_PAUSE`] in between. The
///   previous holder may have the answer of the inner service and only wait for the store. Its
///   commit overrides the new lease, and the second claim then shows a rotated grant. Without the
///   pause, this request would send an upstream token that the inner service has already replaced,
///   and the inner service would end the session. If this request is cancelled during the pause,
///   its guard leaves an expired lease behind, so that the next request pauses, too.
/// - **The stored answer comes before the clock.** Where the previous token may still be replayed,
///   the existence of the stored answer decides between replay and another rotation. If the clock
///   decided, an instance whose clock is ahead would rotate away the token that the client has just
///   received. The result of the search counts only for the state of the grant that it was made
///   for, because the next rotation or convergence stores another answer.
/// - **A link is an identity, not a right.** A token that a link leads to is used only together
///   with a claim that names it as the current token, and a verdict about that claim.
/// - **A request that waits holds nothing.** It has released its lease and calls
///   [`rest`](crate::endpoint::progress::Progress::rest), so that it ends when its client
///   disconnects. It then claims with the presented token again, because the token that its links
///   led to may have been rotated away. `waited` makes such a token late instead of reused.
pub(super) async fn acquire<'a, St: Store>(
    presented: &'a PresentedToken<'a, St>,
    request: &ClientRequest<'_>,
    mut waited: bool,
    deadline: Instant,
) -> Result<Acquired<'a, St>, RefreshError> {
    let context = presented.context;
    let rotation = || Goal {
        tag: presented.hash,
        purpose: Purpose::Rotation,
        presented: false,
    };
    let key = presented.key;
    let mut pause = FIRST_PAUSE;
    let mut goal = rotation();
    let mut taken_over = None;
    let windows = context.shared.config().windows;
    let has_links = !windows.shared.is_zero();
    let replayable = request.replayable(windows);
    let mut walk = Walk::new(presented);
    // The state of the grant in which no stored answer was found.
    let mut without_answer = None;
    'claim: loop {
        context.progress.begin();
        let repeated = taken_over.is_some();
        let Attempt { mut lease, entropy } = match taken_over.take() {
            Some(attempt) => attempt,
            None => Attempt::new(context, key, goal.purpose)?,
        };
        let epochs = context.shared.epochs.current(context.store());
        let (claim, epochs) = join(lease.claim(&goal.tag), epochs).await;
        let Some(claim) = claim.map_err(|error| presented.store_failed(error))? else {
            return Err(presented.refuse(Refusal::Unknown));
        };
        let current = claim.entry.tag;
        let (record, has_ended) = match read_record(presented, &claim.entry, epochs) {
            Ok(read) => read,
            Err(error) => return lease.release_and(Err(error)).await,
        };
        if has_ended {
            lease.release().await;
            let end = upstream_revocation::end(&context.shared, &key, claim.entry);
            Box::pin(end).await;
            return Err(presented.refuse(Refusal::Unknown));
        }
        let mut now = context.shared.now();
        let mut record = record.at(now);
        // The lease that this one replaces showed it.
        if goal.presented && current == goal.tag {
            lease.presented(&record);
            record = record.presented();
        }
        // Steps that only read are followed by another decision about the same claim.
        loop {
            let step = Step::after(&Claimed {
                claim: &claim,
                record: &record,
                presented: presented.presented(),
                adopted: presented.adopted,
                waited,
                repeated,
                without_answer: !replayable
                    || without_answer.as_ref() == Some(&record.revision(current)),
                way: has_links.then(|| walk.way_to(&current)),
                now,
            });
            let generation = presented.token.generation();
            tracing::trace!(?step, grant = ?key, generation, waited, "decided");
            match step {
                Step::Rotate(proceed) => {
                    lease.confirm();
                    // Even if the lease is released: a client that presents the current token has
                    // received the answer that contained it, so the previous token can no longer
                    // recover. A client that presents the token that was adopted may not have
                    // received it.
                    if proceed == Proceed::Rotate && !presented.adopted {
                        lease.presented(&record);
                        record = record.presented();
                    }
                    let opened = walk
                        .current_token(presented, &record, &current)
                        .and_then(|token| OpenGrant::new(presented, record, token, goal.tag));
                    let grant = match opened {
                        Ok(grant) => grant,
                        Err(error) => return lease.release_and(Err(error)).await,
                    };
                    let held = Held {
                        lease,
                        grant,
                        entropy,
                    };
                    return Ok(Acquired::Lease(Box::new(held), proceed));
                }
                Step::Replay => {
                    let token = walk.current_token(presented, &record, &current)?;
                    let found = Box::pin(replay::find(presented, request, &token)).await?;
                    if let Some(replayed) = found {
                        if presented.hash == current && !presented.adopted {
                            lease.presented(&record);
                        }
                        lease.release().await;
                        return Ok(Acquired::Replay(Box::new(replayed)));
                    }
                    without_answer = Some(record.revision(current));
                    now = context.shared.now();
                }
                Step::Follow => {
                    let walked = walk.advance(presented, &record, &current, deadline);
                    Box::pin(walked).await?;
                    now = context.shared.now();
                }
                Step::Wait => {
                    lease.release().await;
                    context.progress.rest();
                    if context.progress.detached() || Instant::now() + pause > deadline {
                        return Err(RefreshError::Busy);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    waited = true;
                    goal = rotation();
                    continue 'claim;
                }
                Step::WaitForTakeover => {
                    sleep(TAKEOVER_PAUSE).await;
                    taken_over = Some(Attempt { lease, entropy });
                    waited = true;
                    continue 'claim;
                }
                Step::Reclaim => {
                    lease.release().await;
                    // If this lease expires, too, it must show the same as the one that it
                    // replaces.
                    let ran_out = standing(&claim) == Standing::RanOut;
                    goal = Goal {
                        tag: current,
                        purpose: match ran_out {
                            true => Purpose::Rotation,
                            false => Purpose::Recovery,
                        },
                        presented: ran_out,
                    };
                    continue 'claim;
                }
                Step::Refuse(Refusal::Reuse) => {
                    lease.release().await;
                    return Ok(Acquired::Reuse(Box::new((claim.entry, record))));
                }
                Step::Refuse(refusal) => {
                    lease.release().await;
                    return Err(presented.refuse(refusal));
                }
            }
        }
    }
}

/// Reads the record in an entry that a claim has returned. Returns it, and whether its grant was
/// ended with others.
pub(super) fn read_record<St: Store>(
    presented: &PresentedToken<'_, St>,
    entry: &Entry,
    epochs: Result<Arc<Table>, StoreError>,
) -> Result<(Record, bool), RefreshError> {
    let record = presented.decode(entry)?;
    let epochs = epochs.map_err(|error| presented.store_failed(error))?;
    let has_ended = record.has_ended(&epochs);
    Ok((record, has_ended))
}
