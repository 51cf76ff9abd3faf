//! Announcements of a store, awaited with a time limit.

use std::time::{Duration, Instant};

use tower_oauth_refresh::store::{Announcement, Announcements, Store};

use crate::PATIENCE;
use crate::entries::random_key;

/// The time to wait for an announcement before it is repeated.
pub const AGAIN: Duration = Duration::from_millis(200);

/// Returns the next announcement, or `None` if the channel is closed.
pub async fn next(announcements: &mut Announcements, what: &str) -> Option<Announcement> {
    tokio::time::timeout(PATIENCE, announcements.next())
        .await
        .unwrap_or_else(|_| panic!("never received: {what}"))
}

/// Waits until an announcement of `other` arrives. Returns what arrived before it.
pub async fn heard(
    other: &impl Store,
    announcements: &mut Announcements,
    what: &str,
) -> Vec<Announcement> {
    let end = Instant::now() + PATIENCE;
    let key = random_key();
    let mut before = Vec::new();
    loop {
        assert!(Instant::now() < end, "never received: {what}");
        // The connection that announces may have to be reopened, too.
        let _ = other.announce(&[key]).await;
        while let Ok(next) = tokio::time::timeout(AGAIN, announcements.next()).await {
            match next.expect("the channel stays open") {
                Announcement::Ended(ended) if ended == key => return before,
                other => before.push(other),
            }
        }
    }
}
