use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use crate::clock::Timestamp;
use crate::endpoint::state::State;
use crate::grant::Record;
use crate::store::{Change, Claim, ClaimTag, Entry, Key, Lease, Store, StoreError, Ttl, Version};

/// The purpose of a lease, stored in the lowest bit of its version.
///
/// If a lease for a rotation expires, the current token counts as presented, because its holder had
/// presented it. If a lease for a recovery or a convergence expires, it does not, because its
/// holder had presented an old token. A lease that replaces an expired one for a rotation has that
/// purpose, too. The purpose is stored in the version because a marker in the record would cost
/// another call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Rotation,
    Recovery,
}

impl Purpose {
    /// Returns a version that carries this purpose.
    pub(crate) fn version(self, mut random: [u8; 8]) -> Version {
        random[7] = match self {
            Self::Rotation => random[7] & !1,
            Self::Recovery => random[7] | 1,
        };
        Version::new(random)
    }

    /// Returns the purpose of the lease with this version.
    pub(crate) fn of(version: Version) -> Self {
        if version.as_bytes()[7] & 1 == 0 {
            Self::Rotation
        } else {
            Self::Recovery
        }
    }
}

/// The lease of this request on a grant, or on the placeholder of an adoption. Dropping the guard
/// releases it.
///
/// Invariant: a guard exists from before the claim is sent until the lease is released or handed to
/// a commit. Without a guard, a cancelled request would leave its lease behind until it expires.
/// Other requests would have to wait for that, take the lease over, and wait for
/// [`TAKEOVER_PAUSE`]. The previous token could then no longer be recovered, because an expired
/// lease counts the current token as presented.
pub(crate) struct LeaseGuard<St: Store> {
    shared: Arc<State<St>>,
    key: Key,
    version: Version,
    state: LeaseState,
    in_flight: Option<TaskTrackerToken>,
}

enum LeaseState {
    /// The claim was sent. It is not known yet whether it was granted.
    Claiming,
    /// The claim was granted. Releasing the lease leaves the entry with this tag and value.
    Held {
        tag: ClaimTag,
        value: Bytes,
        /// Whether the release also marks the current token as presented.
        presented: bool,
        /// Whether the claim replaced an expired lease, whose holder may still commit. Releasing
        /// such a lease leaves an expired lease behind, so that the next request waits for that
        /// commit, too.
        overdue: bool,
    },
    /// The lease is held on an entry that exists only to be claimed. Releasing it removes the
    /// entry.
    HeldOnPlaceholder,
    /// There is nothing to release.
    Over,
}

impl<St: Store> LeaseGuard<St> {
    /// Creates the guard of a lease that will have this version.
    pub(crate) fn new(shared: &Arc<State<St>>, key: Key, version: Version) -> Self {
        Self {
            shared: Arc::clone(shared),
            key,
            version,
            state: LeaseState::Claiming,
            in_flight: Some(shared.in_flight.token()),
        }
    }

    /// Claims the entry with this tag, and records whether the lease was granted. Repeating the
    /// claim finds out whether this request still has it.
    ///
    /// # Errors
    ///
    /// Those of the store. The claim may have been granted although its reply was lost. Dropping
    /// the guard checks this and releases the lease.
    pub(crate) async fn claim(&mut self, tag: &ClaimTag) -> Result<Option<Claim>, StoreError> {
        let length = self.shared.config().lease();
        let store = self.shared.store();
        // A repeated claim may be granted for another value, because a convergence keeps the tag.
        // If its reply is lost, releasing the lease must not restore the value of the first claim.
        self.state = LeaseState::Claiming;
        let claim = store.claim(&self.key, tag, self.version, length).await?;
        self.state = match &claim {
            Some(claim) if claim.lease == Lease::Taken => LeaseState::Held {
                tag: claim.entry.tag,
                value: claim.entry.value.clone(),
                presented: false,
                overdue: claim.taken_over,
            },
            _ => LeaseState::Over,
        };
        Ok(claim)
    }

    /// Records that no previous holder can commit any more, because this request has waited for
    /// [`TAKEOVER_PAUSE`] if it took the lease over.
    pub(crate) fn confirm(&mut self) {
        if let LeaseState::Held { overdue, .. } = &mut self.state {
            *overdue = false;
        }
    }

    /// Confirms the lease, like [`confirm`](Self::confirm), on an entry that exists only to be
    /// claimed. Releasing the lease then removes the entry.
    pub(crate) fn confirm_on_placeholder(&mut self) {
        self.state = LeaseState::HeldOnPlaceholder;
    }

    /// Makes the release of the lease also mark the current token as presented.
    pub(crate) fn presented(&mut self, record: &Record) {
        if let LeaseState::Held { presented, .. } = &mut self.state {
            *presented |= record.previous.is_some() && !record.presented;
        }
    }

    /// Releases the lease now, if this request has it.
    pub(crate) async fn release(mut self) {
        // If the store fails, the state stays as it is, and dropping the guard retries in the
        // background.
        if release(&self.shared, self.key, self.version, &self.state)
            .await
            .is_ok()
        {
            self.state = LeaseState::Over;
        }
    }

    /// Releases the lease now, and returns `result`.
    pub(crate) async fn release_and<T>(self, result: T) -> T {
        self.release().await;
        result
    }

    /// Returns the lease with the value of `result`. Releases it now if that is an error.
    pub(crate) async fn or_release<T, E>(self, result: Result<T, E>) -> Result<(Self, T), E> {
        match result {
            Ok(value) => Ok((self, value)),
            Err(error) => self.release_and(Err(error)).await,
        }
    }

    /// Hands the lease to a commit. The guard no longer releases it.
    pub(crate) fn into_commit(mut self) -> (Version, Option<TaskTrackerToken>) {
        self.state = LeaseState::Over;
        (self.version, self.in_flight.take())
    }
}

impl<St: Store> Drop for LeaseGuard<St> {
    fn drop(&mut self) {
        let state = mem::replace(&mut self.state, LeaseState::Over);
        if matches!(state, LeaseState::Over) {
            return;
        }
        // Without a runtime, the lease stays until it expires.
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let key = self.key;
        let version = self.version;
        let in_flight = self.in_flight.take();
        let task = async move {
            for pause in PAUSES {
                match release(&shared, key, version, &state).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::debug!(%error, "failed to release a lease: it expires by itself if every retry fails")
                    }
                }
                sleep(pause).await;
            }
            drop(in_flight);
        };
        handle.spawn(task.in_current_span());
    }
}

/// The time between taking over an expired lease and using it.
///
/// The previous holder may already have the answer of the inner service and only be waiting for the
/// store to become available. Its commit then arrives within a few seconds and overrides the new
/// lease. Using the same upstream token before that would end the session at the inner service.
pub(super) const TAKEOVER_PAUSE: Duration = Duration::from_secs(3);

/// The expiry of a lease that is left behind as an expired one.
const LONG_AGO: Timestamp = Timestamp::from_millis(1);

/// The pauses between attempts to release a lease. If all of them fail, the lease expires by itself
/// and nothing is lost.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::ZERO,
];

async fn release<St: Store>(
    shared: &State<St>,
    key: Key,
    version: Version,
    state: &LeaseState,
) -> Result<(), StoreError> {
    // Puts an entry back: with an expired lease of this purpose, or without a lease.
    let put = |tag, value, expired: Option<Purpose>| {
        let random = shared.random().map_err(StoreError::unavailable)?;
        let next = expired.map_or(Version::new(random), |purpose| purpose.version(random));
        let entry = Entry::new(next, tag, value).with_lease(expired.map(|_| LONG_AGO));
        Ok::<_, StoreError>(Change::Put {
            entry,
            ttl: Ttl::Keep,
        })
    };
    let change = match state {
        LeaseState::Over => return Ok(()),
        LeaseState::HeldOnPlaceholder => Change::Remove,
        LeaseState::Held {
            tag,
            value,
            presented,
            overdue,
        } => {
            let value = match presented {
                // The record is encoded only here, because few leases are released.
                true => Record::decode(&key, tag, value)
                    .map_err(StoreError::corrupt)?
                    .presented()
                    .encode(&key, tag),
                false => value.clone(),
            };
            put(*tag, value, overdue.then(|| Purpose::of(version)))?
        }
        LeaseState::Claiming => match shared.store().get(&key).await? {
            // The claim was granted, but its reply was lost. It may have replaced an expired lease,
            // so an expired lease of the same purpose is left behind.
            Some(entry) if entry.version == version => {
                put(entry.tag, entry.value, Some(Purpose::of(version)))?
            }
            _ => return Ok(()),
        },
    };
    let store = shared.store();
    store.swap(&key, Some(version), change, &[]).await.map(drop)
}
