//! The command line.

mod demo;
mod endpoint;
mod origin;
mod scope_description;
mod sessions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use server_common::flags::{level, seconds};
use server_common::logging::LogFormat;
use server_common::store::{Settings, StoreChoice};
use tower_oauth_refresh::{AccessLayerBuilder, Store};
use tracing_subscriber::filter::LevelFilter;
use url::Url;

pub(crate) use self::demo::DemoFlags;
pub(crate) use self::endpoint::{EndpointFlags, McpUpstream, TokenUse};
pub(crate) use self::origin::AllowedOrigin;
use self::scope_description::ScopeDescription;
use self::sessions::SessionFlags;
use crate::clients::ClientFlags;
use crate::issuer::Issuer;
use crate::provider::{ClientAuth, ProviderSettings};

server_common::limit_flags!("MCP_");

/// An OAuth 2.1 authorization server for MCP servers, in front of an identity provider without
/// dynamic client registration.
///
/// If no provider is configured, it starts a demo provider with a log-in page.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Address to listen on for clients, in plain HTTP; port 0 picks a free port
    #[arg(
        long,
        env = "MCP_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8000"
    )]
    pub(crate) listen: SocketAddr,

    /// URL at which clients and browsers reach this server, which is its issuer identifier; may
    /// have a path [default: http://LISTEN]
    #[arg(long, env = "MCP_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<Issuer>,

    /// Authorization endpoint of the provider
    #[arg(long, env = "MCP_AUTHORIZATION_ENDPOINT", value_name = "URL")]
    authorization_endpoint: Option<Url>,

    /// Token endpoint of the provider
    #[arg(long, env = "MCP_TOKEN_ENDPOINT", value_name = "URL")]
    token_endpoint: Option<Url>,

    /// Revocation endpoint of the provider, if it has one
    #[arg(long, env = "MCP_REVOCATION_ENDPOINT", value_name = "URL")]
    revocation_endpoint: Option<Url>,

    /// Userinfo endpoint of the provider, if it has one
    #[arg(long, env = "MCP_USERINFO_ENDPOINT", value_name = "URL")]
    userinfo_endpoint: Option<Url>,

    /// Value of `iss` in the provider's authorization responses, if it sends one (RFC 9207)
    #[arg(long, env = "MCP_PROVIDER_ISSUER", value_name = "URL")]
    provider_issuer: Option<String>,

    /// Additional parameter for the provider's authorization endpoint, such as access_type=offline
    /// for Google; may be repeated
    #[arg(long, env = "MCP_AUTHORIZATION_PARAM", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = pair)]
    authorization_param: Vec<(String, String)>,

    /// Client ID of this server at the provider
    #[arg(long, env = "MCP_CLIENT_ID", value_name = "ID")]
    client_id: Option<String>,

    /// Client secret of this server at the provider; set it in the environment to keep it out of
    /// process lists
    #[arg(
        long,
        env = "MCP_CLIENT_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    client_secret: Option<String>,

    /// Method of client authentication at the provider
    #[arg(
        long,
        env = "MCP_CLIENT_AUTH",
        value_enum,
        default_value = "client_secret_basic"
    )]
    client_auth: ClientAuth,

    /// Scopes that clients may request, and that are requested from the provider, separated by
    /// spaces
    #[arg(
        long,
        env = "MCP_SCOPE",
        value_name = "SCOPES",
        default_value = "openid profile"
    )]
    scope: String,

    /// Text that the consent page shows instead of a scope of --scope, such as `openid=Know who you
    /// are`; at most 200 characters, without `;`; may be repeated, in the environment separated by
    /// `;` [default: the scope itself]
    #[arg(
        long,
        env = "MCP_SCOPE_DESCRIPTION",
        value_name = "SCOPE=TEXT",
        value_delimiter = ';'
    )]
    scope_description: Vec<ScopeDescription>,

    /// Store for grants, clients and codes: `memory`, `redb:PATH`, redis://…, redis-cluster://… or
    /// redis-sentinel://…
    #[arg(
        long,
        env = "MCP_STORE",
        value_name = "STORE",
        default_value = "memory",
        hide_env_values = true
    )]
    store: String,

    /// Number of Redis replicas that must acknowledge a write before it counts; 0 does not wait
    ///
    /// With 1 or more, a failover to a replica that has acknowledged a write does not lose it. The
    /// risk: while fewer replicas are connected, refreshes get 503.
    #[arg(
        long,
        env = "MCP_WAIT_FOR_REPLICAS",
        value_name = "COUNT",
        default_value_t = 0
    )]
    wait_for_replicas: u32,

    /// Memory, in bytes, for the cache in front of Redis, and the same again for the cache of
    /// access tokens; 0 disables both caches
    #[arg(long, env = "MCP_CACHE_SIZE", value_name = "BYTES", default_value_t = 64 << 20)]
    cache_size: u64,

    /// Time in seconds for which the cache in front of Redis and the cache of access tokens keep an
    /// entry; 0 disables both caches
    #[arg(long, env = "MCP_CACHE_TTL", value_name = "SECS", value_parser = seconds, default_value = "10")]
    cache_ttl: Duration,

    #[command(flatten)]
    pub(crate) sessions: SessionFlags,

    #[command(flatten)]
    pub(crate) clients: ClientFlags,

    #[command(flatten)]
    pub(crate) endpoint: EndpointFlags,

    #[command(flatten)]
    pub(crate) demo: DemoFlags,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,

    /// Format of the log, which is written to standard error
    #[arg(
        long,
        env = "MCP_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,

    /// Log level; no level logs tokens or secrets
    #[arg(long, env = "MCP_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level())]
    pub(crate) log_level: LevelFilter,
}

impl Cli {
    /// Parses `--store`. clap must not do this, because its error message would repeat the password
    /// in a URL.
    pub(crate) fn store(&self) -> Result<StoreChoice, String> {
        self.store
            .parse()
            .map_err(|error| format!("--store: {error}"))
    }

    pub(crate) const fn store_settings(&self) -> Settings {
        Settings {
            cache_bytes: self.cache_size,
            cache_ttl: self.cache_ttl,
            replicas: self.wait_for_replicas,
        }
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.scope.split_whitespace().map(str::to_owned).collect()
    }

    /// Returns the text for each scope that has one.
    pub(crate) fn scope_descriptions(&self) -> Result<BTreeMap<String, String>, String> {
        let scopes = self.scopes();
        let mut descriptions = BTreeMap::new();
        for ScopeDescription { scope, text } in &self.scope_description {
            if !scopes.contains(scope) {
                return Err(format!(
                    "--scope-description: `{scope}` is not one of the scopes of --scope"
                ));
            }
            if descriptions.insert(scope.clone(), text.clone()).is_some() {
                return Err(format!("--scope-description: two texts for `{scope}`"));
            }
        }
        Ok(descriptions)
    }

    /// Returns the settings of the provider; `None` selects the demo provider.
    pub(crate) fn provider(&self) -> Result<Option<ProviderSettings>, String> {
        let flags = [
            (
                "--authorization-endpoint",
                self.authorization_endpoint.is_some(),
            ),
            ("--token-endpoint", self.token_endpoint.is_some()),
            ("--client-id", self.client_id.is_some()),
            ("--client-secret", self.client_secret.is_some()),
        ];
        let (
            Some(authorization_endpoint),
            Some(token_endpoint),
            Some(client_id),
            Some(client_secret),
        ) = (
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.client_id,
            &self.client_secret,
        )
        else {
            let missing = flags
                .iter()
                .find(|(_, set)| !set)
                .map_or("", |(flag, _)| flag);
            return match flags.iter().find(|(_, set)| *set) {
                Some((flag, _)) => Err(format!("{flag} needs {missing}")),
                None => Ok(None),
            };
        };
        Ok(Some(ProviderSettings {
            authorization_endpoint: authorization_endpoint.clone(),
            token_endpoint: token_endpoint.clone(),
            revocation_endpoint: self.revocation_endpoint.clone(),
            userinfo_endpoint: self.userinfo_endpoint.clone(),
            issuer: self.provider_issuer.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            auth: self.client_auth,
            extra: self.authorization_param.clone(),
        }))
    }

    /// Applies the flags to the layer in front of the MCP endpoint.
    pub(crate) fn configure_access<S: Store>(
        &self,
        builder: AccessLayerBuilder<S>,
    ) -> AccessLayerBuilder<S> {
        builder
            .cache_size(self.cache_size)
            .cache_ttl(self.cache_ttl)
            .end_responses(true)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
