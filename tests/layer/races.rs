//! Concurrent requests with the same token: one rotation, and the same response for all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use test_support::{Act, App, settle};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_on_one_instance_rotate_once() {
    storm(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_on_four_instances_rotate_once() {
    storm(4).await;
}

async fn storm(instances: usize) {
    let app = App::new();
    let instances: Vec<_> = (0..instances).map(|_| app.another()).collect();
    let mut token = app.log_in("app").await;
    for round in 1..=10 {
        let mut requests = JoinSet::new();
        for n in 0..64 {
            let (instance, token) = (instances[n % instances.len()].clone(), token.clone());
            requests.spawn(async move { instance.refresh(&token).await });
        }
        let answers: Vec<_> = requests.join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        token = answers[0].token();
        assert_eq!(app.upstream.refreshes(), round);
    }
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_lease_of_another_instance() {
    let app = App::new();
    let token = app.log_in("app").await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let first = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    settle().await;
    let other = app.another();
    let second = tokio::spawn({
        let (other, token) = (other.clone(), token.clone());
        async move { other.refresh(&token).await }
    });
    tokio::time::sleep(test_support::SECOND).await;
    assert!(!second.is_finished());
    gate.notify_one();
    assert_eq!(first.await.unwrap().body, second.await.unwrap().body);
    assert_eq!(other.events(), [EventKind::Replayed]);
    assert_eq!(app.upstream.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_is_told_to_retry() {
    let app = App::new();
    let token = app.log_in("app").await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let first = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    settle().await;
    let busy = app.another().refresh(&token).await;
    assert_eq!(busy.error(), (503, "temporarily_unavailable".into()));
    assert_eq!(busy.headers["retry-after"], "1");
    let busy = first.await.unwrap();
    assert_eq!(
        busy.error(),
        (503, "temporarily_unavailable".into()),
        "the request that rotates gets the same error"
    );
    gate.notify_one();
    app.layer.drain().await;
    app.refresh(&token).await.token();
    assert_eq!(
        app.upstream.refreshes(),
        1,
        "and its retry gets the response"
    );
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_dead_instance_is_taken_over_after_expiry() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.upstream.then(Act::Hang);
    let dead = app.another();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::spawn({
        let token = token.clone();
        move || {
            runtime.block_on(async {
                let request = tokio::spawn(async move { dead.refresh(&token).await });
                settle().await;
                drop(request);
            });
            runtime.shutdown_background();
        }
    })
    .join()
    .unwrap();
    assert_eq!(
        app.refresh(&token).await.error(),
        (503, "temporarily_unavailable".into())
    );
    app.clock.advance(Duration::from_secs(26));
    let answer = app.refresh(&token).await;
    assert_eq!(
        answer.error(),
        (400, "invalid_grant".into()),
        "the upstream is strict, and its response was lost"
    );
    assert_eq!(app.events().last(), Some(&EventKind::UpstreamRejected));
}

#[tokio::test]
async fn grants_do_not_wait_for_each_other() {
    let app = App::new();
    let (one, two) = (app.log_in("app").await, app.log_in("app").await);
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let waiting = tokio::spawn({
        let app = app.clone();
        async move { app.refresh(&one).await }
    });
    settle().await;
    app.refresh(&two).await.token();
    gate.notify_one();
    waiting.await.unwrap().token();
}
