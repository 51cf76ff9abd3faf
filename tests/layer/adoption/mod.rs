//! Adding the layer to a running server logs no user out.

mod lookalikes;
mod repeated;

use std::sync::Arc;
use std::time::Duration;

use test_support::foreign::{adopting, another, log_in_before};
use test_support::requests::{assertion, send};
use test_support::tokens::made_up;
use test_support::{Act, Answer, App, post, refresh_form, settle};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower_oauth_refresh::{Clock as _, EventKind};

#[tokio::test(start_paused = true)]
async fn adoption_is_off_by_default() {
    let app = App::new();
    let foreign = log_in_before(&app, "app").await;
    send(&app, post("/token", &refresh_form("app", &foreign)))
        .await
        .assert_refused("off", 400, "invalid_grant", false);
    assert_eq!(
        (app.upstream.refreshes(), app.events()),
        (0, vec![EventKind::Unknown])
    );
    assert!(app.store.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sessions_are_adopted_only_until_the_configured_time() {
    for (name, passed, adopted) in [
        ("at once", Duration::ZERO, true),
        ("a moment before", Duration::from_millis(3_599_999), true),
        ("at that time", Duration::from_secs(3600), false),
        ("after it", Duration::from_secs(9999), false),
    ] {
        let (app, foreign) = adopting().await;
        app.clock.advance(passed);
        let answer = app.refresh(&foreign).await;
        assert_eq!(answer.status == 200, adopted, "{name}: {answer:?}");
        assert_eq!(app.upstream.refreshes(), usize::from(adopted), "{name}");
        assert_eq!(
            app.events(),
            [if adopted {
                EventKind::Adopted
            } else {
                EventKind::Unknown
            }],
            "{name}"
        );
        if adopted {
            // An adopted grant stays valid.
            app.clock.advance(Duration::from_secs(7200));
            app.refresh(&answer.token()).await.token();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_grant_behaves_like_any_other() {
    let (app, foreign) = adopting().await;
    let more = [("x", "1"), ("x", "2")];
    let answer = app
        .post(
            "/token",
            &[&refresh_form("app", &foreign)[..], &more].concat(),
        )
        .await;
    let seen = app.upstream.seen().pop().unwrap();
    assert_eq!(
        seen.raw,
        format!("grant_type=refresh_token&refresh_token={foreign}&client_id=app&x=1&x=2")
    );
    assert_eq!(seen.headers["accept"], "application/json");
    let mut token = answer.token();
    assert!(token.starts_with("rt_"), "{token}");
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "access_token": "at-0-1", "token_type": "Bearer", "expires_in": 3600, "refresh_token": token, "scope": "read write", "refresh_token_timeout": 2_592_000,
        })
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    for count in 1..=3 {
        let next = app.refresh(&token).await.token();
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("refresh_token"),
            Some(&*format!("upstream-0-{count}"))
        );
        assert_eq!(
            app.refresh(&token).await.token(),
            next,
            "the retry window applies"
        );
        token = next;
    }
    let beyond = [("scope", "admin")];
    let answer = app
        .post(
            "/token",
            &[&refresh_form("app", &token)[..], &beyond].concat(),
        )
        .await;
    assert_eq!(answer.error(), (400, "invalid_scope".into()));
    assert_eq!(
        app.refresh_as("other", &token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.revoke(&token).await.status, 200);
    assert_eq!((app.upstream.alive(), app.upstream.reuses()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_narrower_request_does_not_limit_the_adopted_scope() {
    let (app, foreign) = adopting().await;
    let scoped = |token: &str, scope: &str| {
        let scope = scope.to_owned();
        let form = [&refresh_form("app", token)[..], &[("scope", &scope)]].concat();
        post("/token", &form)
    };
    let token = send(&app, scoped(&foreign, "read")).await.token("for less");
    send(&app, scoped(&token, "read write"))
        .await
        .token("the inner service decides");
}

fn adopt(app: &App, form: &[(&str, &str)]) -> JoinHandle<Answer> {
    let (app, request) = (app.clone(), post("/token", form));
    tokio::spawn(async move { app.send(request).await.unwrap() })
}

#[tokio::test(start_paused = true)]
async fn concurrent_adoptions_of_one_token_get_the_same_response() {
    for (name, instances, act) in [
        ("one instance", 1, None),
        ("two instances", 2, None),
        (
            "three instances, and a server that does not rotate",
            3,
            Some(Act::KeepToken),
        ),
    ] {
        let (app, foreign) = adopting().await;
        let apps: Vec<_> = (0..instances).map(|_| another(&app, 3600)).collect();
        let gate = Arc::new(Notify::new());
        match act {
            Some(act) => app.upstream.then(act),
            None => app.upstream.then(Act::Wait(Arc::clone(&gate))),
        }
        let clients: Vec<_> = (0..9)
            .map(|count| adopt(&apps[count % instances], &refresh_form("app", &foreign)))
            .collect();
        settle().await;
        assert_eq!(app.upstream.refreshes(), 1, "{name}");
        gate.notify_one();
        let mut answers = Vec::new();
        for client in clients {
            answers.push(client.await.unwrap());
        }
        let token = answers[0].token();
        assert!(
            answers.iter().all(|answer| answer.body == answers[0].body),
            "{name}: {answers:?}"
        );
        assert_eq!(
            (app.upstream.refreshes(), app.upstream.reuses()),
            (1, 0),
            "{name}"
        );
        let mut events: Vec<_> = apps.iter().flat_map(App::events).collect();
        events.sort_by_key(|kind| *kind != EventKind::Adopted);
        assert_eq!(events[0], EventKind::Adopted, "{name}");
        assert_eq!(events[1..], [EventKind::Replayed; 8], "{name}");
        apps[0].refresh(&token).await.token();
        assert_eq!(app.upstream.reuses(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_server_that_does_not_rotate_stays_the_upstream_token() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::KeepToken);
    let answer = app.refresh(&foreign).await;
    assert_eq!(answer.get("access_token").as_deref(), Some("at-0-0-kept"));
    let token = answer.token();
    app.upstream.then(Act::KeepToken);
    let next = app.refresh(&token).await.token();
    assert_eq!(
        app.upstream.seen().pop().unwrap().param("refresh_token"),
        Some(&*foreign)
    );
    app.refresh(&next).await.token();
    assert_eq!(
        app.upstream.seen().pop().unwrap().param("refresh_token"),
        Some(&*foreign)
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_token_does_not_disturb_a_pending_revocation() {
    let (app, foreign) = adopting().await;
    let token = app.refresh(&foreign).await.token();
    app.clock.advance(Duration::from_secs(100));
    let token = app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(1800));
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    assert_eq!(app.revoke(&token).await.status, 503);
    assert_eq!(app.refresh(&foreign).await.status, 400);
    let calls = app.upstream.seen().len();
    assert_eq!(app.revoke(&token).await.status, 200);
    assert_eq!(
        app.upstream.seen().len(),
        calls + 1,
        "it is forwarded again"
    );
}
