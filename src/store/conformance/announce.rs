//! Tests of announcements. A store without a channel passes if no handle has one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{LONG, entry, get, inserted, key};
use crate::store::{Announcement, Announcements, Key, Store};

const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(1);

/// Either every handle has a channel, or none has.
pub async fn every_handle_has_a_channel_or_none_has<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    assert_eq!(
        store.announcements().is_some(),
        other.announcements().is_some()
    );
    store
        .announce(&[key()])
        .await
        .expect("announce without subscribers");
    store.announce(&[]).await.expect("announce no keys");
}

/// Every handle receives the keys that one handle announces, including that handle itself. The same
/// holds for later announcements.
pub async fn every_handle_receives_announcements<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let (Some(own), Some(others)) = (store.announcements(), other.announcements()) else {
        assert!(
            store.announcements().is_none() && other.announcements().is_none(),
            "only one handle has a channel"
        );
        return;
    };
    for mut announcements in [own, others] {
        for count in [1, 3] {
            let keys: Vec<_> = (0..count).map(|_| key()).collect();
            announce_until_received(&store, &mut announcements, &keys).await;
        }
    }
}

/// A subscriber that falls behind receives every key, or [`Announcement::Lost`].
pub async fn a_lagging_subscriber_is_notified<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let Some(mut announcements) = other.announcements() else {
        assert!(
            store.announcements().is_none(),
            "only one handle has a channel"
        );
        return;
    };
    let keys: Vec<_> = (0..5_000).map(|_| key()).collect();
    for some in keys.chunks(100) {
        store.announce(some).await.expect("announce");
    }
    let mut missing: HashSet<_> = keys.into_iter().collect();
    while !missing.is_empty() {
        match within(&mut announcements, PATIENCE)
            .await
            .expect("every key, or `Lost`")
        {
            Announcement::Ended(key) => {
                missing.remove(&key);
            }
            Announcement::Lost => break,
        }
    }
    announce_until_received(&store, &mut announcements, &[key()]).await;
}

/// Announcing a key does not change its entry.
pub async fn an_announcement_does_not_change_the_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let there = entry();
    let key = inserted(&store, &there, LONG).await;
    store.announce(&[key]).await.expect("announce");
    assert_eq!(get(&store, &key).await, Some(there));
}

/// Announces `keys`, and waits until all of them were received. Announces them again if some were
/// lost and no more arrive.
async fn announce_until_received<S: Store>(
    store: &S,
    announcements: &mut Announcements,
    keys: &[Key],
) {
    let started = Instant::now();
    let mut missing: HashSet<_> = keys.iter().copied().collect();
    let mut lost = false;
    store.announce(keys).await.expect("announce");
    while !missing.is_empty() {
        assert!(started.elapsed() < PATIENCE, "not received: {missing:?}");
        match within(announcements, QUIET).await {
            Some(Announcement::Ended(key)) => {
                missing.remove(&key);
            }
            Some(Announcement::Lost) => lost = true,
            None if lost => {
                lost = false;
                store.announce(keys).await.expect("announce again");
            }
            None => {}
        }
    }
}

/// Returns the next announcement, if one arrives within `time`.
async fn within(announcements: &mut Announcements, time: Duration) -> Option<Announcement> {
    tokio::time::timeout(time, announcements.next())
        .await
        .ok()
        .map(|next| next.expect("the channel stays open"))
}
