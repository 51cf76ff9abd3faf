use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use server_common::flags::seconds;

/// The flags of the demo identity provider, which runs if no other provider is configured.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Demo identity provider")]
pub(crate) struct DemoFlags {
    /// Address that the demo provider listens on; port 0 picks a free port [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDR")]
    demo_listen: Option<SocketAddr>,

    /// Lifetime of its access tokens, in seconds [default: 300]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    demo_access_lifetime: Option<Duration>,

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

impl DemoFlags {
    pub(crate) fn listen(&self) -> SocketAddr {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.demo_listen.unwrap_or(default)
    }

    pub(crate) fn access_lifetime(&self) -> Duration {
        self.demo_access_lifetime
            .unwrap_or(Duration::from_secs(300))
    }

    /// Returns the first flag that is set.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let flags = [
            ("--demo-listen", self.demo_listen.is_some()),
            (
                "--demo-access-lifetime",
                self.demo_access_lifetime.is_some(),
            ),
            ("--demo-no-expires-in", self.demo_no_expires_in),
            (
                "--demo-refresh-lifetime",
                self.demo_refresh_lifetime.is_some(),
            ),
            ("--demo-no-rotation", self.demo_no_rotation),
        ];
        let mut set = flags.into_iter().filter(|(_, is_set)| *is_set);
        set.next().map(|(flag, _)| flag)
    }
}
