//! A client can revoke a single access token (RFC 7009), and only one of its own.

use std::time::Duration;

use http::StatusCode;
use test_support::access::{Guarded, LOG_IN, another, pair, referencing};
use test_support::requests::send;
use test_support::tokens::made_up;
use test_support::{Act, Answer, App, Call, post, settle};
use tower_oauth_refresh::EventKind;

const HOUR: Duration = Duration::from_secs(3600);

async fn revoke(app: &App, client: &str, token: &str) -> Answer {
    let form = [
        ("token", token),
        ("token_type_hint", "access_token"),
        ("client_id", client),
    ];
    app.post("/revoke", &form).await
}

/// Returns the tokens that the inner service was asked to revoke.
fn revoked_inside(app: &App) -> Vec<String> {
    let seen = app
        .upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.path == "/revoke");
    seen.map(|seen| seen.param("token").unwrap().to_owned())
        .collect()
}

/// Returns an instance, a resource server that caches for an hour, a refresh token and its access
/// token.
async fn issued() -> (App, Guarded, String, String) {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (refresh, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(guarded.status(&access).await, 200);
    app.events();
    (app, guarded, refresh, access)
}

#[tokio::test(start_paused = true)]
async fn revoking_an_access_token_ends_only_that_token() {
    let (app, guarded, refresh, access) = issued().await;
    let elsewhere = Guarded::with(&another(&app), |builder| builder.cache_ttl(HOUR));
    assert_eq!(elsewhere.status(&access).await, 200);
    let (next, other) = pair(&app.refresh(&refresh).await);
    assert_eq!(guarded.status(&other).await, 200);
    app.events();

    let answer = revoke(&app, "app", &access).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert_eq!(app.events(), [EventKind::AccessRevoked]);
    assert_eq!(revoked_inside(&app), ["at-0-0"]);
    assert_eq!(
        app.upstream.seen().pop().unwrap().param("token_type_hint"),
        Some("access_token")
    );
    settle().await;
    for guarded in [&guarded, &elsewhere] {
        assert_eq!(guarded.status(&access).await, 401);
        assert_eq!(guarded.status(&other).await, 200, "other tokens stay valid");
    }
    app.refresh(&next).await.token();
    app.events();
    assert_eq!(
        revoke(&app, "app", &access).await.status,
        StatusCode::OK,
        "again"
    );
    assert_eq!(
        (app.events(), revoked_inside(&app).len()),
        (vec![EventKind::Unknown], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_grant_can_be_revoked() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "machine"),
    ];
    let access = test_support::access::access_token(&app.post("/token", &form).await);
    assert_eq!(guarded.status(&access).await, 200);
    assert_eq!(
        revoke(&app, "machine", &access).await.status,
        StatusCode::OK
    );
    assert_eq!(revoked_inside(&app), ["at-cc"]);
    settle().await;
    assert_eq!(guarded.status(&access).await, 401);
}

#[tokio::test(start_paused = true)]
async fn unknown_tokens_and_those_of_other_clients_are_not_revoked() {
    let made_up = made_up("at_");
    let rows = [
        (
            "another client's",
            Some("other"),
            None,
            0,
            EventKind::ClientMismatch,
        ),
        (
            "never issued",
            Some("app"),
            Some(made_up.as_str()),
            0,
            EventKind::Unknown,
        ),
        (
            "gone from the store",
            Some("app"),
            None,
            3600,
            EventKind::Unknown,
        ),
    ];
    for (name, client, token, passed, event) in rows {
        let (app, guarded, _, access) = issued().await;
        app.clock.advance(Duration::from_secs(passed));
        app.store.calls();
        let answer = revoke(&app, client.unwrap(), token.unwrap_or(&access)).await;
        assert_eq!(
            (answer.status, answer.body.len()),
            (StatusCode::OK, 0),
            "{name}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{name}");
        assert_eq!(app.events(), [event], "{name}");
        assert_eq!(revoked_inside(&app), [""; 0], "{name}");
        assert!(
            !app.store.calls().iter().any(Call::is_swap),
            "{name}: the store was written to"
        );
        assert_eq!(
            guarded.status(&access).await,
            if passed == 0 { 200 } else { 401 },
            "{name}"
        );
    }
    let (app, _, _, access) = issued().await;
    let answer = app.post("/revoke", &[("token", &access)]).await;
    assert_eq!(
        answer.error(),
        (401, "invalid_client".into()),
        "it names no client"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_that_is_still_stored_is_not_revoked() {
    let clock = test_support::ManualClock::new();
    let store = test_support::Hooked::new(tower_oauth_refresh::MemoryStore::with_clock(
        test_support::ManualClock::new(),
    ));
    let app = App::over(clock, store, test_support::Upstream::new(), |builder| {
        builder.reference_access_tokens(true)
    });
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    app.clock.advance(Duration::from_secs(3600));
    app.events();
    assert_eq!(revoke(&app, "app", &access).await.status, StatusCode::OK);
    assert_eq!(
        (app.events(), revoked_inside(&app)),
        (vec![EventKind::Expired], vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn the_response_of_the_inner_service_decides() {
    const QUOTED: &str = r#"{"error":"invalid_client","error_description":"at-0-0"}"#;
    const TYPE: &str = r#"{"error":"unsupported_token_type"}"#;
    let rows = [
        ("done", 200, "", 200, true),
        ("done, with a body", 200, "ok", 200, true),
        (
            "done, with the token in the body",
            200,
            "revoked at-0-0",
            200,
            true,
        ),
        ("no endpoint", 404, "<html>", 200, true),
        ("no such method", 405, "", 200, true),
        ("no such tokens", 400, TYPE, 200, true),
        (
            "unauthenticated",
            401,
            r#"{"error":"invalid_client"}"#,
            401,
            false,
        ),
        ("not for you", 403, "no", 403, false),
        (
            "unauthenticated, with the token in the body",
            401,
            QUOTED,
            502,
            false,
        ),
    ];
    for (name, inside, body, status, ended) in rows {
        let (app, guarded, refresh, access) = issued().await;
        app.upstream
            .then(Act::Answer(inside, "application/json", body));
        let answer = revoke(&app, "app", &access).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {answer:?}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("at-0-0"),
            "{name}"
        );
        if body == "ok" {
            assert_eq!(&answer.body[..], b"ok", "{name}");
        }
        settle().await;
        assert_eq!(
            guarded.status(&access).await,
            if ended { 401 } else { 200 },
            "{name}"
        );
        app.refresh(&refresh).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_reaches_an_inner_service_that_was_down() {
    for (name, act) in [
        ("broken", Act::Break),
        ("down", Act::Answer(503, "text/plain", "down")),
        ("mute", Act::Hang),
    ] {
        let (app, guarded, refresh, access) = issued().await;
        app.upstream.then(act);
        let request = post("/revoke", &[("token", &access), ("client_id", "app")]);
        send(&app, request)
            .await
            .assert_refused(name, 503, "temporarily_unavailable", false);
        assert_eq!(app.events(), [EventKind::AccessRevoked], "{name}");
        settle().await;
        assert_eq!(
            guarded.status(&access).await,
            401,
            "{name}: it is invalid here immediately"
        );
        assert_eq!(
            Guarded::new(&app).status(&access).await,
            401,
            "{name}: also without a cache"
        );

        assert_eq!(
            revoke(&app, "app", &access).await.status,
            StatusCode::OK,
            "{name}"
        );
        assert_eq!(revoked_inside(&app), ["at-0-0", "at-0-0"], "{name}");
        assert_eq!(
            revoke(&app, "app", &access).await.status,
            StatusCode::OK,
            "{name}"
        );
        assert_eq!(
            revoked_inside(&app).len(),
            2,
            "{name}: it is removed once confirmed"
        );
        app.refresh(&refresh).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_can_be_retried_for_ten_minutes() {
    let (app, _, _, access) = issued().await;
    app.upstream.then(Act::Break);
    assert_eq!(revoke(&app, "app", &access).await.status, 503);
    app.clock.advance(Duration::from_secs(600));
    assert_eq!(revoke(&app, "app", &access).await.status, 200);
    assert_eq!(
        revoked_inside(&app).len(),
        1,
        "there is nothing left to revoke"
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_an_access_token_is_forwarded_as_foreign() {
    let app = App::new();
    let token = made_up("at_");
    app.upstream.then(Act::Answer(418, "text/plain", "teapot"));
    assert_eq!(revoke(&app, "app", &token).await.status.as_u16(), 418);
    assert_eq!(revoked_inside(&app), [token]);
    assert!(app.store.calls().is_empty());
}
