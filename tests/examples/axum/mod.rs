//! The example `axum`, run as a process, with the crate `oauth2` as its client.

use std::time::{Duration, Instant};

use http::StatusCode;
use oauth2::basic::{
    BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RevocationUrl,
    Scope, StandardRevocableToken, TokenResponse as _, TokenUrl,
};
use test_support::http::{Answer, get, post, send};
use test_support::oauth::{basic, error, oauth_http, post_form};
use test_support::process::{Example, example};
use url::Url;

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet>;
type Failure = BasicRequestTokenError<std::io::Error>;

const WEB_SECRET: &str = "s3cret of web";
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

/// A confidential client.
fn web(server: &Example, secret: &str, auth_type: AuthType) -> Client {
    client(server, "web", "https://web.example/callback")
        .set_client_secret(ClientSecret::new(secret.into()))
        .set_auth_type(auth_type)
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

/// Returns the status and the challenge of a response.
fn challenge(answer: &Answer) -> (StatusCode, &str) {
    (
        answer.status,
        answer.headers["www-authenticate"].to_str().unwrap(),
    )
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
