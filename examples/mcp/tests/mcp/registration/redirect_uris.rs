//! The redirect URIs that a client may register.

use axum::http::StatusCode;
use serde_json::json;
use test_support::process::Example;

use super::{CALLBACK, may_log_in, register, start};
use crate::PROGRAM;

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
