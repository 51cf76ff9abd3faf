use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Shares one operation between all callers that request the same name at the same time.
#[derive(Debug)]
pub(super) struct Flights<T> {
    under_way: Mutex<HashMap<String, Weak<OnceCell<T>>>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
        }
    }
}

impl<T: Clone> Flights<T> {
    /// Returns the result of `run`, or of the operation in progress with this name. If the caller
    /// that runs the operation is cancelled, the next caller runs its own.
    pub(super) async fn join(&self, name: &str, run: impl Future<Output = T>) -> T {
        let flight = self.board(name);
        match &flight.cell {
            Some(cell) => cell.get_or_init(|| run).await.clone(),
            None => run.await,
        }
    }

    fn board<'a>(&'a self, name: &'a str) -> Flight<'a, T> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cell = under_way
            .get(name)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let cell = Arc::default();
                under_way.insert(name.to_owned(), Arc::downgrade(&cell));
                cell
            });
        Flight {
            flights: self,
            name,
            cell: Some(cell),
        }
    }
}

/// A caller's share in an operation. The last share to be dropped removes the entry, so that no
/// search for finished entries is needed.
struct Flight<'a, T> {
    flights: &'a Flights<T>,
    name: &'a str,
    /// `None` only during the drop.
    cell: Option<Arc<OnceCell<T>>>,
}

impl<T> Drop for Flight<'_, T> {
    fn drop(&mut self) {
        let mut under_way = self
            .flights
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Dropped under the lock: if two shares are dropped at once, the second must see that it is
        // the last.
        drop(self.cell.take());
        if under_way
            .get(self.name)
            .is_some_and(|cell| cell.strong_count() == 0)
        {
            under_way.remove(self.name);
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
        let flights = Flights::<u32>::default();
        let count = || flights.under_way.lock().unwrap().len();
        for number in 0..100 {
            let name = number.to_string();
            assert_eq!(
                poll(Box::pin(flights.join(&name, ready(number))).as_mut()),
                Poll::Ready(number)
            );
            assert_eq!(count(), 0);
        }
        let mut first = Box::pin(flights.join("a", pending()));
        let mut second = Box::pin(flights.join("a", ready(2)));
        assert_eq!(
            (poll(first.as_mut()), poll(second.as_mut())),
            (Poll::Pending, Poll::Pending)
        );
        assert_eq!(count(), 1, "the second caller waits for the first");
        drop(first);
        assert_eq!(
            poll(second.as_mut()),
            Poll::Ready(2),
            "the first caller was cancelled"
        );
        drop(second);
        assert_eq!(count(), 0);
    }
}
