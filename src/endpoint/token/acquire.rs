use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::entropy::Entropy;
use super::lease::{LeaseGuard, Purpose, TAKEOVER_PAUSE};
use super::replay::{self, Answer};
use super::request::RefreshRequest;
use super::step::{Claimed, Step};
use crate::endpoint::context::RequestContext;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::{refuse, refuse_and_end_on_reuse, unreadable};
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::grant::{Record, Refusal};
use crate::random::RandomUnavailable;
use crate::store::{ClaimTag, Key, Store};

/// The first pause between two claims of a grant that another request is rotating. Each pause is
/// twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The result of a claim that was not refused.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
pub(super) enum Acquired<St: Store> {
    /// The right to rotate.
    Lease(Held<St>),
    /// The stored answer of the last rotation, and its body.
    Replay(Box<(Granted, Bytes)>),
}

/// The right to rotate a grant.
pub(super) struct Held<St: Store> {
    pub(super) lease: LeaseGuard<St>,
    pub(super) record: Record,
    /// The hash of the current token, as named by the claim.
    pub(super) claimed: ClaimTag,
    pub(super) purpose: Purpose,
    /// The randomness for the next token.
    pub(super) entropy: Entropy,
}

/// The lease that a claim asks for.
struct Goal {
    tag: ClaimTag,
    purpose: Purpose,
}

/// A lease to be claimed, and the randomness for the token that it allows to mint.
struct Attempt<St: Store> {
    lease: LeaseGuard<St>,
    entropy: Entropy,
}

impl<St: Store> Attempt<St> {
    fn new(
        exchange: &RequestContext<St>,
        key: Key,
        purpose: Purpose,
    ) -> Result<Self, RandomUnavailable> {
        let entropy = Entropy::new(&exchange.shared)?;
        let version = purpose.version(entropy.claim());
        let lease = LeaseGuard::new(&exchange.shared, key, version);
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
///   grant that was revoked or rotated in between. So every step that goes on to another claim
///   releases the lease first, except `WaitForTakeover`, which repeats its own claim.
/// - **A lease that was taken over is claimed twice**, with [`TAKEOVER_PAUSE`] in between. The
///   previous holder may have the answer of the inner service and only wait for the store. Its
///   commit overrides the new lease, and the second claim then shows a rotated grant. Without the
///   pause, this request would send an upstream token that the inner service has already replaced,
///   and the inner service would end the session. If this request is cancelled during the pause,
///   its guard leaves an expired lease behind, so that the next request pauses, too.
/// - **The stored answer comes before the clock.** Where the previous token may still be replayed,
///   the existence of the stored answer decides between replay and recovery. If the clock decided,
///   an instance whose clock is ahead would recover and so invalidate the token that the client has
///   just received. The result of the search counts only for the current token that it was made
///   for, because another rotation stores another answer.
/// - **A request that waits holds nothing.** It has released its lease and calls
///   [`rest`](crate::endpoint::progress::Progress::rest), so that it ends when its client
///   disconnects. It then starts from the presented token again, because the token that it wanted
///   to recover from may have been rotated away. `waited` makes such a token late instead of
///   reused.
pub(super) async fn acquire<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    mut waited: bool,
    deadline: Instant,
) -> Result<Acquired<St>, RefreshError> {
    let rotation = || Goal {
        tag: presentation.hash,
        purpose: Purpose::Rotation,
    };
    let key = presentation.key;
    let mut pause = FIRST_PAUSE;
    let mut goal = rotation();
    let mut taken_over = None;
    // The hash of a current token for which no stored answer was found.
    let mut without_answer = None;
    loop {
        exchange.progress.begin();
        let repeated = taken_over.is_some();
        let Attempt { mut lease, entropy } = match taken_over.take() {
            Some(attempt) => attempt,
            None => Attempt::new(exchange, key, goal.purpose)?,
        };
        let claim = lease.claim(&goal.tag).await;
        let claim = claim.map_err(|error| exchange.store_failed(error, presentation.subject()))?;
        let Some(claim) = claim else {
            return Err(refuse(exchange, presentation, Refusal::Unknown));
        };
        let current = claim.entry.tag;
        let record = match Record::decode(&key, &current, &claim.entry.value) {
            Ok(record) => record.at(exchange.shared.now()),
            Err(error) => {
                lease.release().await;
                return Err(unreadable(exchange, presentation, error));
            }
        };
        let step = Step::after(&Claimed {
            claim: &claim,
            record: &record,
            presented: presentation.presented(),
            waited,
            repeated,
            without_answer: without_answer == Some(current),
            now: exchange.shared.now(),
        });
        let generation = presentation.token.generation();
        tracing::trace!(?step, grant = ?key, generation, waited, "decided");
        match step {
            Step::Rotate => {
                lease.confirm();
                return Ok(Acquired::Lease(Held {
                    lease,
                    record,
                    claimed: goal.tag,
                    purpose: goal.purpose,
                    entropy,
                }));
            }
            Step::Replay { in_window } => {
                lease.release().await;
                match Box::pin(replay::find(exchange, presentation, ask, &current)).await? {
                    Answer::Opened(granted, body) => {
                        return Ok(Acquired::Replay(Box::new((granted, body))));
                    }
                    Answer::Different if in_window => {
                        return Err(refuse(exchange, presentation, Refusal::Late));
                    }
                    Answer::Different | Answer::Gone => without_answer = Some(current),
                }
            }
            Step::Wait => {
                lease.release().await;
                exchange.progress.rest();
                if exchange.progress.detached() || Instant::now() + pause > deadline {
                    return Err(RefreshError::Busy);
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                waited = true;
                goal = rotation();
            }
            Step::WaitForTakeover => {
                sleep(TAKEOVER_PAUSE).await;
                taken_over = Some(Attempt { lease, entropy });
                waited = true;
            }
            Step::Reclaim => {
                lease.release().await;
                goal = Goal {
                    tag: current,
                    purpose: Purpose::Recovery,
                };
            }
            Step::Refuse(refusal) => {
                lease.release().await;
                let refused = refuse_and_end_on_reuse(exchange, presentation, refusal, claim.entry);
                return Err(Box::pin(refused).await);
            }
        }
    }
}
