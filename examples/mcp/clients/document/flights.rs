use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// What several ask for at once is done once.
#[derive(Debug)]
pub(super) struct Flights<T> {
    under_way: Mutex<HashMap<String, Weak<OnceCell<T>>>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<T: Clone> Flights<T> {
    /// What `run` gives, or what that of another gives who has begun and not ended. If that one gives up, the next runs
    /// its own.
    pub(super) async fn join(&self, name: &str, run: impl Future<Output = T>) -> T {
        let cell = self.cell(name);
        cell.get_or_init(|| run).await.clone()
    }

    fn cell(&self, name: &str) -> Arc<OnceCell<T>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = under_way.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        under_way.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::default();
        under_way.insert(name.to_owned(), Arc::downgrade(&cell));
        cell
    }
}
