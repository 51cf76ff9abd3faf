use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::origin::AllowedOrigin;
use crate::common::networks::Network;
use crate::flags::timeout;
use crate::upstream::Upstream;

/// What stands behind `/mcp`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "MCP endpoint")]
pub(crate) struct EndpointFlags {
    /// The MCP endpoint to guard: an http or https URL
    /// [default: one of this server's own, with two tools to try]
    #[arg(long, env = "MCP_UPSTREAM", value_name = "URL")]
    pub(crate) mcp_upstream: Option<McpUpstream>,

    /// How long --mcp-upstream may take to begin a response, before the client gets 504
    ///
    /// The time runs from the end of the request, and does not include the body of the response. A
    /// tool call whose answer is not streamed begins its response when the tool has finished.
    #[arg(long, env = "MCP_UPSTREAM_TIMEOUT", value_name = "SECS", value_parser = timeout, default_value = "300")]
    pub(crate) mcp_upstream_timeout: Duration,

    /// What that gets in place of the client's access token
    #[arg(long, env = "MCP_TOKEN", value_enum, default_value = "swap")]
    pub(crate) mcp_token: TokenUse,

    /// A scope that every access token must have; may be repeated
    #[arg(
        long,
        env = "MCP_REQUIRE_SCOPE",
        value_name = "SCOPE",
        value_delimiter = ','
    )]
    pub(crate) require_scope: Vec<String>,

    /// An origin whose pages may call the MCP endpoint from a browser, beside this server's own and
    /// those of this computer: https://app.example.com, without a port the default one, with `:*`
    /// any; may be repeated
    #[arg(
        long,
        env = "MCP_ALLOWED_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(crate) allowed_origin: Vec<AllowedOrigin>,

    /// A network of reverse proxies in front, in CIDR notation: X-Forwarded-For and Forwarded from
    /// there are kept and appended to for --mcp-upstream; may be repeated [default: none]
    ///
    /// From all other addresses such headers are removed: the upstream gets what the connection and
    /// --public-url say.
    #[arg(
        long,
        env = "MCP_TRUST_FORWARDED",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    pub(crate) trust_forwarded: Vec<Network>,
}

/// What becomes of the access token of a request that is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenUse {
    /// The provider's takes its place
    Swap,
    /// None does
    Strip,
}

/// The MCP endpoint of another server.
#[derive(Clone, Debug)]
pub(crate) struct McpUpstream {
    pub(crate) origin: Upstream,
    pub(crate) path: String,
}

impl FromStr for McpUpstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It has more to say on what an URL must not have.
        text.parse::<Upstream>()?;
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            origin: url.origin().ascii_serialization().parse()?,
            path: url.path().to_owned(),
        })
    }
}
