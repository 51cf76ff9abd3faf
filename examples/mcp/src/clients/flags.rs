use std::path::PathBuf;
use std::time::Duration;

use server_common::flags::seconds;

use super::rules::{AllowedRedirects, RedirectPattern};
use crate::scopes::UnknownScopes;

/// The flags for clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct ClientFlags {
    /// TOML file of clients that need not register, with the names of client metadata (RFC 7591):
    /// [[client]] client_id, redirect_uris, … [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) clients: Option<PathBuf>,

    /// Pattern of redirect URIs that clients may use in addition to all https URLs, all loopback
    /// addresses, app schemes such as com.example.app, and the schemes of known clients; may be
    /// repeated [default: none]
    ///
    /// A pattern is a URI such as `https://*.example.com/oauth/*` or `http://localhost/*`: `*.`
    /// matches one label of a host, `*` a part of one path segment, and `/*` at the end anything.
    #[arg(long, value_name = "PATTERN", value_delimiter = ' ')]
    allow_redirect: Vec<RedirectPattern>,

    /// Pattern of redirect URIs that clients may use, instead of the defaults; --allow-redirect
    /// adds to these patterns; may be repeated [default: none]
    #[arg(long, value_name = "PATTERN", value_delimiter = ' ')]
    only_redirect: Vec<RedirectPattern>,

    /// Treatment of requested scopes that are not in --scope; `offline_access` is always accepted
    #[arg(long, value_enum, default_value = "drop")]
    pub(crate) unknown_scopes: UnknownScopes,

    /// Time in seconds after its last use at which a registration expires, and after which a client
    /// secret expires; the default is 90 days
    #[arg(long, value_name = "SECS", value_parser = lifetime, default_value = "7776000")]
    client_lifetime: Duration,

    /// Accept no client IDs that are URLs of client ID metadata documents; registered clients
    /// cannot have a jwks_uri
    #[arg(long)]
    no_metadata_documents: bool,

    /// Certificate authority (PEM file) to trust for client ID metadata documents and the keys of
    /// clients, in addition to those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_ca: Option<PathBuf>,

    /// Also fetch them from loopback addresses; for tests
    #[arg(long, hide = true)]
    pub(super) metadata_loopback: bool,
}

impl ClientFlags {
    pub(super) fn redirects(&self) -> AllowedRedirects {
        AllowedRedirects::new(self.only_redirect.clone(), self.allow_redirect.clone())
    }

    pub(super) const fn lifetime(&self) -> Duration {
        self.client_lifetime
    }

    /// Returns whether this server fetches the documents and keys that clients name.
    pub(crate) const fn documents(&self) -> bool {
        !self.no_metadata_documents
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let lifetime = seconds(text)?;
    if lifetime < Duration::from_secs(1) || lifetime > HUNDRED_YEARS {
        return Err("it must be at least one second and at most 100 years".into());
    }
    Ok(lifetime)
}
