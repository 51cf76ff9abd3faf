use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Key;

/// How many announcements may wait for a subscriber. One that falls further behind is told that it
/// has lost some.
const CAPACITY: usize = 1024;

/// What an instance hears from the others: see
/// [`Store::announcements`](super::Store::announcements).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Announcement {
    /// What is under this key has ended, for good.
    Ended(Key),
    /// Anything may have been missed: whatever is remembered must be read anew.
    Lost,
}

/// A subscription to what ends, from the moment at which it was made.
#[derive(Debug)]
pub struct Announcements(broadcast::Receiver<Announcement>);

impl Announcements {
    /// The next announcement, in no particular order and possibly repeated; none when there will be
    /// no more.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Announcement> {
        match self.0.recv().await {
            Ok(announcement) => Some(announcement),
            Err(RecvError::Lagged(_)) => Some(Announcement::Lost),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Passes announcements on to every subscriber in this process: what a store needs to implement
/// [`announcements`](super::Store::announcements).
///
/// A clone passes on to the same subscribers. A store that other processes share has one task that
/// listens to its channel, whatever that is, and passes on what it hears; when the channel breaks,
/// and again when it is back, the task says [`lost`](Announcer::lost).
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
    /// Without a subscriber. It takes up no memory to speak of until it has one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every subscriber that what is under `key` has ended.
    pub fn ended(&self, key: Key) {
        self.send(Announcement::Ended(key));
    }

    /// Tells every subscriber that anything may have been missed.
    pub fn lost(&self) {
        self.send(Announcement::Lost);
    }

    /// One more subscriber, who hears everything from here on.
    #[must_use]
    pub fn subscribe(&self) -> Announcements {
        Announcements(
            self.0
                .get_or_init(|| broadcast::Sender::new(CAPACITY))
                .subscribe(),
        )
    }

    fn send(&self, announcement: Announcement) {
        // It fails if nobody is there to hear it.
        let _ = self.0.get().map(|sender| sender.send(announcement));
    }
}
