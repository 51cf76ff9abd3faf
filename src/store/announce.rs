use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Key;

/// The most announcements that wait for one subscriber. A subscriber that falls further behind
/// receives [`Announcement::Lost`].
const CAPACITY: usize = 1024;

/// A message of [`Store::announcements`](super::Store::announcements).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Announcement {
    /// The entry under this key has ended for good.
    Ended(Key),
    /// Announcements may have been lost: drop everything that is cached.
    Lost,
}

/// A subscription to announced keys, from the moment at which it was made.
#[derive(Debug)]
pub struct Announcements(broadcast::Receiver<Announcement>);

impl Announcements {
    /// Returns the next announcement, or `None` when the channel has closed. Announcements come in
    /// no particular order and may repeat.
    ///
    /// Cancel safe: no announcement is lost if the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Announcement> {
        match self.0.recv().await {
            Ok(announcement) => Some(announcement),
            Err(RecvError::Lagged(_)) => Some(Announcement::Lost),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Delivers announcements to every subscriber in this process. A store uses it to implement
/// [`announcements`](super::Store::announcements).
///
/// A clone delivers to the same subscribers. A store that several processes share runs one task
/// that subscribes to its channel and forwards each message. When the channel breaks, and again
/// when it works again, the task calls [`lost`](Announcer::lost).
///
/// ```
/// use tower_oauth_refresh::store::{Announcement, Announcer, Key};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let announcer = Announcer::new();
/// let mut announcements = announcer.subscribe();
/// announcer.ended(Key::new([7; 32]));
/// assert_eq!(announcements.next().await, Some(Announcement::Ended(Key::new([7; 32]))));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Announcer(Arc<OnceLock<broadcast::Sender<Announcement>>>);

impl Announcer {
    /// Creates an announcer without subscribers. It allocates its buffer when the first one
    /// subscribes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends [`Announcement::Ended`] to every subscriber.
    pub fn ended(&self, key: Key) {
        self.send(Announcement::Ended(key));
    }

    /// Sends [`Announcement::Lost`] to every subscriber.
    pub fn lost(&self) {
        self.send(Announcement::Lost);
    }

    /// Adds a subscriber, which receives everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> Announcements {
        Announcements(
            self.0
                .get_or_init(|| broadcast::Sender::new(CAPACITY))
                .subscribe(),
        )
    }

    fn send(&self, announcement: Announcement) {
        // Sending fails if there is no subscriber.
        let _ = self.0.get().map(|sender| sender.send(announcement));
    }
}
