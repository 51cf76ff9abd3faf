//! Dynamic client registration at the example `mcp` (RFC 7591).

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, get, send};
use test_support::process::Example;
use test_support::redis::RedisServer;
use url::Url;

use crate::PROGRAM;
use crate::support::mcp::{self, CHALLENGE, onward};

const CALLBACK: &str = "https://client.example/callback";

async fn start(flags: &[&str]) -> Example {
    mcp::start(
        &flags
            .iter()
            .map(|&flag| flag.to_owned())
            .collect::<Vec<_>>(),
    )
    .await
}

async fn post(server: &Example, content_type: &str, body: impl Into<String>) -> Answer {
    send(
        "POST",
        &server.url("/register"),
        &[("content-type", content_type)],
        body.into(),
    )
    .await
}

async fn register(server: &Example, metadata: &Value) -> Answer {
    post(server, "application/json", metadata.to_string()).await
}

/// Requests a log-in.
async fn authorize(server: &Example, client_id: &str, redirect_uri: &str) -> Answer {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    get(Url::parse_with_params(&server.url("/authorize"), query)
        .unwrap()
        .as_str())
    .await
}

/// Returns whether the client can log in with this redirect URI.
async fn may_log_in(server: &Example, client_id: &str, redirect_uri: &str) -> bool {
    let answer = authorize(server, client_id, redirect_uri).await;
    if answer.status == StatusCode::BAD_REQUEST {
        assert!(!answer.headers.contains_key("location"), "{answer:?}");
        return false;
    }
    onward(&answer).contains("/consent")
}

#[tokio::test]
async fn the_response_contains_all_registered_metadata() {
    let server = start(&["--scope", "openid profile email"]).await;
    let redirect_uris = json!([
        CALLBACK,
        "http://127.0.0.1/callback",
        "cursor://host/callback"
    ]);
    let answer = register(
        &server,
        &json!({
            "client_name": "Tool <b>",
            "client_uri": "https://client.example/about",
            "redirect_uris": redirect_uris,
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": "email profile else",
            "application_type": "native",
            "client_id": "as I like",
        }),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.headers["cache-control"]),
        (StatusCode::CREATED, &"no-store".parse().unwrap())
    );
    let mut said = answer.json();
    let client_id = said["client_id"].take();
    let client_id = client_id.as_str().unwrap();
    assert!(
        client_id.len() >= 22 && client_id != "as I like",
        "{client_id}"
    );
    assert!(
        said["client_id_issued_at"]
            .take()
            .as_u64()
            .is_some_and(|seconds| seconds > 1_700_000_000)
    );
    let want = json!({
        "client_id": null,
        "client_id_issued_at": null,
        "client_name": "Tool <b>",
        "client_uri": "https://client.example/about",
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "scope": "email profile",
    });
    assert_eq!(said, want, "a public client must not get a client_secret");
    for uri in [
        CALLBACK,
        "http://127.0.0.1:51004/callback",
        "cursor://host/callback",
    ] {
        assert!(may_log_in(&server, client_id, uri).await, "{uri}");
    }
    for uri in [
        "https://client.example/callback/",
        "http://localhost/callback",
        "https://evil.example/",
    ] {
        assert!(!may_log_in(&server, client_id, uri).await, "{uri}");
    }
}

#[tokio::test]
async fn missing_metadata_gets_defaults() {
    let server = start(&["--scope", "openid profile"]).await;
    let answer = register(&server, &json!({ "redirect_uris": [CALLBACK] })).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let mut said = answer.json();
    for random in ["client_id", "client_id_issued_at"] {
        said[random].take();
    }
    let want = json!({
        "client_id": null,
        "client_id_issued_at": null,
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": "openid profile",
    });
    assert_eq!(said, want);
    let again = register(&server, &json!({ "redirect_uris": [CALLBACK] })).await;
    assert_ne!(answer.string("client_id"), again.string("client_id"));
}

#[tokio::test]
async fn a_requested_secret_expires() {
    let server = start(&["--client-lifetime", "5000"]).await;
    let mut secrets = Vec::new();
    for method in ["client_secret_basic", "client_secret_post"] {
        let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method });
        let answer = register(&server, &metadata).await;
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["token_endpoint_auth_method"]),
            (StatusCode::CREATED, &json!(method))
        );
        let [issued, expires] =
            ["client_id_issued_at", "client_secret_expires_at"].map(|name| said[name].as_u64());
        assert_eq!(expires, issued.map(|issued| issued + 5000));
        secrets.push(answer.string("client_secret"));
    }
    assert!(
        secrets.iter().all(|secret| secret.len() >= 43) && secrets[0] != secrets[1],
        "{secrets:?}"
    );
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn neither_the_store_nor_the_log_contains_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let mut server = start(&[
        "--store",
        &format!("redb:{}", file.display()),
        "--log-level",
        "trace",
    ])
    .await;
    let metadata = json!({
        "redirect_uris": [CALLBACK],
        "client_name": "Found in the store",
        "token_endpoint_auth_method": "client_secret_post",
    });
    let secret = register(&server, &metadata).await.string("client_secret");
    server.terminate();
    server.ended(std::time::Duration::from_secs(30)).await;
    let stored = std::fs::read(&file).unwrap();
    let holds = |text: &str| {
        stored
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("Found in the store") && !holds(&secret));
    assert!(!format!("{server:?}").contains(&secret));
}

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
async fn schemes_of_the_system_must_be_allowed_explicitly() {
    let server = start(&[]).await;
    let explicit = start(&[
        "--only-redirect",
        "x-apple.systempreferences:/*",
        "--only-redirect",
        "ms-settings://cb",
        "--only-redirect",
        "com.example.app:/*",
    ])
    .await;
    for (uri, default, allowed) in [
        ("com.example.app:/cb", true, true),
        ("cursor://host/cb", true, false),
        ("x-apple.systempreferences:/cb", false, true),
        ("x-apple.systempreferences://cb", false, false),
        ("ms-settings://cb", false, true),
        ("x-apple-helpbasic://cb", false, false),
        ("ms-word:/cb", false, false),
        ("ms-msdt.x:/cb", false, false),
        ("intent://cb", false, false),
        ("intent.x:/cb", false, false),
        ("shell:/cb", false, false),
        ("shell.x:/cb", false, false),
        ("search-ms://x", false, false),
        ("search-ms.x:/cb", false, false),
        ("file:///cb", false, false),
        ("file.x:/cb", false, false),
        ("com.apple.systempreferences:/cb", false, false),
        ("itms-apps://cb", false, false),
        ("facetime-audio://cb", false, false),
        ("android-app://cb/x", false, false),
        ("microsoft-edge:/cb", false, false),
        ("view-source:/cb", false, false),
        ("ldap://cb", false, false),
        ("smb://cb/x", false, false),
        ("ssh://cb/x", false, false),
        ("X-Apple.SystemPreferences:/cb", false, false),
    ] {
        for (server, allowed) in [(&server, default), (&explicit, allowed)] {
            let answer = register(server, &json!({ "redirect_uris": [uri] })).await;
            assert_eq!(
                answer.status == StatusCode::CREATED,
                allowed,
                "{uri}: {}",
                answer.text()
            );
            assert!(
                allowed || answer.string("error") == "invalid_redirect_uri",
                "{uri}: {}",
                answer.text()
            );
        }
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

#[tokio::test]
async fn only_allowed_redirect_uris_are_registered() {
    let server = start(&[
        "--only-redirect",
        "https://*.client.example/oauth/*",
        "--only-redirect",
        "http://localhost/callback",
    ])
    .await;
    for (uri, allowed) in [
        ("https://a.client.example/oauth/callback", true),
        ("http://localhost:4711/callback", true),
        ("https://client.example/oauth/callback", false),
        ("https://a.client.example/callback", false),
        ("https://evil.example/.client.example/oauth/x", false),
        ("https://a.client.example.evil.example/oauth/x", false),
        ("http://127.0.0.1/callback", false),
        ("cursor://host/callback", false),
    ] {
        let answer = register(&server, &json!({ "redirect_uris": [uri] })).await;
        let status = if allowed {
            StatusCode::CREATED
        } else {
            StatusCode::BAD_REQUEST
        };
        assert_eq!(answer.status, status, "{uri}");
        assert!(
            allowed || answer.string("error") == "invalid_redirect_uri",
            "{uri}"
        );
    }
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_registration_survives_a_restart_but_not_a_stricter_allow_list() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", directory.path().join("store").display());
    let mut server = start(&["--store", &store]).await;
    let other = "https://other.example/callback";
    let client_id = register(&server, &json!({ "redirect_uris": [CALLBACK, other] }))
        .await
        .string("client_id");
    assert!(
        may_log_in(&server, &client_id, CALLBACK).await
            && may_log_in(&server, &client_id, other).await
    );
    server.terminate();
    server.ended(std::time::Duration::from_secs(30)).await;
    let server = start(&[
        "--store",
        &store,
        "--only-redirect",
        "https://client.example/*",
    ])
    .await;
    assert!(may_log_in(&server, &client_id, CALLBACK).await);
    assert!(
        !may_log_in(&server, &client_id, other).await,
        "the redirect URI is no longer allowed"
    );
}

#[tokio::test]
async fn an_unused_registration_expires() {
    let server = start(&["--client-lifetime", "1"]).await;
    let client_id = register(&server, &json!({ "redirect_uris": [CALLBACK] }))
        .await
        .string("client_id");
    // The requests are further apart than the lifetime, because each request renews the
    // registration.
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        if !may_log_in(&server, &client_id, CALLBACK).await {
            return;
        }
    }
    panic!("the registration did not expire: {server:?}");
}

#[tokio::test]
async fn invalid_flags_are_rejected() {
    let run = |flags: [&str; 2]| Example::run(PROGRAM, &flags, &[]);
    for (flag, value, message) in [
        ("--only-redirect", "https://*.com/", "more than one label"),
        ("--only-redirect", "https://a.*.example.com/", "wildcard"),
        ("--only-redirect", "javascript:*", "never allowed"),
        (
            "--only-redirect",
            "http://example.com/",
            "http is allowed only for",
        ),
        ("--client-lifetime", "0", "at least one second"),
        ("--client-lifetime", "99999999999", "100 years"),
        ("--metadata-ca", "/nowhere", "--metadata-ca /nowhere"),
        ("--metadata-ca", "Cargo.toml", "no certificate"),
    ] {
        let output = run([flag, value]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && stderr.contains(message),
            "{flag} {value}: {stderr}"
        );
    }
}
