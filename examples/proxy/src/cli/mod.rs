//! The command-line flags.

mod checks;

use std::net::SocketAddr;
use std::num::ParseIntError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use server_common::flags::{SharedFlags, UpstreamClientFlags, seconds, timeout};
use server_common::networks::Network;
use server_common::upstream::{PublicUrl, Upstream};
use tower_oauth_refresh::path::PathPrefix;
use tower_oauth_refresh::{AccessLayerBuilder, RefreshLayerBuilder, Store};

use crate::resources::Resources;

/// A reverse proxy that binds the refresh tokens of an authorization server to their clients and
/// rotates them.
///
/// It forwards every request to the upstream. It replaces the refresh tokens that the upstream
/// issues with its own: each is bound to one client and rotated on every use, and a client that
/// repeats a refresh gets the same response again.
///
/// Without --upstream it starts a small demo authorization server and prints a complete session as
/// curl commands.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Address to listen on for clients, in plain HTTP/1.1 and HTTP/2 without TLS; port 0 picks a
    /// free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// URL of the authorization server, http or https; a path in it is prepended to the path of
    /// each request [default: a demo authorization server]
    ///
    /// Certificates of https upstreams are verified against the platform's root certificates, or
    /// those in SSL_CERT_FILE and SSL_CERT_DIR.
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<Upstream>,

    /// URL at which clients reach this proxy [default: none]
    ///
    /// In the upstream's discovery documents, the token, revocation and introspection endpoints
    /// that point at the upstream are rewritten to this URL, and the types of expiration that token
    /// responses state are added. The upstream receives it in X-Forwarded-Proto, -Host, -Port,
    /// -Prefix and -Server and in Forwarded. Set it whenever TLS ends in front of this proxy:
    /// without it, discovery documents may direct clients past the proxy.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,

    /// Network of trusted reverse proxies in front, in CIDR notation, whose X-Forwarded-… and
    /// Forwarded headers are kept and extended; may be repeated [default: none]
    ///
    /// From all other addresses these headers are removed, together with X-Real-IP and similar
    /// headers, and the upstream receives values from the connection and from --public-url. List
    /// only networks whose servers overwrite or append to every such header that a client sends;
    /// otherwise clients can forge their address. --public-url, if set, still decides scheme, host,
    /// port and prefix.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) trust_forwarded: Vec<Network>,

    /// Send the client's Host header to the upstream, instead of the host of --upstream
    #[arg(long)]
    pub(crate) preserve_host: bool,

    /// Time in seconds that the upstream may take to begin a response before the client gets 504
    ///
    /// The time is counted from the end of the request, or from the last part of it that the
    /// upstream read, and does not include the response body. At most 86400. It does not apply to
    /// the token, revocation and introspection endpoints: --rotation-timeout and, for a log-in,
    /// --issue-timeout limit those.
    #[arg(long, value_name = "SECS", value_parser = timeout, allow_negative_numbers = true, default_value = "60")]
    pub(crate) upstream_timeout: Duration,

    /// Path of the token endpoint, as clients call it at this proxy; all spellings of the path are
    /// guarded [default: /token]
    #[arg(long, value_name = "PATH")]
    pub(crate) token_path: Option<String>,

    /// Path of the revocation endpoint, as clients call it at this proxy; all spellings of the path
    /// are guarded [default: /revoke]
    #[arg(long, value_name = "PATH")]
    pub(crate) revocation_path: Option<String>,

    /// Path of the introspection endpoint, as clients call it at this proxy; all spellings of the
    /// path are guarded [default: none]
    #[arg(long, value_name = "PATH")]
    pub(crate) introspection_path: Option<String>,

    /// Issue the proxy's own access tokens instead of the upstream's, and remove id_tokens, so that
    /// clients never receive a token of the upstream
    ///
    /// Clients can use these access tokens below --resource-prefix. The tokens become invalid when
    /// their grant ends.
    ///
    /// Authorization requests that return tokens without the token endpoint are refused on every
    /// path, because the proxy cannot replace those tokens: a response_type with `token` or
    /// `id_token` in a query, a form, a pushed authorization request or a request object; encrypted
    /// request objects; and a request_uri that does not come from a pushed authorization request.
    /// Clients must use response_type=code.
    #[arg(long)]
    pub(crate) reference_access_tokens: bool,

    /// Pass the upstream's id_token on to clients; needs --reference-access-tokens
    ///
    /// The risk: some resource servers accept an id_token as an access token. Also, clients that
    /// check its at_hash reject it, because it belongs to the upstream's access token.
    #[arg(long)]
    pub(crate) keep_id_token: bool,

    /// Path below which requests with an ambiguous path are forwarded, for routes of the upstream
    /// that need an encoded slash, backslash or percent sign, such as
    /// /api/v4/projects/group%2Fname of GitLab; may be repeated [default: none]
    ///
    /// By default, POST requests get 400 if different servers could resolve their path differently;
    /// with --resource-prefix, requests with any method do. Even below this path, a request is
    /// refused if its path has a dot segment, an invalid escape or a control character in any
    /// encoding, or if some server could read it as a guarded path. The risk: if the upstream
    /// resolves such a path to its token endpoint in a way that the proxy does not consider,
    /// clients get the upstream's own tokens. Set only the routes that need it, never /.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub(crate) allow_ambiguous_path: Vec<PathPrefix>,

    /// Path at and below which requests need an access token of the proxy, which is replaced with
    /// the upstream's access token, in all spellings of the path; may be repeated; needs
    /// --reference-access-tokens [default: none]
    ///
    /// The upstream receives these requests with the prefix spelled as in this flag. A request with
    /// an ambiguous path gets 400 with any method (see --allow-ambiguous-path), and so does a path
    /// that may be a different resource: for the prefix /orders, that is /orders.csv and
    /// /orders:batchGet. If the upstream has such resources, add a prefix for each.
    ///
    /// If a prefix is below another prefix, the requirements of both apply. CORS preflight requests
    /// are forwarded without a token, and without any Authorization header; their responses lose
    /// their content.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub(crate) resource_prefix: Vec<PathPrefix>,

    /// Scope that access tokens must have below every --resource-prefix, or, as PATH=SCOPE, below
    /// that prefix; if repeated, all scopes are required [default: none]
    #[arg(long, value_name = "[PATH=]SCOPE", value_delimiter = ',')]
    resource_scope: Vec<String>,

    /// Resource (RFC 8707) that access tokens must be issued for below every --resource-prefix, or,
    /// as PATH=URI, below that prefix; may be repeated [default: none]
    #[arg(long, value_name = "[PATH=]URI", value_delimiter = ',')]
    resource: Vec<String>,

    /// Resource (RFC 8707), as an absolute URI, that an access token is issued for if its client
    /// requests it and the upstream names no resource; may be repeated; needs
    /// --reference-access-tokens [default: none]
    ///
    /// By default a token is only for the resources that the upstream names in its token response,
    /// because an upstream that does not support RFC 8707 ignores the resources that clients
    /// request. List only resources that every client may access, or that the upstream checks but
    /// does not name in its responses.
    #[arg(long, value_name = "URI", value_delimiter = ',')]
    allowed_resource: Vec<String>,

    /// URL of the protected resource metadata (RFC 9728), for the challenges below every
    /// --resource-prefix, or, as PATH=URL, below that prefix; may be repeated [default: none]
    #[arg(long, value_name = "[PATH=]URL", value_delimiter = ',')]
    resource_metadata: Vec<String>,

    /// Time in seconds after a rotation in which a repeated refresh gets the same response again;
    /// 0 disables replay [default: 60, in the demo 5]
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    retry_window: Option<Duration>,

    /// Time, in seconds since 1970 (UTC), until which refresh tokens that the upstream issued
    /// before the proxy was installed are adopted [default: never]
    ///
    /// Without it, users whose clients have such tokens must log in again.
    #[arg(long, value_name = "UNIX_SECS", value_parser = unix_time, allow_negative_numbers = true)]
    pub(crate) adopt_until: Option<SystemTime>,

    /// Hand each session back to the upstream at its next refresh, to remove the proxy without
    /// logging anyone out: the client gets the refresh token of the upstream, and log-ins pass
    /// unchanged
    #[arg(long)]
    hand_back: bool,

    /// Refresh at the upstream when a client uses an access token of the proxy whose upstream
    /// access token expires, so that clients that never refresh stay logged in; needs
    /// --access-token-lifetime
    ///
    /// The proxy does this for public clients and for the confidential client of
    /// --upstream-client-id. The risk: an access token and a copy of the store open its session.
    #[arg(long)]
    pub(crate) upstream_refresh: bool,

    #[command(flatten)]
    pub(crate) upstream_client: UpstreamClientFlags,

    #[command(flatten)]
    pub(crate) shared: SharedFlags,
}

impl Cli {
    fn resources(&self) -> Result<Resources, String> {
        Resources::read(
            &self.resource_prefix,
            &self.resource_scope,
            &self.resource,
            &self.resource_metadata,
        )
    }

    /// Applies these flags to the builder of the access layer, which guards the paths of
    /// --resource-prefix and no others.
    pub(crate) fn configure_access<S: Store>(
        &self,
        builder: AccessLayerBuilder<S>,
    ) -> Result<AccessLayerBuilder<S>, String> {
        let builder = builder.open_elsewhere(true).pass_preflights(true);
        if self.resource_prefix.is_empty() {
            // All requests pass unchecked.
            return Ok(builder.cache_size(0));
        }
        let allowed = self.allow_ambiguous_path.iter();
        let builder = allowed.fold(self.shared.configure_access(builder), |builder, prefix| {
            builder.allow_ambiguous_paths(prefix.as_str())
        });
        Ok(self.resources()?.configure(builder))
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

    /// Returns the retry window; `None` selects the default. That of the demo is short, so that the
    /// printed session does not sleep for a minute.
    fn retry_window(&self) -> Option<Duration> {
        let is_demo = self.upstream.is_none() && !self.shared.sessions.strict;
        self.retry_window
            .or(is_demo.then_some(Duration::from_secs(5)))
    }

    /// Returns the retry window and the shared token window of the demo.
    pub(crate) fn demo_windows(&self) -> (Duration, Duration) {
        let retry = self.retry_window().unwrap_or_default();
        (retry, self.shared.sessions.shared_window.unwrap_or(retry))
    }

    /// Applies these flags to the builder of the refresh layer.
    pub(crate) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let mut builder = builder
            .match_normalized_paths(true)
            .token_path(self.token_path())
            .revocation_path(self.revocation_path())
            .reference_access_tokens(self.reference_access_tokens)
            .allowed_resources(&self.allowed_resource)
            .keep_id_token(self.keep_id_token)
            .hand_back(self.hand_back);
        if let Some(path) = &self.introspection_path {
            builder = builder.introspection_path(path);
        }
        for prefix in &self.allow_ambiguous_path {
            builder = builder.allow_ambiguous_paths(prefix.as_str());
        }
        if let Some(time) = self.adopt_until {
            builder = builder.adopt_until(time);
        }
        self.shared.configure(builder, self.retry_window())
    }
}

fn unix_time(text: &str) -> Result<SystemTime, String> {
    let seconds = text
        .parse::<u64>()
        .map_err(|error: ParseIntError| format!("not a number of seconds since 1970: {error}"))?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| "too far in the future".to_owned())
}
