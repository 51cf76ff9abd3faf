//! Adding the layer to a running server logs no user out.

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

/// Returns refresh tokens of another server that look like the layer's own.
fn lookalikes() -> [(&'static str, String); 6] {
    let ours = made_up("rt_");
    let body = |len| {
        "AbCdEf0123456789-_"
            .chars()
            .cycle()
            .take(len)
            .collect::<String>()
    };
    [
        ("the length of a payload", format!("rt_{}", body(64))),
        ("the length of a token", format!("rt_{}", body(72))),
        (
            "one of the layer with a wrong checksum",
            format!("{}AAAAAAAA", &ours[..67]),
        ),
        (
            "one of the layer without its checksum",
            ours[..67].to_owned(),
        ),
        (
            "the checksum of another prefix",
            made_up("at_").replacen("at_", "rt_", 1),
        ),
        ("only the prefix", "rt_".to_owned()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_foreign_token_that_resembles_one_of_the_layer_is_adopted() {
    for (name, foreign) in lookalikes() {
        let (app, _) = adopting().await;
        let answer = r#"{"access_token":"a","token_type":"Bearer","expires_in":60,"refresh_token":"upstream-0-0"}"#;
        app.upstream
            .then(Act::Answer(200, "application/json", answer));
        let token = app.refresh(&foreign).await.token();
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("refresh_token"),
            Some(&*foreign),
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Adopted], "{name}");
        app.refresh(&token).await.token();
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("refresh_token"),
            Some("upstream-0-0"),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_layer_is_never_adopted() {
    let (app, _) = adopting().await;
    let answer = app.refresh(&made_up("rt_")).await;
    assert_eq!(
        answer.error(),
        (400, "invalid_grant".into()),
        "it has the checksum of one"
    );
    assert_eq!(
        (app.upstream.refreshes(), app.events()),
        (0, vec![EventKind::Unknown])
    );
}

#[tokio::test(start_paused = true)]
async fn without_adoption_a_lookalike_is_rejected_without_a_store_call() {
    let app = App::new();
    for (name, foreign) in lookalikes() {
        assert_eq!(
            app.refresh(&foreign).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        assert_eq!(
            (app.upstream.refreshes(), app.events()),
            (0, vec![EventKind::Unknown]),
            "{name}"
        );
    }
    assert!(app.store.calls().is_empty());
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
async fn only_the_same_request_gets_the_replay() {
    let (app, _) = adopting().await;
    let foreign = log_in_before(&app, "confidential").await;
    let secret = "secret of confidential";
    let request = |client: &str, secret: &str, more: &[(&str, &str)]| {
        post(
            "/token",
            &[
                &refresh_form(client, &foreign)[..],
                &[("client_secret", secret)],
                more,
            ]
            .concat(),
        )
    };
    let first = send(&app, request("confidential", secret, &[])).await;
    let token = first.token("the first one");
    // The inner service authenticates every request that is not the same.
    let rows = [
        (
            "another client",
            request("other", secret, &[]),
            (400, "invalid_grant"),
        ),
        (
            "another secret",
            request("confidential", "wrong", &[]),
            (401, "invalid_client"),
        ),
        (
            "no secret",
            request("confidential", "", &[]),
            (401, "invalid_client"),
        ),
    ];
    app.events();
    for (name, request, (status, error)) in rows {
        let answer = send(&app, request).await;
        assert_eq!(answer.head.status, status, "{name}");
        assert_eq!(answer.json()["error"], error, "{name}");
        app.events();
        let again = send(&app, form_by_basic(&foreign, secret)).await;
        assert_eq!(
            again.body, first.body,
            "after {name}: the same secret by another method counts as the same request"
        );
        assert_eq!(app.events(), [EventKind::Replayed], "{name}");
    }
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (3, 0));
    let resource: &[_] = &[("resource", "https://api.example.com")];
    for more in [&[("scope", "read")][..], resource] {
        let next = send(&app, request("confidential", secret, more)).await;
        assert_ne!(next.token(&format!("{more:?}")), token);
    }
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (5, 0));
    app.post(
        "/token",
        &[
            &refresh_form("confidential", &token)[..],
            &[("client_secret", secret)],
        ]
        .concat(),
    )
    .await
    .token();
}

fn form_by_basic(token: &str, secret: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let secret: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    test_support::requests::form("/token")
        .header(
            "authorization",
            test_support::requests::basic(format!("confidential:{secret}")),
        )
        .body(format!("grant_type=refresh_token&refresh_token={token}").into())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_adopted_token_leads_to_the_current_one() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    // The answer to the adoption was lost: the client comes back a week later.
    let (app, foreign) = adopting().await;
    let lost = app.refresh(&foreign).await.token();
    app.clock.advance(WEEK);
    let token = app.refresh(&foreign).await.token();
    assert_eq!(app.upstream.reuses(), 0);
    // The token of the lost answer was not: this client and that one are not the same.
    app.clock.advance(WEEK);
    app.refresh(&token).await.token();
    app.clock.advance(WEEK);
    assert_eq!(app.refresh(&lost).await.status, 400);
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));

    // The second answer is lost, too.
    for passed in [1, 300] {
        let (app, foreign) = adopting().await;
        app.refresh(&foreign).await.token();
        app.clock.advance(Duration::from_secs(3600));
        app.refresh(&foreign).await.token();
        app.clock.advance(Duration::from_secs(passed));
        let token = app.refresh(&foreign).await.token();
        app.clock.advance(WEEK);
        app.refresh(&token).await.token();
        assert_eq!(app.upstream.reuses(), 0, "{passed} s later");
    }

    // Other processes have copies of the same token.
    let (app, foreign) = adopting().await;
    let until = app.clock.now().as_millis() + 3_600_000;
    let until = std::time::UNIX_EPOCH + Duration::from_millis(until);
    let app = App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.adopt_until(until).shared_token_window(WEEK),
    );
    let mut newest = app.refresh(&foreign).await.token();
    for _ in 0..3 {
        app.clock.advance(WEEK / 4);
        newest = app.refresh(&newest).await.token();
        app.clock.advance(Duration::from_secs(100));
        assert_eq!(app.refresh(&foreign).await.token(), newest);
        app.clock.advance(Duration::from_secs(100));
    }
    assert_eq!(app.upstream.reuses(), 0);
    // After the window, it is reuse, and never reaches the inner service.
    let calls = app.upstream.seen().len();
    app.clock.advance(WEEK);
    assert_eq!(app.refresh(&foreign).await.status, 400);
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
    assert_eq!(app.refresh(&newest).await.status, 400);
    assert_eq!(app.upstream.seen().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn copies_of_a_token_that_the_server_keeps_get_grants_of_their_own() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::KeepToken);
    let one = app.refresh(&foreign).await.token();
    app.clock.advance(Duration::from_secs(100));
    app.upstream.then(Act::KeepToken);
    let one = app.refresh(&one).await.token();
    app.clock.advance(Duration::from_secs(1800));
    app.upstream.then(Act::KeepToken);
    let other = app.refresh(&foreign).await.token();
    for token in [one, other] {
        app.upstream.then(Act::KeepToken);
        app.refresh(&token).await.token();
    }
    assert_eq!(
        app.events(),
        [
            EventKind::Adopted,
            EventKind::Rotated,
            EventKind::Adopted,
            EventKind::Rotated,
            EventKind::Rotated
        ]
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

#[tokio::test(start_paused = true)]
async fn a_replay_reports_the_remaining_lifetime() {
    let (app, foreign) = adopting().await;
    let first = app.refresh(&foreign).await;
    app.clock.advance(Duration::from_secs(59));
    let again = app.refresh(&foreign).await;
    assert_eq!(again.token(), first.token());
    assert_eq!(again.json()["expires_in"], 3541);
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_replay_do_not_end_the_session() {
    let assertion = assertion(r#"{"sub":"app"}"#);
    let asserted: &[(&str, &str)] = &[("client_assertion", &assertion)];
    for (name, more, strict, granted) in [
        ("an assertion", asserted, false, 3),
        ("strict", &[][..], true, 1),
    ] {
        let (app, foreign) = adopting().await;
        let app = App::over(
            app.clock.clone(),
            app.store.clone(),
            app.upstream.clone(),
            |builder| {
                let builder = builder
                    .adopt_until(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32));
                builder.strict(strict)
            },
        );
        let form = [&refresh_form("app", &foreign)[..], more].concat();
        let clients = [adopt(&app, &form), adopt(&app, &form), adopt(&app, &form)];
        let mut tokens = Vec::new();
        for client in clients {
            let answer = client.await.unwrap();
            if answer.status == 200 {
                tokens.push(answer.token());
            } else {
                assert_eq!(answer.error(), (400, "invalid_grant".into()), "{name}");
            }
        }
        assert_eq!(
            (
                tokens.len(),
                app.upstream.refreshes(),
                app.upstream.reuses()
            ),
            (granted, granted, 0),
            "{name}"
        );
        let later = if strict {
            [EventKind::Late, EventKind::Late]
        } else {
            [EventKind::Rotated, EventKind::Converged]
        };
        assert_eq!(
            app.events(),
            [&[EventKind::Adopted], &later[..]].concat(),
            "{name}"
        );
        app.refresh(&tokens[0]).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_replay_a_non_rotating_server_is_called_again() {
    let (app, foreign) = adopting().await;
    let assertion = assertion(r#"{"sub":"app"}"#);
    let form = [
        &refresh_form("app", &foreign)[..],
        &[("client_assertion", &assertion)],
    ]
    .concat();
    for count in 1..=2 {
        app.upstream.then(Act::KeepToken);
        app.post("/token", &form).await.token();
        assert_eq!(app.upstream.refreshes(), count);
    }
}
