use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::rules::{AllowedRedirects, RedirectPattern};
use crate::flags::seconds;

/// What the command line says about clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct ClientFlags {
    /// Redirect URIs that clients may have, such as `https://*.example.com/oauth/*` or
    /// `http://localhost/*`: `*.` is one label of a host, `*` a part of one segment of a path, `/*`
    /// at the end anything; can be given more than once
    /// [default: all of https, all loopback addresses, app schemes such as com.example.app, and those of known clients]
    #[arg(
        long = "allowed-redirect",
        env = "MCP_ALLOWED_REDIRECTS",
        value_name = "PATTERN",
        value_delimiter = ' '
    )]
    allowed_redirects: Vec<RedirectPattern>,

    /// How long a registration is kept after its last use, and how long a client secret is good; by
    /// default 90 days
    #[arg(long, env = "MCP_CLIENT_LIFETIME", value_name = "SECS", value_parser = lifetime, default_value = "7776000")]
    client_lifetime: Duration,

    /// Know registered clients only, not those whose client id is the URL of a document about them
    #[arg(long, env = "MCP_NO_METADATA_DOCUMENTS", value_parser = BoolishValueParser::new())]
    no_metadata_documents: bool,

    /// A certificate authority to trust for these documents besides those of the system, in PEM
    #[arg(long, env = "MCP_METADATA_CA", value_name = "FILE")]
    pub(super) metadata_ca: Option<PathBuf>,

    /// Fetch such documents from this machine too: for tests
    #[arg(long, hide = true)]
    pub(super) metadata_loopback: bool,
}

impl ClientFlags {
    pub(super) fn redirects(&self) -> AllowedRedirects {
        AllowedRedirects::new(self.allowed_redirects.clone())
    }

    pub(super) const fn lifetime(&self) -> Duration {
        self.client_lifetime
    }

    pub(super) const fn documents(&self) -> bool {
        !self.no_metadata_documents
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let lifetime = seconds(text)?;
    if lifetime < Duration::from_secs(1) || lifetime > HUNDRED_YEARS {
        return Err("it must be at least a second and at most a hundred years".into());
    }
    Ok(lifetime)
}
