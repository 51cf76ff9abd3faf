//! What the trait promises of announcements. A store may have no channel for them, and then says
//! so.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{LONG, entry, get, inserted, key};
use crate::store::{Announcement, Announcements, Key, Store};

const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(1);

/// Either every handle has a channel or none has.
pub async fn a_store_has_a_channel_or_not<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    assert_eq!(
        store.announcements().is_some(),
        other.announcements().is_some()
    );
    store.announce(&[key()]).await.expect("announced to nobody");
    store.announce(&[]).await.expect("nothing announced");
}

/// What is announced over one handle is heard over every handle, the same one included, and so is
/// what comes later.
pub async fn every_handle_hears_what_is_announced<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let (Some(own), Some(others)) = (store.announcements(), other.announcements()) else {
        assert!(
            store.announcements().is_none() && other.announcements().is_none(),
            "one handle alone has a channel"
        );
        return;
    };
    for mut announcements in [own, others] {
        for count in [1, 3] {
            let keys: Vec<_> = (0..count).map(|_| key()).collect();
            hear(&store, &mut announcements, &keys).await;
        }
    }
}

/// A subscriber that falls behind hears everything, or that it has lost something.
pub async fn who_falls_behind_is_told<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let Some(mut announcements) = other.announcements() else {
        assert!(
            store.announcements().is_none(),
            "one handle alone has a channel"
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
            .expect("everything, or that something was lost")
        {
            Announcement::Ended(key) => {
                missing.remove(&key);
            }
            Announcement::Lost => break,
        }
    }
    hear(&store, &mut announcements, &[key()]).await;
}

/// To announce changes no entry.
pub async fn an_announcement_changes_no_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let there = entry();
    let key = inserted(&store, &there, LONG).await;
    store.announce(&[key]).await.expect("announce");
    assert_eq!(get(&store, &key).await, Some(there));
}

/// Waits until all of `keys` were heard. What was lost on the way is announced again, when nothing
/// more comes.
async fn hear<S: Store>(store: &S, announcements: &mut Announcements, keys: &[Key]) {
    let started = Instant::now();
    let mut missing: HashSet<_> = keys.iter().copied().collect();
    let mut lost = false;
    store.announce(keys).await.expect("announce");
    while !missing.is_empty() {
        assert!(started.elapsed() < PATIENCE, "never heard: {missing:?}");
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

/// The next announcement, if one comes in time.
async fn within(announcements: &mut Announcements, time: Duration) -> Option<Announcement> {
    tokio::time::timeout(time, announcements.next())
        .await
        .ok()
        .map(|next| next.expect("the channel stays open"))
}
