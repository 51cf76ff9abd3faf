use std::path::PathBuf;
use std::time::Duration;

use super::rules::{AllowedRedirects, RedirectPattern};

/// What the command line says about clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct ClientFlags {
    /// Redirect URIs that clients may have, such as `https://*.example.com/oauth/*` or `http://localhost/*`: `*.` is one
    /// label of a host, `*` a part of one segment of a path, `/*` at the end anything; can be given more than once
    /// [default: all of https, all loopback addresses, app schemes such as com.example.app, and those of known clients]
    #[arg(long = "allowed-redirect", env = "MCP_ALLOWED_REDIRECTS", value_name = "PATTERN", value_delimiter = ' ')]
    allowed_redirects: Vec<RedirectPattern>,

    /// How long a registration is kept after its last use, and how long a client secret is good, in seconds
    #[arg(
        long, env = "MCP_CLIENT_LIFETIME", value_name = "SECS", default_value_t = 90 * 24 * 60 * 60,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    client_lifetime: u64,

    /// Know registered clients only, not those whose client id is the URL of a document about them
    #[arg(long, env = "MCP_NO_METADATA_DOCUMENTS")]
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
        Duration::from_secs(self.client_lifetime)
    }

    pub(super) const fn documents(&self) -> bool {
        !self.no_metadata_documents
    }
}
