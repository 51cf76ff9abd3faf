use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::foreign::{DONE, Foreign, UNDER_WAY};
use crate::endpoint::token::lease::{LeaseGuard, TAKEOVER_PAUSE};
use crate::error::RefreshError;
use crate::store::{Change, Claim, Entry, Lease, Store, Swap, Ttl, Version};

/// The time for which the entry of an adoption in progress is kept after its lease has expired. It
/// is longer than a commit is retried in the background, so that a request that takes the lease
/// over finds out that another request had held it.
const KEPT: Duration = Duration::from_secs(3600);

/// The result of a reservation.
pub(super) enum Reserved<St: Store> {
    /// The lease: this request adopts the grant.
    Lease(LeaseGuard<St>),
    /// Another request has adopted the grant. The value is its sealed answer.
    Done(Bytes),
}

/// Takes the lease of an adoption, so that no other request uses the same upstream token. A lease
/// needs an entry, so a placeholder is written first.
///
/// As in a rotation, a lease that replaced an expired one is used only after [`TAKEOVER_PAUSE`] and
/// a second claim: the previous holder may have the answer already and only be waiting for the
/// store.
pub(super) async fn reserve<St: Store>(
    foreign: &Foreign<'_, St>,
    deadline: Instant,
) -> Result<Reserved<St>, RefreshError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let failed = |error| foreign.store_failed(error);
    let context = foreign.context;
    let shared = &context.shared;
    let mut absent = true;
    loop {
        context.progress.begin();
        if absent {
            let version = Version::new(shared.random()?);
            let change = Change::Put {
                entry: Entry::new(version, UNDER_WAY, Bytes::new()),
                ttl: Ttl::After(shared.config().lease().saturating_add(KEPT)),
            };
            let swap = context.store().swap(&foreign.key, None, change, &[]);
            if let Swap::Conflict(Some(entry)) = swap.await.map_err(failed)?
                && entry.tag == DONE
            {
                context.progress.rest();
                return Ok(Reserved::Done(entry.value));
            }
        }
        let version = Version::new(shared.random()?);
        let mut lease = LeaseGuard::new(shared, foreign.key, version);
        let mut claim = lease.claim(&UNDER_WAY).await.map_err(failed)?;
        let taken_over = |claim: &Claim| claim.lease == Lease::Taken && claim.taken_over;
        if claim.as_ref().is_some_and(taken_over) {
            sleep(TAKEOVER_PAUSE).await;
            claim = lease.claim(&UNDER_WAY).await.map_err(failed)?;
        }
        absent = claim.is_none();
        match claim {
            Some(claim) if claim.lease == Lease::Taken => {
                lease.confirm_on_placeholder();
                return Ok(Reserved::Lease(lease));
            }
            Some(claim) if claim.entry.tag == DONE => {
                context.progress.rest();
                return Ok(Reserved::Done(claim.entry.value));
            }
            Some(_) | None => lease.release().await,
        }
        context.progress.rest();
        if context.progress.detached() || Instant::now() + PAUSE > deadline {
            return Err(RefreshError::Busy);
        }
        sleep(PAUSE).await;
    }
}
