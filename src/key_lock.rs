//! One lock per refresh token, within one instance.
//!
//! Requests with the same token wait for each other here, so that only one of them calls the store
//! to claim the lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::store::ClaimTag;

/// The locks of one layer, by token hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyLock(Arc<Mutex<HashMap<ClaimTag, Arc<tokio::sync::Mutex<()>>>>>);

impl KeyLock {
    /// Waits for the lock of `tag` and acquires it. The flag is `true` if another request held the
    /// lock.
    pub(crate) async fn lock(&self, tag: ClaimTag) -> (KeyLockGuard, bool) {
        let lock = Arc::clone(self.map().entry(tag).or_default());
        // Created before the wait, so that its drop also removes the map entry if the wait is
        // cancelled.
        let mut held = KeyLockGuard {
            locks: self.clone(),
            tag,
            guard: None,
        };
        let (guard, waited) = match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (lock.lock_owned().await, true),
        };
        held.guard = Some(guard);
        (held, waited)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<ClaimTag, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.map().len()
    }
}

/// A held lock. Dropping it lets the next request continue.
#[derive(Debug)]
pub(crate) struct KeyLockGuard {
    locks: KeyLock,
    tag: ClaimTag,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for KeyLockGuard {
    fn drop(&mut self) {
        // The map is locked first, so that no other request can clone the lock between the count
        // and the removal.
        let mut map = self.locks.map();
        self.guard = None;
        if map
            .get(&self.tag)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            map.remove(&self.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const TAG: ClaimTag = ClaimTag::new([7; 32]);

    #[tokio::test]
    async fn requests_with_the_same_token_take_turns() {
        let locks = KeyLock::default();
        let (first, waited) = locks.lock(TAG).await;
        assert!(!waited);
        let (_other, waited) = locks.lock(ClaimTag::new([8; 32])).await;
        assert!(!waited, "another token does not wait");
        let mut second = Box::pin(locks.lock(TAG));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let Poll::Ready((second, waited)) = second.as_mut().poll(&mut cx) else {
            panic!("the lock is free")
        };
        assert!(waited);
        drop(second);
        assert_eq!(locks.len(), 1);
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_no_entry_behind() {
        let locks = KeyLock::default();
        let (first, _) = locks.lock(TAG).await;
        {
            let mut second = pin!(locks.lock(TAG));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(second.as_mut().poll(&mut cx).is_pending());
        }
        drop(first);
        assert_eq!(locks.len(), 0);
    }
}
