//! Within the retry window, the previous token gets the same response again.

use std::time::Duration;

use http::HeaderValue;
use test_support::{Act, App, post, refresh_form};
use tower_oauth_refresh::{ClientId, EventKind};

/// Returns an app whose old tokens do not lead to the current one.
fn only_replays() -> App {
    App::with(|builder| builder.shared_token_window(Duration::ZERO))
}

#[tokio::test]
async fn a_lost_response_is_replayed() {
    let app = App::new();
    let token = app.log_in("app").await;
    let first = app.refresh(&token).await;
    let again = app.refresh(&token).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body, first.body);
    assert_eq!(again.headers["content-type"], first.headers["content-type"]);
    assert_eq!(again.headers["cache-control"], "no-store");
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(
        app.events(),
        [EventKind::Issued, EventKind::Rotated, EventKind::Replayed]
    );
    app.refresh(&again.token()).await.token();
}

#[tokio::test]
async fn a_replay_reports_the_remaining_lifetime() {
    let app = App::new();
    app.upstream
        .then(Act::With(r#"{"refresh_expires_in":1000}"#));
    let token = app.log_in("app").await;
    app.upstream
        .then(Act::With(r#"{"refresh_expires_in":1000}"#));
    app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(59));
    let again = app.refresh(&token).await.json();
    assert_eq!(
        (
            again["expires_in"].as_u64(),
            again["refresh_expires_in"].as_u64()
        ),
        (Some(3541), Some(941))
    );
}

#[tokio::test]
async fn only_the_same_request_gets_a_replay() {
    let app = only_replays();
    let client = "confidential";
    let token = app.log_in(client).await;
    let form = |secret: &'static str, more: &[(&'static str, &'static str)]| {
        let mut form: Vec<_> = refresh_form(client, &token)
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        form.push(("client_secret".into(), secret.into()));
        form.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        form
    };
    let send = async |form: Vec<(String, String)>| {
        let pairs: Vec<_> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        app.post("/token", &pairs).await
    };
    let secret = "secret of confidential";
    let first = send(form(secret, &[("scope", "read")])).await;
    first.token();
    let rows: [(&str, Vec<(String, String)>); 5] = [
        ("another secret", form("guess", &[("scope", "read")])),
        (
            "no secret",
            refresh_form(client, &token)
                .into_iter()
                .chain([("scope", "read")])
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        ),
        ("another scope", form(secret, &[("scope", "write")])),
        ("no scope", form(secret, &[])),
        (
            "a resource",
            form(
                secret,
                &[("scope", "read"), ("resource", "https://api.example")],
            ),
        ),
    ];
    for (name, form) in rows {
        assert_eq!(
            send(form).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
    }
    assert_eq!(
        send(form(secret, &[("scope", "read")])).await.body,
        first.body,
        "and the same request still gets the same"
    );
    assert_eq!(app.upstream.refreshes(), 1);

    let mut basic = post(
        "/token",
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", &token),
            ("scope", "read"),
        ],
    );
    basic.headers_mut().insert(
        "authorization",
        "Basic Y29uZmlkZW50aWFsOnNlY3JldCtvZitjb25maWRlbnRpYWw="
            .parse()
            .unwrap(),
    );
    assert_eq!(
        app.send(basic).await.unwrap().body,
        first.body,
        "the same secret by another method"
    );
}

#[tokio::test]
async fn a_client_assertion_gets_no_replay_but_ends_nothing() {
    let app = only_replays();
    let token = app.log_in("app").await;
    let mut form = refresh_form("app", &token).to_vec();
    form.push(("client_assertion", "e30.eyJzdWIiOiJhcHAifQ.c2ln"));
    let next = app.post("/token", &form).await.token();
    assert_eq!(
        app.post("/token", &form).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into()),
        "no replay was stored"
    );
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Late,
            EventKind::Late
        ]
    );
    app.refresh(&next).await.token();
}

#[tokio::test]
async fn no_replay_after_the_window_or_once_the_successor_was_presented() {
    let app = App::with(|builder| {
        builder
            .retry_window(Duration::from_secs(5))
            .shared_token_window(Duration::ZERO)
            .recovery_window(Duration::ZERO)
    });
    let token = app.log_in("app").await;
    let second = app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(4));
    assert_eq!(app.refresh(&token).await.token(), second);
    let third = app.refresh(&second).await.token();
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into()),
        "its successor was presented"
    );
    assert_eq!(
        app.refresh(&second).await.token(),
        third,
        "and the grant is still valid"
    );
    app.clock.advance(Duration::from_secs(5));
    assert_eq!(
        app.refresh(&second).await.error(),
        (400, "invalid_grant".into()),
        "the window is over"
    );
    assert_eq!(
        app.refresh(&third).await.error(),
        (400, "invalid_grant".into()),
        "that was reuse"
    );
    assert_eq!(
        app.events().last_chunk(),
        Some(&[EventKind::ReuseDetected, EventKind::Unknown])
    );
}

#[tokio::test]
async fn another_instance_replays_the_same_response() {
    let app = App::new();
    let token = app.log_in("app").await;
    let first = app.refresh(&token).await;
    assert_eq!(app.another().refresh(&token).await.body, first.body);
}

#[tokio::test]
async fn without_a_window_the_previous_token_is_rejected() {
    let app = App::with(|builder| {
        builder
            .retry_window(Duration::ZERO)
            .recovery_window(Duration::ZERO)
    });
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
}

#[tokio::test]
async fn a_replay_needs_the_same_client_credentials() {
    let app = only_replays();
    let token = app.log_in("app").await;
    let request = |by_extension: bool, authorization: Option<&'static str>, audience: &str| {
        let mut form = refresh_form("app", &token).to_vec();
        form.push(("audience", audience));
        let mut request = post("/token", &form);
        if by_extension {
            request
                .extensions_mut()
                .insert(ClientId::try_from("app").unwrap());
        }
        if let Some(value) = authorization {
            request
                .headers_mut()
                .insert("authorization", HeaderValue::from_static(value));
        }
        request
    };
    let first = app
        .send(request(true, Some("Negotiate one"), "a"))
        .await
        .unwrap();
    first.token();
    let rows = [
        ("neither", request(false, None, "a")),
        (
            "without the extension",
            request(false, Some("Negotiate two"), "a"),
        ),
        ("another header", request(true, Some("Negotiate two"), "a")),
        ("without the header", request(true, None, "a")),
        (
            "another audience",
            request(true, Some("Negotiate one"), "b"),
        ),
    ];
    for (name, request) in rows {
        assert_eq!(
            app.send(request).await.unwrap().error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
    }
    assert_eq!(
        app.send(request(true, Some("Negotiate one"), "a"))
            .await
            .unwrap()
            .body,
        first.body
    );
}
