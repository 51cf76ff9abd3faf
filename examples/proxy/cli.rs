//! The command line.

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::BoolishValueParser;
use tower_oauth_refresh::path::PathPrefix;
use tower_oauth_refresh::{AccessLayerBuilder, RefreshLayerBuilder, Store};
use tracing_subscriber::filter::LevelFilter;

use crate::common::networks::Network;
use crate::flags::{level, seconds, timeout};
use crate::logging::LogFormat;
use crate::rules::{Rule, rules};
use crate::store::{Settings, StoreChoice};
use crate::upstream::{PublicUrl, Upstream};

crate::common::listener::limit_flags!("PROXY_");

/// A reverse proxy that keeps the refresh tokens of an authorization server safe and its sessions
/// alive.
///
/// It forwards every request to the upstream. On the way, the refresh tokens that the upstream
/// issues are replaced by the proxy's own: bound to one client, rotated on every use, and forgiving
/// to clients that retry.
///
/// Without --upstream it starts a small demo authorization server and prints a whole session as
/// curl commands.
#[derive(Debug, clap::Parser)]
#[command(name = "proxy", version)]
pub(crate) struct Cli {
    /// Where to listen for clients, in plain HTTP/1.1 and HTTP/2; port 0 picks a free one
    #[arg(
        long,
        env = "PROXY_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,

    /// The authorization server: an http or https URL; if it has a path, that is put before the
    /// path of each request
    ///
    /// Certificates of https upstreams are checked against the platform's roots (or SSL_CERT_FILE,
    /// SSL_CERT_DIR).
    #[arg(long, env = "PROXY_UPSTREAM", value_name = "URL")]
    pub(crate) upstream: Option<Upstream>,

    /// The URL under which clients reach this proxy
    ///
    /// The token, revocation and introspection endpoints in the upstream's discovery documents that
    /// point at the upstream are rewritten to it, and the upstream gets it in X-Forwarded-Proto,
    /// -Host, -Port, -Prefix and -Server and in Forwarded. Set it whenever TLS ends in front of
    /// this proxy.
    #[arg(long, env = "PROXY_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,

    /// A network of reverse proxies in front, in CIDR notation: the X-Forwarded-… and Forwarded
    /// headers that come from there are kept, and the chains of addresses are extended; may be
    /// repeated [default: none]
    ///
    /// From all other addresses these headers are removed, together with X-Real-IP and its
    /// relatives: the upstream gets values from the connection and from --public-url. Name only
    /// networks whose servers overwrite or append to every such header that a client sends.
    /// --public-url, if set, still decides scheme, host, port and prefix.
    #[arg(
        long,
        env = "PROXY_TRUST_FORWARDED",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    pub(crate) trust_forwarded: Vec<Network>,

    /// Send the Host that the client sent, instead of the upstream's
    #[arg(long, env = "PROXY_PRESERVE_HOST", value_parser = BoolishValueParser::new())]
    pub(crate) preserve_host: bool,

    /// How long the upstream may take to begin a response, before the client gets 504
    ///
    /// The time runs from the end of the request or from the last part of it that the upstream
    /// took, and does not include the body of the response. It does not apply to the token,
    /// revocation and introspection endpoints: --rotation-timeout and, for a log-in,
    /// --issue-timeout bound those.
    #[arg(long, env = "PROXY_UPSTREAM_TIMEOUT", value_name = "SECS", value_parser = timeout, allow_negative_numbers = true, default_value = "60")]
    pub(crate) upstream_timeout: Duration,

    /// Where grants live: `memory` (this process alone; they end with it), `redb:PATH` (a file of
    /// this process alone), or any number of proxies share
    /// redis://[USER:PASSWORD@]HOST[:PORT][/DB], redis-cluster://HOST:PORT,HOST:PORT or
    /// redis-sentinel://HOST:PORT,HOST:PORT/SERVICE; rediss…: over TLS
    #[arg(
        long,
        env = "PROXY_STORE",
        value_name = "STORE",
        default_value = "memory",
        hide_env_values = true
    )]
    store: String,

    /// How many replicas of Redis must have a write before it counts: with 1 or more a failover
    /// loses nothing that they have, and with fewer replicas than that nobody is refreshed
    #[arg(
        long,
        env = "PROXY_WAIT_FOR_REPLICAS",
        value_name = "COUNT",
        default_value_t = 0
    )]
    wait_for_replicas: u32,

    /// How much memory the cache in front of Redis takes up, and that of access tokens, in bytes;
    /// 0: no cache
    #[arg(long, env = "PROXY_CACHE_SIZE", value_name = "BYTES", default_value_t = 64 << 20)]
    cache_size: u64,

    /// How long the cache in front of Redis holds what it has learnt, and that of access tokens; 0:
    /// no cache
    #[arg(long, env = "PROXY_CACHE_TTL", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true, default_value = "10")]
    cache_ttl: Duration,

    /// Path of the token endpoint, as clients call it here; guarded in every spelling
    /// [default: /token]
    #[arg(long, env = "PROXY_TOKEN_PATH", value_name = "PATH")]
    pub(crate) token_path: Option<String>,

    /// Path of the revocation endpoint, as clients call it here; guarded in every spelling
    /// [default: /revoke]
    #[arg(long, env = "PROXY_REVOCATION_PATH", value_name = "PATH")]
    pub(crate) revocation_path: Option<String>,

    /// Path of the introspection endpoint, as clients call it here; guarded in every spelling
    /// [default: none]
    #[arg(long, env = "PROXY_INTROSPECTION_PATH", value_name = "PATH")]
    pub(crate) introspection_path: Option<String>,

    /// Hand out access tokens of the proxy's own, and no id_token: the upstream's reach no client
    ///
    /// Clients use them below --resource-prefix. They end with their session.
    ///
    /// Authorization requests that return tokens without the token endpoint are refused on every
    /// path, because the proxy cannot replace those tokens: a response_type with `token` or
    /// `id_token` in a query, a form, a pushed authorization request or a request object; request
    /// objects that are encrypted; and a request_uri that does not come from a pushed authorization
    /// request. Clients must use response_type=code.
    #[arg(long, env = "PROXY_REFERENCE_ACCESS_TOKENS", value_parser = BoolishValueParser::new())]
    pub(crate) reference_access_tokens: bool,

    /// Hand out the upstream's id_token all the same; needs --reference-access-tokens
    #[arg(long, env = "PROXY_KEEP_ID_TOKEN", value_parser = BoolishValueParser::new())]
    pub(crate) keep_id_token: bool,

    /// Let requests with an ambiguous path pass below this one, for routes of the upstream that
    /// need an encoded slash, backslash or percent sign (/api/v4/projects/group%2Fname of GitLab);
    /// may be repeated
    ///
    /// Otherwise POST requests with a path that servers resolve to different places get 400, and
    /// with --resource-prefix requests of every method. Dot segments, invalid escapes and control
    /// characters in any encoding stay refused, and so does every path that some server could take
    /// for a guarded one. The risk: if the upstream resolves such a path to its token endpoint in a
    /// way that the proxy does not consider, clients get the upstream's own tokens. Set the routes
    /// that need it, never /.
    #[arg(
        long,
        env = "PROXY_ALLOW_AMBIGUOUS_PATH",
        value_name = "PATH",
        value_delimiter = ','
    )]
    pub(crate) allow_ambiguous_path: Vec<PathPrefix>,

    /// Require an access token of the proxy's own for this path and what is below it, in every
    /// spelling, and send the upstream its own in its place; may be repeated; needs
    /// --reference-access-tokens
    ///
    /// The upstream gets these requests with the path as it is spelled here. An ambiguous path gets
    /// 400 with every method (see --allow-ambiguous-path), and so does a path that may be another
    /// resource than the one spelled here: for the prefix /orders, /orders.csv and
    /// /orders:batchGet. If the upstream has such resources, name each as a prefix of its own.
    ///
    /// Below a prefix that lies below another, what is asked for there holds as well. The
    /// preflights of CORS reach the upstream without a token, and without any Authorization.
    #[arg(
        long,
        env = "PROXY_RESOURCE_PREFIX",
        value_name = "PATH",
        value_delimiter = ','
    )]
    pub(crate) resource_prefix: Vec<PathPrefix>,

    /// A scope that is required below every --resource-prefix, or as PATH=SCOPE below that one; may
    /// be repeated, and then all of them are
    #[arg(
        long,
        env = "PROXY_RESOURCE_SCOPE",
        value_name = "[PATH=]SCOPE",
        value_delimiter = ','
    )]
    resource_scope: Vec<String>,

    /// The resource that an access token must be for (RFC 8707) below every --resource-prefix, or
    /// as PATH=URI below that one; may be repeated
    #[arg(
        long,
        env = "PROXY_RESOURCE",
        value_name = "[PATH=]URI",
        value_delimiter = ','
    )]
    resource: Vec<String>,

    /// A resource (RFC 8707) that an access token is for when its client asks for it, as an
    /// absolute URI; may be repeated; needs --reference-access-tokens [default: none]
    ///
    /// Without it a token is for the resources that the upstream names in its token answer, and
    /// --resource accepts no other: an upstream that does not know RFC 8707 ignores the resources
    /// that clients ask for. List resources that every client may have, or that the upstream checks
    /// but does not name.
    #[arg(
        long,
        env = "PROXY_ALLOWED_RESOURCE",
        value_name = "URI",
        value_delimiter = ','
    )]
    allowed_resource: Vec<String>,

    /// Where the metadata of the resource is (RFC 9728), for the challenges below every
    /// --resource-prefix, or as PATH=URL below that one; may be repeated
    #[arg(
        long,
        env = "PROXY_RESOURCE_METADATA",
        value_name = "[PATH=]URL",
        value_delimiter = ','
    )]
    resource_metadata: Vec<String>,

    /// How long a repeated refresh gets the same answer again; 0: never
    /// [default: 60, in the demo 5]
    #[arg(long, env = "PROXY_RETRY_WINDOW", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) retry_window: Option<Duration>,

    /// How long a client that lost the answer can refresh with its old token; 0: never
    /// [default: 86400]
    #[arg(long, env = "PROXY_RECOVERY_WINDOW", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) recovery_window: Option<Duration>,

    /// How long a session lives without a refresh [default: 2592000, 30 days]
    #[arg(long, env = "PROXY_IDLE_LIFETIME", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) idle_lifetime: Option<Duration>,

    /// How long a session lives from its log-in, however often it is refreshed
    /// [default: no such end]
    #[arg(long, env = "PROXY_ABSOLUTE_LIFETIME", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) absolute_lifetime: Option<Duration>,

    /// How long a client waits for a refresh before it gets 503; the upstream has twice this time
    /// [default: 10]
    #[arg(long, env = "PROXY_ROTATION_TIMEOUT", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) rotation_timeout: Option<Duration>,

    /// How long the upstream may take to answer a log-in before the client gets 504 [default: 30]
    #[arg(long, env = "PROXY_ISSUE_TIMEOUT", value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) issue_timeout: Option<Duration>,

    /// Answer 503 to a log-in whose session cannot be stored, instead of issuing an access token
    /// without a refresh token
    #[arg(long, env = "PROXY_REFUSE_UNSTORED_GRANTS", value_parser = BoolishValueParser::new())]
    pub(crate) refuse_unstored_grants: bool,

    /// Until when refresh tokens from before the proxy was there are taken in [default: never]
    #[arg(long, env = "PROXY_ADOPT_UNTIL", value_name = "UNIX_SECS", value_parser = unix_time, allow_negative_numbers = true)]
    pub(crate) adopt_until: Option<SystemTime>,

    /// Neither repeated answers nor recovery: any old token ends its session
    #[arg(long, env = "PROXY_STRICT", value_parser = BoolishValueParser::new())]
    pub(crate) strict: bool,

    /// Where to answer GET /healthz and GET /metrics (Prometheus) [default: nowhere]
    #[arg(long, env = "PROXY_ADMIN", value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,

    /// How the log is written, to standard error
    #[arg(
        long,
        env = "PROXY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,

    /// How much is logged; at `trace` every decision, at no level a token or a secret
    #[arg(long, env = "PROXY_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level())]
    pub(crate) log_level: LevelFilter,
}

impl Cli {
    /// What no single flag shows.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.store()?;
        if self.admin == Some(self.listen) && self.listen.port() != 0 {
            return Err(format!("--admin and --listen are both {}", self.listen));
        }
        if self.upstream.is_none() {
            let flags = [
                ("--preserve-host", self.preserve_host),
                ("--token-path", self.token_path.is_some()),
                ("--revocation-path", self.revocation_path.is_some()),
                ("--introspection-path", self.introspection_path.is_some()),
                ("--adopt-until", self.adopt_until.is_some()),
            ];
            if let Some((flag, _)) = flags.iter().find(|(_, set)| *set) {
                return Err(format!("{flag} needs --upstream"));
            }
        }
        self.check_resources()
    }

    fn check_resources(&self) -> Result<(), String> {
        if !self.reference_access_tokens && !self.resource_prefix.is_empty() {
            return Err("--resource-prefix needs --reference-access-tokens".into());
        }
        if !self.reference_access_tokens && !self.allowed_resource.is_empty() {
            return Err("--allowed-resource needs --reference-access-tokens".into());
        }
        self.rules()?;
        for allowed in &self.allow_ambiguous_path {
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| prefix.encloses(allowed))
            {
                return Err(format!(
                    "--allow-ambiguous-path {allowed} is below --resource-prefix {prefix}"
                ));
            }
        }
        // Whoever asks for a token has none yet.
        let endpoints = [
            ("--token-path", Some(self.token_path())),
            ("--revocation-path", Some(self.revocation_path())),
            ("--introspection-path", self.introspection_path.as_deref()),
        ];
        for (flag, path) in endpoints {
            let Some(path) = path else { continue };
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| prefix.covers(path))
            {
                return Err(format!("{flag} {path} is below --resource-prefix {prefix}"));
            }
            // The layer guards everything below an endpoint. The layer itself rejects an endpoint
            // that is not a valid path.
            let Ok(endpoint) = path.parse::<PathPrefix>() else {
                continue;
            };
            if let Some(prefix) = self
                .resource_prefix
                .iter()
                .find(|prefix| endpoint.encloses(prefix))
            {
                return Err(format!("--resource-prefix {prefix} is below {flag} {path}"));
            }
        }
        Ok(())
    }

    /// What is asked for below each of the prefixes.
    pub(crate) fn rules(&self) -> Result<Vec<Rule>, String> {
        rules(
            &self.resource_prefix,
            &self.resource_scope,
            &self.resource,
            &self.resource_metadata,
        )
    }

    /// Which store. Not left to clap, whose message would repeat the password of a URL.
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

    pub(crate) fn token_path(&self) -> &str {
        self.token_path.as_deref().unwrap_or("/token")
    }

    pub(crate) fn revocation_path(&self) -> &str {
        self.revocation_path.as_deref().unwrap_or("/revoke")
    }

    /// Returns the paths whose requests the layer answers.
    pub(crate) fn guarded_paths(&self) -> impl Iterator<Item = &str> {
        [self.token_path(), self.revocation_path()]
            .into_iter()
            .chain(self.introspection_path.as_deref())
    }

    pub(crate) fn rotation_timeout(&self) -> Duration {
        self.rotation_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// The retry window of the demo: short, so that its session need not sleep for a minute.
    pub(crate) fn demo_retry_window(&self) -> Duration {
        if self.strict {
            Duration::ZERO
        } else {
            self.retry_window.unwrap_or(Duration::from_secs(5))
        }
    }

    /// Makes these the settings of the layer.
    pub(crate) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let mut builder = builder
            .match_normalized_paths()
            .token_path(self.token_path())
            .revocation_path(self.revocation_path())
            .rotation_timeout(self.rotation_timeout())
            .refuse_unstored_grants(self.refuse_unstored_grants);
        if let Some(timeout) = self.issue_timeout {
            builder = builder.issue_timeout(timeout);
        }
        if let Some(path) = &self.introspection_path {
            builder = builder.introspection_path(path);
        }
        for prefix in &self.allow_ambiguous_path {
            builder = builder.allow_ambiguous_paths(prefix.as_str());
        }
        if self.reference_access_tokens {
            builder = builder.reference_access_tokens();
        }
        builder = builder.allowed_resources(&self.allowed_resource);
        if self.keep_id_token {
            builder = builder.keep_id_token();
        }
        if self.strict {
            builder = builder.strict();
        }
        if let Some(window) = self.retry_window {
            builder = builder.retry_window(window);
        } else if self.upstream.is_none() && !self.strict {
            builder = builder.retry_window(self.demo_retry_window());
        }
        if let Some(window) = self.recovery_window {
            builder = builder.recovery_window(window);
        }
        if let Some(lifetime) = self.idle_lifetime {
            builder = builder.idle_lifetime(lifetime);
        }
        if let Some(lifetime) = self.absolute_lifetime {
            builder = builder.absolute_lifetime(lifetime);
        }
        if let Some(time) = self.adopt_until {
            builder = builder.adopt_until(time);
        }
        builder
    }

    /// The same for the layer in front of resources.
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

fn unix_time(text: &str) -> Result<SystemTime, String> {
    let seconds = text
        .parse::<u64>()
        .map_err(|error: ParseIntError| format!("not seconds since 1970: {error}"))?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| "too far away".to_owned())
}
