//! Claims the grant of an access token, for a renewal.

use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::endpoint::context::RequestContext;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::unreadable;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::token::acquire::{Attempt, FIRST_PAUSE, LONGEST_PAUSE};
use crate::endpoint::token::entropy::Entropy;
use crate::endpoint::token::lease::{LeaseGuard, Purpose, TAKEOVER_PAUSE};
use crate::endpoint::walk::{Walk, Way};
use crate::error::RefreshError;
use crate::grant::Record;
use crate::store::{ClaimTag, Lease, Store};
use crate::token::RefreshToken;

/// The right to renew.
pub(super) struct Claimed<St: Store> {
    pub(super) lease: LeaseGuard<St>,
    pub(super) record: Record,
    /// The current refresh token of the grant.
    pub(super) current: RefreshToken,
    /// Its hash, as named by the claim.
    pub(super) hash: ClaimTag,
    pub(super) entropy: Entropy,
}

/// Claims the grant, or returns the result of a renewal that is not possible.
///
/// The same invariants hold as for the [claim of a
/// rotation](crate::endpoint::token::acquire::acquire). It is simpler because no client waits for a
/// token: an old refresh token is neither replayed nor reused, and the use of an access token does
/// not show that the current refresh token was received. But the expired lease of a rotation shows
/// it. A lease that replaces one must show the same if it expires, too, so the entry is read first.
pub(super) async fn claim<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    deadline: Instant,
) -> Result<Result<Claimed<St>, Renewed>, RefreshError> {
    let key = presentation.key;
    let failed = |error| exchange.store_failed(error, presentation.subject());
    let mut walk = Walk::new(presentation);
    let mut pause = FIRST_PAUSE;
    let mut taken_over = None;
    let mut rotation = false;
    loop {
        let repeated = taken_over.is_some();
        let Attempt { mut lease, entropy } = match taken_over.take() {
            Some(attempt) => attempt,
            None => {
                let found = exchange.store().get(&key).await.map_err(failed)?;
                rotation = found.is_some_and(|entry| {
                    entry.lease.is_some() && Purpose::of(entry.version) == Purpose::Rotation
                });
                let purpose = match rotation {
                    true => Purpose::Rotation,
                    false => Purpose::Recovery,
                };
                Attempt::new(exchange, key, purpose)?
            }
        };
        let hash = walk.hash();
        let epochs = exchange.shared.epochs().current(exchange.store());
        let (claim, epochs) = join(lease.claim(&hash), epochs).await;
        let Some(claim) = claim.map_err(failed)? else {
            return Ok(Err(Renewed::Ended));
        };
        let entry = claim.entry;
        let decoded = Record::decode(&key, &entry.tag, &entry.value);
        let record = match decoded {
            Ok(record) => record,
            Err(error) => {
                lease.release().await;
                return Err(unreadable(exchange, presentation, error));
            }
        };
        let epochs = match epochs {
            Ok(epochs) => epochs,
            Err(error) => {
                lease.release().await;
                return Err(failed(error));
            }
        };
        let has_ended = record.has_ended(&epochs);
        let now = exchange.shared.now();
        let record = record.at(now);
        if has_ended
            || record.is_over(now)
            || record.binding.client_id.as_str() != presentation.client_id.as_str()
        {
            lease.release().await;
            return Ok(Err(Renewed::Ended));
        }
        match claim.lease {
            Lease::Taken if claim.taken_over && !repeated => {
                sleep(TAKEOVER_PAUSE).await;
                taken_over = Some(Attempt { lease, entropy });
            }
            Lease::Taken => {
                lease.confirm();
                let record = match rotation && repeated {
                    true => {
                        lease.presented(&record);
                        record.presented()
                    }
                    false => record,
                };
                return Ok(Ok(Claimed {
                    lease,
                    record,
                    current: walk.into_token(),
                    hash,
                    entropy,
                }));
            }
            Lease::OtherTag(_) => {
                lease.release().await;
                let walked = walk.advance(exchange, presentation, &record, &entry.tag, deadline);
                match walked.await {
                    Ok(()) => {}
                    // The links do not lead there.
                    Err(RefreshError::InvalidGrant) => return Ok(Err(Renewed::Impossible)),
                    Err(error) => return Err(error),
                }
                if walk.way_to(&entry.tag) == Way::DeadEnd {
                    return Ok(Err(Renewed::Impossible));
                }
            }
            Lease::Held(_) => {
                lease.release().await;
                if Instant::now() + pause > deadline {
                    return Err(RefreshError::Busy);
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
