//! Lists sessions in the indices.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, OptionFuture, join};
use http::Extensions;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::edit::{
    Damaged, YOUNG, change, drop_from, is_young, look_up, provider_index, user_index,
};
use super::index::{Index, Listed};
use crate::codec::Utf8;
use crate::endpoint::retryable_write::{RetryableWrite, persist};
use crate::endpoint::state::State;
use crate::event::{EventKind, EventSubject};
use crate::grant::Record;
use crate::store::{Key, Store, StoreError};
use crate::subject::{ProviderSession, SessionLabel, Subject};
use crate::wire::client::ClientId;

/// The most sessions of one user.
const MOST: usize = 1000;

/// The number of sessions that are looked up at a time if a user has too many, oldest first.
const LOOKED_UP: usize = 32;

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

    /// Lists a session, if there is one. If the store fails, emits an event and returns the
    /// session, to be listed [in the background](Self::list_in_background): a log-in does not fail
    /// because of it.
    pub(crate) fn list<St: Store>(
        session: Option<Self>,
        shared: &State<St>,
    ) -> impl Future<Output = Option<Self>> {
        let list = |mut session: Self| async move {
            let started = Instant::now();
            let error = session.attempt(shared).await.err()?;
            session.emit(shared, EventKind::of_failure(&error), started);
            Some(session)
        };
        // The box keeps the future of a request small. A request without a session needs none.
        let listed = session.map(|session| Box::pin(list(session)));
        OptionFuture::from(listed).map(Option::flatten)
    }

    /// Lists a session in the background, if there is one, and tries for up to a minute. Emits an
    /// event if that fails.
    pub(crate) fn list_in_background<St: Store>(session: Option<Self>, shared: &Arc<State<St>>) {
        let Some(mut session) = session else {
            return;
        };
        let started = Instant::now();
        let Some(permit) = shared.lists.take() else {
            session.emit(shared, EventKind::SessionUnlisted, started);
            return;
        };
        let shared = Arc::clone(shared);
        let in_flight = shared.in_flight.token();
        let task = async move {
            let _held = (permit, in_flight);
            if persist(&mut session, &shared).await.is_none() {
                session.emit(&shared, EventKind::SessionUnlisted, started);
            }
        };
        tokio::spawn(task.in_current_span());
    }

    fn emit<St: Store>(&self, shared: &State<St>, kind: EventKind, started: Instant) {
        let client_id = ClientId::try_from(self.client_id.as_str()).ok();
        let subject = EventSubject::grant(client_id.as_ref(), &self.session.grant, None);
        shared.emit(kind, subject, started.elapsed());
    }
}

impl RetryableWrite for NewSession {
    type Done = ();

    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<(), StoreError> {
        let Self {
            subject, session, ..
        } = self;
        let user = user_index(shared, subject);
        let provider = provider_index(shared, subject, &session.sid);
        let by_sid = provider.as_ref().map(|index| add(shared, index, session));
        let by_sid = OptionFuture::from(by_sid);
        let (sid, by_sid) = join(add(shared, &user, session), by_sid).await;
        by_sid.transpose()?;
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

/// Shortens an index that is too long. Looks up its oldest sessions, and further ones until it has
/// found enough that have ended. If all others are alive, drops the oldest one, which is then no
/// longer listed.
async fn make_room<St: Store>(shared: &State<St>, index: &Index) -> Result<(), StoreError> {
    let epochs = shared.epochs.current(shared.store());
    let (found, epochs) = join(shared.store().get(&index.key), epochs).await;
    let (Some(entry), epochs) = (found?, epochs?) else {
        return Ok(());
    };
    let mut sessions = index.open(&entry).map_err(StoreError::corrupt)?;
    sessions.sort_by_key(|session| session.created_at);
    let excess = sessions.len().saturating_sub(MOST);
    let now = shared.now();
    let mut dropped = HashSet::new();
    for some in sessions.chunks(LOOKED_UP) {
        if dropped.len() >= excess {
            break;
        }
        for (session, record) in look_up(shared, some.to_vec(), &epochs).await? {
            let has_ended = match record {
                None => !is_young(&session, now),
                // A rotation that began before the expiry may still renew it.
                Some(record) => now.saturating_since(record.expires_at) >= YOUNG,
            };
            if has_ended {
                dropped.insert(session.grant);
            }
        }
    }
    for session in &sessions {
        if dropped.len() >= excess {
            break;
        }
        if dropped.insert(session.grant) {
            let subject = EventSubject::grant(None, &session.grant, None);
            shared.emit(EventKind::SessionUnlisted, subject, Duration::ZERO);
        }
    }
    drop_from(shared, index, Some(entry), &dropped).await
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::grant::Binding;
    use crate::store::{Change, Entry, Ttl, Version};
    use crate::{ManualClock, MemoryStore, RefreshLayer};

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
        let index = user_index(shared, &ann());
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

    /// Stores the grant of the session with this number.
    async fn begin(shared: &State<MemoryStore>, number: u16, expires_at: Timestamp) {
        let key = session(number).grant;
        let binding = Binding {
            client_id: "app".into(),
            scope: None,
            resources: Vec::new(),
            absolute_end: None,
        };
        let day = Duration::from_secs(24 * 3600);
        let began = Timestamp::from_millis(shared.now().as_millis() - 24 * 3600 * 1000);
        let lives = expires_at.saturating_since(began);
        let record = Record::begin(binding, Bytes::new(), began, lives, None, None);
        let tag = crate::store::ClaimTag::new([1; 32]);
        let entry = Entry::new(Version::new([1; 8]), tag, record.encode(&key, &tag));
        let ttl = Ttl::After(day);
        let put = Change::Put { entry, ttl };
        let _ = shared.store().swap(&key, None, put, &[]).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_list_drops_ended_sessions_and_then_the_oldest() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&events);
        let clock = ManualClock::new();
        let layer = RefreshLayer::builder(MemoryStore::with_clock(clock.clone()))
            .clock(clock)
            .on_event(move |event| recorded.lock().unwrap().push(event.kind))
            .build()
            .unwrap();
        let shared = &*layer.shared;
        let now = shared.now();
        let later = now.saturating_add(Duration::from_secs(3600));
        let five_minutes_ago = Timestamp::from_millis(now.as_millis() - 300_000);
        let after_that = five_minutes_ago.saturating_add(Duration::from_millis(1));
        let index = user_index(shared, &ann());
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

        // The oldest ones are alive, or have expired so lately that they may be renewed. Ended ones
        // behind them are dropped, and ones that have expired before.
        for number in 32..300 {
            begin(shared, number, later).await;
        }
        begin(shared, 300, after_that).await;
        begin(shared, 301, five_minutes_ago).await;
        for number in 1001..=1032 {
            add(shared, number).await;
        }
        let left = listed(shared).await;
        assert!((32..=300).all(|number| left.contains(&session(number))));
        assert!(!left.contains(&session(301)) && left.contains(&session(1032)));
        assert_eq!(*events.lock().unwrap(), []);

        // All are alive, except one whose log-in may not have stored its grant yet.
        for number in 302..1032 {
            begin(shared, number, later).await;
        }
        let young = Listed {
            created_at: now,
            ..session(1032)
        };
        let fill = |sessions: &mut Vec<Listed>| {
            sessions.retain(|other| *other != session(1032));
            let missing = MOST - 1 - sessions.len();
            sessions.extend((2000..).take(missing).map(session));
            sessions.push(young.clone());
            true
        };
        let found = shared.store().get(&index.key).await.unwrap();
        change(shared, &index, found, Damaged::Fail, fill)
            .await
            .unwrap();
        for number in 2000..3000 {
            begin(shared, number, later).await;
        }
        begin(shared, 3000, later).await;
        add(shared, 3000).await;
        let left = listed(shared).await;
        assert_eq!(left.len(), MOST);
        assert!(!left.contains(&session(32)) && left.contains(&session(33)));
        assert!(left.contains(&young) && left.contains(&session(3000)));
        assert_eq!(*events.lock().unwrap(), [EventKind::SessionUnlisted]);
    }
}
