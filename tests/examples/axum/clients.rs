//! Clients, their secrets and their errors.

use http::StatusCode;
use oauth2::basic::BasicErrorResponseType;
use oauth2::{AuthType, ClientSecret, PkceCodeChallenge, PkceCodeVerifier, TokenResponse as _};
use test_support::oauth::{basic, error, oauth_http, post_form};
use test_support::process::Example;

use super::{Client, app, authorize, client, log_in, me, refresh, refused, start};

const WEB_SECRET: &str = "s3cret of web";

/// A confidential client.
fn web(server: &Example, secret: &str, auth_type: AuthType) -> Client {
    client(server, "web", "https://web.example/callback")
        .set_client_secret(ClientSecret::new(secret.into()))
        .set_auth_type(auth_type)
}

#[tokio::test]
async fn a_confidential_client_refreshes_with_its_secret_in_the_header_or_in_the_form() {
    let server = start(&[]);
    for auth_type in [AuthType::BasicAuth, AuthType::RequestBody] {
        let client = web(&server, WEB_SECRET, auth_type);
        let old = log_in(&client).await.refresh_token().unwrap().clone();
        let first = refresh(&client, &old).await.unwrap();
        let again = refresh(&client, &old).await.unwrap();
        assert_eq!(
            again.refresh_token().unwrap().secret(),
            first.refresh_token().unwrap().secret()
        );
    }
}

#[tokio::test]
async fn a_wrong_client_or_secret_is_refused_without_ending_the_session() {
    let server = start(&[]);
    let client = web(&server, WEB_SECRET, AuthType::BasicAuth);
    let token = log_in(&client).await.refresh_token().unwrap().clone();

    assert_eq!(
        refused(refresh(&app(&server), &token).await),
        BasicErrorResponseType::InvalidGrant
    );
    for auth_type in [AuthType::BasicAuth, AuthType::RequestBody] {
        let thief = web(&server, "guessed", auth_type);
        assert_eq!(
            refused(refresh(&thief, &token).await),
            BasicErrorResponseType::InvalidClient
        );
    }
    // A replay needs the secret, too.
    let next = refresh(&client, &token).await.unwrap();
    let thief = web(&server, "guessed", AuthType::BasicAuth);
    refused(refresh(&thief, &token).await);
    assert_eq!(me(&server, &next).await.status, StatusCode::OK);
    refresh(&client, next.refresh_token().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_code_can_be_used_once_and_only_by_its_client() {
    let server = start(&[]);
    let client = app(&server);

    let (code, _) = authorize(&client).await;
    let (_, other) = PkceCodeChallenge::new_random_sha256();
    let answer = client
        .exchange_code(code)
        .set_pkce_verifier(other)
        .request_async(&oauth_http)
        .await;
    assert_eq!(refused(answer), BasicErrorResponseType::InvalidGrant);

    let (code, verifier) = authorize(&client).await;
    let again = PkceCodeVerifier::new(verifier.secret().clone());
    let exchange = client
        .exchange_code(code.clone())
        .set_pkce_verifier(verifier);
    let tokens = exchange.request_async(&oauth_http).await.unwrap();
    let answer = client
        .exchange_code(code)
        .set_pkce_verifier(again)
        .request_async(&oauth_http)
        .await;
    assert_eq!(refused(answer), BasicErrorResponseType::InvalidGrant);
    let token = tokens.refresh_token().unwrap();
    assert_eq!(
        refused(refresh(&client, token).await),
        BasicErrorResponseType::InvalidGrant
    );
}

#[tokio::test]
async fn errors_of_the_token_endpoint_are_the_same_with_and_without_the_layers() {
    let secret = basic("web", WEB_SECRET);
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Pairs<'_>, Pairs<'_>, (u16, &str))] = &[
        (
            "no grant type",
            &[("client_id", "app")],
            &[],
            (400, "invalid_request"),
        ),
        (
            "an unknown grant type",
            &[("grant_type", "magic"), ("client_id", "app")],
            &[],
            (400, "unsupported_grant_type"),
        ),
        (
            "an unknown client",
            &[
                ("grant_type", "authorization_code"),
                ("client_id", "unknown"),
                ("code", "c"),
            ],
            &[],
            (401, "invalid_client"),
        ),
        (
            "no secret",
            &[("grant_type", "authorization_code"), ("client_id", "web")],
            &[],
            (401, "invalid_client"),
        ),
        (
            "two clients",
            &[("grant_type", "authorization_code"), ("client_id", "app")],
            &[("authorization", &secret)],
            (400, "invalid_request"),
        ),
        (
            "an unknown code",
            &[
                ("grant_type", "authorization_code"),
                ("client_id", "app"),
                ("code", "c"),
            ],
            &[],
            (400, "invalid_grant"),
        ),
        (
            "an unknown refresh token",
            &[
                ("grant_type", "refresh_token"),
                ("client_id", "app"),
                ("refresh_token", "r"),
            ],
            &[],
            (400, "invalid_grant"),
        ),
    ];
    for flags in [&[][..], &["--without-layer"]] {
        let server = start(flags);
        for (name, fields, headers, expected) in cases {
            let answer = post_form(&server.url("/token"), fields, headers).await;
            assert_eq!(error(&answer), *expected, "{name} {flags:?}");
            assert_eq!(answer.1["cache-control"], "no-store", "{name} {flags:?}");
            assert_eq!(
                answer.1.contains_key("www-authenticate"),
                expected.0 == 401,
                "{name} {flags:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_without_a_client_gets_no_token_with_or_without_the_layers() {
    let code = [("grant_type", "authorization_code"), ("code", "c")];
    let app = (400, "invalid_request");
    // The layer issues access tokens only to a known client, so it refuses a request without one
    // before it calls the app.
    for (flags, nothing) in [
        (&[][..], (401, "invalid_client")),
        (&["--without-layer"], app),
    ] {
        let server = start(flags);
        let answer = post_form(&server.url("/token"), &[], &[]).await;
        assert_eq!(error(&answer), nothing, "no parameters {flags:?}");
        let answer = post_form(&server.url("/token"), &code, &[]).await;
        assert_eq!(
            error(&answer),
            (401, "invalid_client"),
            "a code alone {flags:?}"
        );
    }
}
