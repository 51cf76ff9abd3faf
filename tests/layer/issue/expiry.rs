//! When a grant expires.

use super::*;

/// Settings, members of the log-in response, and the last moment at which the token is valid.
#[tokio::test(start_paused = true)]
async fn a_grant_lives_until_the_configured_or_given_expiry() {
    type Lifetimes = (Option<Duration>, Option<Duration>);
    let rows: [(&str, Lifetimes, &'static str, Duration); 8] = [
        ("thirty days by default", (None, None), "{}", 30 * DAY),
        ("idle", (Some(HOUR), None), "{}", HOUR),
        ("absolute", (None, Some(2 * HOUR)), "{}", 2 * HOUR),
        (
            "idle before absolute",
            (Some(HOUR), Some(2 * HOUR)),
            "{}",
            HOUR,
        ),
        (
            "as the inner service states",
            (None, None),
            r#"{"refresh_expires_in":60}"#,
            Duration::from_secs(60),
        ),
        (
            "by another member",
            (None, None),
            r#"{"refresh_token_expires_in":"61"}"#,
            Duration::from_secs(61),
        ),
        (
            "never more than the settings",
            (Some(HOUR), None),
            r#"{"refresh_expires_in":9999999}"#,
            HOUR,
        ),
        (
            "an hour of more",
            (None, Some(HOUR)),
            r#"{"refresh_expires_in":7200}"#,
            HOUR,
        ),
    ];
    for (name, (idle, absolute), members, end) in rows {
        for (passed, good) in [(end - SECOND, true), (end, false)] {
            let app = App::with(|mut builder| {
                if let Some(idle) = idle {
                    builder = builder.idle_lifetime(idle);
                }
                if let Some(absolute) = absolute {
                    builder = builder.absolute_lifetime(absolute);
                }
                builder
            });
            app.upstream.then(Act::With(members));
            let answer = send(&app, log_in(&[])).await;
            let token = answer.token(name);
            for member in ["refresh_expires_in", "refresh_token_expires_in"] {
                if let Some(said) = answer.json().get(member) {
                    let said = said.as_u64().or_else(|| said.as_str()?.parse().ok());
                    assert_eq!(
                        said,
                        Some(end.as_secs()),
                        "{name}: the response states the real expiry"
                    );
                }
            }
            app.clock.advance(passed);
            assert_eq!(
                app.refresh(&token).await.status == 200,
                good,
                "{name}: after {passed:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_extends_only_the_idle_lifetime() {
    let app = App::with(|builder| builder.idle_lifetime(2 * HOUR).absolute_lifetime(5 * HOUR));
    let mut token = app.log_in("app").await;
    for _ in 0..4 {
        app.clock.advance(HOUR);
        token = app.refresh(&token).await.token();
    }
    app.clock.advance(HOUR);
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.upstream.refreshes(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_expiry_applies_until_another_token_is_issued() {
    let app = App::new();
    app.upstream
        .then(Act::With(r#"{"refresh_expires_in":7200}"#));
    let token = app.log_in("app").await;
    app.clock.advance(HOUR);
    app.upstream.then(Act::KeepToken);
    let token = app.refresh(&token).await.token();
    app.clock.advance(HOUR);
    assert_eq!(
        app.refresh(&token).await.status,
        400,
        "the upstream token is two hours old"
    );

    let app = App::new();
    app.upstream
        .then(Act::With(r#"{"refresh_expires_in":7200}"#));
    let token = app.log_in("app").await;
    app.clock.advance(HOUR);
    let token = app.refresh(&token).await.token();
    app.clock.advance(DAY);
    app.refresh(&token).await.token();
}
