//! The command line.

mod demo;
mod endpoint;
mod identity;
mod origin;
mod provider;
mod scope_description;
mod tool_scope;
mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgAction;
use server_common::flags::{AdminFlags, SharedFlags, seconds};
use server_common::jose;
use server_common::store::{StateDirectory, StoreChoice};
use tower_oauth_refresh::{RefreshLayerBuilder, Store};

pub(crate) use self::demo::DemoFlags;
pub(crate) use self::endpoint::{EndpointFlags, McpUpstream, TokenUse};
pub(crate) use self::identity::IdentityFlags;
pub(crate) use self::origin::AllowedOrigin;
use self::provider::ProviderFlags;
use self::scope_description::ScopeDescription;
pub(crate) use self::tool_scope::ToolScope;
use self::users::UserFlags;
use crate::brand::BrandFlags;
use crate::clients::ClientFlags;
use crate::issuer::Issuer;
use crate::provider::ProviderConfig;
use crate::rate_limit::RateFlags;
use crate::scopes::Scopes;
use crate::users::Rules;

/// The longest time in which a repeated exchange of an authorization code gets the same response.
const CODE_WINDOW: Duration = Duration::from_secs(5);

/// The default lifetime of access tokens whose upstream access tokens are renewed.
const RENEWED_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// An OAuth 2.1 authorization server for MCP servers, in front of an identity provider without
/// dynamic client registration.
///
/// If no provider is configured, it starts a demo provider with a log-in page.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Address to listen on for clients, in plain HTTP; port 0 picks a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,

    /// URL at which clients and browsers reach this server, which is its issuer identifier; may
    /// have a path [default: http://LISTEN]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<Issuer>,

    /// Scopes that clients may request, and that are requested from the provider, separated by
    /// spaces [default: those of --provider, otherwise `openid profile`]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,

    /// Text that the consent page shows instead of a scope of --scope, such as `openid=Know who you
    /// are`; at most 200 characters, without `;`; may be repeated, in the environment separated by
    /// `;` [default: a text for the standard scopes of OpenID Connect, otherwise the scope itself]
    #[arg(long, value_name = "SCOPE=TEXT", value_delimiter = ';')]
    scope_description: Vec<ScopeDescription>,

    /// Time in seconds after a rotation in which a repeated refresh gets the same response again;
    /// also applies to a repeated exchange of an authorization code, but for at most 5 seconds; 0
    /// disables both [default: 60]
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    retry_window: Option<Duration>,

    /// Refresh at the provider when a client uses an access token whose access token of the
    /// provider expires, so that clients that never refresh stay logged in; with `true`,
    /// --access-token-lifetime is 86400 (a day) by default
    ///
    /// The risk: an access token and a copy of the store open its session.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub(crate) upstream_refresh: bool,

    #[command(flatten)]
    provider: ProviderFlags,

    /// Issuer identifier of an identity provider whose assertions (ID-JAG) open sessions without a
    /// log-in here, for enterprise-managed authorization (SEP-990); may be repeated; with
    /// --mcp-upstream it needs --mcp-token strip [default: none]
    ///
    /// Its keys are fetched from its discovery document. It can open a session of any user: trust
    /// only the provider of your organization.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Clients"
    )]
    pub(crate) trusted_issuer: Vec<jose::Issuer>,

    #[command(flatten)]
    users: UserFlags,

    #[command(flatten)]
    pub(crate) clients: ClientFlags,

    #[command(flatten)]
    pub(crate) endpoint: EndpointFlags,

    #[command(flatten)]
    pub(crate) rates: RateFlags,

    #[command(flatten)]
    pub(crate) brand: BrandFlags,

    #[command(flatten)]
    pub(crate) identity: IdentityFlags,

    #[command(flatten)]
    pub(crate) demo: DemoFlags,

    #[command(flatten)]
    pub(crate) shared: SharedFlags,
}

impl Cli {
    pub(crate) fn scopes(&self) -> Vec<String> {
        let preset = self.provider.provider.and_then(|preset| preset.scope);
        let scope = self.scope.as_deref().or(preset);
        let scope = scope.unwrap_or("openid profile");
        scope.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn supported_scopes(&self) -> Scopes {
        Scopes::new(self.scopes(), self.clients.unknown_scopes)
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

    /// Returns an error for each flag that has no effect together with the others.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = String> {
        let has_upstream = self.endpoint.mcp_upstream.is_some();
        let has_documents = self.clients.documents();
        let has_groups = self.users.has_groups() || self.identity.forwards_users();
        let flags = [
            (
                "--mcp-upstream-timeout",
                self.endpoint.mcp_upstream_timeout.is_some(),
                has_upstream,
                "needs --mcp-upstream",
            ),
            (
                "--mcp-token",
                self.endpoint.mcp_token.is_some(),
                has_upstream,
                "needs --mcp-upstream",
            ),
            (
                "--metadata-ca",
                self.clients.metadata_ca.is_some(),
                has_documents,
                "cannot be combined with --no-metadata-documents",
            ),
            (
                "--limit-document-fetches",
                self.rates.limit_document_fetches.is_some(),
                has_documents,
                "cannot be combined with --no-metadata-documents",
            ),
            (
                "--groups-claim",
                self.users.groups_claim.is_some(),
                has_groups,
                "needs --allow-group, --identity-headers or --identity-jwt",
            ),
            (
                "--contact",
                self.users.contact.is_some(),
                self.users.has_rules(),
                "needs --allow-user, --allow-email-domain or --allow-group",
            ),
            (
                "--brand-link",
                self.brand.brand_link.is_some(),
                self.brand.shows_something(),
                "needs --brand-name or --brand-logo",
            ),
        ];
        let idle = flags
            .into_iter()
            .filter(|(_, is_set, has_effect, _)| *is_set && !has_effect);
        idle.map(|(flag, _, _, why)| format!("{flag} {why}"))
    }

    /// Returns the claim with the groups of a user, if the flags name it.
    pub(crate) fn groups_claim(&self) -> Option<String> {
        self.users.groups_claim.clone()
    }

    /// Checks the flags that cannot be combined with `--trusted-issuer`. A session that an
    /// assertion opens has no token of the provider that `--mcp-upstream` could get. The ids and
    /// groups of another issuer can be those of other users.
    pub(crate) fn check_trusted_issuers(&self) -> Result<(), String> {
        if self.trusted_issuer.is_empty() {
            return Ok(());
        }
        if self.endpoint.token_use() == Some(TokenUse::Swap) {
            let message = "--trusted-issuer needs --mcp-token strip if --mcp-upstream is set";
            return Err(message.into());
        }
        let of_all = |issuer: &&jose::Issuer| issuer.is_of_all_tenants();
        if let Some(all) = self.trusted_issuer.iter().find(of_all) {
            return Err(format!(
                "--trusted-issuer {all} must name one tenant: an assertion names its own tenant as issuer, and anyone can create a tenant"
            ));
        }
        let own = self.provider.issuer()?;
        let is_other = |issuer: &&jose::Issuer| {
            let own = own.as_ref();
            own.is_none_or(|own| own.as_str() != issuer.as_str())
        };
        let flag = self.identity.first_set().or(self.users.first_of_issuer());
        if let Some(flag) = flag
            && let Some(other) = self.trusted_issuer.iter().find(is_other)
        {
            return Err(format!(
                "--trusted-issuer {other} must be --issuer if {flag} is set: the ids and groups of another issuer can be those of other users"
            ));
        }
        Ok(())
    }

    /// Returns the store. By default, a restart logs out the users of the demo only.
    pub(crate) fn store(&self) -> Result<StoreChoice, String> {
        match self.shared.store.choice()? {
            Some(choice) => Ok(choice),
            None if self.provider()?.is_none() => Ok(StoreChoice::Memory),
            None => StateDirectory::find(env!("CARGO_PKG_NAME"))
                .map(StoreChoice::Default)
                .map_err(|error| format!("--store is not set: {error}")),
        }
    }

    /// Returns the settings of the provider; `None` selects the demo provider.
    pub(crate) fn provider(&self) -> Result<Option<ProviderConfig>, String> {
        let config = self.provider.config(self.scopes(), &self.users)?;
        if config.is_some()
            && let Some(flag) = self.demo.first_set()
        {
            return Err(format!(
                "{flag} is for the demo provider, which does not run with --client-id"
            ));
        }
        Ok(config.map(|config| ProviderConfig {
            forwards_users: self.identity.forwards_users(),
            ..config
        }))
    }

    /// Returns the rules that say who may log in.
    pub(crate) fn rules(&self) -> Result<Rules, String> {
        self.users.rules()
    }

    /// Returns the flags for operators and other servers. A provider whose issuer is known may end
    /// the sessions of its users.
    pub(crate) fn admin(&self) -> Result<AdminFlags, String> {
        let mut admin = self.shared.admin.clone();
        let named = self.provider.provider_issuer.as_ref();
        let named = named.and_then(|issuer| issuer.parse().ok());
        let issuer = self.provider.issuer()?.or(named);
        admin.set_default_issuer(issuer, self.provider.client_id.clone());
        admin.check(self.listen)?;
        Ok(admin)
    }

    /// Returns the time in which a repeated exchange of an authorization code gets the same
    /// response. Zero disables this.
    pub(crate) fn code_window(&self) -> Duration {
        let default = if self.shared.sessions.strict {
            Duration::ZERO
        } else {
            CODE_WINDOW
        };
        self.retry_window.unwrap_or(default).min(CODE_WINDOW)
    }

    /// Applies the flags to the builder of the refresh layer.
    pub(crate) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let builder = if self.upstream_refresh {
            builder.access_token_lifetime(RENEWED_LIFETIME)
        } else {
            builder
        };
        // Later calls override earlier ones.
        self.shared.configure(builder, self.retry_window)
    }
}
