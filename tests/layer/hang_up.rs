//! A rotation that has begun completes even if its client disconnects.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use test_support::requests::assertion;
use test_support::{Act, App, Call, Plan, post, refresh_form, settle};
use tokio::sync::Notify;
use tower::Service as _;
use tower_oauth_refresh::EventKind;

/// Polls a refresh this often, then drops it. Returns whether it was ready by then.
async fn hang_up_after(app: &App, token: &str, polls: usize) -> bool {
    let request = post("/token", &refresh_form("app", token));
    let mut future = pin!(tower::ServiceExt::oneshot(app.service.clone(), request));
    for _ in 0..polls {
        if let Poll::Ready(answer) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            assert_eq!(answer.unwrap().status(), 200);
            return true;
        }
        settle().await;
    }
    false
}

#[tokio::test]
async fn a_client_can_hang_up_at_any_step_without_loss() {
    let mut finished = false;
    let mut polls = 0;
    while !finished {
        let app = App::new();
        let mut token = app.log_in("app").await;
        app.store.hook(|_, _| Plan::Slow);
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        tokio::spawn(async move {
            settle().await;
            gate.notify_one();
        });
        finished = hang_up_after(&app, &token, polls).await;
        app.layer.drain().await;
        app.store.unhook();
        let begun = app.upstream.refreshes();
        token = app.refresh(&token).await.token();
        assert_eq!(
            app.upstream.refreshes(),
            1,
            "after {polls} polls, {begun} of them by the client that hung up"
        );
        app.refresh(&token).await.token();
        assert_eq!(
            (app.upstream.reuses(), app.upstream.alive()),
            (0, 1),
            "after {polls} polls"
        );
        polls += 1;
    }
    assert!(polls > 5, "there were only {polls} steps");
}

#[tokio::test]
async fn a_rotation_continues_in_its_own_task_after_a_hang_up() {
    let app = App::new();
    let token = app.log_in("app").await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    assert!(!hang_up_after(&app, &token, 1).await);
    let drained = Arc::new(AtomicBool::new(false));
    let drain = tokio::spawn({
        let (drain, drained) = (app.layer.drain(), Arc::clone(&drained));
        async move {
            drain.await;
            drained.store(true, Ordering::SeqCst);
        }
    });
    settle().await;
    assert!(!drained.load(Ordering::SeqCst), "a rotation is in progress");
    gate.notify_one();
    drain.await.unwrap();
    assert_eq!(app.events(), [EventKind::Issued, EventKind::Rotated]);
    app.refresh(&token).await.token();
    assert_eq!(app.events(), [EventKind::Replayed]);
}

/// The response to a request that cannot be replayed would be lost, so it is not requested. Once
/// the inner service has the request, its response is stored.
#[tokio::test]
async fn a_request_that_cannot_be_replayed_is_not_sent_without_its_client() {
    let assertion = assertion(r#"{"sub":"app"}"#);
    let asserted = [("client_assertion", assertion.as_str())];
    for (row, more, at_claim, sent) in [
        ("replayable, at the claim", &[][..], true, 1),
        ("with an assertion, at the claim", &asserted[..], true, 0),
        ("with an assertion, later", &asserted[..], false, 1),
    ] {
        let app = App::new();
        let token = app.log_in("app").await;
        let gate = Arc::new(Notify::new());
        if at_claim {
            let opened = Arc::clone(&gate);
            let delayed = Plan::after(async move { opened.notified().await });
            app.store.once(|call| *call == Call::Claim, delayed);
        } else {
            app.upstream.then(Act::Wait(Arc::clone(&gate)));
        }
        {
            let form = [&refresh_form("app", &token)[..], more].concat();
            let request = post("/token", &form);
            let mut future = pin!(tower::ServiceExt::oneshot(app.service.clone(), request));
            let mut context = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending(), "{row}");
        }
        gate.notify_one();
        app.layer.drain().await;
        assert_eq!(app.upstream.refreshes(), sent, "{row}");
        let next = app.refresh(&token).await.token();
        app.refresh(&next).await.token();
        assert_eq!(
            (app.upstream.reuses(), app.upstream.alive()),
            (0, 1),
            "{row}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_timed_out_gets_the_response_on_retry() {
    let app = App::with(|builder| builder.rotation_timeout(test_support::SECOND));
    let token = app.log_in("app").await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let answer = app.refresh(&token).await;
    assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
    assert_eq!(answer.headers["retry-after"], "1");
    gate.notify_one();
    app.refresh(&token).await.token();
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(
        app.events(),
        [EventKind::Issued, EventKind::Rotated, EventKind::Replayed]
    );
}

#[tokio::test]
async fn requests_without_a_client_count_until_they_are_complete() {
    let app = App::with(|builder| builder.max_in_flight(2));
    let mut tokens = Vec::new();
    for client in ["a", "b", "c"] {
        tokens.push(app.log_in(client).await);
    }
    let gates: Vec<_> = (0..2).map(|_| Arc::new(Notify::new())).collect();
    for gate in &gates {
        app.upstream.then(Act::Wait(Arc::clone(gate)));
    }
    for (client, token) in ["a", "b"].iter().zip(&tokens) {
        let request = post("/token", &refresh_form(client, token));
        let mut future = pin!(tower::ServiceExt::oneshot(app.service.clone(), request));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    let refused = app.refresh_as("c", &tokens[2]).await;
    assert_eq!(refused.error(), (503, "temporarily_unavailable".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    let refused = app.send(post("/revoke", &[("token", &tokens[2])])).await;
    assert_eq!(refused.unwrap().status, 503);
    let other = app.post("/other", &[]).await;
    assert_ne!(other.status, 503, "not guarded");
    // One of them completes, and makes room.
    gates[0].notify_one();
    while app.refresh_as("c", &tokens[2]).await.status != 200 {
        settle().await;
    }
    gates[1].notify_one();
    app.layer.drain().await;
    assert_eq!(
        (
            app.upstream.refreshes(),
            app.upstream.reuses(),
            app.upstream.alive()
        ),
        (3, 0, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_released_if_the_inner_service_never_responds() {
    let app = App::with(|builder| builder.rotation_timeout(test_support::SECOND));
    let token = app.log_in("app").await;
    let never = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(never));
    assert_eq!(app.refresh(&token).await.status, 503);
    app.layer.drain().await;
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn task_locals_are_visible_while_the_client_waits() {
    tokio::task_local! { static NAME: &'static str; }
    let app = App::new();
    let token = app.log_in("app").await;
    let service = tower::service_fn({
        let upstream = app.upstream.clone();
        move |request| {
            assert_eq!(NAME.get(), "here");
            upstream.clone().call(request)
        }
    });
    let service = tower::Layer::layer(&app.layer, service);
    let request = post("/token", &refresh_form("app", &token));
    let answer = NAME
        .scope("here", tower::ServiceExt::oneshot(service, request))
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[test]
fn dropping_a_rotation_outside_a_runtime_does_not_panic() {
    let app = App::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (token, future) = runtime.block_on(async {
        let token = app.log_in("app").await;
        app.upstream.then(Act::Hang);
        let mut future = Box::pin(tower::ServiceExt::oneshot(
            app.service.clone(),
            post("/token", &refresh_form("app", &token)),
        ));
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        (token, future)
    });
    drop(future);
    runtime.block_on(app.layer.drain());
    drop(token);
}
