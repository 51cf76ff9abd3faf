use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::origin::AllowedOrigin;
use crate::common::networks::Network;
use crate::flags::timeout;
use crate::upstream::Upstream;

/// The flags of the MCP endpoint.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "MCP endpoint")]
pub(crate) struct EndpointFlags {
    /// The URL (http or https) of the MCP server to protect [default: a built-in server with two
    /// tools]
    #[arg(long, env = "MCP_UPSTREAM", value_name = "URL")]
    pub(crate) mcp_upstream: Option<McpUpstream>,

    /// The time limit for --mcp-upstream to begin a response; then the client gets 504
    ///
    /// The time starts at the end of the request and does not include the body of the response. A
    /// tool call whose result is not streamed begins its response when the tool has finished.
    #[arg(long, env = "MCP_UPSTREAM_TIMEOUT", value_name = "SECS", value_parser = timeout, default_value = "300")]
    pub(crate) mcp_upstream_timeout: Duration,

    /// What --mcp-upstream receives instead of the client's access token
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

    /// A web origin that may call the MCP endpoint from a browser, in addition to this server's own
    /// origin and those of this computer, such as https://app.example.com; without a port, the
    /// default port of the scheme is meant; `:*` allows any port; may be repeated
    #[arg(
        long,
        env = "MCP_ALLOWED_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(crate) allowed_origin: Vec<AllowedOrigin>,

    /// A network of reverse proxies in front of this server, in CIDR notation: their
    /// X-Forwarded-For and Forwarded headers are extended and sent to --mcp-upstream; may be
    /// repeated [default: none]
    ///
    /// From all other addresses, such headers are removed: the upstream server receives only values
    /// from the connection and --public-url.
    #[arg(
        long,
        env = "MCP_TRUST_FORWARDED",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    pub(crate) trust_forwarded: Vec<Network>,
}

/// The treatment of the access token in an authorized request.
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
    pub(crate) path: String,
}

impl FromStr for McpUpstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // [`Upstream`] has better error messages for invalid URLs.
        text.parse::<Upstream>()?;
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            origin: url.origin().ascii_serialization().parse()?,
            path: url.path().to_owned(),
        })
    }
}
