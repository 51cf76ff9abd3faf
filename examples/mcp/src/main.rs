//! An OAuth 2.1 authorization server for MCP servers, in front of an identity provider without
//! dynamic client registration (GitHub, Google, Entra ID): clients register here, and users log in
//! at the identity provider.
//!
//! The token routes go through [`tower_oauth_refresh::RefreshLayer`] with reference access tokens,
//! and the MCP endpoint goes through [`tower_oauth_refresh::AccessLayer`]. Clients never receive
//! the provider's tokens, and the store contains no readable token.
//!
//! ```sh
//! # With a demo identity provider: connect a client to http://127.0.0.1:8000/mcp
//! cargo run -p mcp-oauth-proxy
//! cargo run -p mcp-oauth-proxy -- --help
//! ```
//!
//! `examples/mcp/README.md` explains how to set the server up with a provider and how to connect
//! clients.

mod app;
mod authorize;
mod brand;
mod cli;
mod clients;
mod content_type;
mod cors;
mod demo;
mod discovery;
mod error;
mod hardening;
mod issuer;
mod landing;
mod mcp;
mod next_steps;
mod parameters;
mod provider;
mod rate_limit;
mod records;
mod register;
mod scopes;
mod server;
mod signing;
mod token;
mod users;

use std::process::ExitCode;

use server_common::flags::{self, Parsed};
use server_common::program::{Failure, exit, report};

use crate::cli::Cli;

fn main() -> ExitCode {
    let Parsed { cli, warning } = flags::parse("MCP_");
    exit(start(cli, warning))
}

fn start(mut cli: Cli, warning: Option<String>) -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if cli.shared.config.check_config {
        let runtime = tokio::runtime::Runtime::new()?;
        let _entered = runtime.enter();
        return report(app::check(&cli));
    }
    let choice = cli.store().map_err(Failure::Usage)?;
    cli.shared.log.init(env!("CARGO_CRATE_NAME"))?;
    cli.shared.limits.fit_descriptors();
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    if let Some(public_url) = &cli.public_url {
        flags::warn_without_tls(public_url.as_url());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let opened = cli.shared.store.open(&choice).await?;
        app::serve(&cli, opened, &choice).await
    });
    runtime.shutdown_background();
    result
}
