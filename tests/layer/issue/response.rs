//! What the client gets.

use super::*;

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
