//! The demo of the example proxy: its authorization server follows the standards, and the printed
//! session works.

use std::process::Command;

use axum::http::StatusCode;
use test_support::http::{Answer, get, post, send};
use test_support::process::Example;
use url::Url;

use crate::PROGRAM;

const CALLBACK: &str = "http://127.0.0.1:7777/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn demo(flags: &'static [&str]) -> Example {
    let start = move || {
        let flags: Vec<_> = ["--listen", "127.0.0.1:0"].iter().chain(flags).collect();
        Example::start::<_, &str, &str>(PROGRAM, &flags, &[])
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Runs the printed session in bash. Returns the lines of its output.
async fn paste(proxy: &Example) -> Vec<String> {
    proxy.written("# 5.").await;
    proxy.written("refresh_token=$TOKEN").await;
    let script = proxy.stdout();
    let run = || {
        Command::new("bash")
            .args(["-eu", "-o", "pipefail", "-c", &script])
            .output()
            .expect("bash")
    };
    let output = tokio::task::block_in_place(run);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.is_empty(),
        "the session failed (it needs curl): {} {stderr}",
        output.status
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_session_works() {
    let proxy = demo(&[]).await;
    let lines = paste(&proxy).await;
    let [
        log_in,
        refresh,
        retry,
        stolen,
        rotated,
        reuse,
        ended,
        again,
        revoked,
        refused,
    ] = &lines[..]
    else {
        panic!("{lines:#?}");
    };
    for tokens in [log_in, refresh, retry, rotated, again] {
        assert!(tokens.contains(r#""refresh_token":"rt_"#), "{lines:#?}");
    }
    assert_eq!(refresh, retry, "the retry gets the same response");
    for error in [stolen, reuse, ended, refused] {
        assert!(error.contains(r#""error":"invalid_grant""#), "{lines:#?}");
    }
    assert_eq!(revoked, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_session_of_a_strict_proxy_has_no_retry() {
    let proxy = demo(&["--strict"]).await;
    let lines = paste(&proxy).await;
    assert_eq!(lines.len(), 9, "{lines:#?}");
    assert_eq!(
        lines.iter().filter(|line| line.contains("rt_")).count(),
        4,
        "{lines:#?}"
    );
}

/// Sends an authorization request. Returns the query of the redirect, or the error response.
async fn authorize(
    proxy: &Example,
    changes: &[(&str, &str)],
) -> Result<Vec<(String, String)>, Answer> {
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", "demo"),
        ("redirect_uri", CALLBACK),
        ("scope", "profile email"),
        ("state", "a b"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for change in changes {
        query.retain(|(name, _)| *name != change.0);
        query.push(*change);
    }
    let answer = get(Url::parse_with_params(&proxy.url("/authorize"), query)
        .unwrap()
        .as_str())
    .await;
    let Some(location) = answer.headers.get("location") else {
        return Err(answer);
    };
    let location = Url::parse(location.to_str().unwrap()).unwrap();
    Ok(location.query_pairs().into_owned().collect())
}

async fn log_in(proxy: &Example) -> Answer {
    let query = authorize(proxy, &[]).await.unwrap();
    assert_eq!(
        (&*query[0].0, &*query[1].0, &*query[1].1),
        ("code", "state", "a b")
    );
    exchange(proxy, &query[0].1, &[]).await
}

async fn exchange(proxy: &Example, code: &str, changes: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", "demo"),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("code", code),
    ];
    for change in changes {
        form.retain(|(name, _)| *name != change.0);
        form.push(*change);
    }
    post(&proxy.url("/token"), &form).await
}

#[tokio::test]
async fn the_demo_server_issues_and_revokes_tokens() {
    let proxy = demo(&[]).await;
    let tokens = log_in(&proxy).await;
    assert_eq!(
        (tokens.status, &*tokens.string("scope")),
        (StatusCode::OK, "profile email")
    );
    let bearer = format!("Bearer {}", tokens.string("access_token"));
    let userinfo = proxy.url("/userinfo");
    let user = send("GET", &userinfo, &[("authorization", &bearer)], "").await;
    assert_eq!(
        (user.string("sub"), user.string("client_id")),
        ("demo-user".into(), "demo".into())
    );
    for wrong in ["", "Bearer x", "Basic x"] {
        let answer = send("GET", &userinfo, &[("authorization", wrong)], "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let token = tokens.string("refresh_token");
    let answer = post(
        &proxy.url("/revoke"),
        &[("token", &token), ("client_id", "demo")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    let user = send("GET", &userinfo, &[("authorization", &bearer)], "").await;
    assert_eq!(
        user.status,
        StatusCode::UNAUTHORIZED,
        "revocation of the refresh token revokes the access token"
    );
}

#[tokio::test]
async fn the_demo_server_rejects_invalid_requests() {
    let proxy = demo(&[]).await;
    let code = async || authorize(&proxy, &[]).await.unwrap().remove(0).1;
    let once = code().await;
    assert_eq!(exchange(&proxy, &once, &[]).await.status, StatusCode::OK);
    let rows = [
        ("a used code", once, ("x", ""), "invalid_grant"),
        (
            "another verifier",
            code().await,
            ("code_verifier", CHALLENGE),
            "invalid_grant",
        ),
        (
            "another redirect URI",
            code().await,
            ("redirect_uri", "http://127.0.0.1/callback"),
            "invalid_grant",
        ),
        (
            "no secret",
            code().await,
            ("client_id", "demo-confidential"),
            "invalid_client",
        ),
        (
            "an unknown client",
            code().await,
            ("client_id", "x"),
            "invalid_client",
        ),
        (
            "a secret of a public client",
            code().await,
            ("client_secret", "x"),
            "invalid_client",
        ),
        (
            "another grant type",
            code().await,
            ("grant_type", "password"),
            "unsupported_grant_type",
        ),
    ];
    for (name, code, change, error) in rows {
        assert_eq!(
            exchange(&proxy, &code, &[change]).await.string("error"),
            error,
            "{name}"
        );
    }
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("scope", "everything"), "invalid_scope"),
    ] {
        let query = authorize(&proxy, &[change]).await.unwrap();
        assert_eq!((&*query[0].0, &*query[0].1), ("error", error), "{change:?}");
    }
    for change in [
        ("client_id", "x"),
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", "http://127.0.0.1.evil.example/callback"),
        ("redirect_uri", "http://localhost@evil.example/callback"),
        ("redirect_uri", "http://127.0.0.1/other"),
    ] {
        let answer = authorize(&proxy, &[change]).await.expect_err("no redirect");
        assert_eq!(answer.string("error"), "invalid_request", "{change:?}");
    }
}

#[tokio::test]
async fn the_discovery_documents_of_the_demo_point_at_the_proxy() {
    let proxy = demo(&[]).await;
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let document = get(&proxy.url(&format!("/.well-known/{name}"))).await;
        assert_eq!(document.string("token_endpoint"), proxy.url("/token"));
        assert_eq!(document.string("revocation_endpoint"), proxy.url("/revoke"));
        assert!(!document.string("issuer").starts_with(&proxy.url("")));
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!proxy.stderr().contains("WARN"), "{proxy:?}");
}
