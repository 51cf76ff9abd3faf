//! Work that many clients do concurrently, each repeatedly.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

pub trait Work: Send + 'static {
    /// Does the work once.
    fn once(&mut self) -> impl Future<Output = ()> + Send;
}

/// The work done in a slice of time.
pub struct Slice {
    /// The number of times per second.
    pub rate: f64,
    /// The duration of each.
    pub latencies: Vec<Duration>,
}

/// Lets all of them work, each as fast as it can.
pub async fn slice<W: Work>(all: Vec<W>, length: Duration) -> (Vec<W>, Slice) {
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
                    // Work that never waits would keep the others from starting.
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
