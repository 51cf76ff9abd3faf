//! Requests without a valid access token.

use axum::http::StatusCode;
use axum::response::AppendHeaders;
use test_support::http::{Recorder, send};
use test_support::tokens::made_up;

use super::Fixture;
use crate::support::mcp::{Browser, one, query, request};
use crate::support::mcp_client::{REDIRECT, assert_error};

#[tokio::test]
async fn requests_without_an_access_token_do_not_reach_the_upstream() {
    let upstream = Recorder::start(|_| "reached").await;
    let fixture = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &["--require-scope", "openid"],
    )
    .await;
    let metadata = fixture
        .server
        .url("/.well-known/oauth-protected-resource/mcp");
    for (name, authorization) in [
        ("none", None),
        ("another scheme", Some("Basic eDp5".to_owned())),
        (
            "an unknown token",
            Some(format!("Bearer {}", made_up("at_"))),
        ),
        (
            "the provider's token",
            Some(format!(
                "Bearer {}",
                fixture.identity.secrets().pop().unwrap()
            )),
        ),
    ] {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        for method in ["POST", "GET", "DELETE"] {
            let answer = send(method, &fixture.server.url("/mcp"), &headers, "").await;
            assert_eq!(answer.status, 401, "{name}: {}", answer.text());
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(
                challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
                "{name}: {challenge}"
            );
        }
    }
    for path in ["/mcp/../mcp", "//mcp", "/%6dcp", "/mcp/x", "/MCP"] {
        let authorization = format!("Bearer {}", fixture.access);
        let answer = send(
            "POST",
            &fixture.server.url(path),
            &[("authorization", &authorization)],
            "",
        )
        .await;
        assert_ne!(answer.text(), "reached", "{path}");
    }
    assert!(upstream.all().is_empty(), "{:?}", upstream.all());

    let strict = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &[
            "--scope",
            "openid profile admin",
            "--require-scope",
            "admin",
        ],
    )
    .await;
    let scope = [("scope", "openid profile")];
    let asked = request(&strict.server, &strict.client.id, REDIRECT, &scope);
    let parameters = query(&Browser::default().log_in(&asked, REDIRECT).await);
    let code = one(&parameters, "code").unwrap();
    let tokens = strict.client.exchange(&strict.server, code, &[]).await;
    let authorization = format!("Bearer {}", tokens.string("access_token"));
    let answer = send(
        "POST",
        &strict.server.url("/mcp"),
        &[("authorization", &authorization)],
        "",
    )
    .await;
    assert_error(
        &answer,
        403,
        "insufficient_scope",
        "a scope that was not granted",
    );
    assert!(
        answer.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .contains(r#"scope="openid profile admin""#)
    );
    assert!(upstream.all().is_empty(), "{:?}", upstream.all());
}

#[tokio::test]
async fn the_challenge_of_the_upstream_is_replaced() {
    for (status, ours) in [(401, true), (403, false), (200, false), (407, false)] {
        let upstream = Recorder::start(move |_| {
            let inner =
                r#"Bearer realm="inner", resource_metadata="http://inner.internal/.well-known/x""#;
            let challenges = AppendHeaders([
                ("www-authenticate", inner),
                ("www-authenticate", "Basic realm=\"inner\""),
                ("clear-site-data", "\"cookies\""),
            ]);
            (StatusCode::from_u16(status).unwrap(), challenges, "x")
        })
        .await;
        let fixture = Fixture::start(&format!("{}/mcp", upstream.url()), &[]).await;
        let authorization = format!("Bearer {}", fixture.access);
        let headers = [("authorization", authorization.as_str())];
        let answer = send("POST", &fixture.server.url("/mcp"), &headers, "{}").await;
        assert_eq!(answer.status, status);
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert!(
            !format!("{:?}", answer.headers).contains("inner"),
            "{status}: {:?}",
            answer.headers
        );
        assert!(!answer.headers.contains_key("clear-site-data"), "{status}");
        assert_eq!(
            challenges.len(),
            usize::from(ours),
            "{status}: {challenges:?}"
        );
        if let [challenge] = &challenges[..] {
            let metadata = fixture
                .server
                .url("/.well-known/oauth-protected-resource/mcp");
            let challenge = challenge.to_str().unwrap();
            for words in [
                "Bearer realm=\"mcp\"",
                "error=\"invalid_token\"",
                &format!("resource_metadata=\"{metadata}\""),
            ] {
                assert!(challenge.contains(words), "{challenge}");
            }
        }
    }
}
