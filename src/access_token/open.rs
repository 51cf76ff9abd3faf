//! The registry of open responses, by the keys of their access token and its grant.
//!
//! The cache passes announcements to it, and the registry wakes the responses that are affected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::store::Key;

const NOTHING: u8 = 0;
const LOST: u8 = 1;
const ENDED: u8 = 2;

/// The registry: open responses by the keys that they depend on.
#[derive(Debug, Default)]
pub(crate) struct OpenResponses {
    by_key: Mutex<HashMap<Key, HashMap<u64, Arc<Slot>>>>,
    next: AtomicU64,
}

/// The state that the registry shares with one response.
#[derive(Debug, Default)]
struct Slot {
    news: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    fn wake(&self, news: u8) {
        // `fetch_max`, so that a loss never replaces an end.
        self.news.fetch_max(news, Ordering::AcqRel);
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The news about the token of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    /// Announcements may have been missed: the token must be read again.
    Lost,
    /// The token or its grant has ended.
    Ended,
}

impl OpenResponses {
    /// Registers a response that depends on these keys until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, token: Key, grant: Option<Key>) -> Registration {
        let slot = Arc::new(Slot::default());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut by_key = lock(&self.by_key);
        for key in [Some(token), grant].into_iter().flatten() {
            by_key.entry(key).or_default().insert(id, Arc::clone(&slot));
        }
        drop(by_key);
        Registration {
            open: Arc::clone(self),
            slot,
            id,
            token,
            grant,
        }
    }

    /// Notifies the responses that depend on `key` that it has ended.
    pub(crate) fn end(&self, key: &Key) {
        let slots: Vec<_> = match lock(&self.by_key).get(key) {
            Some(slots) => slots.values().cloned().collect(),
            None => return,
        };
        slots.iter().for_each(|slot| slot.wake(ENDED));
    }

    /// Notifies every response that announcements may have been missed.
    pub(crate) fn lose(&self) {
        let slots: Vec<_> = lock(&self.by_key)
            .values()
            .flat_map(HashMap::values)
            .cloned()
            .collect();
        slots.iter().for_each(|slot| slot.wake(LOST));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.by_key).len()
    }
}

/// One response in the registry.
#[derive(Debug)]
pub(crate) struct Registration {
    open: Arc<OpenResponses>,
    slot: Arc<Slot>,
    id: u64,
    token: Key,
    grant: Option<Key>,
}

impl Registration {
    /// Returns the news since the last call, and registers `waker` for the next news.
    pub(crate) fn news(&self, waker: &Waker) -> News {
        // The waker is stored first, so that news that arrive in between wake it.
        let mut current = lock(&self.slot.waker);
        if !current
            .as_ref()
            .is_some_and(|current| current.will_wake(waker))
        {
            *current = Some(waker.clone());
        }
        drop(current);
        let lost =
            self.slot
                .news
                .compare_exchange(LOST, NOTHING, Ordering::AcqRel, Ordering::Acquire);
        match lost {
            Ok(_) => News::Lost,
            Err(NOTHING) => News::Nothing,
            Err(_) => News::Ended,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut by_key = lock(&self.open.by_key);
        for key in [Some(self.token), self.grant].into_iter().flatten() {
            if let Some(slots) = by_key.get_mut(&key) {
                slots.remove(&self.id);
                if slots.is_empty() {
                    by_key.remove(&key);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(number: u8) -> Key {
        Key::new([number; 32])
    }

    #[test]
    fn a_response_is_notified_of_its_own_token_and_grant_only() {
        let open = Arc::new(OpenResponses::default());
        let (one, two) = (
            open.register(key(1), Some(key(9))),
            open.register(key(2), None),
        );
        let news = || (one.news(Waker::noop()), two.news(Waker::noop()));
        open.end(&key(3));
        assert_eq!(news(), (News::Nothing, News::Nothing));
        open.lose();
        assert_eq!(news(), (News::Lost, News::Lost));
        assert_eq!(
            news(),
            (News::Nothing, News::Nothing),
            "a loss is reported once"
        );
        open.end(&key(9));
        open.lose();
        assert_eq!(news(), (News::Ended, News::Lost));
        open.end(&key(2));
        assert_eq!(
            news(),
            (News::Ended, News::Ended),
            "an end is reported again"
        );
    }

    #[test]
    fn a_dropped_registration_leaves_no_entry_behind() {
        let open = Arc::new(OpenResponses::default());
        let both = [
            open.register(key(1), Some(key(9))),
            open.register(key(2), Some(key(9))),
        ];
        assert_eq!(open.len(), 3);
        let [one, two] = both;
        drop(one);
        assert_eq!(open.len(), 2);
        drop(two);
        assert_eq!(open.len(), 0);
    }
}
