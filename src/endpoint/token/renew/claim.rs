//! Claims the grant of an access token, for a renewal.

use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::endpoint::presented::PresentedToken;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::token::acquire::{Attempt, FIRST_PAUSE, LONGEST_PAUSE, read_record};
use crate::endpoint::token::held::{Held, OpenGrant};
use crate::endpoint::token::lease::{Purpose, TAKEOVER_PAUSE};
use crate::endpoint::walk::{Walk, Way};
use crate::error::RefreshError;
use crate::store::{Lease, Store};

/// The reason why a renewal has nothing to commit.
pub(super) enum Stopped {
    /// There is nothing to renew, or it is not possible.
    Over(Renewed),
    /// The renewal failed. Its event was emitted.
    Failed(RefreshError),
}

impl From<RefreshError> for Stopped {
    fn from(error: RefreshError) -> Self {
        Self::Failed(error)
    }
}

/// Claims the grant.
///
/// The same invariants hold as for the [claim of a
/// rotation](crate::endpoint::token::acquire::acquire). It is simpler because no client waits for a
/// token: an old refresh token is neither replayed nor reused, and the use of an access token does
/// not show that the current refresh token was received. But the expired lease of a rotation shows
/// it. A lease that replaces one must show the same if it expires, too, so the entry is read first.
pub(super) async fn claim<'a, St: Store>(
    presented: &'a PresentedToken<'a, St>,
    deadline: Instant,
) -> Result<Held<'a, St>, Stopped> {
    let context = presented.context;
    let key = presented.key;
    let failed = |error| presented.store_failed(error);
    let mut walk = Walk::new(presented);
    let mut pause = FIRST_PAUSE;
    let mut taken_over = None;
    let mut purpose = Purpose::Recovery;
    loop {
        let repeated = taken_over.is_some();
        let Attempt { mut lease, entropy } = match taken_over.take() {
            Some(attempt) => attempt,
            None => {
                purpose = match context.store().get(&key).await.map_err(failed)? {
                    Some(entry) if entry.lease.is_some() => Purpose::of(entry.version),
                    _ => Purpose::Recovery,
                };
                Attempt::new(context, key, purpose)?
            }
        };
        let hash = walk.hash;
        let epochs = context.shared.epochs.current(context.store());
        let (claim, epochs) = join(lease.claim(&hash), epochs).await;
        let Some(claim) = claim.map_err(failed)? else {
            return Err(Stopped::Over(Renewed::Ended));
        };
        let entry = claim.entry;
        let read = read_record(presented, &entry, epochs);
        let (mut lease, (record, has_ended)) = lease.or_release(read).await?;
        let now = context.shared.now();
        let record = record.at(now);
        if has_ended
            || record.is_over(now)
            || record.binding.client_id.as_str() != presented.client_id.as_str()
        {
            let ended = Stopped::Over(Renewed::Ended);
            return lease.release_and(Err(ended)).await;
        }
        match claim.lease {
            Lease::Taken if claim.taken_over && !repeated => {
                sleep(TAKEOVER_PAUSE).await;
                taken_over = Some(Attempt { lease, entropy });
            }
            Lease::Taken => {
                lease.confirm();
                let record = match purpose == Purpose::Rotation && repeated {
                    true => {
                        lease.presented(&record);
                        record.presented()
                    }
                    false => record,
                };
                let opened = OpenGrant::new(presented, record, walk.token, hash);
                let (lease, grant) = lease.or_release(opened).await?;
                return Ok(Held {
                    lease,
                    grant,
                    entropy,
                });
            }
            Lease::OtherTag(_) => {
                lease.release().await;
                let walked = walk.advance(presented, &record, &entry.tag, deadline);
                walked.await.map_err(|error| match error {
                    // The links do not lead there.
                    RefreshError::InvalidGrant => Stopped::Over(Renewed::Impossible),
                    error => error.into(),
                })?;
                if walk.way_to(&entry.tag) == Way::DeadEnd {
                    return Err(Stopped::Over(Renewed::Impossible));
                }
            }
            Lease::Held(_) => {
                lease.release().await;
                if Instant::now() + pause > deadline {
                    return Err(RefreshError::Busy.into());
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
