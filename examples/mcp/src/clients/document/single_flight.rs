//! One operation for all callers that need its result at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Shares one operation between all callers that request the same name at the same time.
#[derive(Debug)]
pub(super) struct SingleFlight<T> {
    in_flight: Mutex<HashMap<String, Weak<OnceCell<T>>>>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self {
            in_flight: Mutex::default(),
        }
    }
}

impl<T: Clone> SingleFlight<T> {
    /// Returns the result of `run`, or of the operation in progress with this name. If the caller
    /// that runs the operation is cancelled or gets an error, the next caller runs its own.
    pub(super) async fn join<E>(
        &self,
        name: &str,
        run: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let share = self.share(name);
        match &share.cell {
            Some(cell) => cell.get_or_try_init(|| run).await.cloned(),
            None => run.await,
        }
    }

    fn share<'a>(&'a self, name: &'a str) -> Share<'a, T> {
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cell = in_flight
            .get(name)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let cell = Arc::default();
                in_flight.insert(name.to_owned(), Arc::downgrade(&cell));
                cell
            });
        Share {
            group: self,
            name,
            cell: Some(cell),
        }
    }
}

/// A caller's share in an operation. The last share to be dropped removes the entry, so that no
/// search for finished entries is needed.
struct Share<'a, T> {
    group: &'a SingleFlight<T>,
    name: &'a str,
    /// `None` only during the drop.
    cell: Option<Arc<OnceCell<T>>>,
}

impl<T> Drop for Share<'_, T> {
    fn drop(&mut self) {
        let mut in_flight = self
            .group
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Dropped under the lock: if two shares are dropped at once, the second must see that it is
        // the last.
        drop(self.cell.take());
        if in_flight
            .get(self.name)
            .is_some_and(|cell| cell.strong_count() == 0)
        {
            in_flight.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_finished_operation_leaves_no_entry() {
        let done = Ok::<u32, &str>;
        let operations = SingleFlight::<u32>::default();
        let count = || operations.in_flight.lock().unwrap().len();
        for number in 0..100 {
            let name = number.to_string();
            assert_eq!(
                poll(Box::pin(operations.join(&name, ready(done(number)))).as_mut()),
                Poll::Ready(done(number))
            );
            assert_eq!(count(), 0);
        }
        let mut first = Box::pin(operations.join("a", pending::<Result<u32, &str>>()));
        let mut second = Box::pin(operations.join("a", ready(done(2))));
        assert_eq!(
            (poll(first.as_mut()), poll(second.as_mut())),
            (Poll::Pending, Poll::Pending)
        );
        assert_eq!(count(), 1, "the second caller waits for the first");
        drop(first);
        assert_eq!(
            poll(second.as_mut()),
            Poll::Ready(done(2)),
            "the first caller was cancelled"
        );
        drop(second);
        assert_eq!(count(), 0);
        let mut first = Box::pin(operations.join("a", pending::<Result<u32, &str>>()));
        let mut second = Box::pin(operations.join("a", ready(Err("refused"))));
        let mut third = Box::pin(operations.join("a", ready(done(3))));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        assert_eq!(poll(second.as_mut()), Poll::Ready(Err("refused")));
        assert_eq!(
            poll(third.as_mut()),
            Poll::Ready(done(3)),
            "the error is that of the second caller only"
        );
    }
}
