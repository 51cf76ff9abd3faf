//! A grant begins with every refresh token that the inner service issues, and with nothing else.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::requests::{assertion, basic, form, generation, send};
use test_support::{Act, App, Plan, post, refresh_form};
use tower_oauth_refresh::{ClientId, EventKind};

// `MemoryStore` removes entries with less than a moment to live.
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn log_in(more: &[(&str, &str)]) -> Request<Full<Bytes>> {
    post(
        "/token",
        &[
            &[
                ("grant_type", "authorization_code"),
                ("code", "c"),
                ("client_id", "app"),
            ],
            more,
        ]
        .concat(),
    )
}

#[tokio::test(start_paused = true)]
async fn every_grant_type_gets_a_refresh_token_of_the_layer() {
    for grant_type in [
        "authorization_code",
        "password",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:openid:params:grant-type:ciba",
        "REFRESH_TOKEN",
        "refresh_token ",
        "something of their own",
    ] {
        let app = App::new();
        let token = app
            .post(
                "/token",
                &[("grant_type", grant_type), ("client_id", "app")],
            )
            .await
            .token();
        assert_eq!(
            (&token[..3], token.len(), generation(&token)),
            ("rt_", 75, 0),
            "{grant_type}"
        );
        let events = app.take_events();
        assert_eq!(
            (events[0].kind, events[0].generation, events.len()),
            (EventKind::Issued, Some(0), 1),
            "{grant_type}"
        );
        assert_eq!(
            events[0].client_id.as_ref().map(ClientId::as_str),
            Some("app")
        );
        app.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_without_a_grant_type_is_left_to_the_inner_service() {
    let app = App::new();
    let answer = app
        .post("/token", &[("refresh_token", "x"), ("client_id", "app")])
        .await;
    assert_eq!(answer.error(), (400, "unsupported_grant_type".into()));
}

#[tokio::test(start_paused = true)]
async fn every_other_byte_of_the_response_is_kept() {
    let rows = [
        (
            "spaces, numbers, order and members of their own",
            " {\n \"z\" : 1.50e0, \"refresh_token\" :\"up\",\t\"access_token\":\"a\\u0062\", \"n\":{\"token\":\"x\"} ,\"z\":2 } ",
            " {\n \"z\" : 1.50e0, \"refresh_token\" :\"{T}\",\t\"access_token\":\"a\\u0062\", \"n\":{\"token\":\"x\"} ,\"z\":2,\"refresh_token_timeout\":2592000 } ",
        ),
        (
            "a nested refresh token goes, in any spelling",
            r#"{"u":{"id":1.0,"access_token":"x","refreshToken":"y"},"refresh_token":"up","l":[{"REFRESH-TOKEN":"z"}, 2]}"#,
            r#"{"u":{"id":1.0,"access_token":"x"},"refresh_token":"{T}","l":[{}, 2],"refresh_token_timeout":2592000}"#,
        ),
        (
            "and one under another name, in a text or in a name",
            r#"{"refresh_token":"up-3344","a":"up\u002d3344","b":"{\"refresh_token\":\"q\"}","c":{"up-3344":1,"d":2},"id_token":"x"}"#,
            r#"{"refresh_token":"{T}","c":{"d":2},"id_token":"x","refresh_token_timeout":2592000}"#,
        ),
        (
            "a name that is escaped",
            r#"{"access_token":"a","refresh\u005ftoken":"up"}"#,
            r#"{"access_token":"a","refresh\u005ftoken":"{T}","refresh_token_timeout":2592000}"#,
        ),
        (
            "a token that is escaped",
            r#"{"refresh_token":"u\"\\\/\u00e4","expires_in":3600}"#,
            r#"{"refresh_token":"{T}","expires_in":3600,"refresh_token_timeout":2592000}"#,
        ),
        (
            "the lifetime of the refresh token",
            r#"{"refresh_token":"up","refresh_expires_in":1800,"refresh_token_expires_in":"7200"}"#,
            r#"{"refresh_token":"{T}","refresh_expires_in":1800,"refresh_token_expires_in":"1800","refresh_token_timeout":1800}"#,
        ),
        (
            "an endless lifetime of the refresh token",
            r#"{"refresh_token":"up","refresh_expires_in":0}"#,
            r#"{"refresh_token":"{T}","refresh_expires_in":2592000,"refresh_token_timeout":2592000}"#,
        ),
    ];
    for (name, inner, outer) in rows {
        let app = App::new();
        app.upstream
            .then(Act::Answer(201, "application/json;charset=UTF-8", inner));
        let answer = send(&app, log_in(&[])).await;
        let token = answer.json()["refresh_token"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(token.starts_with("rt_"), "{name}: {answer:?}");
        assert_eq!(
            std::str::from_utf8(&answer.body).unwrap(),
            outer.replace("{T}", &token),
            "{name}"
        );
        assert_eq!(answer.head.status, 201, "{name}");
        let headers = answer.headers();
        assert_eq!(
            headers["content-type"], "application/json;charset=UTF-8",
            "{name}"
        );
        assert_eq!(
            headers["content-length"],
            answer.body.len().to_string(),
            "{name}"
        );
        assert_eq!(
            (&headers["cache-control"], &headers["pragma"]),
            (&"no-store".parse().unwrap(), &"no-cache".parse().unwrap())
        );
        assert_eq!(headers["x-upstream"], "yes", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_cannot_be_removed_withholds_the_response() {
    let rows = [
        (
            "it is the access token as well",
            200,
            r#"{"access_token":"up-1","refresh_token":"up-1"}"#,
        ),
        (
            "it is in the scope",
            200,
            r#"{"refresh_token":"up-1234567890-1234","scope":"a up-1234567890-1234"}"#,
        ),
        ("it is too deep", 200, DEEP),
        (
            "an error has one",
            400,
            r#"{"error":"x","data":{"refreshToken":"up-1"}}"#,
        ),
        (
            "an error has one in a text",
            400,
            r#"{"error":"x","error_description":"?refresh_token=up-1"}"#,
        ),
        ("an error is a form", 400, "error=x&refresh%5ftoken=up-1"),
        ("an error is an array", 500, r#"[{"refresh_token":"up-1"}]"#),
    ];
    const DEEP: &str = r#"{"refresh_token":"u","a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{"refresh_token":"up-1"}]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#;
    for (name, status, body) in rows {
        let app = App::new();
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.send(log_in(&[])).await.unwrap();
        assert_eq!(answer.error(), (502, "server_error".into()), "{name}");
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_issued_as_an_access_token_is_withheld() {
    const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
    const REFRESH: &str = "urn:ietf:params:oauth:token-type:refresh_token";
    const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
    let rows = [
        (
            "as the standard says",
            "",
            r#"{"access_token":"up-1","issued_token_type":"urn:ietf:params:oauth:token-type:refresh_token"}"#,
            502,
        ),
        (
            "in capitals",
            "",
            r#"{"access_token":"up-1","issued_token_type":"URN:IETF:params:oauth:token-type:refresh_token"}"#,
            502,
        ),
        (
            "percent-encoded",
            "",
            r#"{"access_token":"up-1","issued_token_type":"urn:ietf:params:oauth:token-type:refresh%5Ftoken"}"#,
            502,
        ),
        (
            "in an array",
            "",
            r#"{"access_token":"up-1","issued_token_type":["urn:ietf:params:oauth:token-type:refresh_token"]}"#,
            502,
        ),
        (
            "requested, and not contradicted",
            REFRESH,
            r#"{"access_token":"up-1"}"#,
            502,
        ),
        (
            "requested, but issued as an access token",
            REFRESH,
            r#"{"access_token":"a","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#,
            200,
        ),
        ("not requested", ACCESS, r#"{"access_token":"a"}"#, 200),
    ];
    for (name, requested, body, expected) in rows {
        let app = App::new();
        app.upstream
            .then(Act::Answer(200, "application/json", body));
        let form = [
            ("grant_type", EXCHANGE),
            ("client_id", "app"),
            ("requested_token_type", requested),
        ];
        let answer = app.post("/token", &form).await;
        assert_eq!(answer.status.as_u16(), expected, "{name}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("up-1"),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_refresh_token_is_unchanged() {
    let rows = [
        r#"{"access_token":"at-cc","token_type":"Bearer","expires_in":60}"#,
        r#" { "access_token" : "a" , "refresh_expires_in" : 0 , "not-before-policy" : 0 } "#,
        r#"{"access_token":"a","refresh_token":null}"#,
        r#"{"access_token":"a","refresh_token":""}"#,
        "{}",
    ];
    for body in rows {
        for client in [Some("app"), None] {
            let app = App::new();
            app.upstream
                .then(Act::Answer(200, "application/json", body));
            let mut form = vec![("grant_type", "client_credentials")];
            form.extend(client.map(|client| ("client_id", client)));
            let answer = app.post("/token", &form).await;
            assert_eq!(answer.body, body);
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert!(app.store.calls().is_empty(), "{body}");
            assert_eq!(app.events(), [], "{body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_bound_to_its_client_for_every_authentication_method() {
    let jwt = assertion(r#"{"sub":"app"}"#);
    let body = |rest: &str| Full::<Bytes>::from(format!("grant_type=password{rest}"));
    let mut extended = form("/token").body(body("")).unwrap();
    extended
        .extensions_mut()
        .insert(ClientId::try_from("app").unwrap());
    let rows = [
        ("form", form("/token").body(body("&client_id=app")).unwrap()),
        (
            "Basic",
            form("/token")
                .header("authorization", basic("app:"))
                .body(body(""))
                .unwrap(),
        ),
        (
            "assertion",
            form("/token")
                .body(body(&format!("&client_assertion={jwt}")))
                .unwrap(),
        ),
        ("extension", extended),
    ];
    for (name, request) in rows {
        let app = App::new();
        let token = send(&app, request).await.token(name);
        assert_eq!(
            app.refresh_as("other", &token).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        app.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_without_a_client_is_withheld() {
    let rows = [
        (
            "no client",
            form("/token")
                .body("grant_type=password&username=u&password=p".into())
                .unwrap(),
        ),
        (
            "an empty client",
            form("/token")
                .body("grant_type=password&client_id=".into())
                .unwrap(),
        ),
        (
            "an unreadable one",
            form("/token")
                .header("authorization", "Basic ?")
                .body("grant_type=password".into())
                .unwrap(),
        ),
        (
            "another scheme",
            form("/token")
                .header("authorization", "Bearer x")
                .body("grant_type=password".into())
                .unwrap(),
        ),
    ];
    for (name, request) in rows {
        let app = App::new();
        app.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"a", "refresh_expires_in":9, "refresh_token":"up", "expires_in":60}"#,
        ));
        let request: Request<Full<Bytes>> = request;
        let answer = send(&app, request).await;
        assert_eq!(
            answer.body, r#"{"access_token":"a", "expires_in":60}"#,
            "{name}"
        );
        assert_eq!(
            answer.headers()["content-length"],
            answer.body.len().to_string(),
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Unbound], "{name}");
        assert!(app.store.calls().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn if_the_store_is_down_a_log_in_succeeds_without_a_refresh_token() {
    for (name, plan, event) in [
        ("unavailable", Plan::Lose, EventKind::StoreUnavailable),
        (
            "its answer lost",
            Plan::LoseAnswer,
            EventKind::StoreUnavailable,
        ),
        ("corrupt", Plan::Corrupt, EventKind::StoreCorrupt),
    ] {
        let app = App::new();
        app.store.once(|_| true, plan);
        let answer = send(&app, log_in(&[])).await;
        answer.assert_ok(name);
        assert_eq!(
            answer.body,
            r#"{"access_token":"at-0-0","token_type":"Bearer","expires_in":3600,"scope":"read write"}"#,
            "{name}"
        );
        assert_eq!(app.events(), [event], "{name}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_has_the_granted_scope() {
    const CODE: &str = "authorization_code";
    const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
    let rows = [
        (
            "that of the response",
            CODE,
            Some("read"),
            r#"{"scope":"read write"}"#,
            "read write",
            true,
        ),
        (
            "not more than in the response",
            CODE,
            Some("read write admin"),
            r#"{"scope":"read write"}"#,
            "admin",
            false,
        ),
        (
            "the requested scope if the response has none",
            "password",
            Some("read"),
            r#"{"scope":null}"#,
            "read",
            true,
        ),
        (
            "not more than was requested",
            "password",
            Some("read"),
            r#"{"scope":null}"#,
            "write",
            false,
        ),
        (
            "an empty one limits nothing",
            "password",
            Some("read"),
            r#"{"scope":""}"#,
            "write",
            true,
        ),
        (
            "nor does it after a code",
            CODE,
            None,
            r#"{"scope":""}"#,
            "whatever",
            true,
        ),
        (
            "unknown if it is in neither",
            "password",
            None,
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
        (
            "unknown if it is no string",
            "password",
            None,
            r#"{"scope":["read"]}"#,
            "whatever",
            true,
        ),
        (
            "unknown if a code is exchanged with one",
            CODE,
            Some("read"),
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
        (
            "unknown if a device asks for one",
            DEVICE,
            Some("read"),
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
    ];
    for (name, grant_type, requested, members, asked, served) in rows {
        let app = App::new();
        app.upstream.then(Act::With(members));
        let mut form = vec![("grant_type", grant_type), ("client_id", "app")];
        form.extend(requested.map(|scope| ("scope", scope)));
        let token = send(&app, post("/token", &form)).await.token(name);
        let answer = app
            .post(
                "/token",
                &[&refresh_form("app", &token)[..], &[("scope", asked)]].concat(),
            )
            .await;
        let expected = if served {
            (200, String::new())
        } else {
            (400, "invalid_scope".into())
        };
        assert_eq!(answer.error(), expected, "{name}");
        if served {
            // An access token with a narrower scope does not limit the next one.
            app.refresh(&answer.token()).await.token();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_has_the_resources_of_its_log_in() {
    const A: &str = "https://a.example/";
    const B: &str = "urn:b";
    let rows: [(&str, &[&str], &[&str], bool); 6] = [
        ("one of one", &[A], &[A], true),
        ("one of two", &[A, B], &[B], true),
        ("both in another order", &[A, B], &[B, A], true),
        ("none", &[A], &[], true),
        ("another one", &[A], &[B], false),
        ("any if none was named", &[], &[A, B], true),
    ];
    for (name, granted, asked, served) in rows {
        let app = App::new();
        let resources = |names: &'static [&'static str]| {
            names
                .iter()
                .map(|name| ("resource", *name))
                .collect::<Vec<_>>()
        };
        let form = [
            ("grant_type", "password"),
            ("username", "u"),
            ("password", "p"),
            ("client_id", "app"),
        ];
        let token = send(
            &app,
            post("/token", &[&form[..], &resources(granted)].concat()),
        )
        .await
        .token(name);
        let answer = app
            .post(
                "/token",
                &[&refresh_form("app", &token)[..], &resources(asked)].concat(),
            )
            .await;
        let expected = if served {
            (200, String::new())
        } else {
            (400, "invalid_target".into())
        };
        assert_eq!(answer.error(), expected, "{name}");
    }
}

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
