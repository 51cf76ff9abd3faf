//! The example `axum`, run as a process, with the crate `oauth2` as its client.

mod clients;
mod guarded;

use http::StatusCode;
use oauth2::basic::{
    BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse,
};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, CsrfToken, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RevocationUrl, Scope,
    StandardRevocableToken, TokenResponse as _, TokenUrl,
};
use test_support::http::{Answer, get, post, send};
use test_support::oauth::oauth_http;
use test_support::process::{Example, example};
use url::Url;

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet>;
type Failure = BasicRequestTokenError<std::io::Error>;

const APP_CALLBACK: &str = "http://127.0.0.1:7777/callback";

fn start(flags: &[&str]) -> Example {
    Example::start(
        example("axum"),
        &[&["127.0.0.1:0"], flags].concat(),
        &[] as &[(&str, &str)],
    )
}

fn client(server: &Example, id: &str, redirect_uri: &str) -> Client {
    // `oauth_http` documents why this URL is https.
    let revocation = server.url("/revoke").replacen("http", "https", 1);
    BasicClient::new(ClientId::new(id.into()))
        .set_auth_uri(AuthUrl::new(server.url("/authorize")).unwrap())
        .set_token_uri(TokenUrl::new(server.url("/token")).unwrap())
        .set_revocation_url(RevocationUrl::new(revocation).unwrap())
        .set_redirect_uri(RedirectUrl::new(redirect_uri.into()).unwrap())
}

/// A public client.
fn app(server: &Example) -> Client {
    client(server, "app", APP_CALLBACK)
}

/// Logs in as a user with a browser does. Returns the code of the redirect.
async fn authorize(client: &Client) -> (AuthorizationCode, PkceCodeVerifier) {
    authorize_for(client, "profile").await
}

async fn authorize_for(client: &Client, scope: &str) -> (AuthorizationCode, PkceCodeVerifier) {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state) = client
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new(scope.into()))
        .set_pkce_challenge(challenge)
        .url();
    let page = get(url.as_str()).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let mut form = hidden_fields(page.text());
    form.extend([("username", "demo"), ("password", "demo")]);
    let redirect = redirect(&post(url.join("/authorize").unwrap().as_str(), &form).await);
    assert!(
        redirect
            .as_str()
            .starts_with(client.redirect_uri().unwrap().as_str()),
        "{redirect}"
    );
    assert_eq!(query(&redirect, "state").as_ref(), Some(state.secret()));
    (
        AuthorizationCode::new(query(&redirect, "code").unwrap()),
        verifier,
    )
}

fn hidden_fields(page: &str) -> Vec<(&str, &str)> {
    let inputs = page.split(r#"<input type="hidden" name=""#).skip(1);
    inputs
        .map(|input| {
            input
                .split_once('"')
                .and_then(|(name, rest)| Some((name, rest.split('"').nth(1)?)))
                .unwrap()
        })
        .collect()
}

fn redirect(answer: &Answer) -> Url {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    Url::parse(answer.headers["location"].to_str().unwrap()).unwrap()
}

fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

async fn log_in(client: &Client) -> BasicTokenResponse {
    let (code, verifier) = authorize(client).await;
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

/// Returns the `error` of an error response.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> BasicErrorResponseType {
    match result {
        Err(Failure::ServerResponse(answer)) => answer.error().clone(),
        other => panic!("not an OAuth error: {other:?}"),
    }
}

async fn me(server: &Example, tokens: &BasicTokenResponse) -> Answer {
    call(server, "/me", tokens).await
}

async fn call(server: &Example, path: &str, tokens: &BasicTokenResponse) -> Answer {
    let bearer = format!("Bearer {}", tokens.access_token().secret());
    send("GET", &server.url(path), &[("authorization", &bearer)], "").await
}

/// Returns the status and the challenge of a response.
fn challenge(answer: &Answer) -> (StatusCode, &str) {
    (
        answer.status,
        answer.headers["www-authenticate"].to_str().unwrap(),
    )
}

#[tokio::test]
async fn a_user_logs_in_refreshes_and_reaches_the_guarded_route() {
    let server = start(&[]);
    let client = app(&server);
    let mut tokens = log_in(&client).await;
    for _ in 0..3 {
        assert_eq!(
            me(&server, &tokens).await.json(),
            serde_json::json!({ "user": "demo", "client_id": "app" })
        );
        assert_eq!(tokens.scopes().unwrap(), &[Scope::new("profile".into())]);
        let old = tokens.refresh_token().unwrap().clone();
        assert!(
            old.secret().starts_with("rt_"),
            "the client receives the layer's token"
        );
        tokens = refresh(&client, &old).await.unwrap();
        assert_ne!(tokens.refresh_token().unwrap().secret(), old.secret());
    }
    assert_eq!(
        get(&server.url("/me")).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_retry_gets_the_same_tokens_with_the_layers_and_ends_the_session_without_them() {
    let with = start(&[]);
    let client = app(&with);
    let old = log_in(&client).await.refresh_token().unwrap().clone();
    let first = refresh(&client, &old).await.unwrap();
    let second = refresh(&client, &old).await.unwrap();
    assert_eq!(
        second.refresh_token().unwrap().secret(),
        first.refresh_token().unwrap().secret()
    );
    assert_eq!(
        second.access_token().secret(),
        first.access_token().secret()
    );
    assert_eq!(me(&with, &first).await.status, StatusCode::OK);
    refresh(&client, first.refresh_token().unwrap())
        .await
        .unwrap();

    let without = start(&["--without-layer"]);
    let client = app(&without);
    let old = log_in(&client).await.refresh_token().unwrap().clone();
    assert!(!old.secret().starts_with("rt_"));
    let first = refresh(&client, &old).await.unwrap();
    assert_eq!(
        refused(refresh(&client, &old).await),
        BasicErrorResponseType::InvalidGrant
    );
    assert_eq!(me(&without, &first).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        refused(refresh(&client, first.refresh_token().unwrap()).await),
        BasicErrorResponseType::InvalidGrant
    );
}

#[tokio::test]
async fn concurrent_refreshes_of_tabs_get_the_same_tokens() {
    let server = start(&[]);
    let client = app(&server);
    let old = log_in(&client).await.refresh_token().unwrap().clone();
    let (a, b, c) = tokio::join!(
        refresh(&client, &old),
        refresh(&client, &old),
        refresh(&client, &old)
    );
    let tokens = [a.unwrap(), b.unwrap(), c.unwrap()];
    let next = tokens[0].refresh_token().unwrap();
    assert!(
        tokens
            .iter()
            .all(|tokens| tokens.refresh_token().unwrap().secret() == next.secret()),
        "{tokens:?}"
    );
    refresh(&client, next).await.unwrap();
}

#[tokio::test]
async fn revocation_ends_the_session_at_the_layer_and_the_app() {
    let server = start(&[]);
    let client = app(&server);
    let tokens = log_in(&client).await;
    let token = tokens.refresh_token().unwrap().clone();
    let revoked = StandardRevocableToken::RefreshToken(token.clone());
    // Revoking again is not an error (RFC 7009 §2.2).
    for _ in 0..2 {
        client
            .revoke_token(revoked.clone())
            .unwrap()
            .request_async(&oauth_http)
            .await
            .unwrap();
    }
    assert_eq!(
        refused(refresh(&client, &token).await),
        BasicErrorResponseType::InvalidGrant
    );
    assert_eq!(
        me(&server, &tokens).await.status,
        StatusCode::UNAUTHORIZED,
        "the app has revoked its token"
    );
}

#[tokio::test]
async fn the_log_in_page_redirects_only_to_registered_uris() {
    let server = start(&[]);
    let base = server.url("/authorize?response_type=code&code_challenge_method=S256");
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    for (name, parameters) in [
        (
            "an unknown client",
            format!("client_id=unknown&redirect_uri={APP_CALLBACK}&code_challenge={challenge}"),
        ),
        (
            "another redirect URI",
            format!("client_id=app&redirect_uri=https://evil.example&code_challenge={challenge}"),
        ),
    ] {
        let answer = get(&format!("{base}&{parameters}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        assert!(!answer.headers.contains_key("location"), "{name}");
    }
    let known = format!("{base}&client_id=app&redirect_uri={APP_CALLBACK}");
    for (parameters, error) in [
        ("state=s", "invalid_request"),
        (
            &format!("state=s&code_challenge={challenge}&scope=admin"),
            "invalid_scope",
        ),
    ] {
        let redirect = redirect(&get(&format!("{known}&{parameters}")).await);
        assert_eq!(query(&redirect, "error").as_deref(), Some(error));
        assert_eq!(query(&redirect, "state").as_deref(), Some("s"));
    }

    let page = get(&format!(
        "{known}&code_challenge={challenge}&state=%22%3E%3Cscript%3E"
    ))
    .await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text().contains("<script"), "{}", page.text());

    let mut form = hidden_fields(page.text());
    form.extend([("username", "demo"), ("password", "guessed")]);
    assert_eq!(
        post(&server.url("/authorize"), &form).await.status,
        StatusCode::FORBIDDEN
    );
}
