//! The revocation endpoint.

use test_support::http::post;

use crate::support::fixture::Fixture;
use crate::support::identity::{Identity, Manners};
use crate::support::mcp::{self, one};
use crate::support::mcp_client::{McpClient, assert_error, call, structured};

#[tokio::test]
async fn a_refresh_token_of_any_generation_revokes_the_session() {
    for flags in [&[][..], &["--strict"]] {
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let Fixture { server, client, .. } = &fixture;
        let first = client.log_in(server).await;
        let second = client
            .refresh(server, &first.string("refresh_token"), &[])
            .await;
        let third = client
            .refresh(server, &second.string("refresh_token"), &[])
            .await;
        for answer in [&first, &second, &third] {
            structured(&call(server, &answer.string("access_token"), "whoami").await);
        }
        let other = McpClient::register(server).await;
        assert_eq!(
            other
                .revoke(server, &first.string("refresh_token"))
                .await
                .status,
            200,
            "{flags:?}"
        );
        structured(&call(server, &third.string("access_token"), "whoami").await);
        assert_eq!(
            client
                .revoke(server, &first.string("refresh_token"))
                .await
                .status,
            200,
            "{flags:?}"
        );
        for answer in [&first, &second, &third] {
            assert_eq!(
                call(server, &answer.string("access_token"), "whoami")
                    .await
                    .status,
                401,
                "{flags:?}: access tokens end at once"
            );
        }
        let refused = client
            .refresh(server, &third.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", "the session was revoked");
    }
}

#[tokio::test]
async fn both_kinds_of_tokens_can_be_revoked() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::start().await;
    let answer = client.log_in(&server).await;
    let (access, refresh) = (
        answer.string("access_token"),
        answer.string("refresh_token"),
    );
    assert_eq!(client.revoke(&server, &access).await.status, 200);
    assert!(
        one(&identity.last_form(), "token")
            .unwrap()
            .starts_with("identity-access-"),
        "the provider receives its own token"
    );
    assert_eq!(call(&server, &access, "whoami").await.status, 401);
    let answer = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(
        answer.status,
        200,
        "the session is not affected: {}",
        answer.text()
    );
    let refresh = answer.string("refresh_token");

    let revoked = identity.counts().revoked;
    let other = McpClient::register(&server).await;
    for (name, client, token) in [
        ("an unknown token", &client, "foreign"),
        ("a malformed token", &client, "at_short"),
        (
            "one of the provider's tokens",
            &client,
            &*identity.secrets().pop().unwrap(),
        ),
        (
            "the value that the layer keeps as the upstream token",
            &client,
            r#"{"scope":"openid","refresh":"identity-refresh-x"}"#,
        ),
        ("the token of another client", &other, &*refresh),
    ] {
        let answer = client.revoke(&server, token).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert_eq!(
        identity.counts().revoked,
        revoked,
        "the provider is not contacted"
    );
    let nobody = post(
        &server.url("/revoke"),
        &[("client_id", "nobody"), ("token", "foreign")],
    )
    .await;
    assert_error(&nobody, 401, "invalid_client", "an unknown client");
    let nothing = post(&server.url("/revoke"), &[("client_id", &client.id)]).await;
    assert_error(&nothing, 400, "invalid_request", "no token");

    let answer = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(
        answer.status,
        200,
        "the session is not affected: {}",
        answer.text()
    );
    let refresh = answer.string("refresh_token");
    identity.answer("/revoke", 503, "");
    assert_error(
        &client.revoke(&server, &refresh).await,
        503,
        "temporarily_unavailable",
        "the provider is down",
    );
    assert_error(
        &client.refresh(&server, &refresh, &[]).await,
        400,
        "invalid_grant",
        "the session has ended here",
    );
    identity.behave();
    assert_eq!(
        client.revoke(&server, &refresh).await.status,
        200,
        "the revocation can be repeated"
    );
    assert!(
        one(&identity.last_form(), "token")
            .unwrap()
            .starts_with("identity-refresh-"),
        "the provider receives the repeated revocation"
    );
}

#[tokio::test]
async fn a_session_ends_even_if_the_provider_cannot_revoke() {
    for (name, flag, answer) in [
        ("no revocation endpoint", false, (200, "")),
        ("an endpoint that no longer exists", true, (404, "")),
        (
            "an unsupported token type",
            true,
            (400, r#"{"error":"unsupported_token_type"}"#),
        ),
    ] {
        let identity = Identity::start().await;
        let mut flags = identity.flags();
        let at = flags
            .iter()
            .position(|flag| flag == "--revocation-endpoint")
            .unwrap();
        if !flag {
            flags.drain(at..at + 2);
        }
        identity.answer("/revoke", answer.0, answer.1);
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        let tokens = client.log_in(&server).await;
        assert_eq!(
            client
                .revoke(&server, &tokens.string("refresh_token"))
                .await
                .status,
            200,
            "{name}"
        );
        assert_eq!(identity.counts().revoked, usize::from(flag), "{name}");
        let refused = client
            .refresh(&server, &tokens.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", name);
        assert_eq!(
            call(&server, &tokens.string("access_token"), "whoami")
                .await
                .status,
            401,
            "{name}"
        );
    }
}
