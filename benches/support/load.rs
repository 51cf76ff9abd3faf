//! Work that many do at once, each again and again.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

pub(crate) trait Work: Send + 'static {
    /// Once.
    fn once(&mut self) -> impl Future<Output = ()> + Send;
}

/// What was done in a slice of time.
pub(crate) struct Slice {
    /// How often in a second.
    pub(crate) rate: f64,
    /// How long each took.
    pub(crate) latencies: Vec<Duration>,
}

/// Lets all of them work, each as fast as it can.
pub(crate) async fn slice<W: Work>(all: Vec<W>, length: Duration) -> (Vec<W>, Slice) {
    let started = Instant::now();
    let tasks: Vec<_> = all
        .into_iter()
        .map(|mut one| {
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut began = Instant::now();
                while started.elapsed() < length {
                    one.once().await;
                    latencies.push(began.elapsed());
                    // Work that waits for nothing would keep the others from beginning.
                    yield_now().await;
                    began = Instant::now();
                }
                (one, latencies)
            })
        })
        .collect();
    let (mut back, mut latencies) = (Vec::with_capacity(tasks.len()), Vec::new());
    for task in tasks {
        let (one, of_one) = task.await.expect("a task that ends");
        back.push(one);
        latencies.extend(of_one);
    }
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    (back, Slice { rate, latencies })
}
