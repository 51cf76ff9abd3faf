//! Registrations that are rejected, and the text of valid ones.

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::send;
use test_support::redis::RedisServer;

use super::{CALLBACK, post, register, start};

#[tokio::test]
async fn invalid_metadata_gets_an_rfc_7591_error() {
    let server = start(&[]).await;
    let json = "application/json";
    let (redirect, metadata) = ("invalid_redirect_uri", "invalid_client_metadata");
    let with = |name: &str, value: Value| {
        let mut metadata = json!({ "redirect_uris": [CALLBACK] });
        metadata[name] = value;
        metadata.to_string()
    };
    let uri = |uri: &str| with("redirect_uris", json!([uri]));
    let rows = [
        ("no redirect URI", json, "{}".to_owned(), redirect),
        (
            "a fragment",
            json,
            uri("https://client.example/#x"),
            redirect,
        ),
        (
            "a user",
            json,
            uri("https://user@client.example/"),
            redirect,
        ),
        ("a script", json, uri("javascript:alert(1)"), redirect),
        ("data", json, uri("data:text/html,x"), redirect),
        (
            "http elsewhere",
            json,
            uri("http://client.example/"),
            redirect,
        ),
        (
            "a backslash",
            json,
            uri("https://client.example\\@evil.example/"),
            redirect,
        ),
        (
            "a scheme that is not allowed",
            json,
            uri("steam://run/1"),
            redirect,
        ),
        (
            "an invalid URI among valid ones",
            json,
            with("redirect_uris", json!([CALLBACK, "file:///x"])),
            redirect,
        ),
        (
            "a name with a line break",
            json,
            with("client_name", json!("a\nb")),
            metadata,
        ),
        (
            "an invalid client_uri",
            json,
            with("client_uri", json!("javascript:alert(1)")),
            metadata,
        ),
        (
            "an unknown scope",
            json,
            with("scope", json!("admin")),
            metadata,
        ),
        (
            "another authentication",
            json,
            with("token_endpoint_auth_method", json!("private_key_jwt")),
            metadata,
        ),
        (
            "another grant",
            json,
            with("grant_types", json!(["client_credentials"])),
            metadata,
        ),
        (
            "another response",
            json,
            with("response_types", json!(["token"])),
            metadata,
        ),
        ("no JSON", json, "redirect_uris=x".to_owned(), metadata),
        ("nothing", json, String::new(), metadata),
        ("a list", json, format!("[[{CALLBACK:?}]]"), metadata),
        ("another type", "text/plain", uri(CALLBACK), metadata),
        (
            "a form",
            "application/x-www-form-urlencoded",
            "redirect_uris=x".to_owned(),
            metadata,
        ),
    ];
    for (name, content_type, body, code) in rows {
        let answer = post(&server, content_type, body).await;
        assert_eq!(
            (answer.status, &*answer.string("error")),
            (StatusCode::BAD_REQUEST, code),
            "{name}: {answer:?}"
        );
        assert!(!answer.string("error_description").is_empty(), "{name}");
        assert_eq!(answer.headers["content-type"], json, "{name}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{name}");
    }
    assert_eq!(
        post(&server, "application/json; charset=utf-8", uri(CALLBACK))
            .await
            .status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_stored_registration_has_at_most_four_kibibytes() {
    let redis = RedisServer::start().await;
    let server = start(&["--store", &redis.url()]).await;
    let page = |length: usize| format!("https://client.example/{}", "a".repeat(length - 23));
    let mut statuses = Vec::new();
    for (name, uris, length, scope) in [
        ("x".repeat(100), 1, 2048, "openid"),
        ("\u{1d11e}".repeat(100), 20, 100, "openid"),
        ("\"".repeat(100), 20, 150, "openid"),
        ("\u{1d11e}".repeat(100), 10, 300, "openid"),
        ("\u{1d11e}".repeat(100), 9, 320, &"openid ".repeat(1000)),
        ("x".into(), 20, 200, "openid"),
        ("x".into(), 20, 500, "openid"),
        ("x".into(), 2, 2048, "openid"),
        ("x".into(), 1, 3600, "openid"),
    ] {
        let metadata = json!({
            "client_name": name,
            "client_uri": page(64),
            "redirect_uris": vec![page(length); uris],
            "scope": scope,
            "token_endpoint_auth_method": "client_secret_basic",
        });
        let answer = register(&server, &metadata).await;
        statuses.push(answer.status.as_u16());
        if answer.status != StatusCode::CREATED {
            assert!(
                answer.string("error").starts_with("invalid_"),
                "{}",
                answer.text()
            );
            assert!(
                answer.string("error_description").contains("longer than"),
                "{}",
                answer.text()
            );
        }
    }
    assert_eq!(statuses, [201, 201, 201, 201, 201, 400, 400, 400, 400]);
    let stored: Vec<_> = redis
        .dump()
        .await
        .into_iter()
        .map(|(_, value)| value.len())
        .collect();
    assert!(
        stored.len() >= 5 && stored.iter().all(|length| *length <= 4096),
        "{stored:?}"
    );
}

#[tokio::test]
async fn a_name_contains_only_visible_characters() {
    let server = start(&[]).await;
    for (name, seen) in [
        ("Git\u{ad}Hub\u{200b}\u{200d}", Some("GitHub")),
        (
            "a\u{2060}\u{2063}\u{180e}\u{e0041}\u{1d173}\u{fff9}\u{600}b",
            Some("ab"),
        ),
        ("a\u{e000}\u{378}\u{f0000}\u{3164}\u{115f}b", Some("ab")),
        ("a \u{a0}\u{3000} b", Some("a b")),
        ("\u{200b}\u{200c}", None),
        ("Émile 名前 🦀", Some("Émile 名前 🦀")),
    ] {
        let answer = register(
            &server,
            &json!({ "redirect_uris": [CALLBACK], "client_name": name }),
        )
        .await;
        assert_eq!(
            answer.status,
            StatusCode::CREATED,
            "{name:?}: {}",
            answer.text()
        );
        assert_eq!(
            answer
                .json()
                .get("client_name")
                .map(|name| name.as_str().unwrap()),
            seen,
            "{name:?}"
        );
    }
    for name in [
        "a\u{202e}b",
        "a\u{2066}b",
        "a\u{200f}b",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{85}b",
        "a\u{feff}b",
        "a\u{7f}b",
    ] {
        let answer = register(
            &server,
            &json!({ "redirect_uris": [CALLBACK], "client_name": name }),
        )
        .await;
        assert_eq!(
            (answer.status, &*answer.string("error")),
            (StatusCode::BAD_REQUEST, "invalid_client_metadata"),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn the_endpoint_limits_the_body_and_allows_only_post() {
    let server = start(&[]).await;
    let metadata =
        |padding: usize| json!({ "redirect_uris": [CALLBACK], "x": "x".repeat(padding) });
    assert_eq!(
        register(&server, &metadata(15_000)).await.status,
        StatusCode::CREATED
    );
    let answer = register(&server, &metadata(17_000)).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::PAYLOAD_TOO_LARGE, "invalid_client_metadata")
    );
    for method in ["GET", "PUT", "DELETE"] {
        let answer = send(method, &server.url("/register"), &[], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.string("error"), "invalid_request", "{method}");
    }
}
