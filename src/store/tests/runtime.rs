use std::future::Future;
use std::time::{Duration, Instant};

/// How long what must happen some time is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on a runtime with several threads.
pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

/// Asks again and again until the answer is something; what never comes to pass fails as `what`.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fails if less time than `at_least` has passed since `started`, give or take what two clocks may
/// differ by.
pub(super) fn assert_not_before(started: Instant, at_least: Duration, what: &str) {
    let elapsed = started.elapsed();
    assert!(
        elapsed >= at_least.mul_f32(0.9),
        "{what} after {elapsed:?}, which is before {at_least:?} are over"
    );
}

/// Tries a test whose first steps have to happen within `ttl` with longer and longer ones, until
/// they do: `test` is none if they did not.
pub(super) async fn within_ttl(test: impl AsyncFn(Duration) -> Option<()>) {
    for millis in [500, 2_000, 8_000] {
        if test(Duration::from_millis(millis)).await.is_some() {
            return;
        }
    }
    panic!("entries expire long before their time");
}
