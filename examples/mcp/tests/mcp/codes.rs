//! Authorization codes at the token endpoint of the example `mcp`: repeated, late and concurrent
//! exchanges, and exchanges by other clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::PATIENCE;
use test_support::http::Answer;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::fixture::Fixture;
use crate::support::identity::Manners;
use crate::support::mcp::{self, VERIFIER};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, structured};

/// Repeats an exchange until its response is no longer offered. Returns the next response.
async fn when_it_is_late(first: &Answer, repeat: impl AsyncFn() -> Answer) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let again = repeat().await;
        if again.status != 200 {
            return again;
        }
        assert_eq!(
            again.body, first.body,
            "the response stays the same while it is offered"
        );
        assert!(Instant::now() < end, "the response is still offered");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn reuse_of_a_code_ends_its_grant() {
    // The windows in which a repeated exchange gets the same response: none, a short one, and the
    // default.
    for (flags, window) in [
        (&["--strict"][..], 0),
        (&["--retry-window", "0"], 0),
        (&["--retry-window", "1"], 1),
        (&[], 5),
    ] {
        let window = Duration::from_secs(window);
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let Fixture { server, client, .. } = &fixture;
        let bystander = client.log_in(server).await;
        let (code, tokens, again) = loop {
            let code = fixture.code().await;
            let began = Instant::now();
            let tokens = client.exchange(server, &code, &[]).await;
            structured(&call(server, &tokens.string("access_token"), "whoami").await);
            let again = client.exchange(server, &code, &[]).await;
            // On a busy machine, the repeated exchange may be too late: log in again.
            if window.is_zero() || again.status == 200 || began.elapsed() < window {
                break (code, tokens, again);
            }
        };
        let window = !window.is_zero();
        assert_eq!(again.status == 200, window, "{flags:?}: {}", again.text());
        if window {
            assert_eq!(again.body, tokens.body, "{flags:?}");
            for name in ["content-type", "cache-control"] {
                assert_eq!(
                    again.headers[name], tokens.headers[name],
                    "{flags:?}: {name}"
                );
            }
            structured(&call(server, &tokens.string("access_token"), "whoami").await);
            let rotated = client
                .refresh(server, &tokens.string("refresh_token"), &[])
                .await;
            assert_eq!(rotated.status, 200, "{flags:?}: {}", rotated.text());
            let late =
                when_it_is_late(&tokens, async || client.exchange(server, &code, &[]).await).await;
            assert_error(&late, 400, "invalid_grant", "the code after the window");
            let refused = client
                .refresh(server, &rotated.string("refresh_token"), &[])
                .await;
            assert_error(&refused, 400, "invalid_grant", "the rotated refresh token");
            assert_eq!(
                call(server, &rotated.string("access_token"), "whoami")
                    .await
                    .status,
                401,
                "{flags:?}"
            );
        }
        let refused = client
            .refresh(server, &tokens.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", "the first refresh token");
        assert_eq!(
            call(server, &tokens.string("access_token"), "whoami")
                .await
                .status,
            401,
            "{flags:?}"
        );
        assert_error(
            &client.exchange(server, &code, &[]).await,
            400,
            "invalid_grant",
            "the code a third time",
        );
        structured(&call(server, &bystander.string("access_token"), "whoami").await);
        assert_eq!(
            client
                .refresh(server, &bystander.string("refresh_token"), &[])
                .await
                .status,
            200,
            "other sessions are not affected"
        );
        server.written("an authorization code was used again").await;
    }
}

#[tokio::test]
async fn reuse_of_a_code_by_another_client_ends_nothing() {
    for flags in [&[][..], &["--retry-window", "0"]] {
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let Fixture { server, client, .. } = &fixture;
        let code = fixture.code().await;
        let tokens = client.exchange(server, &code, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let other = McpClient::register(server).await;
        let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post" });
        let confidential = mcp::register(server, &metadata).await;
        let [id, secret] = ["client_id", "client_secret"]
            .map(|name| confidential[name].as_str().unwrap().to_owned());
        let wrong_verifier = VERIFIER.replace('d', "D");
        let rows: [(&str, &[(&str, &str)], u16, &str); 11] = [
            (
                "another client",
                &[("client_id", &other.id)],
                400,
                "invalid_grant",
            ),
            (
                "another client with a secret",
                &[("client_id", &id), ("client_secret", &secret)],
                400,
                "invalid_grant",
            ),
            (
                "another client with a wrong secret",
                &[("client_id", &id), ("client_secret", "x")],
                401,
                "invalid_client",
            ),
            (
                "an unknown client",
                &[("client_id", "nobody")],
                401,
                "invalid_client",
            ),
            ("no client", &[("client_id", "")], 401, "invalid_client"),
            (
                "another verifier",
                &[("code_verifier", &wrong_verifier)],
                400,
                "invalid_grant",
            ),
            (
                "the challenge for the verifier",
                &[("code_verifier", mcp::CHALLENGE)],
                400,
                "invalid_grant",
            ),
            (
                "no verifier",
                &[("code_verifier", "")],
                400,
                "invalid_request",
            ),
            (
                "another redirect URI",
                &[("redirect_uri", "http://127.0.0.1:7777/")],
                400,
                "invalid_grant",
            ),
            (
                "another resource",
                &[("resource", "https://example.com/mcp")],
                400,
                "invalid_target",
            ),
            (
                "both",
                &[("client_id", &other.id), ("code_verifier", &wrong_verifier)],
                400,
                "invalid_grant",
            ),
        ];
        for (name, changes, status, error) in rows {
            for _ in 0..2 {
                assert_error(
                    &client.exchange(server, &code, changes).await,
                    status,
                    error,
                    name,
                );
            }
            structured(&call(server, &tokens.string("access_token"), "whoami").await);
        }
        let refreshed = client
            .refresh(server, &tokens.string("refresh_token"), &[])
            .await;
        assert_eq!(refreshed.status, 200, "{flags:?}: {}", refreshed.text());
        assert!(!server.stderr().contains("was used again"), "{server:?}");
    }
}

#[tokio::test]
async fn concurrent_exchanges_of_a_code_get_the_same_tokens() {
    let fixture = Arc::new(Fixture::start().await);
    let Fixture { server, client, .. } = &*fixture;
    for parallel in [2, 4, 8] {
        let code = fixture.code().await;
        let requests = (0..parallel).map(|_| {
            let (fixture, code) = (Arc::clone(&fixture), code.clone());
            async move { fixture.client.exchange(&fixture.server, &code, &[]).await }
        });
        let answers = requests.collect::<JoinSet<_>>().join_all().await;
        for answer in &answers {
            assert_eq!(answer.status, 200, "{parallel}: {}", answer.text());
            assert_eq!(answer.body, answers[0].body, "{parallel}");
        }
        structured(&call(server, &answers[0].string("access_token"), "whoami").await);
        let refreshed = client
            .refresh(server, &answers[0].string("refresh_token"), &[])
            .await;
        assert_eq!(refreshed.status, 200, "{parallel}: {}", refreshed.text());
    }
}

#[tokio::test]
async fn reuse_of_a_code_is_rejected_if_there_is_no_refresh_token() {
    let fixture = Fixture::with(Manners {
        refresh_tokens: false,
        ..Manners::default()
    })
    .await;
    let Fixture { server, client, .. } = &fixture;
    let code = fixture.code().await;
    let answer = client.exchange(server, &code, &[]).await;
    assert_eq!(
        answer.json().get("refresh_token"),
        None,
        "{}",
        answer.text()
    );
    structured(&call(server, &answer.string("access_token"), "whoami").await);
    let late = when_it_is_late(&answer, async || client.exchange(server, &code, &[]).await).await;
    assert_error(&late, 400, "invalid_grant", "the code after the window");
}

#[tokio::test]
async fn an_invalid_request_does_not_consume_the_code() {
    let fixture = Fixture::start().await;
    let (server, code) = (&fixture.server, fixture.code().await);
    let other = McpClient::register(server).await;
    let long = "x".repeat(70_000);
    let rows: [(&str, &[(&str, &str)], u16, &str); 21] = [
        (
            "no grant type",
            &[("grant_type", "")],
            400,
            "invalid_request",
        ),
        (
            "another grant type",
            &[("grant_type", "client_credentials")],
            400,
            "unsupported_grant_type",
        ),
        (
            "a password",
            &[("grant_type", "password")],
            400,
            "unsupported_grant_type",
        ),
        ("no client", &[("client_id", "")], 401, "invalid_client"),
        (
            "an unknown client",
            &[("client_id", "nobody")],
            401,
            "invalid_client",
        ),
        (
            "a document that does not exist",
            &[("client_id", "https://127.0.0.1/client")],
            401,
            "invalid_client",
        ),
        (
            "a secret for a public client",
            &[("client_secret", "guessed")],
            401,
            "invalid_client",
        ),
        (
            "another client",
            &[("client_id", &other.id)],
            400,
            "invalid_grant",
        ),
        ("no code", &[("code", "")], 400, "invalid_request"),
        (
            "an unknown code",
            &[("code", VERIFIER)],
            400,
            "invalid_grant",
        ),
        (
            "a malformed code",
            &[("code", "../code")],
            400,
            "invalid_grant",
        ),
        (
            "two codes",
            &[("code", &code), ("code", &code)],
            400,
            "invalid_request",
        ),
        (
            "no verifier",
            &[("code_verifier", "")],
            400,
            "invalid_request",
        ),
        (
            "another verifier",
            &[("code_verifier", &VERIFIER.replace('d', "D"))],
            400,
            "invalid_grant",
        ),
        (
            "the challenge for the verifier",
            &[("code_verifier", mcp::CHALLENGE)],
            400,
            "invalid_grant",
        ),
        (
            "two verifiers",
            &[("code_verifier", VERIFIER), ("code_verifier", VERIFIER)],
            400,
            "invalid_request",
        ),
        (
            "another redirect URI",
            &[("redirect_uri", "http://127.0.0.1:7777/")],
            400,
            "invalid_grant",
        ),
        (
            "another resource",
            &[("resource", "https://example.com/mcp")],
            400,
            "invalid_target",
        ),
        (
            "an additional resource",
            &[("resource", &server.url("/mcp")), ("resource", "urn:x")],
            400,
            "invalid_target",
        ),
        (
            "an invalid resource",
            &[("resource", "mcp")],
            400,
            "invalid_target",
        ),
        (
            "a body that is too large",
            &[("x", &long)],
            413,
            "invalid_request",
        ),
    ];
    for (name, changes, status, error) in rows {
        let answer = fixture.client.exchange(server, &code, changes).await;
        assert_error(&answer, status, error, name);
    }
    let right = [
        ("resource", format!("{}/?tenant=a", server.url("/mcp"))),
        ("redirect_uri", String::new()),
    ];
    let right = right
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let answer = fixture.client.exchange(server, &code, &right).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    structured(&call(server, &answer.string("access_token"), "whoami").await);
}
