//! The identity provider and other servers end the sessions of a user at the example `mcp`.

use std::time::Duration;

use serde_json::json;
use test_support::http::{Answer, get, post, send};
use test_support::openid::OpenId;
use test_support::process::Example;
use tokio::time::{sleep, timeout};

use crate::PROGRAM;
use crate::support::fixture::Fixture;
use crate::support::identity::{Identity, Manners};
use crate::support::mcp::{self, PROVIDER_CLIENT, Provider, one};
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
        // Without `openid` there is no nonce, which the ID tokens of these tests do not have.
        flags.push("--scope=profile".into());
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
        let id_token = self.openid.id_token_for(PROVIDER_CLIENT, user);
        self.provider
            .answer_exchanges(200, provider_tokens(Some(id_token)));
        self.client.log_in(&self.server).await
    }

    /// Returns whether the access token and the refresh token are both valid. Fails if only one is.
    async fn is_alive(&self, tokens: &Answer) -> bool {
        let refresh = tokens.string("refresh_token");
        self.provider.answer_exchanges(200, provider_tokens(None));
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

/// Returns a token response of the provider.
fn provider_tokens(id_token: Option<String>) -> String {
    let tokens = json!({
        "access_token": "provider-access",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "provider-refresh",
        "scope": "openid profile",
        "id_token": id_token,
    });
    tokens.to_string()
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

/// Returns the flags for the revocation of the provider's tokens, and the file of the key.
fn revoking() -> ([String; 3], tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "07".repeat(32)).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let flags = [
        "--upstream-revocation".into(),
        "--revocation-key-file".into(),
        path,
    ];
    (flags, file)
}

#[tokio::test]
async fn a_session_that_reuse_ends_is_revoked_at_the_provider() {
    let (flags, _file) = revoking();
    let flags = [&["--strict"][..], &flags.each_ref().map(String::as_str)].concat();
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::with_flags(Manners::default(), &flags).await;
    let first = client.log_in(&server).await.string("refresh_token");
    let second = client.refresh(&server, &first, &[]).await;
    let second = second.string("refresh_token");
    let third = client.refresh(&server, &second, &[]).await;
    assert_eq!(third.status, 200);
    assert_eq!(client.refresh(&server, &first, &[]).await.status, 400);
    let revoked = async {
        while identity.counts().revoked == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(test_support::PATIENCE, revoked).await.unwrap();
    let form = identity.last_form();
    assert_eq!(one(&form, "token_type_hint"), Some("refresh_token"));
    let token = one(&form, "token").unwrap().to_owned();
    assert!(identity.secrets().contains(&token), "{form:?}");
}

#[tokio::test]
async fn a_provider_without_a_revocation_endpoint_revokes_nothing() {
    let (flags, _file) = revoking();
    let mut all = Identity::start().await.flags();
    let at = all.iter().position(|flag| flag == "--revocation-endpoint");
    let at = at.unwrap();
    all.drain(at..at + 2);
    all.extend(flags);
    all.extend(["--listen=127.0.0.1:0", "--store=memory"].map(str::to_owned));
    let output = tokio::task::spawn_blocking(move || Example::run(PROGRAM, &all, &[]));
    let output = output.await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let message = "--upstream-revocation needs --revocation-endpoint";
    assert!(stderr.contains(message), "{stderr}");
}
