//! Follows the links of an old refresh token to the current one.

use tokio::time::Instant;

use crate::endpoint::presented::PresentedToken;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{Record, StoredGrant, may_have_link};
use crate::link;
use crate::seal::Purpose;
use crate::store::{ClaimTag, Store};
use crate::token::RefreshToken;

/// The most links that one request follows. A token that is further away is refused.
const MAX_HOPS: u32 = 64;

/// The way from an old token along its links to the current one.
///
/// A link is only read once: if the grant is rotated in the meantime, the walk continues from the
/// newest token that it has reached.
pub(crate) struct Walk {
    /// The newest token that was reached.
    pub(crate) token: RefreshToken,
    /// Its hash.
    pub(crate) hash: ClaimTag,
    hops: u32,
    /// The current token at the time when no further link was found.
    dead_end: Option<ClaimTag>,
}

/// The state of the search for the current token along the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its links have not been followed to the end.
    Open,
    /// It leads to the current token.
    Current,
    /// It does not lead to the current token.
    DeadEnd,
}

impl Walk {
    pub(crate) fn new<St>(presented: &PresentedToken<'_, St>) -> Self {
        Self {
            token: presented.token.clone(),
            hash: presented.hash,
            hops: 0,
            dead_end: None,
        }
    }

    /// Returns what is known about the way to the token with the hash `current`.
    pub(crate) fn way_to(&self, current: &ClaimTag) -> Way {
        if self.hash == *current {
            Way::Current
        } else if self.dead_end == Some(*current) {
            Way::DeadEnd
        } else {
            Way::Open
        }
    }

    /// Returns the current token, if the presented token or its links lead to it.
    pub(crate) fn current_token<St: Store>(
        &self,
        presented: &PresentedToken<'_, St>,
        record: &Record,
        current: &ClaimTag,
    ) -> Result<RefreshToken, RefreshError> {
        if self.hash == *current {
            return Ok(self.token.clone());
        }
        presented
            .current_token(record, current)
            .map_err(|_| invalid(presented))
    }

    /// Follows links until the current token or a dead end. Links cost one read of the store each,
    /// except that of the previous token, which is a part of the record.
    pub(crate) async fn advance<St: Store>(
        &mut self,
        presented: &PresentedToken<'_, St>,
        record: &Record,
        current: &ClaimTag,
        deadline: Instant,
    ) -> Result<(), RefreshError> {
        let context = presented.context;
        let now = record.time(context.shared.now());
        while self.hash != *current {
            if Instant::now() >= deadline {
                return Err(RefreshError::Busy);
            }
            let link = match &record.previous {
                Some(previous) if previous.hash == self.hash => previous
                    .link
                    .clone()
                    .filter(|_| now < previous.shared_until),
                _ => {
                    let name = link::sidecar_name(&self.hash);
                    let read = context.store().sidecar(&presented.key, &name).await;
                    read.map_err(|error| presented.store_failed(error))?
                }
            };
            let Some(link) = link else {
                self.dead_end = Some(*current);
                return Ok(());
            };
            if self.hops == MAX_HOPS {
                presented.emit(EventKind::TooFarBehind);
                return Err(RefreshError::InvalidGrant);
            }
            self.hops += 1;
            let opened = link::open(&self.token, presented.sealed_for(Purpose::Link), &link);
            self.token = opened.map_err(|_| invalid(presented))?;
            self.hash = self.token.hash();
        }
        Ok(())
    }
}

/// Returns the current token, if links lead to it from the presented token, which is older than the
/// previous one. For a request that does not ask for the lease.
pub(crate) async fn follow<St: Store>(
    presented: &PresentedToken<'_, St>,
    record: &Record,
    current: &ClaimTag,
) -> Result<Option<RefreshToken>, RefreshError> {
    let shared = &presented.context.shared;
    let grant = StoredGrant::new(record, current);
    if shared.config().windows.shared.is_zero()
        || !may_have_link(grant, presented.presented(), shared.now())
    {
        return Ok(None);
    }
    let mut walk = Walk::new(presented);
    let deadline = Instant::now() + shared.config().rotation_timeout;
    let walked = walk.advance(presented, record, current, deadline);
    match walked.await {
        Ok(()) | Err(RefreshError::InvalidGrant) => {}
        Err(error) => return Err(error),
    }
    Ok((walk.hash == *current).then_some(walk.token))
}

/// Emits the event of a link that cannot be opened, and returns the error for the client. The grant
/// stays as it is.
fn invalid<St: Store>(presented: &PresentedToken<'_, St>) -> RefreshError {
    presented.emit(EventKind::LinkInvalid);
    RefreshError::InvalidGrant
}
