//! Grants are handed back to the inner service, so that the layer can be removed.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use test_support::foreign::adopting;
use test_support::requests::assertion;
use test_support::{Act, App, Call, Plan, refresh_form, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::{Clock as _, ConfigError, EventKind, MemoryStore, RefreshLayer};

/// Returns another instance over the same store and inner service, which hands back.
fn leaving(app: &App) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.hand_back(true),
    )
}

/// Returns another instance over the same store and inner service, which hands back what others
/// adopt for an hour.
fn leaving_adopters(app: &App) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.hand_back(true).adopt_until(in_an_hour(app)),
    )
}

fn in_an_hour(app: &App) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(app.clock.now().as_millis() + 3_600_000)
}

/// Returns whether the inner service accepts this refresh token without the layer.
async fn works_upstream(app: &App, token: &str) -> bool {
    let passed = leaving(app).refresh(token).await;
    passed.status == 200 && passed.token().starts_with("upstream-")
}

#[tokio::test]
async fn a_refresh_hands_the_upstream_token_to_the_client() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    let answer = leaving.refresh(&token).await;
    assert_eq!(answer.token(), "upstream-0-1");
    assert_eq!(leaving.events(), [EventKind::HandedBack]);
    // The same request gets the same response, and does not reach the inner service.
    assert_eq!(leaving.refresh(&token).await.body, answer.body);
    assert_eq!(app.upstream.refreshes(), 1);
    assert!(works_upstream(&app, "upstream-0-1").await);
    // Afterwards the token of the layer is over, and disturbs nothing.
    app.clock.advance(Duration::from_secs(100));
    let calls = app.upstream.seen().len();
    assert_eq!(
        leaving.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.upstream.seen().len(), calls);
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.alive(), 1);
}

#[tokio::test]
async fn the_client_keeps_the_token_of_a_server_that_does_not_rotate() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    app.upstream.then(Act::KeepToken);
    assert_eq!(leaving.refresh(&token).await.token(), "upstream-0-0");
    assert!(works_upstream(&app, "upstream-0-0").await);
}

#[tokio::test]
async fn log_ins_and_upstream_tokens_pass_unchanged() {
    let app = App::new();
    let leaving = leaving(&app);
    let token = leaving.log_in("app").await;
    assert_eq!(token, "upstream-0-0");
    let answer = leaving.refresh(&token).await;
    assert_eq!(answer.token(), "upstream-0-1");
    assert_eq!(leaving.events(), []);
    assert!(app.store.calls().is_empty(), "the store is not used");
}

#[tokio::test]
async fn old_tokens_are_handed_back_too() {
    let app = App::new();
    let first = app.log_in("app").await;
    // The answer is lost.
    app.refresh(&first).await.token();
    app.clock.advance(Duration::from_secs(24 * 3600));
    let leaving = leaving(&app);
    let answer = leaving.refresh(&first).await;
    assert_eq!(answer.token(), "upstream-0-2");
    assert_eq!(leaving.refresh(&first).await.body, answer.body);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_request_that_cannot_be_replayed_is_repeated_upstream() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    for (id, next) in ["upstream-0-1", "upstream-0-2"].into_iter().enumerate() {
        let assertion = assertion(&format!(r#"{{"sub":"app","jti":"{id}"}}"#));
        let form = [
            &refresh_form("app", &token)[..],
            &[("client_assertion", &assertion)],
        ]
        .concat();
        assert_eq!(leaving.post("/token", &form).await.token(), next);
    }
    assert_eq!(app.upstream.reuses(), 0);
}

/// The claim of a request is delayed. Its client hangs up and repeats the request at another
/// instance, with another assertion.
#[tokio::test]
async fn a_delayed_request_without_its_client_does_not_use_what_was_handed_back() {
    let app = App::new();
    let token = app.log_in("app").await;
    let (slow, other) = (leaving(&app), leaving(&app));
    let refresh = async |instance: &App, id: &str| {
        let assertion = assertion(&format!(r#"{{"sub":"app","jti":"{id}"}}"#));
        let asserted = [("client_assertion", assertion.as_str())];
        let form = [&refresh_form("app", &token)[..], &asserted].concat();
        instance.post("/token", &form).await
    };
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let delayed = Plan::after(async move { opened.notified().await });
    app.store.once(|call| *call == Call::Claim, delayed);
    {
        let mut abandoned = pin!(refresh(&slow, "1"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(abandoned.as_mut().poll(&mut context).is_pending());
    }
    let handed_back = refresh(&other, "2").await.token();
    gate.notify_one();
    slow.layer.drain().await;
    assert_eq!(app.upstream.refreshes(), 1, "the client's token is its own");
    assert_eq!(
        (slow.events(), other.events()),
        (vec![], vec![EventKind::HandedBack])
    );
    assert!(works_upstream(&app, &handed_back).await);
    assert_eq!((app.upstream.reuses(), app.upstream.alive()), (0, 1));
}

#[tokio::test]
async fn a_failed_refresh_hands_nothing_back() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    assert_eq!(leaving.refresh(&token).await.status, 503);
    // The layer may also stay.
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn instances_can_begin_to_hand_back_one_after_the_other() {
    let (staying, foreign) = adopting().await;
    let leaving = leaving_adopters(&staying);
    let mut token = foreign;
    for _ in 0..3 {
        // The answer of an instance that stays is lost, and the client retries at one that leaves.
        staying.refresh(&token).await.token();
        let own = leaving.refresh(&token).await.token();
        assert!(own.starts_with("rt_"), "{own}");
        let lost = leaving.refresh(&own).await.token();
        assert!(lost.starts_with("upstream-"), "{lost}");
        token = staying.refresh(&own).await.token();
        assert_eq!(token, lost);
    }
    assert!(works_upstream(&staying, &token).await);
    assert_eq!(staying.upstream.reuses(), 0);
    assert_eq!(staying.upstream.alive(), 1);
}

#[tokio::test]
async fn an_adopted_token_leads_to_its_grant() {
    for late in [Duration::from_secs(1), Duration::from_secs(3000)] {
        let (staying, foreign) = adopting().await;
        staying.refresh(&foreign).await.token();
        staying.clock.advance(late);
        let leaving = leaving_adopters(&staying);
        let mut token = leaving.refresh(&foreign).await.token();
        if token.starts_with("rt_") {
            token = leaving.refresh(&token).await.token();
        }
        assert!(works_upstream(&staying, &token).await, "{token} {late:?}");
        assert_eq!(staying.upstream.reuses(), 0);
    }
}

#[tokio::test]
async fn an_adoption_under_way_is_taken_up() {
    let (staying, foreign) = adopting().await;
    let leaving = leaving_adopters(&staying);
    let gate = Arc::new(Notify::new());
    staying.upstream.then(Act::Wait(Arc::clone(&gate)));
    let adopted = async {
        let (one, other) = tokio::join!(staying.refresh(&foreign), leaving.refresh(&foreign));
        assert_eq!(one.token(), other.token());
        one.token()
    };
    let opened = async {
        settle().await;
        gate.notify_one();
    };
    let (token, ()) = tokio::join!(adopted, opened);
    let own = leaving.refresh(&token).await.token();
    assert!(works_upstream(&staying, &own).await);
    assert_eq!(staying.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_token_that_is_handed_back_unchanged_is_not_adopted_any_more() {
    for late in [0, 50, 100] {
        let (staying, foreign) = adopting().await;
        let leaving = leaving_adopters(&staying);
        for _ in 0..2 {
            staying.upstream.then(Act::KeepToken);
            let own = staying.refresh(&foreign).await.token();
            assert!(own.starts_with("rt_"), "{own}");
            staying.upstream.then(Act::KeepToken);
            assert_eq!(leaving.refresh(&own).await.token(), foreign, "{late} s");
            staying.clock.advance(Duration::from_secs(late));
        }
        assert!(works_upstream(&staying, &foreign).await, "{late} s");
        assert_eq!(staying.upstream.reuses(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_commit_finds_a_grant_that_has_ended_at_once() {
    let app = App::new();
    let token = app.log_in("app").await;
    let (clock, store) = (app.clock.clone(), app.store.clone());
    let leaving = App::over(clock, store, app.upstream.clone(), |builder| {
        builder.hand_back(true).strict(true)
    });
    let clock = app.clock.clone();
    let stored = AtomicBool::new(false);
    app.store.hook(move |_, call| {
        if !call.is_swap() {
            return Plan::Pass;
        }
        if stored.swap(true, Ordering::SeqCst) {
            clock.advance(Duration::from_secs(1));
            return Plan::Pass;
        }
        Plan::LoseAnswer
    });
    assert_eq!(leaving.refresh(&token).await.status, 503);
    leaving.layer.drain().await;
    assert_eq!(
        leaving.events(),
        [EventKind::StoreUnavailable, EventKind::HandedBack]
    );
}

#[tokio::test]
async fn no_adoption_begins() {
    let (staying, foreign) = adopting().await;
    let leaving = leaving_adopters(&staying);
    let token = leaving.refresh(&foreign).await.token();
    assert!(token.starts_with("upstream-"), "{token}");
    assert_eq!(leaving.events(), []);
}

#[test]
fn hand_back_contradicts_reference_tokens() {
    let builder = || RefreshLayer::builder(MemoryStore::new()).hand_back(true);
    let referencing = builder().reference_access_tokens(true);
    assert!(matches!(referencing.build(), Err(ConfigError::HandBack)));
    let _ = builder().adopt_until(UNIX_EPOCH).build().unwrap();
}
