//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use crate::clients::ClientFlags;
use crate::issuer::Issuer;
use crate::provider::{ClientAuth, ProviderSettings};
use crate::store::{Cache, StoreChoice};

/// An OAuth 2.1 authorization server for MCP servers, in front of an identity provider that knows no dynamic registration.
///
/// Without a provider it starts a small one of its own, with a log-in page, to try it out.
#[derive(Debug, clap::Parser)]
#[command(name = "mcp", version)]
pub(crate) struct Cli {
    /// Where to listen for clients, in plain HTTP; port 0 picks a free one
    #[arg(long, env = "MCP_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,

    /// The URL under which clients and people reach this server: its issuer; may have a path [default: http://LISTEN]
    #[arg(long, env = "MCP_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Issuer>,

    /// Where people log in at the provider
    #[arg(long, env = "MCP_AUTHORIZATION_ENDPOINT", value_name = "URL")]
    authorization_endpoint: Option<Url>,

    /// The token endpoint of the provider
    #[arg(long, env = "MCP_TOKEN_ENDPOINT", value_name = "URL")]
    token_endpoint: Option<Url>,

    /// The revocation endpoint of the provider, if it has one
    #[arg(long, env = "MCP_REVOCATION_ENDPOINT", value_name = "URL")]
    revocation_endpoint: Option<Url>,

    /// The userinfo endpoint of the provider, if it has one
    #[arg(long, env = "MCP_USERINFO_ENDPOINT", value_name = "URL")]
    userinfo_endpoint: Option<Url>,

    /// What the provider knows this server as
    #[arg(long, env = "MCP_CLIENT_ID", value_name = "ID")]
    client_id: Option<String>,

    /// The secret that goes with it; better set in the environment
    #[arg(long, env = "MCP_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true)]
    client_secret: Option<String>,

    /// How to show it to the provider
    #[arg(long, env = "MCP_CLIENT_AUTH", value_enum, default_value = "client_secret_basic")]
    client_auth: ClientAuth,

    /// The scopes to ask the provider for, separated by spaces
    #[arg(long, env = "MCP_SCOPE", value_name = "SCOPES", default_value = "openid profile")]
    scope: String,

    /// Where grants, clients and codes live: `memory`, `redb:PATH`, redis://…, redis-cluster://… or redis-sentinel://…
    #[arg(long, env = "MCP_STORE", value_name = "STORE", default_value = "memory", hide_env_values = true)]
    store: String,

    /// How much memory the cache in front of Redis takes up, and that of access tokens, in bytes; 0: no cache
    #[arg(long, env = "MCP_CACHE_SIZE", value_name = "BYTES", default_value_t = 64 << 20)]
    cache_size: u64,

    /// How long the cache in front of Redis holds what it has learnt, and that of access tokens; 0: no cache
    #[arg(long, env = "MCP_CACHE_TTL", value_name = "SECS", default_value_t = 10)]
    cache_ttl: u64,

    #[command(flatten)]
    pub(crate) clients: ClientFlags,
}

impl Cli {
    /// Which store. Not left to clap, whose message would repeat the password of a URL.
    pub(crate) fn store(&self) -> Result<StoreChoice, String> {
        self.store.parse().map_err(|error| format!("--store: {error}"))
    }

    pub(crate) const fn cache(&self) -> Cache {
        Cache { bytes: self.cache_size, ttl: Duration::from_secs(self.cache_ttl) }
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.scope.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn provider(&self) -> Result<ProviderSettings, String> {
        let missing = |flag: &str| format!("{flag} is missing");
        Ok(ProviderSettings {
            authorization_endpoint: self
                .authorization_endpoint
                .clone()
                .ok_or_else(|| missing("--authorization-endpoint"))?,
            token_endpoint: self.token_endpoint.clone().ok_or_else(|| missing("--token-endpoint"))?,
            revocation_endpoint: self.revocation_endpoint.clone(),
            userinfo_endpoint: self.userinfo_endpoint.clone(),
            issuer: None,
            client_id: self.client_id.clone().ok_or_else(|| missing("--client-id"))?,
            client_secret: self.client_secret.clone().ok_or_else(|| missing("--client-secret"))?,
            auth: self.client_auth,
            extra: Vec::new(),
        })
    }
}
