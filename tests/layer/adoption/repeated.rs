//! An adopted token is presented again.

use super::*;

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
