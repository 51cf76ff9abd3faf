//! The flags of the MCP endpoint, and the URL of an upstream MCP server.

use std::str::FromStr;
use std::time::Duration;

use server_common::flags::timeout;
use server_common::networks::Network;
use server_common::upstream::Upstream;
use url::Url;

use super::origin::AllowedOrigin;
use super::tool_scope::ToolScope;
use crate::scopes::OFFLINE_ACCESS;

/// The flags of the MCP endpoint.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "MCP endpoint")]
pub(crate) struct EndpointFlags {
    /// URL of the MCP server to protect, http or https [default: a built-in server with two tools]
    #[arg(long, value_name = "URL")]
    pub(crate) mcp_upstream: Option<McpUpstream>,

    /// Time in seconds that --mcp-upstream may take to begin a response before the client gets 504
    /// [default: 300]
    ///
    /// The time is counted from the end of the request and does not include the response body. A
    /// tool call whose result is not streamed begins its response when the tool has finished.
    #[arg(long, value_name = "SECS", value_parser = timeout)]
    pub(super) mcp_upstream_timeout: Option<Duration>,

    /// Treatment of the client's access token in requests to --mcp-upstream [default: swap]
    #[arg(long, value_enum)]
    pub(super) mcp_token: Option<TokenUse>,

    /// Scope that every access token must have; if repeated, all scopes are required [default:
    /// none]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    pub(crate) require_scope: Vec<String>,

    /// Scope that calls of a tool need, such as `delete_file=files:write`; may be repeated, also
    /// for one tool [default: none]
    ///
    /// A client whose token does not have it gets 403 with a challenge, and asks the user for more.
    /// The messages to the MCP server are then read as a whole: at most 4 MiB, within 30 seconds.
    #[arg(long, value_name = "NAME=SCOPE", value_delimiter = ',')]
    pub(crate) tool_scope: Vec<ToolScope>,

    /// Web origin that may call the MCP endpoint from a browser, such as https://app.example.com;
    /// may be repeated [default: none]
    ///
    /// This server's own origin and the origins of this computer (localhost) are always allowed.
    /// Without a port, only the default port of the scheme is allowed; `:*` allows any port.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) allowed_origin: Vec<AllowedOrigin>,

    /// Network of trusted reverse proxies in front of this server, in CIDR notation; may be
    /// repeated [default: none]
    ///
    /// Their X-Forwarded-For and Forwarded headers are kept and extended for --mcp-upstream. From
    /// all other addresses these headers are removed, and the upstream receives values from the
    /// connection and from --public-url. The address of a user in the label of a session comes from
    /// X-Forwarded-For by the same rule.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) trust_forwarded: Vec<Network>,
}

impl EndpointFlags {
    pub(crate) fn upstream_timeout(&self) -> Duration {
        self.mcp_upstream_timeout
            .unwrap_or(Duration::from_secs(300))
    }

    /// Returns the treatment of access tokens in requests to `--mcp-upstream`; `None` without one.
    pub(crate) fn token_use(&self) -> Option<TokenUse> {
        self.mcp_upstream.as_ref()?;
        Some(self.mcp_token.unwrap_or(TokenUse::Swap))
    }

    /// Checks the rules that the parser does not know.
    pub(crate) fn check(&self, scopes: &[String]) -> Result<(), String> {
        // Otherwise no access token could ever have it.
        let check = |flag: &str, scope: &String| {
            if scope == OFFLINE_ACCESS {
                Err(format!(
                    "{flag}: offline_access is not a scope of access tokens"
                ))
            } else if !scopes.contains(scope) {
                Err(format!(
                    "{flag}: `{scope}` is not one of the scopes of --scope"
                ))
            } else {
                Ok(())
            }
        };
        let mut required = self.require_scope.iter();
        required.try_for_each(|scope| check("--require-scope", scope))?;
        let mut tools = self.tool_scope.iter();
        tools.try_for_each(|tool| check("--tool-scope", &tool.scope))
    }
}

/// The treatment of the access token of an authorized request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenUse {
    /// Replace it with the provider's access token
    Swap,
    /// Remove it
    Strip,
}

/// The MCP endpoint of an upstream server.
#[derive(Clone, Debug)]
pub(crate) struct McpUpstream {
    pub(crate) origin: Upstream,
    /// The path of the MCP endpoint on that server.
    pub(crate) path: String,
}

impl FromStr for McpUpstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Only for its error messages, which are better than those of `Url`.
        text.parse::<Upstream>()?;
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            origin: url.origin().ascii_serialization().parse()?,
            path: url.path().to_owned(),
        })
    }
}
