use std::time::Duration;

use super::{Previous, Record};
use crate::clock::Timestamp;
use crate::store::ClaimTag;

/// A grant as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredGrant<'a> {
    pub(crate) record: &'a Record,
    /// The hash of the current token.
    pub(crate) current: &'a ClaimTag,
}

impl<'a> StoredGrant<'a> {
    pub(crate) const fn new(record: &'a Record, current: &'a ClaimTag) -> Self {
        Self { record, current }
    }
}

/// The token that a request presents, and the client that presents it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) generation: u32,
    pub(crate) hash: &'a ClaimTag,
}

/// The state of the lease on a grant, as seen by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No request holds it.
    Free,
    /// A request with the current token held it until it expired, for example because its instance
    /// crashed. The current token counts as presented.
    RanOut,
    /// This request holds it.
    Ours,
    /// Another request holds it.
    Held,
}

/// The decision about a presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Proceed(Proceed),
    Refuse(Refusal),
}

/// The ways to proceed with a token that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proceed {
    /// The current token: rotate, once this request holds the lease.
    Rotate,
    /// The current token, which its client keeps by its rotation policy: call the inner service,
    /// then answer with the current token. [`decide`] returns [`Rotate`](Self::Rotate) instead.
    Keep,
    /// Another request holds the lease: wait, then decide again.
    Busy,
    /// The previous token in the retry window: return the stored answer of the last rotation.
    Replay,
    /// An old token in the shared token window: call the inner service, then answer with the
    /// current token, once this request holds the lease.
    ///
    /// No token is minted. If a new one replaced the current token, the current token of another
    /// process would become an old one, perhaps before that process has used it.
    Converge,
    /// The previous token after the shared token window, its successor never presented: rotate,
    /// once this request holds the lease.
    ///
    /// The current token is dropped. If its holder presents it later, either that holder or the one
    /// that recovered has a stolen token, and the grant ends.
    Recover,
}

/// The reasons to refuse a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The grant does not exist. The claim shows this, so [`decide`] never returns it.
    Unknown,
    /// The grant belongs to another client.
    ClientMismatch,
    /// The grant has expired.
    Expired,
    /// The grant was revoked, and the revocation is pending.
    RevocationPending,
    /// An old token that a conforming client may still send. The grant continues.
    Late,
    /// An old token that no conforming client sends. The grant ends.
    Reuse,
    /// A token that was never issued.
    Forged,
    /// A token that is newer than the grant. It is forged, or the store has lost a write.
    Ahead,
}

/// Decides about a presented token of a grant that exists.
///
/// The rules are tried in this order, and the first one that applies decides:
///
/// | | the grant | the presented token | the lease | the time | verdict |
/// | --- | --- | --- | --- | --- | --- |
/// | 1 | belongs to another client | | | | [`ClientMismatch`](Refusal::ClientMismatch) |
/// | 2 | | | | `expires_at` or later | [`Expired`](Refusal::Expired) |
/// | 3 | has a pending revocation | | | | [`RevocationPending`](Refusal::RevocationPending) |
/// | 4 | | is current | held by another request | | [`Busy`](Proceed::Busy) |
/// | 5 | | is current | otherwise | | [`Rotate`](Proceed::Rotate) |
/// | 6 | | is previous | | before `retry_until` | [`Replay`](Proceed::Replay) |
/// | 7 | | is previous | held by another request | in a window | [`Busy`](Proceed::Busy) |
/// | 8 | | is previous | otherwise | before `shared_until` | [`Converge`](Proceed::Converge) |
/// | 9 | current token not presented | is previous | otherwise | before `recover_until` | [`Recover`](Proceed::Recover) |
/// | 10 | | is previous or older | | before `retry_until`, or `waited` | [`Late`](Refusal::Late) |
/// | 11 | | is previous or older | | otherwise | [`Reuse`](Refusal::Reuse) |
/// | 12 | | is of a later generation than the grant | | | [`Ahead`](Refusal::Ahead) |
/// | 13 | | is any other token | | | [`Forged`](Refusal::Forged) |
///
/// - `current` is the hash of the current token. A token is current or previous by its hash, and
///   older if its generation is at least two below that of the grant. The hash of an older token is
///   not stored, so its generation decides.
/// - Rules 6 to 9 need the link of the previous token. Rules 10 and 11 about an older token hold
///   only if no link leads from it to the current one ([`may_have_link`]). With a link, rules 7 and
///   8 hold for it ([`converge`]).
/// - The current token counts as presented if the record says so, or if a request with the current
///   token let its lease expire ([`Standing::RanOut`]).
/// - `retry_until`, `shared_until` and `recover_until` are those of the previous token. "In a
///   window" means that rule 8 or 9 would apply. A grant that was never rotated has neither a
///   previous nor an older token.
/// - `waited` says that the request has waited since it arrived. Its token may have been rotated
///   away in the meantime, so an old token is late and not reuse.
/// - The time is `now`, but never earlier than the record was written ([`Record::time`]).
pub(crate) fn decide(
    grant: StoredGrant<'_>,
    presented: Presented<'_>,
    standing: Standing,
    waited: bool,
    now: Timestamp,
) -> Verdict {
    let StoredGrant { record, current } = grant;
    let now = record.time(now);
    if record.binding.client_id.as_str() != presented.client_id {
        return Verdict::Refuse(Refusal::ClientMismatch);
    }
    if now >= record.expires_at {
        return Verdict::Refuse(Refusal::Expired);
    }
    if record.revocation_pending {
        return Verdict::Refuse(Refusal::RevocationPending);
    }
    if presented.hash == current {
        return Verdict::Proceed(unless_held(standing, Proceed::Rotate));
    }
    let previous = record.previous.as_ref();
    let old = if previous.is_some_and(|previous| *presented.hash == previous.hash) {
        let windowed =
            previous.is_some_and(|previous| previous.link.is_some() && now < previous.retry_until);
        if windowed {
            return Verdict::Proceed(Proceed::Replay);
        }
        if let Some(proceed) = by_link(record, standing, now) {
            return Verdict::Proceed(proceed);
        }
        true
    } else {
        is_older(record, presented)
    };
    if old {
        let windowed = previous.is_some_and(|previous| now < previous.retry_until);
        return if windowed || waited {
            Verdict::Refuse(Refusal::Late)
        } else {
            Verdict::Refuse(Refusal::Reuse)
        };
    }
    if presented.generation > record.generation {
        Verdict::Refuse(Refusal::Ahead)
    } else {
        Verdict::Refuse(Refusal::Forged)
    }
}

/// The greatest expected difference between the clocks of two instances.
///
/// The store keeps the stored answer of a rotation for the retry window, by its own clock. By the
/// clock of an instance, the window may end this much earlier or later.
pub(crate) const SKEW: Duration = Duration::from_secs(30);

/// Returns whether a request with the presented token may get the stored answer of the last
/// rotation or convergence. The caller then looks for that answer.
///
/// For an old token, the existence of the answer decides and not the clock of this instance, which
/// only bounds the search, with a margin of [`SKEW`]. If the clock decided and was ahead, the
/// request of a second browser tab would rotate the grant, and the token that the first tab has
/// just received would become an old one.
///
/// A convergence stores an answer that contains the current token again. Requests with the current
/// token may get this answer, too, so that they share one call of the inner service with requests
/// that present an old copy at the same time. The previous token gets such an answer only while it
/// is accepted anyway. Otherwise a thief could read the answer that was meant for the client.
pub(crate) fn may_replay(grant: StoredGrant<'_>, presented: Presented<'_>, now: Timestamp) -> bool {
    let StoredGrant { record, current } = grant;
    let now = record.time(now);
    let previous = record.previous.as_ref();
    let previous = previous.filter(|previous| previous.hash == *presented.hash);
    let until = match previous {
        Some(previous) => {
            let later = record.repeat_until;
            let until = later
                .filter(|_| is_accepted(record, previous, now))
                .map_or(previous.retry_until, |until| {
                    until.max(previous.retry_until)
                });
            previous.link.as_ref().map(|_| until.saturating_add(SKEW))
        }
        // Without a margin: a client that refreshes later wants a new access token.
        None if *presented.hash == *current => record.repeat_until,
        None => None,
    };
    is_alive(record, presented, now) && until.is_some_and(|until| now < until)
}

/// Returns the verdict about a token for which [`may_replay`] returned true, but for which the
/// store has no answer to this request.
pub(crate) fn without_answer(
    verdict: Verdict,
    record: &Record,
    standing: Standing,
    now: Timestamp,
) -> Verdict {
    if verdict != Verdict::Proceed(Proceed::Replay) {
        return verdict;
    }
    match by_link(record, standing, record.time(now)) {
        Some(proceed) => Verdict::Proceed(proceed),
        None => Verdict::Refuse(Refusal::Late),
    }
}

/// Returns whether a link in a sidecar may lead from the presented token to the current one.
///
/// Such a link exists only for a token that is older than the previous one.
pub(crate) fn may_have_link(
    grant: StoredGrant<'_>,
    presented: Presented<'_>,
    now: Timestamp,
) -> bool {
    let StoredGrant { record, current } = grant;
    is_alive(record, presented, record.time(now))
        && *presented.hash != *current
        && record
            .previous
            .as_ref()
            .is_some_and(|previous| previous.hash != *presented.hash)
        && is_older(record, presented)
}

/// Returns how to proceed with an older token, from which links lead to the current one.
pub(crate) fn converge(standing: Standing) -> Proceed {
    unless_held(standing, Proceed::Converge)
}

/// Returns `proceed`, or [`Proceed::Busy`] if another request holds the lease.
fn unless_held(standing: Standing, proceed: Proceed) -> Proceed {
    match standing {
        Standing::Held => Proceed::Busy,
        Standing::Free | Standing::RanOut | Standing::Ours => proceed,
    }
}

/// Returns whether the previous token leads to the current one at `now`.
fn is_accepted(record: &Record, previous: &Previous, now: Timestamp) -> bool {
    now < previous.shared_until || (!record.presented && now < previous.recover_until)
}

fn is_alive(record: &Record, presented: Presented<'_>, now: Timestamp) -> bool {
    record.binding.client_id.as_str() == presented.client_id
        && !record.revocation_pending
        && now < record.expires_at
}

fn is_older(record: &Record, presented: Presented<'_>) -> bool {
    presented
        .generation
        .checked_add(1)
        .is_some_and(|next| next < record.generation)
}

/// Returns how to proceed with the previous token if no stored answer is replayed; `None` if its
/// windows are over.
fn by_link(record: &Record, standing: Standing, now: Timestamp) -> Option<Proceed> {
    let previous = record.previous.as_ref()?;
    previous.link.as_ref()?;
    if now < previous.shared_until {
        return Some(converge(standing));
    }
    let presented = record.presented || standing == Standing::RanOut;
    // In the retry window another client may just have received the current token, with the stored
    // answer of another request.
    let early = now.saturating_add(SKEW) < previous.retry_until;
    if presented || early || now >= previous.recover_until {
        return None;
    }
    Some(unless_held(standing, Proceed::Recover))
}
