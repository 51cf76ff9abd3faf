//! No response discloses the upstream access token.

use super::*;

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
