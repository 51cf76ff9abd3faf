use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;

use crate::clock::Timestamp;
use crate::endpoint::retryable_write::RetryableWrite;
use crate::endpoint::state::State;
use crate::endpoint::token::mint::AccessWrite;
use crate::endpoint::upstream_revocation;
use crate::event::EventKind;
use crate::grant::{Record, Revision};
use crate::store::{Change, ClaimTag, Entry, Key, Sidecar, Store, StoreError, Swap, Ttl, Version};

/// The number of times that one attempt overrides a lease that another request has taken over.
const OVERRIDES: usize = 32;

/// The write of a rotation. It is retried until it reaches the store, because the inner service may
/// already have replaced the upstream token that the stored record contains.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(super) key: Key,
    pub(super) expected: Version,
    /// The state of the grant that this write replaces.
    pub(super) claimed: Revision,
    pub(super) record: Record,
    /// The hash of the presented token. `None` if no request has presented one.
    pub(super) presented: Option<ClaimTag>,
    /// The hash of the current token after the write.
    pub(super) tag: ClaimTag,
    pub(super) version: Version,
    pub(super) sidecars: Vec<Sidecar>,
    /// The record of the access token; `None` once it is stored.
    pub(crate) access: Option<AccessWrite>,
    /// Whether the rotation is stored. Its access token may still be missing.
    pub(super) stored: bool,
    pub(super) prepared_at: Timestamp,
}

/// The result of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    Stored,
    /// The grant has ended in the meantime. Revocation wins over rotation.
    Gone,
    /// Another request has rotated the grant in the meantime.
    Overtaken(Entry),
}

impl RetryableWrite for Commit {
    type Done = Committed;

    /// Writes the rotation and its access token, two entries, at the same time. The client gets its
    /// response when both are stored. If the rotation fails, its access token was never sent to a
    /// client.
    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<Committed, StoreError> {
        let Some(access) = self.access.take() else {
            return self.swap(shared).await;
        };
        // Boxed because few rotations mint an access token, and unboxed these would enlarge the
        // future of every rotation.
        let insert = Box::pin(access.write(shared));
        let (committed, inserted) = join(Box::pin(self.swap(shared)), insert).await;
        if inserted.is_err() {
            self.access = Some(access);
        }
        match committed? {
            Committed::Stored => inserted.map(|()| Committed::Stored),
            overtaken => Ok(overtaken),
        }
    }
}

impl Commit {
    /// Revokes the upstream token that was not stored because the grant has ended.
    pub(crate) fn revoke_upstream<St: Store>(&self, shared: &Arc<State<St>>) {
        upstream_revocation::revoke(shared, &self.key, &self.record);
    }

    /// Returns the event of a commit that was retried in the background. If it has succeeded, that
    /// is `event`.
    pub(super) fn settled<St: Store>(
        &self,
        settled: Option<Committed>,
        shared: &Arc<State<St>>,
        event: EventKind,
    ) -> EventKind {
        match settled {
            Some(Committed::Stored) => event,
            // Either this write was stored and its reply was lost, or other requests went on
            // without it. The grant is alive in both cases.
            Some(Committed::Overtaken(found)) if self.is_history_of(&found) => event,
            Some(Committed::Overtaken(_)) | None => EventKind::CommitLost,
            Some(Committed::Gone) => {
                self.revoke_upstream(shared);
                EventKind::CommitLost
            }
        }
    }

    /// Writes the rotation. It overrides the lease of another request, but never another rotation.
    ///
    /// Invariant: the write succeeds only on an entry in the state `claimed`, from which this
    /// rotation started. That state changes with every rotation and every convergence, and the
    /// version of the entry with every write:
    ///
    /// - A conflict with the same state means that only the lease has changed, usually because
    ///   another request has taken it over, or that the current token was marked as presented. The
    ///   write is repeated against the new version. If it gave way, the other request would send
    ///   the upstream token in the record, which the inner service has already replaced, and the
    ///   session would end there.
    /// - A conflict with another state means that another request has called the inner service and
    ///   stored its result. The write must not be repeated: it would invalidate a token that a
    ///   client has already received, and lose the upstream token. Unless an earlier attempt of
    ///   this write was stored and only its reply was lost ([`is_stored`](Self::is_stored)), the
    ///   request is decided again.
    /// - A missing entry, or a record with a pending revocation, means that the grant has ended.
    ///   The write must not restore it.
    async fn swap<St: Store>(&mut self, shared: &State<St>) -> Result<Committed, StoreError> {
        if self.stored {
            return Ok(Committed::Stored);
        }
        let now = shared.now();
        self.renew_windows(shared, now);
        for _ in 0..OVERRIDES {
            let value = self.record.encode(&self.key, &self.tag);
            let change = Change::Put {
                entry: Entry::new(self.version, self.tag, value),
                ttl: Ttl::After(self.record.kept(now)),
            };
            let found = match shared
                .store()
                .swap(&self.key, Some(self.expected), change, &self.sidecars)
                .await?
            {
                Swap::Swapped => {
                    self.stored = true;
                    return Ok(Committed::Stored);
                }
                Swap::Conflict(None) => return Ok(Committed::Gone),
                Swap::Conflict(Some(found)) => found,
            };
            let record =
                Record::decode(&self.key, &found.tag, &found.value).map_err(StoreError::corrupt)?;
            if record.revocation_pending {
                return Ok(Committed::Gone);
            }
            if record.revision(found.tag) != self.claimed {
                self.stored = self.is_stored(&found, &record);
                return Ok(if self.stored {
                    Committed::Stored
                } else {
                    Committed::Overtaken(found)
                });
            }
            self.expected = found.version;
            // After a convergence the token is still the current one.
            if record.presented && !self.mints() {
                self.record.presented = true;
            }
        }
        Err(StoreError::unavailable(
            "failed to write the entry: other requests changed it during each of 32 attempts",
        ))
    }

    /// Returns whether an earlier attempt was stored although its reply was lost. If it minted a
    /// token, that is the current or the previous one. Otherwise only the upstream token shows it.
    fn is_stored(&self, found: &Entry, record: &Record) -> bool {
        if record.revision(found.tag) == self.record.revision(self.tag) {
            return true;
        }
        let previous = record.previous.as_ref().map(|previous| &previous.hash);
        self.mints() && [Some(&found.tag), previous].contains(&Some(&self.tag))
    }

    /// Returns whether this write replaces the current token.
    fn mints(&self) -> bool {
        !self.claimed.is_of(&self.tag)
    }

    /// Returns whether the grant lives on with `found`, beyond this write: by at least two
    /// generations, or at all if this write mints no token, so that no token is lost with it.
    fn is_history_of(&self, found: &Entry) -> bool {
        if !self.mints() {
            return true;
        }
        let next = self.record.generation.saturating_add(1);
        Record::decode(&self.key, &found.tag, &found.value)
            .is_ok_and(|found| found.generation > next)
    }

    /// Restarts the windows of the presented token, unless they were computed less than a second
    /// ago. The client can receive its response only when the write is stored, which may be long
    /// after the rotation if the store was unavailable.
    fn renew_windows<St>(&mut self, shared: &State<St>, now: Timestamp) {
        let Some(presented) = self.presented else {
            return;
        };
        if now.saturating_since(self.prepared_at) < Duration::from_secs(1) {
            return;
        }
        self.prepared_at = now;
        let time = self.record.time(now);
        let windows = shared.config().windows;
        self.record
            .begin_windows(&presented, &self.tag, time, windows);
        if shared.config().hand_back {
            self.record = self.record.clone().handed_back(time, windows);
        }
    }
}
