//! Tokens that are reported as inactive.

use super::*;

#[tokio::test]
async fn an_invalid_token_is_only_reported_as_inactive() {
    type Presented = fn(&Answer, &Answer) -> String;
    let rows: [(&str, Presented, Duration, bool); 8] = [
        ("never issued", |_, _| made_up("at_"), Duration::ZERO, false),
        (
            "a refresh token never issued",
            |_, _| made_up("rt_"),
            Duration::ZERO,
            false,
        ),
        (
            "an access token made up",
            |_, b| retyped(&access(b)),
            Duration::ZERO,
            false,
        ),
        (
            "an access token that has expired",
            |_, b| access(b),
            HOUR,
            false,
        ),
        (
            "an access token whose grant has ended",
            |_, b| access(b),
            Duration::ZERO,
            true,
        ),
        (
            "a refresh token whose grant has ended",
            |_, b| b.token(),
            Duration::ZERO,
            true,
        ),
        (
            "a refresh token that has expired",
            |_, b| b.token(),
            24 * 30 * HOUR,
            false,
        ),
        (
            "a refresh token after its recovery window",
            |a, _| a.token(),
            25 * HOUR,
            false,
        ),
    ];
    for (name, presented, passed, revoked) in rows {
        let app = App::with(|builder| {
            builder
                .reference_access_tokens(true)
                .introspection_path("/introspect")
                .recovery_window(24 * HOUR)
        });
        let first = log_in(&app).await;
        let second = app.refresh(&first.token()).await;
        if revoked {
            app.revoke(&second.token()).await;
        }
        app.clock.advance(passed);
        app.events();
        let token = presented(&first, &second);
        assert_inactive(name, &introspect(&app, &token).await);
        let inside = asked(&app);
        assert!(
            inside != token && !inside.starts_with("at-") && !inside.starts_with("upstream-"),
            "{name}: {inside}"
        );
        assert_eq!(app.events(), [], "{name}: it does not count as presented");
        let dead = revoked || passed >= 24 * 30 * HOUR;
        assert_eq!(
            app.refresh(&second.token()).await.status == 200,
            !dead,
            "{name}: the grant is unchanged"
        );
    }
}

#[tokio::test]
async fn a_caller_rejected_by_the_inner_service_learns_nothing() {
    let app = introspecting();
    let first = log_in(&app).await;
    let dead = made_up("at_");
    let mut answers = Vec::new();
    for token in [access(&first), first.token(), dead.clone(), made_up("rt_")] {
        let form = [
            ("token", token.as_str()),
            ("client_id", "confidential-rs"),
            ("client_secret", "wrong"),
        ];
        answers.push(app.post("/introspect", &form).await);
    }
    for answer in &answers {
        assert_eq!(answer.error(), (401, "invalid_client".into()));
        assert_eq!(
            (&answer.body, &answer.headers),
            (&answers[0].body, &answers[0].headers)
        );
    }
}

#[tokio::test]
async fn the_inner_service_can_report_a_token_inactive() {
    let rows = [
        (
            "inactive upstream",
            200,
            r#"{"active":false,"why":"at-0-0"}"#,
            200,
            INACTIVE,
        ),
        ("not a bool", 200, r#"{"active":"true"}"#, 200, INACTIVE),
        ("no JSON", 200, "active", 502, b""),
        (
            "no JSON around a token",
            200,
            r#"{"refresh_token":"abcdefgh" "active":true}"#,
            502,
            b"",
        ),
        ("without the member", 200, "{}", 502, b""),
        (
            "a duplicate member",
            200,
            r#"{"active":false,"active":true}"#,
            502,
            b"",
        ),
        ("an error", 403, "no", 403, b"no"),
        ("a server error", 500, "oops", 500, b"oops"),
        (
            "an error that contains the token",
            400,
            r#"{"error":"at-0-0"}"#,
            502,
            b"",
        ),
    ];
    for (name, inside, body, status, expected) in rows {
        let app = introspecting();
        let token = access(&log_in(&app).await);
        app.upstream
            .then(Act::Answer(inside, "application/json", body));
        let answer = introspect(&app, &token).await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
        if status == 502 {
            assert_eq!(answer.error(), (502, "server_error".into()), "{name}");
            assert_eq!(
                app.events().last(),
                Some(&EventKind::UpstreamUnreadable),
                "{name}"
            );
        } else {
            assert_eq!(&answer.body[..], expected, "{name}");
        }
    }
    let app = introspecting();
    for (status, expected) in [(200, 200), (201, 200), (401, 401), (503, 503)] {
        app.upstream.then(Act::Answer(
            status,
            "application/json",
            r#"{"active":true}"#,
        ));
        let answer = introspect(&app, &made_up("at_")).await;
        assert_eq!(answer.status.as_u16(), expected);
        assert_eq!(
            answer.body == INACTIVE,
            expected == 200,
            "an invalid token is never reported as active"
        );
    }
    app.upstream.then(Act::Break);
    let request = post("/introspect", &[("token", "foreign")]);
    assert!(
        app.send(request).await.is_err(),
        "an error of the inner service is passed on"
    );
}
