//! The bugs that are injected.

/// The injected bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// A claim takes the lease although another request holds it.
    NoLease,
    /// A swap writes without comparing the version.
    NoVersionCheck,
    /// A request is cancelled when its client hangs up.
    NoDetach,
    /// A failed commit releases the lease and drops the response of the upstream.
    GiveBackAfterFailure,
    /// A replay is returned without the client's secret.
    ReplayWithoutCredential,
    /// An instance replays from its cached record instead of the stored one.
    ReplayFromHint,
    /// The store drops the sidecar of a commit.
    NoReplay,
    /// The end of a grant is not written.
    NoEnd,
    /// A claim does not report that it replaces an expired lease, so the new holder does not wait
    /// for the commit of the previous one.
    SilentTakeover,
    /// The cache treats a failed store call as the end of the grant.
    EndFromFailure,
    /// The cache returns whole entries, even if other instances have changed them since.
    StaleTier,
    /// Concurrent adoptions of the same token do not wait for each other.
    NoWaitToAdopt,
    /// An instance receives neither announcements nor a notice that some may have been lost.
    Deaf,
    /// The store drops every link beside a record.
    NoLinks,
    /// A recovery or convergence stores no link of the token that it drops.
    NoLinkOfDropped,
    /// A link beside a record outlives its window.
    EternalLink,
    /// A link that replaces an older one of the same token is not written: the older one stays.
    OldLink,
    /// A recovery or convergence takes the lease although another request holds it.
    ConvergeWithoutLease,
    /// A reused token ends its grant without the proof of the client.
    NoProof,
    /// No client can prove itself.
    NoClientProves,
    /// A log-in overwrites the index of its user without comparing the version.
    IndexOverwritten,
    /// A write of an index that failed counts as written.
    IndexNotRetried,
    /// An instance reads the epochs once.
    EpochsReadOnce,
    /// The epochs are not written.
    EpochNotWritten,
    /// A commit that changes no token of the layer, and stores no response, is not written.
    RenewalNotWritten,
    /// The new upstream access token of an access token is not written.
    RenewedTokenNotWritten,
    /// A grant that is handed back does not end.
    NotRetired,
    /// An instance that hands back stores no response.
    HandBackNotStored,
    /// A grant that is handed back is not written.
    HandBackNotWritten,
    /// An instance that hands back forwards a token that another one has adopted.
    AdoptedForwarded,
}

impl Breakage {
    pub(crate) const ALL: [Self; 30] = [
        Self::NoLease,
        Self::NoVersionCheck,
        Self::NoDetach,
        Self::GiveBackAfterFailure,
        Self::ReplayWithoutCredential,
        Self::ReplayFromHint,
        Self::NoReplay,
        Self::NoEnd,
        Self::SilentTakeover,
        Self::EndFromFailure,
        Self::StaleTier,
        Self::NoWaitToAdopt,
        Self::Deaf,
        Self::NoLinks,
        Self::NoLinkOfDropped,
        Self::EternalLink,
        Self::OldLink,
        Self::ConvergeWithoutLease,
        Self::NoProof,
        Self::NoClientProves,
        Self::IndexOverwritten,
        Self::IndexNotRetried,
        Self::EpochsReadOnce,
        Self::EpochNotWritten,
        Self::RenewalNotWritten,
        Self::RenewedTokenNotWritten,
        Self::NotRetired,
        Self::HandBackNotStored,
        Self::HandBackNotWritten,
        Self::AdoptedForwarded,
    ];

    /// Returns whether the bug is in the cache in front of the store.
    pub(crate) const fn is_of_tier(self) -> bool {
        matches!(self, Self::EndFromFailure | Self::StaleTier)
    }

    /// Returns whether the bug is in instances that hand grants back, and in no other.
    pub(crate) const fn is_of_hand_back(self) -> bool {
        matches!(
            self,
            Self::NotRetired
                | Self::HandBackNotStored
                | Self::HandBackNotWritten
                | Self::AdoptedForwarded
        )
    }
}
