use std::cell::RefCell;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// The time limit for an expected event.
const PATIENCE: Duration = Duration::from_secs(30);

/// The text of the first panic of a test.
type FirstPanic = Arc<Mutex<Option<String>>>;

thread_local! {
    /// The test that this thread runs, if it runs one.
    static TEST: RefCell<Option<FirstPanic>> = const { RefCell::new(None) };
}

/// Runs the test of a promise on a multi-threaded runtime.
///
/// # Panics
///
/// If the test panics. The message names the promise before the cause.
#[track_caller]
pub fn run(promise: &str, test: impl Future<Output = ()>) {
    keep_panics_of_tests();
    let first = FirstPanic::default();
    let of_workers = first.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(move || TEST.set(Some(of_workers.clone())))
        .build()
        .expect("a runtime");
    TEST.set(Some(first.clone()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(test)));
    TEST.set(None);
    if result.is_err() {
        let promise = promise.replace('_', " ");
        let cause = lock(&first).take().unwrap_or_default();
        panic!("the store breaks the promise `{promise}`: {cause}");
    }
}

/// Keeps the panics of threads that run a test, instead of printing them before the promise.
fn keep_panics_of_tests() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let test = TEST.try_with(|test| test.borrow().clone());
            match test.ok().flatten() {
                Some(first) => {
                    lock(&first).get_or_insert_with(|| panic.to_string());
                }
                None => print(panic),
            }
        }));
    });
}

fn lock(first: &FirstPanic) -> std::sync::MutexGuard<'_, Option<String>> {
    first.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `check` until it returns `Some`. Panics with `what` after [`PATIENCE`].
pub(super) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = check().await {
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
