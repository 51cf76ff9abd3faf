//! One lock per refresh token, within one instance.
//!
//! Requests with the same token wait for each other here, so that only one of them calls the store
//! to claim the lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::store::Tag;

type Line = Arc<tokio::sync::Mutex<()>>;

/// The locks of one layer, by token hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues(Arc<Mutex<HashMap<Tag, Line>>>);

impl Queues {
    /// Waits for the lock of `tag` and acquires it. The flag is `true` if another request held the
    /// lock.
    pub(crate) async fn enter(&self, tag: Tag) -> (Turn, bool) {
        let line = Arc::clone(self.lines().entry(tag).or_default());
        // Created before the wait, so that its drop also removes the map entry if the wait is
        // cancelled.
        let mut turn = Turn {
            queues: self.clone(),
            tag,
            guard: None,
        };
        let (guard, waited) = match Arc::clone(&line).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (line.lock_owned().await, true),
        };
        turn.guard = Some(guard);
        (turn, waited)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Tag, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lines().len()
    }
}

/// A held lock. Dropping it lets the next request continue.
#[derive(Debug)]
pub(crate) struct Turn {
    queues: Queues,
    tag: Tag,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The map is locked first, so that no other request can clone the lock between the count
        // and the removal.
        let mut lines = self.queues.lines();
        self.guard = None;
        if lines
            .get(&self.tag)
            .is_some_and(|line| Arc::strong_count(line) == 1)
        {
            lines.remove(&self.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const TAG: Tag = Tag::new([7; 32]);

    #[tokio::test]
    async fn requests_with_the_same_token_take_turns() {
        let queues = Queues::default();
        let (first, waited) = queues.enter(TAG).await;
        assert!(!waited);
        let (_other, waited) = queues.enter(Tag::new([8; 32])).await;
        assert!(!waited, "another token does not wait");
        let mut second = Box::pin(queues.enter(TAG));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let Poll::Ready((second, waited)) = second.as_mut().poll(&mut cx) else {
            panic!("the lock is free")
        };
        assert!(waited);
        drop(second);
        assert_eq!(queues.len(), 1);
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_no_entry_behind() {
        let queues = Queues::default();
        let (first, _) = queues.enter(TAG).await;
        {
            let mut second = pin!(queues.enter(TAG));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(second.as_mut().poll(&mut cx).is_pending());
        }
        drop(first);
        assert_eq!(queues.len(), 0);
    }
}
