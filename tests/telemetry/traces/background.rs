//! What goes on after a response is in the trace of its request.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use test_support::access::{Guarded, LOG_IN, access_token};
use test_support::foreign::adopting;
use test_support::users::next_extension;
use test_support::{Act, App, Call, Hooked, Plan, SECOND, Upstream, post, refresh_form, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::{
    ClientCredentials, EventKind, GrantKey, ManualClock, MemoryStore, RefreshLayer, Store, Subject,
};

use super::{Request, has, is_error, subscribe, warmed_up};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_rest_of_a_rotation_whose_client_has_hung_up_is_in_its_trace() {
    let (app, token) = warmed_up().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let call = tower::ServiceExt::oneshot(
        app.service.clone(),
        post("/token", &refresh_form("app", &token)),
    );
    let hung_up = async {
        tokio::select! {
            biased;
            _ = call => panic!("the inner service does not answer yet"),
            () = settle() => {}
        }
    };
    let (request, ()) = Request::run(hung_up).await;
    gate.notify_one();
    app.layer.drain().await;
    settle().await;
    assert_eq!(
        request.tree().paths(),
        [
            "request",
            "request/oauth_refresh",
            "request/oauth_refresh/claim",
            "request/oauth_refresh/inner_service",
            "request/oauth_refresh/swap",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_retried_in_the_background_is_in_the_trace_of_its_request() {
    let (app, token) = warmed_up().await;
    let mut failures = 3;
    app.store.hook(move |_, call| {
        if call.is_commit() && failures > 0 {
            failures -= 1;
            return Plan::Lose;
        }
        Plan::Pass
    });
    let (request, answer) = Request::run(app.refresh(&token)).await;
    assert_eq!(answer.status, 503);
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let swaps: Vec<_> = tree.named("swap").into_iter().map(is_error).collect();
    assert_eq!(swaps, [true, true, true, false]);
    for swap in tree.named("swap") {
        assert_eq!(tree.path(swap), "request/oauth_refresh/swap");
    }
}

#[tokio::test]
async fn the_release_of_a_lease_is_in_the_trace_of_its_request() {
    let (app, token) = warmed_up().await;
    app.store
        .once(|call| *call == Call::Claim, Plan::LoseAnswer);
    let (request, answer) = Request::run(app.refresh(&token)).await;
    assert_eq!(answer.status, 503);
    app.layer.drain().await;
    settle().await;
    let paths = request.tree().paths();
    let written = "request/oauth_refresh/swap".to_owned();
    assert!(paths.contains(&written), "{paths:?}");
}

/// Makes a call, and asserts that every call of the store that follows from it is in its trace.
async fn every_store_call_is_traced<T>(name: &str, app: &App, call: impl Future<Output = T>) -> T {
    app.store.hook_epochs();
    app.store.calls();
    let (request, result) = Request::run(call).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let traced = tree.spans.iter().filter(|span| {
        let mut keys = span.attributes.iter();
        keys.any(|attribute| attribute.key.as_str() == "db.operation.name")
    });
    let calls = app.store.calls();
    assert!(calls.len() > 1, "{name}: {calls:?}");
    let paths = tree.paths();
    assert_eq!(traced.count(), calls.len(), "{name}: {paths:?} {calls:?}");
    result
}

#[tokio::test(start_paused = true)]
async fn every_store_call_in_the_background_is_in_the_trace_of_its_request() {
    subscribe();
    let app = App::new();
    let log_in = async |name: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        next_extension(&app, Subject::new("ann").unwrap());
        let call = app.post("/token", &form);
        every_store_call_is_traced(name, &app, call).await.token()
    };
    let token = log_in("the session is listed").await;
    // The first swap inserts the grant, the second one writes the list.
    let mut swaps = 0;
    app.store.hook(move |_, call| {
        swaps += usize::from(call.is_swap());
        match call.is_swap() && swaps == 2 {
            true => Plan::Lose,
            false => Plan::Pass,
        }
    });
    log_in("the session is listed in the background").await;
    app.store.unhook();
    every_store_call_is_traced("the session is forgotten", &app, app.revoke(&token)).await;

    let (app, token) = adopting().await;
    let mut failures = 3;
    app.store.hook(move |_, call| {
        if has_sidecars(call) && failures > 0 {
            failures -= 1;
            return Plan::Lose;
        }
        Plan::Pass
    });
    let adopt = app.refresh(&token);
    every_store_call_is_traced("the adoption is retried", &app, adopt).await;
    assert!(app.events().contains(&EventKind::Adopted));
}

/// Returns whether the call writes a response.
fn has_sidecars(call: &Call) -> bool {
    matches!(call, Call::Swap { sidecars, .. } if !sidecars.is_empty())
}

#[tokio::test]
async fn the_end_of_a_grant_whose_caller_has_gone_is_in_the_trace_of_the_call() {
    subscribe();
    let app = App::new();
    app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    app.store.hook(|_, _| Plan::Slow);
    let mut held = None;
    let (request, ()) = Request::run(async {
        let mut ending = Box::pin(app.layer.end_grant(&grant));
        let pending = poll_fn(|cx| Poll::Ready(ending.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "the store is slow");
        held = Some(ending);
    })
    .await;
    drop(held);
    app.layer.drain().await;
    settle().await;
    let paths = request.tree().paths();
    assert!(paths.contains(&"request/swap".to_owned()), "{paths:?}");
}

/// Returns an instance that revokes upstream tokens, and the grant of a session.
async fn revoking() -> (App, GrantKey) {
    subscribe();
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let service = upstream.clone();
    let app = App::over(clock, store, upstream, |builder| {
        builder
            .revocation_key([7; 32])
            .upstream_revocation::<_, Full<Bytes>, _>(service, ClientCredentials::public())
    });
    app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    (app, grant)
}

#[tokio::test]
async fn the_end_of_a_grant_and_its_revocation_are_in_the_trace_of_the_call() {
    let (app, grant) = revoking().await;
    let (request, ()) = Request::run(end(&app.layer, grant)).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let paths = tree.paths();
    assert!(paths.contains(&"request/swap".to_owned()), "{paths:?}");
    let inner = tree.only("inner_service");
    assert_eq!(tree.path(inner), "request/inner_service");
    has(
        inner,
        [
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("url.path", "/revoke"),
        ],
    );
}

/// Retries take up to ten minutes, and the span of the request would end only then.
#[tokio::test(start_paused = true)]
async fn the_span_of_a_request_does_not_wait_for_the_retries_of_a_revocation() {
    let (app, grant) = revoking().await;
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    let (request, ()) = Request::run(end(&app.layer, grant)).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    assert!(is_error(tree.only("inner_service")));
    assert_eq!(app.upstream.alive(), 1);
    while app.upstream.alive() > 0 {
        tokio::time::sleep(SECOND).await;
    }
    settle().await;
    assert_eq!(request.tree().paths(), tree.paths());
}

#[tokio::test]
async fn the_renewal_of_an_upstream_access_token_is_in_the_trace_of_the_request_that_began_it() {
    subscribe();
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let app = App::over(clock, store, upstream, |builder| {
        builder
            .reference_access_tokens(true)
            .access_token_lifetime(100 * HOUR)
    });
    let guarded = app
        .layer
        .access()
        .upstream_refresh::<_, Full<Bytes>, _>(app.upstream.clone(), ClientCredentials::public());
    let guarded = Guarded::of(guarded.build().unwrap());
    let token = access_token(&app.post("/token", &LOG_IN).await);
    app.clock.advance(HOUR);
    let (request, status) = Request::run(guarded.status(&token)).await;
    assert_eq!(status, 200);
    settle().await;
    let tree = request.tree();
    let inner = tree.only("inner_service");
    assert_eq!(tree.path(inner), "request/inner_service");
    for operation in ["claim", "swap"] {
        let found = tree.named(operation);
        assert!(!found.is_empty(), "{operation}: {:?}", tree.paths());
        for span in found {
            assert_eq!(tree.path(span), format!("request/{operation}"));
        }
    }
}

async fn end<St: Store>(layer: &RefreshLayer<St>, grant: GrantKey) {
    layer.end_grant(&grant).await.unwrap();
}
