//! An OAuth 2.1 authorization server for MCP servers, in front of an identity provider without
//! dynamic client registration (GitHub, Google, Entra ID): clients register here, and users log in
//! at the identity provider.
//!
//! The token routes go through [`tower_oauth_refresh::RefreshLayer`] with reference access tokens,
//! and the MCP endpoint goes through [`tower_oauth_refresh::AccessLayer`]. Clients never receive
//! the provider's tokens, and the store contains no readable token.
//!
//! ```sh
//! cargo run -p mcp-oauth-proxy            # with a demo identity provider: connect a client to http://127.0.0.1:8000/mcp
//! cargo run -p mcp-oauth-proxy -- --help
//! ```
//!
//! `examples/mcp/README.md` explains how to set the server up with a provider and how to connect clients.

mod app;
mod authorize;
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
mod records;
mod register;
mod server;
mod token;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use server_common::store::OpenError;
use server_common::{causes, logging};

use crate::cli::Cli;

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}\n\nFor more information, try '--help'.");
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            eprintln!("error: {}", causes::causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The reason why the server failed to start or to shut down cleanly.
pub(crate) enum Failure {
    Usage(String),
    Other(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn opening(error: OpenError) -> Failure {
    match error {
        OpenError::Usage(message) => Failure::Usage(message),
        error => Failure::Other(error.into()),
    }
}

fn start(cli: &Cli) -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let choice = cli.store().map_err(Failure::Usage)?;
    logging::init(env!("CARGO_CRATE_NAME"), cli.log_format, cli.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let opened = choice.open(cli.store_settings()).await.map_err(opening)?;
        app::serve(cli, opened.store).await
    });
    runtime.shutdown_background();
    result
}
