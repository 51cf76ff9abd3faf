//! The sessions of a user: the grants that belong to one subject.
//!
//! The [`Index`] of a user lists them, each for twice the idle lifetime of a grant. It is written
//! when a grant begins or is revoked, and again in the background when a rotation finds that the
//! grant is listed for less than another idle lifetime. It may list a grant that has ended, which
//! is dropped when the index is next read.

mod edit;
mod index;
mod new_session;
mod session;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tracing::Instrument as _;

pub(crate) use self::edit::user_index;
use self::edit::{AT_ONCE, drop_from, is_young, look_up};
pub(crate) use self::index::Index;
pub(crate) use self::new_session::NewSession;
pub use self::session::Session;
use crate::endpoint::end_grant;
use crate::endpoint::state::State;
use crate::store::{Key, Store, StoreError};
use crate::subject::Subject;

/// Returns the sessions of a user, oldest first.
pub(crate) async fn list<St: Store>(
    shared: Arc<State<St>>,
    subject: Subject,
) -> Result<Vec<Session>, StoreError> {
    let index = user_index(&shared, &subject);
    let Some(entry) = shared.store().get(&index.key).await? else {
        return Ok(Vec::new());
    };
    let mut listed = index.open(&entry).map_err(StoreError::corrupt)?;
    listed.sort_by_key(|session| session.created_at);
    let epochs = shared.epochs.current(shared.store()).await?;
    let mut sessions = Vec::new();
    let mut ended = HashSet::new();
    let now = shared.now();
    for (session, record) in look_up(&shared, listed, &epochs).await? {
        match record {
            // A rotation that began before the expiry may still renew it.
            Some(record) if record.is_over(now) => {}
            Some(record) => sessions.push(Session {
                grant: session.grant.into(),
                record,
                label: session.label,
                sid: session.sid,
            }),
            None if is_young(&session, now) => {}
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

/// Ends every session in an index or, with `sid`, only the ones that may have begun in this session
/// at the identity provider. Returns how many this call has ended.
pub(crate) async fn end<St: Store>(
    shared: Arc<State<St>>,
    index: Index,
    sid: Option<String>,
) -> Result<usize, StoreError> {
    let _in_flight = shared.in_flight.token();
    let Some(entry) = shared.store().get(&index.key).await? else {
        return Ok(0);
    };
    let mut listed = index.open(&entry).map_err(StoreError::corrupt)?;
    if let Some(sid) = sid {
        // A session whose `sid` is unknown ends, too: a log-out must not leave it alive.
        listed.retain(|session| session.sid.is_empty() || *session.sid == *sid);
    }
    let now = shared.now();
    let mut count = 0;
    let mut failure = None;
    let mut ended = HashSet::new();
    let ends = listed.into_iter().map(|session| {
        let end = end_grant::end(Arc::clone(&shared), session.grant);
        end.map(|end| (session, end))
    });
    let mut ends = stream::iter(ends).buffered(AT_ONCE);
    while let Some((session, end)) = ends.next().await {
        let was_alive = match end {
            Ok(was_alive) => was_alive,
            // An error does not keep the other sessions alive.
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        };
        count += usize::from(was_alive);
        if was_alive || !is_young(&session, now) {
            ended.insert(session.grant);
        }
    }
    drop_from(&shared, &index, Some(entry), &ended).await?;
    failure.map_or(Ok(count), Err)
}

/// Drops the session of a grant that its client has revoked, in the background. If that fails, the
/// session is dropped when the index is next read.
pub(crate) fn forget<St: Store>(shared: &Arc<State<St>>, subject: Subject, grant: Key) {
    let Some(permit) = shared.lists.take() else {
        return;
    };
    let shared = Arc::clone(shared);
    let in_flight = shared.in_flight.token();
    let task = async move {
        let _held = (permit, in_flight);
        let index = user_index(&shared, &subject);
        let found = match shared.store().get(&index.key).await {
            Ok(found) => drop_from(&shared, &index, found, &HashSet::from([grant])).await,
            Err(error) => Err(error),
        };
        if let Err(error) = found {
            tracing::debug!(%error, "failed to drop an ended session from the index of its user");
        }
    };
    tokio::spawn(task.in_current_span());
}
