//! The sessions of a user: the grants that belong to one subject.
//!
//! The [`Index`] of a user lists them, each for twice the idle lifetime of a grant. It is written
//! when a grant begins or is revoked, and again in the background when a rotation finds that the
//! grant is listed for less than another idle lifetime. It may list a grant that has ended, which is
//! dropped when the index is next read.

mod index;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use http::Extensions;
use tokio::time::Instant;

use self::index::{Index, Listed};
use crate::cas;
use crate::clock::{CENTURY, Timestamp};
use crate::codec::{DecodeError, Utf8};
use crate::endpoint::end_grant;
use crate::endpoint::retryable_write::{RetryableWrite, persist};
use crate::endpoint::state::State;
use crate::epochs::Table;
use crate::event::{EventKind, EventSubject};
use crate::grant::{GrantKey, Record};
use crate::store::{Change, Entry, Key, Store, StoreError, Ttl, Version};
use crate::subject::{ProviderSession, SessionLabel, Subject};
use crate::wire::client::ClientId;

/// The most sessions of one user.
const MOST: usize = 1000;

/// How many of the oldest sessions are looked up if a user has too many.
const LOOKED_UP: usize = 32;

/// How many grants are read or ended at a time.
const AT_ONCE: usize = 16;

/// For this time after a log-in, a session stays in the index although its grant is not found: the
/// index may have been written first.
const YOUNG: Duration = Duration::from_secs(300);

/// A session of a user: one grant that has neither ended nor expired.
#[derive(Clone)]
pub struct Session {
    grant: GrantKey,
    record: Record,
    label: Box<str>,
    sid: Box<str>,
}

impl Session {
    /// Returns the key of the grant, for [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
    #[must_use]
    pub fn grant(&self) -> GrantKey {
        self.grant
    }

    /// Returns the client that the user logged in to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.record.binding.client_id.as_str()
    }

    /// Returns when the grant began.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// Returns the time of the last refresh. `None` before the first one.
    #[must_use]
    pub fn last_refreshed_at(&self) -> Option<Timestamp> {
        self.record.rotated_at
    }

    /// Returns when the grant expires, unless it is refreshed before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.record.expires_at
    }

    /// Returns the granted scope tokens (RFC 6749 §3.3). The iterator is empty if the scope is
    /// unknown.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.record.binding.scope.as_ref();
        let scope = scope.map(|scope| scope.as_str()).unwrap_or_default();
        scope.split(' ').filter(|token| !token.is_empty())
    }

    /// Returns the text of the [`SessionLabel`] that the inner service set at the log-in.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        Some(&*self.label).filter(|label| !label.is_empty())
    }

    /// Returns the session at the identity provider in which the user logged in: the `sid` of the ID
    /// token (OpenID Connect Back-Channel Logout 1.0 §2.1), if it has one of at most 255 bytes.
    #[must_use]
    pub fn sid(&self) -> Option<&str> {
        Some(&*self.sid).filter(|sid| !sid.is_empty())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("grant", &self.grant)
            .field("client_id", &self.client_id())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

/// A session that begins, to be listed in the index of its user.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    subject: Subject,
    client_id: Utf8,
    session: Listed,
}

impl NewSession {
    /// Returns the session of a grant. `response` are the extensions of the response that began it,
    /// or because of which it is listed.
    pub(crate) fn new(
        subject: Subject,
        grant: Key,
        record: &Record,
        response: &Extensions,
    ) -> Self {
        let label = response.get::<SessionLabel>().map(SessionLabel::as_str);
        let sid = response.get::<ProviderSession>();
        let sid = sid.and_then(|session| session.sid_of(&subject));
        let session = Listed {
            grant,
            created_at: record.created_at,
            until: record.listed_until.unwrap_or(record.expires_at),
            label: label.unwrap_or_default().into(),
            sid: sid.unwrap_or_default().into(),
        };
        Self {
            subject,
            client_id: record.binding.client_id.clone(),
            session,
        }
    }

    /// Lists the session. If the store fails, emits an event and returns the session, to be listed
    /// [in the background](Self::list_in_background): a log-in does not fail because of it.
    pub(crate) async fn list<St: Store>(mut self, shared: &State<St>) -> Option<Self> {
        let started = Instant::now();
        let error = self.attempt(shared).await.err()?;
        self.tell(shared, EventKind::of_failure(&error), started);
        Some(self)
    }

    /// Lists the session in the background, and tries for up to a minute. Emits an event if that
    /// fails.
    pub(crate) fn list_in_background<St: Store>(mut self, shared: &Arc<State<St>>) {
        let started = Instant::now();
        let Some(permit) = shared.background_list() else {
            self.tell(shared, EventKind::SessionUnlisted, started);
            return;
        };
        let shared = Arc::clone(shared);
        let in_flight = shared.in_flight().token();
        tokio::spawn(async move {
            let _held = (permit, in_flight);
            if persist(&mut self, &shared).await.is_none() {
                self.tell(&shared, EventKind::SessionUnlisted, started);
            }
        });
    }

    fn tell<St: Store>(&self, shared: &State<St>, kind: EventKind, started: Instant) {
        let client_id = ClientId::try_from(self.client_id.as_str()).ok();
        let subject = EventSubject {
            client_id: client_id.as_ref(),
            grant: Some((&self.session.grant, None)),
        };
        shared.tell(kind, subject, started.elapsed());
    }
}

impl RetryableWrite for NewSession {
    type Done = ();

    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<(), StoreError> {
        let Self {
            subject, session, ..
        } = self;
        let user = index(shared, subject);
        let provider = provider_index(shared, subject, &session.sid);
        let by_sid = async {
            match &provider {
                Some(provider) => add(shared, provider, session).await.map(drop),
                None => Ok(()),
            }
        };
        let (sid, by_sid) = join(add(shared, &user, session), by_sid).await;
        by_sid?;
        let sid = sid?;
        // The response of a rotation need not have an ID token.
        if provider.is_none()
            && let Some(provider) = provider_index(shared, subject, &sid)
        {
            session.sid = sid;
            add(shared, &provider, session).await?;
        }
        Ok(())
    }
}

/// Adds a session to an index. Returns its `sid`, which may be known from an earlier response.
async fn add<St: Store>(
    shared: &State<St>,
    index: &Index,
    session: &Listed,
) -> Result<Box<str>, StoreError> {
    let now = shared.now();
    let mut len = 0;
    let mut sid = session.sid.clone();
    let edit = |sessions: &mut Vec<Listed>| {
        let known = sessions
            .iter_mut()
            .find(|other| other.grant == session.grant);
        let changes = match known {
            Some(known) => {
                sid = known.sid.clone();
                let changes = known.until < session.until;
                known.until = known.until.max(session.until);
                changes
            }
            None => {
                sessions.retain(|other| now < other.until);
                sessions.push(session.clone());
                true
            }
        };
        len = sessions.len();
        changes
    };
    // An index without another session needs one round trip.
    change(shared, index, None, Damaged::Replace, edit).await?;
    if len > MOST {
        make_room(shared, index).await?;
    }
    Ok(sid)
}

/// Shortens an index that is too long. Looks up its oldest sessions and drops those that have ended.
/// If that is not enough, also drops the oldest ones that are alive, which are then no longer listed.
async fn make_room<St: Store>(shared: &State<St>, index: &Index) -> Result<(), StoreError> {
    let Some(entry) = shared.store().get(&index.key).await? else {
        return Ok(());
    };
    let mut sessions = index.open(&entry).map_err(StoreError::corrupt)?;
    sessions.sort_by_key(|session| session.created_at);
    let excess = sessions.len().saturating_sub(MOST);
    let epochs = shared.epochs().current(shared.store()).await?;
    let oldest = sessions
        .get(..LOOKED_UP.max(excess).min(sessions.len()))
        .unwrap_or_default();
    let found = look_up(shared, oldest, &epochs).await?;
    let mut ended: HashSet<Key> = found
        .into_iter()
        .filter_map(|(session, record)| record.is_none().then_some(session.grant))
        .collect();
    for session in oldest {
        if ended.len() >= excess {
            break;
        }
        if ended.insert(session.grant) {
            let subject = EventSubject {
                client_id: None,
                grant: Some((&session.grant, None)),
            };
            shared.tell(EventKind::SessionUnlisted, subject, Duration::ZERO);
        }
    }
    drop_from(shared, index, Some(entry), &ended).await
}

/// Returns the sessions of a user, oldest first.
pub(crate) async fn list<St: Store>(
    shared: Arc<State<St>>,
    subject: Subject,
) -> Result<Vec<Session>, StoreError> {
    let index = index(&shared, &subject);
    let Some(entry) = shared.store().get(&index.key).await? else {
        return Ok(Vec::new());
    };
    let mut listed = index.open(&entry).map_err(StoreError::corrupt)?;
    listed.sort_by_key(|session| session.created_at);
    let epochs = shared.epochs().current(shared.store()).await?;
    let mut sessions = Vec::new();
    let mut ended = HashSet::new();
    let now = shared.now();
    for (session, record) in look_up(&shared, &listed, &epochs).await? {
        match record {
            // A rotation that began before the expiry may still renew it.
            Some(record) if record.is_over(now) => {}
            Some(record) => sessions.push(Session {
                grant: session.grant.into(),
                record,
                label: session.label.clone(),
                sid: session.sid.clone(),
            }),
            None if is_young(session, now) => {}
            None => drop(ended.insert(session.grant)),
        }
    }
    if !ended.is_empty()
        && let Err(error) = drop_from(&shared, &index, Some(entry), &ended).await
    {
        tracing::debug!(%error, "failed to drop ended sessions from the index of a user");
    }
    Ok(sessions)
}

/// Ends the sessions of a user: all of them, or those that may have begun in the session `sid` at the
/// identity provider. Returns how many this call has ended.
pub(crate) async fn end<St: Store>(
    shared: Arc<State<St>>,
    subject: Subject,
    sid: Option<String>,
) -> Result<usize, StoreError> {
    let index = index(&shared, &subject);
    // A session whose `sid` is unknown ends, too: a log-out must not leave it alive.
    let ends = |session: &Listed| {
        let sid = sid.as_deref();
        sid.is_none_or(|sid| session.sid.is_empty() || *session.sid == *sid)
    };
    end_listed(shared, index, ends).await
}

/// Ends every session that began in a session at the identity provider. Returns how many this call
/// has ended.
pub(crate) async fn end_provider_session<St: Store>(
    shared: Arc<State<St>>,
    issuer: String,
    sid: String,
) -> Result<usize, StoreError> {
    let index = Index::of_sid(&issuer, &sid, shared.config().subject_key.as_ref());
    end_listed(shared, index, |_| true).await
}

/// Ends every session in an index for which `ends` returns `true`.
async fn end_listed<St: Store>(
    shared: Arc<State<St>>,
    index: Index,
    ends: impl Fn(&Listed) -> bool,
) -> Result<usize, StoreError> {
    let _in_flight = shared.in_flight().token();
    let Some(entry) = shared.store().get(&index.key).await? else {
        return Ok(0);
    };
    let mut listed = index.open(&entry).map_err(StoreError::corrupt)?;
    listed.retain(ends);
    let now = shared.now();
    let mut count = 0;
    let mut failure = None;
    let mut ended = HashSet::new();
    for some in listed.chunks(AT_ONCE) {
        let ends = some
            .iter()
            .map(|session| end_grant::end(Arc::clone(&shared), session.grant));
        for (session, end) in some.iter().zip(join_all(ends).await) {
            let was_alive = match end {
                Ok(was_alive) => was_alive,
                // The others end nevertheless.
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            };
            count += usize::from(was_alive);
            if was_alive || !is_young(session, now) {
                ended.insert(session.grant);
            }
        }
    }
    drop_from(&shared, &index, Some(entry), &ended).await?;
    match failure {
        Some(error) => Err(error),
        None => Ok(count),
    }
}

/// Drops the session of a grant that its client has revoked, in the background. If that fails, the
/// session is dropped when the index is next read.
pub(crate) fn forget<St: Store>(shared: &Arc<State<St>>, subject: Subject, grant: Key) {
    let Some(permit) = shared.background_list() else {
        return;
    };
    let shared = Arc::clone(shared);
    let in_flight = shared.in_flight().token();
    tokio::spawn(async move {
        let _held = (permit, in_flight);
        let index = index(&shared, &subject);
        let found = match shared.store().get(&index.key).await {
            Ok(found) => drop_from(&shared, &index, found, &HashSet::from([grant])).await,
            Err(error) => Err(error),
        };
        if let Err(error) = found {
            tracing::debug!(%error, "failed to drop an ended session from the index of its user");
        }
    });
}

fn index<St>(shared: &State<St>, subject: &Subject) -> Index {
    Index::of(subject, shared.config().subject_key.as_ref())
}

/// Returns the index of the session at the identity provider, if that is known and has one.
fn provider_index<St>(shared: &State<St>, subject: &Subject, sid: &str) -> Option<Index> {
    let config = shared.config();
    let issuer = subject.issuer().filter(|_| config.provider_sessions)?;
    (!sid.is_empty()).then(|| Index::of_sid(issuer, sid, config.subject_key.as_ref()))
}

fn is_young(session: &Listed, now: Timestamp) -> bool {
    now.saturating_since(session.created_at) < YOUNG
}

/// Returns each session with the record of its grant, unless the grant is absent, revoked or has
/// been ended with others. It may have expired.
async fn look_up<'a, St: Store>(
    shared: &State<St>,
    sessions: &'a [Listed],
    epochs: &Table,
) -> Result<Vec<(&'a Listed, Option<Record>)>, StoreError> {
    let mut found = Vec::with_capacity(sessions.len());
    for some in sessions.chunks(AT_ONCE) {
        let reads = some
            .iter()
            .map(|session| shared.store().get(&session.grant));
        for (session, entry) in some.iter().zip(join_all(reads).await) {
            let record = match entry? {
                None => None,
                Some(entry) => {
                    let record = Record::decode(&session.grant, &entry.tag, &entry.value);
                    let record = record.map_err(StoreError::corrupt)?;
                    let has_ended = record.revocation_pending || record.has_ended(epochs);
                    (!has_ended).then(|| record.at(shared.now()))
                }
            };
            found.push((session, record));
        }
    }
    Ok(found)
}

async fn drop_from<St: Store>(
    shared: &State<St>,
    index: &Index,
    found: Option<Entry>,
    ended: &HashSet<Key>,
) -> Result<(), StoreError> {
    if found.is_none() {
        return Ok(());
    }
    change(shared, index, found, Damaged::Fail, |sessions| {
        let before = sessions.len();
        sessions.retain(|session| !ended.contains(&session.grant));
        sessions.len() < before
    })
    .await
}

/// What to do with an index that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damaged {
    Fail,
    /// Emit an event, and begin a new one.
    Replace,
}

/// Changes an index, which was read as `found`. `edit` changes the sessions that are stored, and
/// returns whether there is something to write.
async fn change<St: Store>(
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
                let nobody = EventSubject::client(None);
                shared.tell(EventKind::StoreCorrupt, nobody, Duration::ZERO);
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

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;
    use crate::grant::Binding;
    use crate::{MemoryStore, RefreshLayer};

    fn ann() -> Subject {
        Subject::new("ann").unwrap()
    }

    fn session(number: u16) -> Listed {
        let mut grant = [0; 32];
        grant[..2].copy_from_slice(&number.to_be_bytes());
        Listed {
            grant: Key::new(grant),
            created_at: Timestamp::from_millis(number.into()),
            until: Timestamp::from_millis(4_000_000_000_000),
            label: "".into(),
            sid: "".into(),
        }
    }

    async fn listed(shared: &State<MemoryStore>) -> Vec<Listed> {
        let index = index(shared, &ann());
        let entry = shared.store().get(&index.key).await.unwrap().unwrap();
        index.open(&entry).unwrap()
    }

    /// Lists the session with this number, and returns the events.
    async fn add(shared: &State<MemoryStore>, number: u16) {
        let mut new = NewSession {
            subject: ann(),
            client_id: "app".into(),
            session: session(number),
        };
        new.attempt(shared).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_list_drops_ended_sessions_and_then_the_oldest() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let layer = RefreshLayer::builder(MemoryStore::new())
            .on_event(move |event| told.lock().unwrap().push(event.kind))
            .build()
            .unwrap();
        let shared = layer.shared();
        let index = index(shared, &ann());
        let fill = |sessions: &mut Vec<Listed>| {
            sessions.extend((0..1000).map(session));
            true
        };
        change(shared, &index, None, Damaged::Fail, fill)
            .await
            .unwrap();
        add(shared, 1000).await;
        let left = listed(shared).await;
        assert_eq!(left.len(), 1001 - LOOKED_UP);
        assert!(!left.contains(&session(31)) && left.contains(&session(32)));
        assert_eq!(*events.lock().unwrap(), []);

        // The oldest ones are alive.
        for number in 32..64 {
            let key = session(number).grant;
            let binding = Binding {
                client_id: "app".into(),
                scope: None,
                resources: Vec::new(),
                absolute_end: None,
            };
            let hour = Duration::from_secs(3600);
            let record = Record::begin(binding, Bytes::new(), shared.now(), hour, None, None);
            let tag = crate::store::ClaimTag::new([1; 32]);
            let entry = Entry::new(Version::new([1; 8]), tag, record.encode(&key, &tag));
            let ttl = Ttl::After(hour);
            let put = Change::Put { entry, ttl };
            let _ = shared.store().swap(&key, None, put, &[]).await.unwrap();
        }
        for number in 1001..=1032 {
            add(shared, number).await;
        }
        let left = listed(shared).await;
        assert_eq!(left.len(), MOST);
        assert!(!left.contains(&session(32)) && left.contains(&session(1032)));
        assert_eq!(*events.lock().unwrap(), [EventKind::SessionUnlisted]);
    }
}
