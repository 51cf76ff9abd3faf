use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::flags::seconds;

/// How the demo identity provider behaves, which is there if no other one is configured.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Demo identity provider")]
pub(crate) struct DemoFlags {
    /// Where it listens; port 0 picks a free one
    #[arg(
        long,
        env = "MCP_DEMO_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:0"
    )]
    pub(crate) demo_listen: SocketAddr,

    /// How long its access tokens live
    #[arg(long, env = "MCP_DEMO_ACCESS_LIFETIME", value_name = "SECS", value_parser = seconds, default_value = "300")]
    pub(crate) demo_access_lifetime: Duration,

    /// It does not say how long they live
    #[arg(long, env = "MCP_DEMO_NO_EXPIRES_IN", value_parser = BoolishValueParser::new())]
    pub(crate) demo_no_expires_in: bool,

    /// It says that its refresh tokens live so long [default: it does not say]
    #[arg(long, env = "MCP_DEMO_REFRESH_LIFETIME", value_name = "SECS", value_parser = seconds)]
    pub(crate) demo_refresh_lifetime: Option<Duration>,

    /// Its refresh tokens stay the same
    #[arg(long, env = "MCP_DEMO_NO_ROTATION", value_parser = BoolishValueParser::new())]
    pub(crate) demo_no_rotation: bool,
}
