//! Reads and changes indices.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::index::{Index, Listed};
use crate::cas;
use crate::clock::{CENTURY, Timestamp};
use crate::codec::DecodeError;
use crate::endpoint::state::State;
use crate::epochs::Table;
use crate::event::{EventKind, EventSubject};
use crate::grant::Record;
use crate::store::{Change, Entry, Key, Store, StoreError, Ttl, Version};
use crate::subject::Subject;

/// The most grants that one call reads or ends at a time.
pub(super) const AT_ONCE: usize = 16;

/// The time after a log-in for which a session stays in the index although its grant is not found,
/// because the index may have been written first.
pub(super) const YOUNG: Duration = Duration::from_secs(300);

/// Returns the index of a user.
pub(crate) fn user_index<St>(shared: &State<St>, subject: &Subject) -> Index {
    Index::of(subject, shared.config().subject_key.as_ref())
}

/// Returns the index of the session at the identity provider, if that is known and has one.
pub(super) fn provider_index<St>(
    shared: &State<St>,
    subject: &Subject,
    sid: &str,
) -> Option<Index> {
    let config = shared.config();
    let issuer = subject.issuer().filter(|_| config.provider_sessions)?;
    (!sid.is_empty()).then(|| Index::of_sid(issuer, sid, config.subject_key.as_ref()))
}

pub(super) fn is_young(session: &Listed, now: Timestamp) -> bool {
    now.saturating_since(session.created_at) < YOUNG
}

/// Returns each session with the record of its grant, unless the grant is absent, revoked or has
/// been ended with others. It may have expired.
pub(super) async fn look_up<St: Store>(
    shared: &State<St>,
    sessions: Vec<Listed>,
    epochs: &Table,
) -> Result<Vec<(Listed, Option<Record>)>, StoreError> {
    let read = |session: Listed| async move {
        let Some(entry) = shared.store().get(&session.grant).await? else {
            return Ok((session, None));
        };
        let record = Record::decode(&session.grant, &entry.tag, &entry.value);
        let record = record.map_err(StoreError::corrupt)?;
        let has_ended = record.revocation_pending || record.has_ended(epochs);
        let record = (!has_ended).then(|| record.at(shared.now()));
        Ok((session, record))
    };
    let reads = stream::iter(sessions.into_iter().map(read));
    reads.buffered(AT_ONCE).try_collect().await
}

pub(super) async fn drop_from<St: Store>(
    shared: &State<St>,
    index: &Index,
    found: Option<Entry>,
    ended: &HashSet<Key>,
) -> Result<(), StoreError> {
    change(shared, index, found, Damaged::Fail, |sessions| {
        let before = sessions.len();
        sessions.retain(|session| !ended.contains(&session.grant));
        sessions.len() < before
    })
    .await
}

/// The reaction to an index that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damaged {
    Fail,
    /// Emit an event, and begin a new one.
    Replace,
}

/// Changes an index, which was read as `found`. `edit` changes the sessions that are stored, and
/// returns whether there is something to write.
pub(super) async fn change<St: Store>(
    shared: &State<St>,
    index: &Index,
    found: Option<Entry>,
    damaged: Damaged,
    mut edit: impl FnMut(&mut Vec<Listed>) -> bool,
) -> Result<(), StoreError> {
    cas::write(shared.store(), &index.key, found, |found| {
        let opened = found.map_or(Ok(Vec::new()), |entry| index.open(entry));
        let mut sessions = match opened {
            Err(DecodeError::Damaged) if damaged == Damaged::Replace => {
                let subject = EventSubject::client(None);
                shared.emit(EventKind::StoreCorrupt, subject, Duration::ZERO);
                Vec::new()
            }
            opened => opened.map_err(StoreError::corrupt)?,
        };
        if !edit(&mut sessions) {
            return Ok(None);
        }
        let Some(until) = sessions.iter().map(|session| session.until).max() else {
            return Ok(Some(Change::Remove));
        };
        let nonce = shared.random().map_err(StoreError::unavailable)?;
        let version = Version::new(shared.random().map_err(StoreError::unavailable)?);
        let entry = index
            .entry(&sessions, nonce, version)
            .map_err(StoreError::unavailable)?;
        let left = until.saturating_since(shared.now());
        let ttl = Ttl::After(left.clamp(YOUNG, CENTURY));
        Ok(Some(Change::Put { entry, ttl }))
    })
    .await
}
