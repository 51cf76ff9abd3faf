//! Access tokens at the guarded routes.

use std::time::{Duration, Instant};

use http::StatusCode;
use oauth2::basic::{BasicErrorResponseType, BasicTokenResponse};
use oauth2::{StandardRevocableToken, TokenResponse as _};
use test_support::http::{Answer, get};
use test_support::oauth::oauth_http;
use test_support::process::Example;

use super::{app, authorize_for, call, challenge, log_in, me, refresh, refused, start};

/// Sends requests until the layer rejects one, and returns its response: the access layer learns of
/// ended grants in a background task.
async fn refused_in_the_end(server: &Example, path: &str, tokens: &BasicTokenResponse) -> Answer {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = call(server, path, tokens).await;
        // The app may reject its own token before the layer does.
        let of_app = answer
            .headers
            .get("www-authenticate")
            .is_some_and(|value| value == OF_APP);
        if answer.status != StatusCode::OK && !of_app {
            return answer;
        }
        assert!(
            Instant::now() < end,
            "{path}: the token is accepted after its grant has ended"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const OF_APP: &str = r#"Bearer error="invalid_token""#;
const MISSING: &str = r#"Bearer realm="oauth", scope="profile""#;
const INVALID: &str = concat!(
    r#"Bearer realm="oauth", error="invalid_token", "#,
    r#"error_description="the access token is invalid, expired or revoked""#
);
const INSUFFICIENT: &str = concat!(
    r#"Bearer realm="oauth", error="insufficient_scope", "#,
    r#"error_description="the access token does not have the required scope", scope="email profile""#
);

#[tokio::test]
async fn guarded_routes_see_the_client_and_scope_until_the_grant_is_revoked() {
    let server = start(&[]);
    let client = app(&server);
    let first = log_in(&client).await;
    assert!(
        first.access_token().secret().starts_with("at_"),
        "the client receives the layer's token"
    );
    let second = refresh(&client, first.refresh_token().unwrap())
        .await
        .unwrap();
    assert_ne!(
        second.access_token().secret(),
        first.access_token().secret()
    );
    for tokens in [&first, &second] {
        let expected = serde_json::json!({ "client_id": "app", "scopes": ["profile"] });
        assert_eq!(call(&server, "/grant", tokens).await.json(), expected);
        assert_eq!(
            me(&server, tokens).await.status,
            StatusCode::OK,
            "the app receives its own token"
        );
    }
    let revoked = StandardRevocableToken::RefreshToken(second.refresh_token().unwrap().clone());
    client
        .revoke_token(revoked)
        .unwrap()
        .request_async(&oauth_http)
        .await
        .unwrap();
    for path in ["/grant", "/me"] {
        for tokens in [&first, &second] {
            let answer = refused_in_the_end(&server, path, tokens).await;
            assert_eq!(
                challenge(&answer),
                (StatusCode::UNAUTHORIZED, INVALID),
                "{path}"
            );
        }
        let answer = get(&server.url(path)).await;
        assert_eq!(
            challenge(&answer),
            (StatusCode::UNAUTHORIZED, MISSING),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_access_token_of_the_app_is_rejected_by_the_layer() {
    let without = start(&["--without-layer"]);
    let own = log_in(&app(&without)).await;
    assert_eq!(me(&without, &own).await.status, StatusCode::OK);
    assert_eq!(
        call(&without, "/grant", &own).await.status,
        StatusCode::NOT_FOUND,
        "the route exists only with the layers"
    );
    let server = start(&[]);
    for path in ["/grant", "/me"] {
        assert_eq!(
            challenge(&call(&server, path, &own).await),
            (StatusCode::UNAUTHORIZED, INVALID),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_token_without_the_scope_is_refused() {
    let server = start(&[]);
    let client = app(&server);
    let (code, verifier) = authorize_for(&client, "email").await;
    let exchange = client.exchange_code(code).set_pkce_verifier(verifier);
    let tokens = exchange.request_async(&oauth_http).await.unwrap();
    for path in ["/grant", "/me"] {
        let answer = call(&server, path, &tokens).await;
        assert_eq!(
            challenge(&answer),
            (StatusCode::FORBIDDEN, INSUFFICIENT),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_access_token_can_be_revoked() {
    let server = start(&[]);
    let client = app(&server);
    let tokens = log_in(&client).await;
    let revoked = StandardRevocableToken::AccessToken(tokens.access_token().clone());
    client
        .revoke_token(revoked)
        .unwrap()
        .request_async(&oauth_http)
        .await
        .unwrap();
    assert_eq!(me(&server, &tokens).await.status, StatusCode::UNAUTHORIZED);
    // The app has ended the session, so the refresh token is rejected, too.
    let token = tokens.refresh_token().unwrap();
    assert_eq!(
        refused(refresh(&client, token).await),
        BasicErrorResponseType::InvalidGrant
    );
}
