//! Whatever the inner service responds, the client's token stays valid unless the inner service
//! rejects it.

use std::sync::Arc;

use test_support::{Act, App, Call, post, refresh_form};
use tower_oauth_refresh::EventKind;

#[tokio::test]
async fn an_error_response_is_passed_on_and_the_token_stays_valid() {
    let rows = [
        (
            "a client that failed to authenticate",
            401,
            r#"{"error":"invalid_client"}"#,
        ),
        (
            "a scope that it rejects",
            400,
            r#"{"error":"invalid_scope"}"#,
        ),
        ("a 400 without JSON", 400, "no"),
        ("too many requests", 429, "slow down"),
        ("an internal error", 500, "oops"),
        ("a gateway without a server", 502, ""),
        ("maintenance", 503, "later"),
        ("a redirection", 302, ""),
        ("an error with status 200", 200, r#"{"error":"slow_down"}"#),
    ];
    for (name, status, body) in rows {
        let app = App::new();
        let token = app.log_in("app").await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.refresh(&token).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes()),
            "{name}"
        );
        assert_eq!(answer.headers["x-upstream"], "yes", "{name}");
        app.refresh(&token).await.token();
        assert_eq!(
            app.events(),
            [EventKind::Issued, EventKind::Rotated],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_service_error_is_passed_on_and_the_token_stays_valid() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.upstream.then(Act::Break);
    let error = app
        .send(post("/token", &refresh_form("app", &token)))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the connection broke");
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn a_panic_releases_the_lease() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.upstream.then(Act::Panic);
    let request = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    assert!(request.await.unwrap_err().is_panic());
    app.layer.drain().await;
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn an_unreadable_success_is_withheld_and_the_token_stays_valid() {
    let rows = [
        ("no JSON", "access_token=a&refresh_token=upstream"),
        ("nothing", ""),
        ("a list", r#"["upstream"]"#),
        (
            "two refresh tokens",
            r#"{"access_token":"a","refresh_token":"upstream","refresh_token":"b"}"#,
        ),
        (
            "a refresh token that is a number",
            r#"{"access_token":"a","refresh_token":7}"#,
        ),
        (
            "JSON that is cut off",
            r#"{"access_token":"a","refresh_token":"upstream""#,
        ),
    ];
    for (name, body) in rows {
        let app = App::new();
        let token = app.log_in("app").await;
        app.upstream
            .then(Act::Answer(200, "application/json", body));
        let answer = app.refresh(&token).await;
        assert_eq!(answer.error(), (502, "server_error".into()), "{name}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("upstream\""),
            "{name}"
        );
        app.refresh(&token).await.token();
        assert_eq!(
            app.events(),
            [
                EventKind::Issued,
                EventKind::UpstreamUnreadable,
                EventKind::Rotated
            ],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_response_over_the_limit_is_withheld() {
    let app = App::with(|builder| builder.max_response_body(200));
    let token = app.log_in("app").await;
    app.upstream.then(Act::With(
        r#"{"id_token":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#,
    ));
    assert_eq!(
        app.refresh(&token).await.error(),
        (502, "server_error".into())
    );
}

#[tokio::test]
async fn invalid_grant_is_passed_on_and_ends_the_grant() {
    for (status, body) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"gone"}"#,
        ),
        (401, r#"{"error":"invalid_grant"}"#),
        (403, r#"{"error":"invalid_grant"}"#),
        (200, r#"{"error":"bad_refresh_token"}"#),
    ] {
        let app = App::new();
        let token = app.log_in("app").await;
        app.store.calls();
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.refresh(&token).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes())
        );
        assert!(matches!(
            &app.store.calls()[..],
            [Call::Claim, Call::Swap { .. }]
        ));
        assert_eq!(
            app.refresh(&token).await.error(),
            (400, "invalid_grant".into())
        );
        assert_eq!(
            app.events(),
            [
                EventKind::Issued,
                EventKind::UpstreamRejected,
                EventKind::Unknown
            ]
        );
        assert_eq!(
            app.upstream.refreshes(),
            1,
            "the upstream is not called again"
        );
    }
}

#[tokio::test]
async fn an_error_that_names_an_upstream_token_is_not_passed_on() {
    let rows = [
        (
            400,
            r#"{"error":"invalid_request","error_description":"what is upstream-0-0 to me"}"#,
        ),
        (403, "upstream-0-0"),
        (422, r#"{"detail":[{"input":"upstream-0-0"}]}"#),
        (500, "in line 7: upstream-0-0"),
        (200, r#"{"error":"odd","refresh_token":"upstream-0-1"}"#),
    ];
    for (status, body) in rows {
        let app = App::new();
        let token = app.log_in("app").await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        assert_eq!(
            app.refresh(&token).await.error(),
            (502, "server_error".into()),
            "{status}"
        );
        app.refresh(&token).await.token();
    }
}

#[tokio::test]
async fn invalid_grant_ends_the_grant_even_if_the_error_names_the_upstream_token() {
    let rows = [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid refresh token (expired): upstream-0-0"}"#,
        ),
        (
            401,
            r#"{"error":"invalid_grant","refresh_token":"upstream-0-0"}"#,
        ),
        (
            200,
            r#"{"error":"bad_refresh_token","error_description":"upstream-0-0"}"#,
        ),
    ];
    for (status, body) in rows {
        let app = App::new();
        let token = app.log_in("app").await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.refresh(&token).await;
        assert_eq!(answer.error(), (400, "invalid_grant".into()), "{body}");
        assert!(
            !answer.json().to_string().contains("upstream-0-0"),
            "{body}"
        );
        assert_eq!(
            app.refresh(&token).await.error(),
            (400, "invalid_grant".into()),
            "{body}"
        );
        assert_eq!(app.upstream.refreshes(), 1, "{body}: the grant has ended");
    }
}

#[tokio::test]
async fn a_non_rotating_inner_service_is_supported() {
    let app = App::new();
    let mut token = app.log_in("app").await;
    for _ in 0..3 {
        app.upstream.then(Act::KeepToken);
        let answer = app.refresh(&token).await;
        assert_eq!(answer.json()["access_token"], "at-0-0-kept");
        assert_ne!(answer.token(), token, "the layer rotates nevertheless");
        token = answer.token();
    }
    app.refresh(&token).await.token();
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn only_the_token_of_a_forwarded_request_is_changed() {
    let app = App::new();
    let token = app.log_in("app").await;
    let body = format!(
        "grant_type=refresh_token&x=%41+b&refresh_token={token}&client_id=app&audience=a&audience=b&&y"
    );
    let mut request = post("/token", &[]);
    *request.body_mut() = http_body_util::Full::from(body);
    for (name, value) in [
        ("accept-encoding", "gzip"),
        ("accept", "*/*"),
        ("x-mine", "kept"),
        ("content-length", "999"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    app.send(request).await.unwrap().token();
    let seen = app.upstream.seen().pop().unwrap();
    let expected = "grant_type=refresh_token&x=%41+b&refresh_token=upstream-0-0&client_id=app&audience=a&audience=b&&y";
    assert_eq!(seen.raw, expected);
    assert_eq!(seen.headers["content-length"], expected.len().to_string());
    assert_eq!(seen.headers["accept"], "application/json");
    assert_eq!(seen.headers["x-mine"], "kept");
    assert!(!seen.headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn scope_and_resources_never_exceed_the_grant() {
    let app = App::new();
    let mut form = vec![
        ("grant_type", "password"),
        ("username", "u"),
        ("password", "p"),
        ("client_id", "app"),
    ];
    form.push(("resource", "https://api.example/a"));
    let token = app.post("/token", &form).await.token();
    let call = async |more: &[(&str, &str)]| {
        let mut form = refresh_form("app", &token).to_vec();
        form.extend_from_slice(more);
        app.post("/token", &form).await
    };
    app.store.calls();
    let rows = [
        ("more scope", [("scope", "read admin")], "invalid_scope"),
        ("another case", [("scope", "READ")], "invalid_scope"),
        (
            "another resource",
            [("resource", "https://api.example/b")],
            "invalid_target",
        ),
    ];
    for (name, more, error) in rows {
        assert_eq!(call(&more).await.error(), (400, error.into()), "{name}");
        let calls = app.store.calls();
        assert!(
            matches!(&calls[..], [Call::Claim, Call::Swap { .. }]),
            "{name}: the lease is released: {calls:?}"
        );
    }
    assert_eq!(app.upstream.refreshes(), 0);
    let next = call(&[("scope", "read"), ("resource", "https://api.example/a")])
        .await
        .token();
    let wide = [("scope", "write read")];
    let mut form = refresh_form("app", &next).to_vec();
    form.extend_from_slice(&wide);
    app.post("/token", &form).await.token();
}

#[tokio::test]
async fn a_code_exchanged_for_part_of_the_grant_does_not_narrow_it() {
    let app = App::new();
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    form.push(("resource", "https://api.example/calendar"));
    let mut token = app.post("/token", &form).await.token();
    for more in [
        ("resource", "https://api.example/contacts"),
        ("scope", "contacts"),
    ] {
        let mut form = refresh_form("app", &token).to_vec();
        form.push(more);
        token = app.post("/token", &form).await.token();
    }
    let token = app.log_in("app").await;
    let mut form = refresh_form("app", &token).to_vec();
    form.push(("scope", "read offline_access"));
    app.post("/token", &form).await.token();
}

#[tokio::test]
async fn concurrent_clients_do_not_get_each_others_responses() {
    let app = Arc::new(App::new());
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..50 {
        let app = Arc::clone(&app);
        requests.spawn(async move {
            let client = format!("app-{n}");
            let token = app.log_in(&client).await;
            let answer = app.refresh_as(&client, &token).await;
            let number = |access: &str| access.split('-').nth(1).map(str::to_owned);
            let first = number(answer.json()["access_token"].as_str().unwrap());
            let again = app.refresh_as(&client, &answer.token()).await;
            assert_eq!(
                number(again.json()["access_token"].as_str().unwrap()),
                first
            );
        });
    }
    requests.join_all().await;
}
