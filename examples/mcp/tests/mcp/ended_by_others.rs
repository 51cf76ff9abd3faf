//! The identity provider and other servers end the sessions of a user at the example `mcp`.

use serde_json::json;
use test_support::http::{Answer, get, post, send};
use test_support::openid::OpenId;
use test_support::process::Example;

use crate::support::mcp::{self, PROVIDER_CLIENT, Provider};
use crate::support::mcp_client::{McpClient, call, ended};

const TOKEN: &str = "a-token-of-another-server-0123456789";

const ADMIN: &str = "the-token-of-the-operators-0123456789";

/// The server, whose provider is known by its issuer, and a client.
struct Known {
    provider: Provider,
    openid: OpenId,
    server: Example,
    client: McpClient,
}

impl Known {
    async fn start() -> Self {
        let (provider, openid) = (Provider::start().await, OpenId::start().await);
        let mut flags = provider.flags();
        flags.extend(["--provider-issuer".into(), openid.issuer()]);
        let own = ["--global-revocation-token", TOKEN, "--admin-token", ADMIN];
        flags.extend(own.map(str::to_owned));
        flags.push("--admin=127.0.0.1:0".into());
        provider.answer_requests(&[("code", "x"), ("iss", &openid.issuer())]);
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        Self {
            provider,
            openid,
            server,
            client,
        }
    }

    /// Logs a user in. Returns the token response.
    async fn log_in(&self, user: &str) -> Answer {
        let tokens = json!({
            "access_token": "provider-access",
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": "provider-refresh",
            "scope": "openid profile",
            "id_token": self.openid.id_token(user),
        });
        self.provider.answer_exchanges(200, tokens.to_string());
        self.client.log_in(&self.server).await
    }

    /// Returns whether the access token and the refresh token are both valid. Fails if only one is.
    async fn is_alive(&self, tokens: &Answer) -> bool {
        let refresh = tokens.string("refresh_token");
        let refreshed = self.client.refresh(&self.server, &refresh, &[]).await;
        let access = tokens.string("access_token");
        if refreshed.status != 200 {
            assert_eq!(refreshed.string("error"), "invalid_grant");
            ended(&self.server, &access).await;
            return false;
        }
        assert_eq!(call(&self.server, &access, "whoami").await.status, 200);
        true
    }

    async fn log_out(&self, token: &str) -> Answer {
        let url = self.server.url("/backchannel-logout");
        post(&url, &[("logout_token", token)]).await
    }
}

#[tokio::test]
async fn a_session_is_labelled_with_the_device_of_the_log_in_and_the_client() {
    let known = Known::start().await;
    let tokens = known.log_in("ada").await;
    assert!(known.is_alive(&tokens).await);
    let url = format!("http://{}/sessions?subject=ada", known.server.admin_addr());
    let bearer = format!("Bearer {ADMIN}");
    let answer = send("GET", &url, &[("authorization", &bearer)], "").await;
    let label = &answer.json()["sessions"][0]["label"];
    assert_eq!(label, "127.0.0.1, A client, (Test) Browser/1.0");
}

#[tokio::test]
async fn a_known_provider_logs_its_users_out() {
    let known = Known::start().await;
    let ada = [known.log_in("ada").await, known.log_in("ada").await];
    let bob = known.log_in("bob").await;
    let mut claims = known.openid.logout("ada");
    let for_another = known.openid.sign(&claims);
    assert_eq!(known.log_out(&for_another).await.status, 400);
    assert!(known.is_alive(&ada[0]).await);

    claims.insert("aud".into(), PROVIDER_CLIENT.into());
    let token = known.openid.sign(&claims);
    assert_eq!(known.log_out(&token).await.status, 200);
    for tokens in &ada {
        assert!(!known.is_alive(tokens).await);
    }
    assert!(known.is_alive(&bob).await);
    assert_eq!(known.log_out(&token).await.status, 400, "replayed");
}

#[tokio::test]
async fn another_server_ends_all_sessions_of_a_user() {
    let known = Known::start().await;
    let metadata = get(&known.server.url("/.well-known/oauth-authorization-server")).await;
    let url = metadata.string("global_token_revocation_endpoint");
    assert_eq!(url, known.server.url("/global-token-revocation"));
    let ada = known.log_in("ada").await;
    let bob = known.log_in("bob").await;
    let body = json!({ "sub_id": { "format": "opaque", "id": "ada" } }).to_string();
    let json = ("content-type", "application/json");
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(send("POST", &url, &[json], body.clone()).await.status, 401);
    assert!(known.is_alive(&bob).await);
    let answer = send("POST", &url, &[json, ("authorization", &bearer)], body).await;
    assert_eq!(answer.status, 204);
    assert!(!known.is_alive(&ada).await);
}

#[tokio::test]
async fn without_an_issuer_or_a_token_the_endpoints_do_not_exist() {
    let provider = Provider::start().await;
    let server = mcp::start(&provider.flags()).await;
    for path in ["/backchannel-logout", "/global-token-revocation"] {
        assert_eq!(post(&server.url(path), &[]).await.status, 404, "{path}");
    }
    let metadata = get(&server.url("/.well-known/oauth-authorization-server")).await;
    assert!(!metadata.text().contains("global_token"), "{metadata:?}");
}
