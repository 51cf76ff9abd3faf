use std::future::Future;
use std::time::{Duration, Instant};

/// The time limit for an expected event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on a multi-threaded runtime.
pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

/// Calls `ask` until it returns `Some`. Panics with `what` after [`PATIENCE`].
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Panics if less time than `at_least` has passed since `started`. Allows for two clocks that
/// differ by a tenth.
pub(super) fn assert_not_before(started: Instant, at_least: Duration, what: &str) {
    let elapsed = started.elapsed();
    assert!(
        elapsed >= at_least.mul_f32(0.9),
        "{what} too early: after {elapsed:?}, expected at least {at_least:?}"
    );
}

/// Runs a test whose first steps must finish within `ttl`. `test` returns `None` if they did not;
/// it is then repeated with a longer `ttl`.
pub(super) async fn within_ttl(test: impl AsyncFn(Duration) -> Option<()>) {
    for millis in [500, 2_000, 8_000] {
        if test(Duration::from_millis(millis)).await.is_some() {
            return;
        }
    }
    panic!("entries expire before their time to live is over");
}
