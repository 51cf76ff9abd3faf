use std::net::SocketAddr;
use std::time::Duration;

use server_common::flags::seconds;

/// The flags of the demo identity provider, which runs if no other provider is configured.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Demo identity provider")]
pub(crate) struct DemoFlags {
    /// Address that the demo provider listens on; port 0 picks a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) demo_listen: SocketAddr,

    /// Lifetime of its access tokens, in seconds
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "300")]
    pub(crate) demo_access_lifetime: Duration,

    /// Omit expires_in from its token responses
    #[arg(long)]
    pub(crate) demo_no_expires_in: bool,

    /// Lifetime of its refresh tokens, in seconds, as stated in its token responses [default: not
    /// stated]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) demo_refresh_lifetime: Option<Duration>,

    /// Do not rotate its refresh tokens
    #[arg(long)]
    pub(crate) demo_no_rotation: bool,
}
