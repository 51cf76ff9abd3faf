//! Tasks that call a store at the same time.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Barrier;

use crate::store::Store;

/// The number of tasks that call the store at once.
pub(super) const TASKS: usize = 16;

/// Opens several handles to the store.
pub(super) async fn handles<S: Store>(make: impl AsyncFn() -> S) -> Vec<Arc<S>> {
    vec![
        Arc::new(make().await),
        Arc::new(make().await),
        Arc::new(make().await),
    ]
}

/// Starts [`TASKS`] tasks at once, each on one of the handles, and collects what they return.
pub(super) async fn at_once<S, T, F>(
    handles: &[Arc<S>],
    task: impl Fn(Arc<S>, usize) -> F,
) -> Vec<T>
where
    S: Store,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(TASKS));
    let running: Vec<_> = handles
        .iter()
        .cycle()
        .take(TASKS)
        .enumerate()
        .map(|(number, handle)| {
            let (start, task) = (Arc::clone(&start), task(Arc::clone(handle), number));
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut returned = Vec::with_capacity(TASKS);
    for task in running {
        returned.push(task.await.expect("a task of the test panicked"));
    }
    returned
}
