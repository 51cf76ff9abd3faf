//! The registry of open responses, by the keys of their access token and its grant.
//!
//! The cache passes announcements to it, and the registry wakes the responses that are affected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::store::Key;

type Slots = HashMap<u64, Arc<Slot>>;

/// The registry: open responses by the keys that they depend on.
#[derive(Debug, Default)]
pub(crate) struct OpenResponses {
    by_key: Mutex<HashMap<Key, Slots>>,
    next: AtomicU64,
    /// How many times announcements may have been missed.
    epoch: AtomicU64,
}

/// The state that the registry shares with one response.
#[derive(Debug, Default)]
struct Slot {
    /// Whether its token or the grant of the token has ended.
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl OpenResponses {
    /// Registers a response that depends on these keys until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, token: Key, grant: Option<Key>) -> Registration {
        let registration = Registration {
            open: Arc::clone(self),
            slot: Arc::default(),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            token,
            grant,
        };
        let mut by_key = self.lock();
        for key in registration.keys() {
            let slots = by_key.entry(key).or_default();
            slots.insert(registration.id, Arc::clone(&registration.slot));
        }
        drop(by_key);
        registration
    }

    /// Notifies the responses that depend on `key` that it has ended.
    pub(crate) fn end(&self, key: &Key) {
        let slots = self.lock().get(key).cloned().unwrap_or_default();
        for slot in slots.values() {
            slot.ended.store(true, Ordering::Release);
            slot.waker.wake();
        }
    }

    /// Returns how many times announcements may have been missed.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Increases the epoch, because announcements may have been missed, and wakes every response.
    pub(crate) fn lose(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let by_key = self.lock();
        let slots: Vec<_> = by_key.values().flat_map(HashMap::values).cloned().collect();
        drop(by_key);
        slots.iter().for_each(|slot| slot.waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slots>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn keys(&self) -> impl Iterator<Item = Key> {
        [Some(self.token), self.grant].into_iter().flatten()
    }

    /// Returns whether the token or its grant has ended. Otherwise wakes `waker` when one of them
    /// ends, or when the epoch changes.
    pub(crate) fn has_ended(&self, waker: &Waker) -> bool {
        // The waker is registered first, so that an end in between wakes it.
        self.slot.waker.register(waker);
        self.slot.ended.load(Ordering::Acquire)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut by_key = self.open.lock();
        for key in self.keys() {
            if let Some(slots) = by_key.get_mut(&key) {
                slots.remove(&self.id);
                if slots.is_empty() {
                    by_key.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    const fn key(number: u8) -> Key {
        Key::new([number; 32])
    }

    /// Counts how often a response is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_response_is_notified_of_its_own_token_and_grant_only() {
        let open = Arc::new(OpenResponses::default());
        let one = open.register(key(1), Some(key(9)));
        let two = open.register(key(2), None);
        let wakers = [Arc::<Woken>::default(), Arc::<Woken>::default()];
        // Whether each response has been woken since the last call, and whether its token has
        // ended.
        let news = || {
            [(&one, &wakers[0]), (&two, &wakers[1])].map(|(response, woken)| {
                let is_woken = woken.0.swap(0, Ordering::Relaxed) > 0;
                (is_woken, response.has_ended(&Arc::clone(woken).into()))
            })
        };
        assert_eq!(news(), [(false, false), (false, false)]);
        open.end(&key(3));
        assert_eq!(news(), [(false, false), (false, false)]);
        open.lose();
        assert_eq!((open.epoch(), news()), (1, [(true, false), (true, false)]));
        assert_eq!(
            news(),
            [(false, false), (false, false)],
            "a loss is reported once"
        );
        open.end(&key(9));
        open.lose();
        assert_eq!((open.epoch(), news()), (2, [(true, true), (true, false)]));
        open.end(&key(2));
        assert_eq!(
            news(),
            [(false, true), (true, true)],
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
        assert_eq!(open.lock().len(), 3);
        let [one, two] = both;
        drop(one);
        assert_eq!(open.lock().len(), 2);
        drop(two);
        assert_eq!(open.lock().len(), 0);
    }
}
