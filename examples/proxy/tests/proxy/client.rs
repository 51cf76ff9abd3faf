//! A real OAuth client, the crate `oauth2`, uses the example proxy with the endpoints in its
//! discovery document.

use oauth2::basic::{
    BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, PkceCodeChallenge, RedirectUrl, RefreshToken, RevocationUrl, Scope,
    StandardRevocableToken, TokenResponse as _, TokenUrl,
};
use test_support::http::{get, send};
use test_support::oauth::oauth_http;
use test_support::process::Example;
use url::Url;

use crate::PROGRAM;

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet>;
type Failure = BasicRequestTokenError<std::io::Error>;

/// Starts the proxy with its demo server. Returns it and one client for each authentication method.
async fn clients() -> (Example, Vec<Client>) {
    let start = || {
        Example::start(
            PROGRAM,
            &["--listen", "127.0.0.1:0"],
            &[] as &[(&str, &str)],
        )
    };
    let proxy = tokio::task::spawn_blocking(start).await.unwrap();
    let found = get(&proxy.url("/.well-known/oauth-authorization-server")).await;
    let client = |id: &str| {
        // `oauth_http` documents why this URL is https.
        let revocation = found
            .string("revocation_endpoint")
            .replacen("http", "https", 1);
        BasicClient::new(ClientId::new(id.into()))
            .set_auth_uri(AuthUrl::new(found.string("authorization_endpoint")).unwrap())
            .set_token_uri(TokenUrl::new(found.string("token_endpoint")).unwrap())
            .set_revocation_url(RevocationUrl::new(revocation).unwrap())
            .set_redirect_uri(RedirectUrl::new("http://127.0.0.1:7777/callback".into()).unwrap())
    };
    let confidential = |auth_type| {
        client("demo-confidential")
            .set_client_secret(ClientSecret::new("demo-secret".into()))
            .set_auth_type(auth_type)
    };
    let clients = vec![
        client("demo"),
        confidential(AuthType::BasicAuth),
        confidential(AuthType::RequestBody),
    ];
    (proxy, clients)
}

async fn log_in(client: &Client) -> BasicTokenResponse {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let scope = Scope::new("profile".into());
    let request = client
        .authorize_url(CsrfToken::new_random)
        .add_scope(scope)
        .set_pkce_challenge(challenge);
    let (url, state) = request.url();
    let answer = get(url.as_str()).await;
    let location = Url::parse(answer.headers["location"].to_str().unwrap()).unwrap();
    let query = |name: &str| {
        location
            .query_pairs()
            .find(|(key, _)| key == name)
            .unwrap()
            .1
            .into_owned()
    };
    assert_eq!(&query("state"), state.secret());
    let code = AuthorizationCode::new(query("code"));
    client
        .exchange_code(code)
        .set_pkce_verifier(verifier)
        .request_async(&oauth_http)
        .await
        .unwrap()
}

async fn refresh(client: &Client, token: &RefreshToken) -> Result<BasicTokenResponse, Failure> {
    client
        .exchange_refresh_token(token)
        .request_async(&oauth_http)
        .await
}

fn refused(result: Result<BasicTokenResponse, Failure>) {
    match result {
        Err(Failure::ServerResponse(answer)) => {
            assert_eq!(*answer.error(), BasicErrorResponseType::InvalidGrant)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_client_logs_in_refreshes_retries_and_revokes() {
    let (proxy, clients) = clients().await;
    for client in &clients {
        let mut tokens = log_in(client).await;
        for _ in 0..3 {
            let bearer = format!("Bearer {}", tokens.access_token().secret());
            let user = send(
                "GET",
                &proxy.url("/userinfo"),
                &[("authorization", &bearer)],
                "",
            )
            .await;
            assert_eq!(user.string("client_id"), client.client_id().as_str());
            let old = tokens.refresh_token().unwrap().clone();
            assert!(old.secret().starts_with("rt_"), "{old:?}");
            tokens = refresh(client, &old).await.unwrap();
            // Retries, as if the response was lost.
            let again = refresh(client, &old).await.unwrap();
            assert_eq!(
                again.refresh_token().unwrap().secret(),
                tokens.refresh_token().unwrap().secret()
            );
        }
        let token = tokens.refresh_token().unwrap();
        let revoked = StandardRevocableToken::RefreshToken(token.clone());
        client
            .revoke_token(revoked)
            .unwrap()
            .request_async(&oauth_http)
            .await
            .unwrap();
        refused(refresh(client, token).await);
    }
}

#[tokio::test]
async fn a_refresh_token_is_accepted_only_from_its_client() {
    let (_proxy, clients) = clients().await;
    let tokens = log_in(&clients[0]).await;
    let token = tokens.refresh_token().unwrap();
    refused(refresh(&clients[1], token).await);
    refresh(&clients[0], token).await.unwrap();
}
