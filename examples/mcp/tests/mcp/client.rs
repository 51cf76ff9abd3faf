//! The example `mcp` with the client of rmcp, which implements the whole OAuth flow of MCP clients.

use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use oauth2::TokenResponse as _;
use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{
    AuthClient, AuthError, AuthorizationManager, AuthorizationRequest, CredentialStore as _,
    InMemoryCredentialStore, OAuthState, OAuthTokenResponse, StoredCredentials,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Value, json};
use test_support::http::send;
use test_support::process::Example;
use tokio::task::JoinSet;

use crate::support::documents::DocumentHost;
use crate::support::identity::{Identity, Manners};
use crate::support::mcp::{self, Browser, onward, query};
use crate::support::mcp_client::{REDIRECT, ended};

type Client = RunningService<RoleClient, ()>;

/// The credentials that a client stores after a log-in.
#[derive(Clone)]
struct Session {
    client_id: String,
    tokens: OAuthTokenResponse,
}

impl Session {
    async fn of(state: &OAuthState) -> Self {
        let (client_id, tokens) = state.get_credentials().await.unwrap();
        Self {
            client_id,
            tokens: tokens.expect("tokens"),
        }
    }

    fn part(&self, name: &str) -> String {
        json!(self.tokens)[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    }

    /// Returns a restarted client with the stored credentials.
    async fn resume(&self, server: &str) -> OAuthState {
        let mut state = unauthorized(server).await;
        state
            .set_credentials(&self.client_id, self.tokens.clone())
            .await
            .unwrap();
        state
    }
}

async fn unauthorized(server: &str) -> OAuthState {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap()
    });
    OAuthState::new(server, None).await.unwrap()
}

/// Begins a log-in from the challenge that the server sends to a client without a token.
async fn begin(server: &Example, request: AuthorizationRequest) -> OAuthState {
    let url = server.url("/mcp");
    let refused = send("POST", &url, &[("content-type", "application/json")], "{}").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    let mut state = unauthorized(&url).await;
    state
        .start_authorization(request.with_challenge(challenge))
        .await
        .unwrap();
    state
}

/// Registers a client and logs in with a provider that shows no log-in page.
async fn log_in(server: &Example) -> OAuthState {
    let mut state = begin(
        server,
        AuthorizationRequest::new(REDIRECT).with_client_name("rmcp"),
    )
    .await;
    let url = state.get_authorization_url().await.unwrap();
    let callback = Browser::default().log_in(&url, REDIRECT).await;
    state.handle_callback_url(&callback).await.unwrap();
    state
}

/// Connects for tool calls.
async fn connect(server: String, state: OAuthState) -> Result<Client, String> {
    connect_with(
        server,
        state.into_authorization_manager().expect("a log-in"),
    )
    .await
}

async fn connect_with(server: String, manager: AuthorizationManager) -> Result<Client, String> {
    let client = AuthClient::new(reqwest::Client::new(), manager);
    let config = StreamableHttpClientTransportConfig::with_uri(server);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    ().serve(transport).await.map_err(|error| error.to_string())
}

async fn tool(client: &Client, name: &'static str) -> Result<Value, String> {
    let result = client
        .call_tool(CallToolRequestParams::new(name))
        .await
        .map_err(|error| error.to_string())?;
    assert_ne!(result.is_error, Some(true), "{result:?}");
    Ok(result.structured_content.expect("content"))
}

async fn start(identity: &Identity) -> Example {
    mcp::start(&identity.flags()).await
}

/// Starts a server whose access tokens end with those of the provider.
async fn start_without_renewals(identity: &Identity) -> Example {
    let mut flags = identity.flags();
    flags.push("--upstream-refresh=false".into());
    mcp::start(&flags).await
}

#[tokio::test]
async fn a_client_can_log_in_call_tools_refresh_and_revoke() {
    let server = mcp::start(&["--demo-access-lifetime".into(), "3600".into()]).await;
    let mut state = begin(
        &server,
        AuthorizationRequest::new(REDIRECT).with_client_name("rmcp"),
    )
    .await;

    // The user sees the consent page, then the log-in page of the demo provider.
    let mut browser = Browser::default();
    let request = browser
        .get(&state.get_authorization_url().await.unwrap())
        .await;
    let consented = browser.approve(&request).await;
    let log_in = onward(&consented);
    let page = browser.get(&log_in).await;
    assert!(
        page.status == StatusCode::OK && page.text().contains("Log in as"),
        "{page:?}"
    );
    let logged_in = browser
        .post(&log_in, &[("other", "Zoë"), ("log_in", "yes")])
        .await;
    let callback = browser.follow(logged_in, REDIRECT).await;
    assert!(
        query(&callback)
            .iter()
            .any(|(name, value)| name == "iss" && *value == server.url("")),
        "{callback}"
    );
    state.handle_callback_url(&callback).await.unwrap();

    let session = Session::of(&state).await;
    let (access, refresh) = (session.part("access_token"), session.part("refresh_token"));
    assert!(
        access.starts_with("at_") && refresh.starts_with("rt_"),
        "both tokens are this server's"
    );
    let client = connect(server.url("/mcp"), state).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 2, "{tools:?}");
    let who = tool(&client, "whoami").await.unwrap();
    assert_eq!(who["client_id"], session.client_id.as_str());
    assert_eq!(who["resources"], json!([server.url("/mcp")]));
    let seen = tool(&client, "upstream").await.unwrap();
    assert_eq!(seen["user"]["sub"], "Zoë", "{seen}");
    assert_eq!(
        seen["token"]["issued_here"], false,
        "the provider receives its own token"
    );

    // Refresh, and call again.
    let state = session.resume(&server.url("/mcp")).await;
    state.refresh_token().await.unwrap();
    let refreshed = Session::of(&state).await;
    assert_ne!(refreshed.part("access_token"), access);
    assert_ne!(refreshed.part("refresh_token"), refresh);
    let client = connect(server.url("/mcp"), state).await.unwrap();
    assert_eq!(
        tool(&client, "upstream").await.unwrap()["user"]["sub"],
        "Zoë"
    );

    // After the revocation, both the connected client and a restarted one are rejected.
    let form = [
        ("client_id", &*session.client_id),
        ("token", &*refreshed.part("refresh_token")),
    ];
    let revoked = test_support::http::post(&server.url("/revoke"), &form).await;
    assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
    // The access layer's cache learns of the revocation a moment later.
    ended(&server, &refreshed.part("access_token")).await;
    let error = tool(&client, "whoami")
        .await
        .expect_err("the session has ended");
    assert!(error.to_ascii_lowercase().contains("auth"), "{error}");
    let state = refreshed.resume(&server.url("/mcp")).await;
    let error = state
        .refresh_token()
        .await
        .expect_err("the session has ended");
    assert!(
        matches!(error, AuthError::TokenRefreshRejected(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_without_a_token_discovers_the_authorization_server() {
    let identity = Identity::start().await;
    let server = start(&identity).await;
    unauthorized(&server.url("/mcp")).await;
    let transport = StreamableHttpClientTransport::with_client(
        reqwest::Client::new(),
        StreamableHttpClientTransportConfig::with_uri(server.url("/mcp")),
    );
    let error = ().serve(transport).await.map(drop).expect_err("no token");
    assert!(
        error.to_string().to_ascii_lowercase().contains("auth"),
        "{error}"
    );
    // Discovery also works without a challenge.
    let mut state = unauthorized(&server.url("/mcp")).await;
    state
        .start_authorization(AuthorizationRequest::new(REDIRECT))
        .await
        .unwrap();
    let url = state.get_authorization_url().await.unwrap();
    assert!(url.starts_with(&server.url("/authorize?")), "{url}");
    let scope = query(&url)
        .into_iter()
        .find(|(name, _)| name == "scope")
        .unwrap()
        .1;
    assert_eq!(
        scope, "openid profile offline_access",
        "the scopes in the metadata of the server"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_clients_with_one_session_refresh_once() {
    let identity = Identity::with(Manners {
        expires_in: Some(json!(2)),
        ..Manners::default()
    })
    .await;
    let server = start_without_renewals(&identity).await;
    let session = Session::of(&log_in(&server).await).await;
    ended(&server, &session.part("access_token")).await;
    identity.change(|manners| manners.expires_in = Some(json!(3600)));

    let mut resumed = Vec::new();
    for _ in 0..20 {
        resumed.push(session.resume(&server.url("/mcp")).await);
    }
    let mut calls = JoinSet::new();
    for state in resumed {
        let server = server.url("/mcp");
        calls.spawn(async move {
            let client = connect(server, state).await?;
            tool(&client, "upstream").await
        });
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap()["user"]["sub"], "person-1", "logged out");
    }
    let counts = identity.counts();
    assert_eq!(
        (counts.exchanged, counts.refreshed, counts.reused),
        (1, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_calls_of_one_client_refresh_once() {
    let identity = Identity::with(Manners {
        expires_in: Some(json!(5)),
        ..Manners::default()
    })
    .await;
    let server = start_without_renewals(&identity).await;
    let state = log_in(&server).await;
    let session = Session::of(&state).await;
    let kept = InMemoryCredentialStore::new();
    // A client that does not know the expiry of its token would get twenty 401 responses instead.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let credentials = StoredCredentials::new(
        session.client_id,
        Some(session.tokens),
        Vec::new(),
        Some(now),
    );
    kept.save(credentials).await.unwrap();
    let mut manager = state.into_authorization_manager().unwrap();
    manager.set_credential_store(kept.clone());
    let client = connect_with(server.url("/mcp"), manager).await.unwrap();
    tool(&client, "whoami").await.unwrap();
    // On a slow machine, the client may have refreshed already.
    let current = async || kept.load().await.unwrap().unwrap().token_response.unwrap();
    let mut token = String::new();
    while token != *current().await.access_token().secret() {
        token.clone_from(current().await.access_token().secret());
        ended(&server, &token).await;
    }
    let before = identity.counts().refreshed;
    identity.change(|manners| manners.expires_in = Some(json!(3600)));

    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let peer = client.peer().clone();
        calls.spawn(async move { peer.call_tool(CallToolRequestParams::new("whoami")).await });
    }
    for answer in calls.join_all().await {
        assert_ne!(
            answer.expect("the client stays logged in").is_error,
            Some(true)
        );
    }
    let counts = identity.counts();
    assert_eq!((counts.refreshed, counts.reused), (before + 1, 0));
}

#[tokio::test]
async fn a_client_with_a_metadata_document_does_not_register() {
    let (host, identity) = (DocumentHost::start().await, Identity::start().await);
    let client_id = host.document("/client.json", &json!({ "redirect_uris": [REDIRECT] }), &[]);
    let flags = identity.flags();
    let server = host
        .mcp(&flags.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mut state = begin(
        &server,
        AuthorizationRequest::new(REDIRECT).with_client_metadata_url(client_id.clone()),
    )
    .await;
    let url = state.get_authorization_url().await.unwrap();
    let callback = Browser::default().log_in(&url, REDIRECT).await;
    state.handle_callback_url(&callback).await.unwrap();
    let session = Session::of(&state).await;
    assert_eq!(session.client_id, client_id);
    let client = connect(server.url("/mcp"), state).await.unwrap();
    assert_eq!(
        tool(&client, "whoami").await.unwrap()["client_id"],
        client_id.as_str()
    );
    session
        .resume(&server.url("/mcp"))
        .await
        .refresh_token()
        .await
        .unwrap();
    assert_eq!(identity.counts().refreshed, 1);
}
