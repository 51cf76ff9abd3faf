//! With reference access tokens enabled, no response contains the upstream access token, and the
//! token that clients get instead is valid for as long as the response states.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::tokens::retyped;
use test_support::{Act, Answer, App, Call, Plan, foreign, post, refresh_form, settle};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Ttl};

const HOUR: Duration = Duration::from_secs(3600);

/// Panics if the response contains an upstream access token. Those begin with `at-`, and nothing
/// else here does.
#[track_caller]
fn assert_withheld(name: &str, answer: &Answer) {
    let text = format!(
        "{:?} {}",
        answer.headers,
        String::from_utf8_lossy(&answer.body)
    );
    assert!(!text.contains("at-"), "{name}: {text}");
}

/// Sends a request whose response must contain an access token of the layer and none of the
/// upstream.
async fn granted(name: &str, app: &App, request: Request<Full<Bytes>>) -> Answer {
    let answer = app.send(request).await.unwrap();
    access_token(&answer);
    assert_withheld(name, &answer);
    answer
}

fn refresh(token: &str) -> Request<Full<Bytes>> {
    post("/token", &refresh_form("app", token))
}

#[tokio::test]
async fn every_response_has_an_access_token_of_the_layer_that_maps_to_the_upstream_token() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let swapped =
        async |answer: &Answer| Guarded::swapped(&guarded.get(&access_token(answer)).await);

    let first = granted("a log-in", &app, post("/token", &LOG_IN)).await;
    assert_eq!(swapped(&first).await, "at-0-0");
    assert_eq!(first.json()["token_type"], "Bearer");
    assert_eq!(first.json()["expires_in"], 3600);

    let second = granted("a refresh", &app, refresh(&first.token())).await;
    assert_eq!(swapped(&second).await, "at-0-1");
    assert_eq!(
        swapped(&first).await,
        "at-0-0",
        "the earlier token stays valid"
    );

    let again = granted("a replay", &app, refresh(&first.token())).await;
    assert_eq!(again.body, second.body);

    app.clock.advance(Duration::from_secs(61));
    let recovered = granted("a recovery", &app, refresh(&first.token())).await;
    assert_eq!(swapped(&recovered).await, "at-0-2");
    assert_eq!(app.upstream.reuses(), 0);

    let own = granted(
        "client credentials",
        &app,
        post(
            "/token",
            &[("grant_type", "client_credentials"), ("client_id", "m")],
        ),
    );
    let own = own.await;
    assert_eq!(swapped(&own).await, "at-cc");
    assert_eq!(own.get("refresh_token"), None);

    app.upstream.then(Act::KeepToken);
    let kept = granted(
        "a response without a refresh token",
        &app,
        refresh(&recovered.token()),
    )
    .await;
    assert_eq!(swapped(&kept).await, "at-0-2-kept");
    kept.token();
}

#[tokio::test]
async fn an_adoption_returns_an_access_token_of_the_layer_too() {
    let app = referencing();
    let until = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
    let adopting = App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.reference_access_tokens(true).adopt_until(until),
    );
    let guarded = Guarded::new(&adopting);
    let before = foreign::log_in_before(&adopting, "app").await;
    let adopted = granted("an adoption", &adopting, refresh(&before)).await;
    assert_eq!(
        Guarded::swapped(&guarded.get(&access_token(&adopted)).await),
        "at-0-1"
    );
    assert_eq!(
        granted("its replay", &adopting, refresh(&before))
            .await
            .body,
        adopted.body
    );
    let next = granted("a refresh", &adopting, refresh(&adopted.token())).await;
    adopting.revoke(&next.token()).await;
    settle().await;
    assert_eq!(
        guarded.status(&access_token(&adopted)).await,
        401,
        "it ends with its grant"
    );
}

#[tokio::test]
async fn members_that_disclose_the_upstream_token_are_removed() {
    // Members of the upstream response, and the members that remain. Tokens that are not listed
    // begin with `at-`.
    let rows = [
        ("an id token", r#"{"id_token":"a.b.c"}"#, "{}"),
        (
            "the same token under another name",
            r#"{"token":"at-0-0"}"#,
            "{}",
        ),
        (
            "within a text",
            r#"{"note":"use at-0-0 from now on"}"#,
            "{}",
        ),
        ("within a list", r#"{"all":["x",["at-0-0"]]}"#, "{}"),
        ("escaped", r#"{"note":"at\u002d0-0"}"#, "{}"),
        (
            "a nested token",
            r#"{"user":{"id":"u","access_token":"at-u"}}"#,
            r#"{"user":{"id":"u"}}"#,
        ),
        (
            "in lists",
            r#"{"teams":[{"id":1,"bot":{"botAccessToken":"at-b"}}]}"#,
            r#"{"teams":[{"id":1,"bot":{}}]}"#,
        ),
        ("in camel case", r#"{"accessToken":"at-2"}"#, "{}"),
        ("in Pascal case", r#"{"AccessToken":"at-2"}"#, "{}"),
        ("with a hyphen", r#"{"access-token":"at-2"}"#, "{}"),
        ("in capitals", r#"{"ACCESS_TOKEN":"at-2"}"#, "{}"),
        (
            "an escaped name",
            r#"{"data":{"\u0061ccess_token":"at-2"}}"#,
            r#"{"data":{}}"#,
        ),
        (
            "a secret of OAuth 1",
            r#"{"oauth_token":"at-2","oauth_token_secret":"at-3"}"#,
            "{}",
        ),
        (
            "not text",
            r#"{"session_token":["at-2",{"v":"at-3"}]}"#,
            "{}",
        ),
        (
            "JSON in a text",
            r#"{"raw":"{\"access_token\":\"at-2\"}","n":1}"#,
            r#"{"n":1}"#,
        ),
        (
            "JSON in JSON in a text",
            r#"{"raw":"{\"a\":\"{\\\"jwt\\\":\\\"at-2\\\"}\"}"}"#,
            "{}",
        ),
        (
            "a form",
            r#"{"raw":"expires_in=1&access_token=at-2"}"#,
            "{}",
        ),
        (
            "a link",
            r#"{"next":"https://x/cb#access%5Ftoken=at-2"}"#,
            "{}",
        ),
        (
            "a removed value elsewhere",
            r#"{"a":{"token":"at-2222"},"b":["at-2222"]}"#,
            r#"{"a":{}}"#,
        ),
        (
            "a scope beside a removed token",
            r#"{"scope":"openid profile email","token":{"access_token":"at-2","scope":"openid profile email"}}"#,
            r#"{"scope":"openid profile email"}"#,
        ),
        (
            "what describes a token",
            r#"{"access_token_expires_at":1}"#,
            r#"{"access_token_expires_at":1}"#,
        ),
        (
            "a number",
            r#"{"created_at":1.50}"#,
            r#"{"created_at":1.50}"#,
        ),
        (
            "a text",
            r#"{"instance_url":"https://x"}"#,
            r#"{"instance_url":"https://x"}"#,
        ),
        ("an object", r#"{"user":{"id":1}}"#, r#"{"user":{"id":1}}"#),
    ];
    for (name, members, left) in rows {
        let app = referencing();
        app.upstream.then(Act::With(members));
        let answer = granted(name, &app, post("/token", &LOG_IN)).await;
        let [members, left] =
            [members, left].map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap());
        for key in members.as_object().unwrap().keys() {
            assert_eq!(answer.json().get(key), left.get(key), "{name}: {key}");
        }
        app.upstream
            .then(Act::With(r#"{"data":{"access_token":"at-9"}}"#));
        let next = granted(name, &app, refresh(&answer.token())).await;
        assert_eq!(
            next.json()["data"],
            serde_json::json!({}),
            "{name}: a refresh"
        );
    }
}

#[tokio::test]
async fn a_response_without_an_access_token_discloses_none() {
    let rows = [
        (
            "an ID token and a refresh token",
            r#"{"id_token":"at-i","refresh_token":"at-r"}"#,
        ),
        (
            "another spelling",
            r#"{"accessToken":"at-1","idToken":"at-i","tokenType":"Bearer"}"#,
        ),
        (
            "nested",
            r#"{"data":{"access_token":"at-1","refresh_token":"at-r"}}"#,
        ),
        (
            "null",
            r#"{"access_token":null,"authed_user":{"access_token":"at-1"}}"#,
        ),
        (
            "in an array",
            r#"{"access_token":"","results":[[{"token":"at-1"}]]}"#,
        ),
    ];
    for (name, body) in rows {
        let app = referencing();
        for grant in ["authorization_code", "client_credentials", "something else"] {
            app.upstream
                .then(Act::Answer(200, "application/json", body));
            let answer = app
                .post("/token", &[("grant_type", grant), ("client_id", "app")])
                .await;
            assert_eq!(answer.status.as_u16(), 200, "{name}");
            assert_withheld(name, &answer);
        }
        let token = app.log_in("app").await;
        app.upstream
            .then(Act::Answer(200, "application/json", body));
        assert_withheld(name, &app.send(refresh(&token)).await.unwrap());
    }
}

#[tokio::test]
async fn an_error_without_a_token_is_passed_on_unchanged() {
    let rows = [
        (
            400,
            "application/json",
            r#"{"error":"authorization_pending","interval":5}"#,
        ),
        (
            400,
            "application/json",
            r#"{"error":"slow_down", "error_description":"the token is not there yet"}"#,
        ),
        (401, "application/json", r#"{"error":"invalid_client"}"#),
        (
            403,
            "text/html",
            "<html><title>Forbidden</title>invalid token</html>",
        ),
        (503, "text/plain", "down"),
        (302, "text/plain", ""),
    ];
    for (status, content_type, body) in rows {
        for app in [referencing(), App::new()] {
            app.upstream.then(Act::Answer(status, content_type, body));
            let answer = app
                .post(
                    "/token",
                    &[("grant_type", "x:device_code"), ("client_id", "app")],
                )
                .await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (status, body.as_bytes())
            );
        }
    }
}

#[tokio::test]
async fn introspection_and_revocation_disclose_no_token() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .introspection_path("/introspect")
    });
    let nested = r#"{"active":true,"sub":"u","cnf":{"accessToken":"at-2"},"ext":{"refresh_token":"at-r","n":1}}"#;
    for (path, token) in [("/introspect", "at-of-theirs"), ("/revoke", "at-of-theirs")] {
        for (status, body, expected) in [
            (200, nested, 200),
            (200, "access_token=at-2", 502),
            (400, r#"{"error":"x","data":{"token":"at-2"}}"#, 502),
            (400, r#"{"error":"invalid_request"}"#, 400),
        ] {
            app.upstream
                .then(Act::Answer(status, "application/json", body));
            let answer = app
                .post(path, &[("token", token), ("client_id", "app")])
                .await;
            assert_eq!(answer.status.as_u16(), expected, "{path} {body}");
            assert_withheld(path, &answer);
        }
    }
    for by_access_token in [true, false] {
        let (refresh_token, access) = pair(&app.post("/token", &LOG_IN).await);
        let token = if by_access_token {
            access
        } else {
            refresh_token
        };
        app.upstream
            .then(Act::Answer(200, "application/json", nested));
        let answer = app
            .post("/introspect", &[("token", &token), ("client_id", "app")])
            .await;
        assert_withheld("introspection", &answer);
        assert_eq!(
            (&answer.json()["sub"], &answer.json()["ext"]),
            (&"u".into(), &serde_json::json!({"n": 1}))
        );
        app.upstream
            .then(Act::Answer(200, "application/json", nested));
        let answer = app
            .post("/revoke", &[("token", &token), ("client_id", "app")])
            .await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_withheld("revocation", &answer);
    }
}

#[tokio::test]
async fn an_id_token_is_kept_if_configured() {
    let app = App::with(|builder| builder.reference_access_tokens(true).keep_id_token(true));
    app.upstream.then(Act::With(r#"{"id_token":"a.b.c"}"#));
    let answer = granted("kept", &app, post("/token", &LOG_IN)).await;
    assert_eq!(answer.json()["id_token"], "a.b.c");
    app.upstream.then(Act::With(r#"{"id_token":"a.at-0-1.c"}"#));
    let answer = granted("it holds the access token", &app, refresh(&answer.token())).await;
    assert_eq!(answer.get("id_token"), None);
}

#[tokio::test]
async fn an_error_that_contains_a_token_is_withheld() {
    let rows = [
        (
            "a token beside an error",
            400,
            r#"{"error":"invalid_request","access_token":"at-9-9"}"#,
            502,
        ),
        (
            "one that is no text",
            400,
            r#"{"error":"invalid_request","access_token":{"v":"at-9-9"}}"#,
            502,
        ),
        (
            "with a server error",
            500,
            r#"{"access_token":"at-9-9"}"#,
            502,
        ),
        (
            "a success that is no text",
            200,
            r#"{"access_token":["at-9-9"]}"#,
            502,
        ),
        (
            "a success that is a form",
            200,
            "access_token=at-9-9&token_type=bearer",
            502,
        ),
        (
            "a nested one",
            400,
            r#"{"error":"x","data":[{"accessToken":"at-9-9"}]}"#,
            502,
        ),
        (
            "one in a text",
            400,
            r#"{"error":"x","error_description":"{\"token\":\"at-9-9\"}"}"#,
            502,
        ),
        (
            "an error in an array",
            400,
            r#"[{"error":"x","id_token":"at-9-9"}]"#,
            502,
        ),
        (
            "an error that is a form",
            400,
            "error=x&access_token=at-9-9",
            502,
        ),
        (
            "an error that is XML",
            500,
            "<x><access-token>at-9-9</access-token></x>",
            502,
        ),
        (
            "an error with a byte order mark",
            400,
            "\u{feff}{\"access_token\":\"at-9-9\"}",
            502,
        ),
        ("a redirect", 302, r#"{"token":"at-9-9"}"#, 502),
        (
            "an error alone",
            400,
            r#"{"error":"invalid_request","access_token":null}"#,
            400,
        ),
        ("an error that is no JSON", 503, "down", 503),
    ];
    for (name, status, body, expected) in rows {
        let app = referencing();
        let token = app.log_in("app").await;
        for request in [post("/token", &LOG_IN), refresh(&token)] {
            app.upstream
                .then(Act::Answer(status, "application/json", body));
            let answer = app.send(request).await.unwrap();
            assert_eq!(answer.status.as_u16(), expected, "{name}: {answer:?}");
            assert_withheld(name, &answer);
        }
    }
}

#[tokio::test]
async fn headers_that_disclose_a_token_are_removed() {
    use std::convert::Infallible;
    use tower::{Layer as _, ServiceExt as _, service_fn};
    const DISCLOSING: [(&str, &str); 8] = [
        ("set-cookie", "session=at-9-9%2Fx; Secure"),
        ("set-cookie", "access_token=at-8-8; HttpOnly"),
        ("x-token", "at-9-9/x"),
        ("x-access-token", "at-8-8"),
        ("x-note", "nested at-7-7"),
        ("authorization", "Bearer at-8-8"),
        ("location", "https://app.example/#id_token=at-8-8"),
        ("x-data", r#"{"accessToken":"at-8-8"}"#),
    ];
    let app = referencing();
    let success = r#"{"access_token":"at-9-9/x","token_type":"Bearer","u":{"token":"at-7-7"}}"#;
    for (header, value) in DISCLOSING {
        let known_by_name = value.contains("at-8-8");
        let others = [(302, ""), (400, r#"{"error":"x"}"#), (204, ""), (101, "")];
        for (status, body) in [(200, success)]
            .into_iter()
            .chain(others.into_iter().filter(|_| known_by_name))
        {
            let inner = service_fn(
                move |_: Request<tower_oauth_refresh::RequestBody<Full<Bytes>>>| async move {
                    let response = http::Response::builder()
                        .status(status)
                        .header(header, value)
                        .header("x-other", "stays");
                    Ok::<_, Infallible>(response.body(Full::from(body)).unwrap())
                },
            );
            let (head, _) = app
                .layer
                .layer(inner)
                .oneshot(post("/token", &LOG_IN))
                .await
                .unwrap()
                .into_parts();
            assert!(
                !format!("{:?}", head.headers).contains("at-"),
                "{status} {:?}",
                head.headers
            );
            // An error cannot be changed, and a success must be a token response.
            let passed = status == 200;
            assert_eq!(
                head.status,
                if passed { 200 } else { 502 },
                "{status} {header}: {value}"
            );
            assert_eq!(
                head.headers.contains_key("x-other"),
                passed,
                "{status} {header}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_without_a_client_is_rejected_before_forwarding() {
    let app = referencing();
    for grant in ["authorization_code", "client_credentials", "refresh_token"] {
        let answer = app
            .post(
                "/token",
                &[("grant_type", grant), ("code", "c"), ("refresh_token", "x")],
            )
            .await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{grant}");
    }
    assert!(app.upstream.seen().is_empty());
}

#[tokio::test]
async fn an_access_token_and_its_record_live_as_long_as_expires_in() {
    let rows: [(&str, &'static str, Duration); 5] = [
        ("as always", r#"{"expires_in":3600}"#, HOUR),
        ("a minute", r#"{"expires_in":60}"#, HOUR / 60),
        ("as text", r#"{"expires_in":"60"}"#, HOUR / 60),
        ("omitted", r#"{"expires_in":null}"#, HOUR),
        ("nonsense is said", r#"{"expires_in":"soon"}"#, HOUR),
    ];
    for (name, members, lifetime) in rows {
        let app = referencing();
        let guarded = Guarded::new(&app);
        app.upstream.then(Act::With(members));
        app.store.writes();
        let token = access_token(&granted(name, &app, post("/token", &LOG_IN)).await);
        let ttls = app
            .store
            .writes()
            .into_iter()
            .filter_map(|(_, call)| match call {
                Call::Swap {
                    change:
                        Change::Put {
                            ttl: Ttl::After(ttl),
                            ..
                        },
                    ..
                } => Some(ttl),
                _ => None,
            });
        let ttls = ttls.collect::<Vec<_>>();
        assert!(
            ttls.len() == 2 && ttls.contains(&lifetime),
            "{name}: {ttls:?}"
        );
        app.clock.advance(lifetime - Duration::from_millis(1));
        assert_eq!(guarded.status(&token).await, 200, "{name}");
        app.clock.advance(Duration::from_millis(1));
        assert_eq!(
            guarded.status(&token).await,
            401,
            "{name}: it is stored, and has expired"
        );
        assert_eq!(
            Guarded::new(&app).status(&token).await,
            401,
            "{name}: it is not stored"
        );
    }
}

#[tokio::test]
async fn a_configured_lifetime_is_bounded_by_that_of_the_upstream_token() {
    const MINUTE: Duration = Duration::from_secs(60);
    let rows: [(&str, &'static str, serde_json::Value, Duration); 5] = [
        ("longer", r#"{"expires_in":3600}"#, 60.into(), MINUTE),
        (
            "longer, as text",
            r#"{"expires_in":"3600"}"#,
            "60".into(),
            MINUTE,
        ),
        ("shorter", r#"{"expires_in":30}"#, 30.into(), MINUTE / 2),
        ("omitted", r#"{"expires_in":null}"#, 60.into(), MINUTE),
        ("unreadable", r#"{"expires_in":[]}"#, 60.into(), MINUTE),
    ];
    for (name, members, stated, lifetime) in rows {
        let app = App::with(|builder| {
            builder
                .reference_access_tokens(true)
                .access_token_lifetime(MINUTE)
                .introspection_path("/introspect")
        });
        let guarded = Guarded::new(&app);
        let check = async |answer: &Answer| {
            assert_eq!(answer.json()["expires_in"], stated, "{name}");
            let token = access_token(answer);
            app.upstream
                .then(Act::Answer(200, "application/json", r#"{"active":true}"#));
            let form = [("token", &*token), ("client_id", "app")];
            let introspected = app.post("/introspect", &form).await.json();
            let time = |member: &str| introspected[member].as_u64().unwrap();
            assert_eq!(time("exp") - time("iat"), lifetime.as_secs(), "{name}");
            app.clock.advance(lifetime - Duration::from_millis(1));
            assert_eq!(guarded.status(&token).await, 200, "{name}");
            app.clock.advance(Duration::from_millis(1));
            assert_eq!(guarded.status(&token).await, 401, "{name}");
        };
        app.upstream.then(Act::With(members));
        let first = granted(name, &app, post("/token", &LOG_IN)).await;
        check(&first).await;
        app.upstream.then(Act::With(members));
        check(&granted(name, &app, refresh(&first.token())).await).await;
    }
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .access_token_lifetime(MINUTE)
    });
    let own = [("grant_type", "client_credentials"), ("client_id", "m")];
    let answer = granted("client credentials", &app, post("/token", &own)).await;
    assert_eq!(answer.json()["expires_in"], 60);
    let until = app.log_in("app").await;
    let first = app.refresh(&until).await;
    app.clock.advance(Duration::from_secs(20));
    let again = app.refresh(&until).await;
    assert_eq!(
        (&first.json()["expires_in"], &again.json()["expires_in"]),
        (&60.into(), &40.into()),
        "a replay states the rest"
    );
}

#[tokio::test]
async fn an_access_token_keeps_its_scope_and_resources() {
    let (one, two) = ("https://one.example", "https://two.example");
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources([one, two])
    });
    let guarded = Guarded::new(&app);
    let told = async |answer: &Answer| {
        let told = guarded.get(&access_token(answer)).await.json();
        (told["scopes"].clone(), told["resources"].clone())
    };
    let bare = [
        ("grant_type", "password"),
        ("client_id", "app"),
        ("scope", "a b"),
        ("resource", one),
        ("resource", two),
    ];
    let first = granted("stated by the server", &app, post("/token", &bare)).await;
    assert_eq!(
        told(&first).await,
        (
            serde_json::json!(["read", "write"]),
            serde_json::json!([one, two])
        )
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let token = first.token();
    let less = [
        &refresh_form("app", &token)[..],
        &[("scope", "read"), ("resource", two)],
    ]
    .concat();
    let second = granted("requested by the client", &app, post("/token", &less)).await;
    assert_eq!(
        told(&second).await,
        (serde_json::json!(["read"]), serde_json::json!([two]))
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let third = granted("granted before", &app, refresh(&second.token())).await;
    assert_eq!(
        told(&third).await,
        (
            serde_json::json!(["read", "write"]),
            serde_json::json!([one, two])
        )
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let nothing = granted("nothing is known", &app, post("/token", &LOG_IN)).await;
    assert_eq!(
        told(&nothing).await,
        (serde_json::json!([]), serde_json::json!([]))
    );
    let answer = guarded.get(&access_token(&nothing)).await.json();
    assert_eq!(answer["client"], "app");
    assert!(answer["expires_at"].as_u64().unwrap() > 1_800_000_000_000);
}

#[tokio::test]
async fn access_and_refresh_tokens_are_not_interchangeable() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let (refresh_token, access) = pair(&app.post("/token", &LOG_IN).await);
    let (_, later) = pair(&app.refresh(&refresh_token).await);
    app.clock.advance(Duration::from_secs(120));
    app.events();
    for token in [&access, &later] {
        let disguised = retyped(token);
        assert_eq!(
            app.refresh(&disguised).await.error(),
            (400, "invalid_grant".into())
        );
        assert_eq!(
            app.events(),
            [EventKind::Unknown],
            "it belongs to no grant that could be ended"
        );
    }
    assert_eq!(guarded.status(&refresh_token).await, 401);
    assert_eq!(guarded.status(&retyped(&refresh_token)).await, 401);
    assert_eq!(guarded.status(&access).await, 200);
}

#[tokio::test]
async fn access_tokens_are_not_replaced_by_default() {
    let app = App::new();
    app.upstream
        .then(Act::With(r#"{"id_token":"a.b.c","note":"at-0-0"}"#));
    let answer = app.post("/token", &LOG_IN).await;
    let json = answer.json();
    assert_eq!(
        (&json["access_token"], &json["id_token"], &json["note"]),
        (&"at-0-0".into(), &"a.b.c".into(), &"at-0-0".into())
    );
    app.store.hook(|_, call| {
        if matches!(call, Call::Announce) {
            panic!("issued to no client")
        } else {
            Plan::Pass
        }
    });
    app.revoke(&answer.token()).await;
}
