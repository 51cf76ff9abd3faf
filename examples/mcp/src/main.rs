//! An OAuth 2.1 authorization server for MCP servers, in front of an identity provider without
//! dynamic client registration (GitHub, Google, Entra ID): clients register here, and users log in
//! at the identity provider.
//!
//! The token routes go through [`tower_oauth_refresh::RefreshLayer`] with reference access tokens,
//! and the MCP endpoint goes through [`tower_oauth_refresh::AccessLayer`]. Clients never receive
//! the provider's tokens, and the store contains no readable token.
//!
//! ```sh
//! cargo run --example mcp            # with a demo identity provider: connect a client to http://127.0.0.1:8000/mcp
//! cargo run --example mcp -- --help
//! ```
//!
//! `examples/mcp/README.md` explains how to set the server up with a provider and how to connect clients.

mod app;
mod authorize;
#[path = "../proxy/causes.rs"]
mod causes;
mod cli;
mod clients;
#[path = "../common/mod.rs"]
mod common;
#[path = "../proxy/connect.rs"]
mod connect;
mod cors;
mod demo;
mod discovery;
mod error;
#[path = "../proxy/flags.rs"]
mod flags;
#[path = "../proxy/forward.rs"]
mod forward;
mod hardening;
mod issuer;
#[path = "../proxy/logging.rs"]
mod logging;
mod mcp;
mod parameters;
mod provider;
mod records;
mod register;
mod server;
#[path = "../proxy/shutdown.rs"]
mod shutdown;
#[allow(dead_code, unused_imports, reason = "the proxy uses the rest")]
#[path = "../store/mod.rs"]
mod store;
mod token;
#[allow(dead_code, reason = "the proxy uses the rest")]
#[path = "../proxy/upstream.rs"]
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use server_common::store::OpenError;

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
    logging::init("mcp", cli.log_format, cli.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let opened = choice.open(cli.store_settings()).await.map_err(opening)?;
        app::serve(cli, opened.store).await
    });
    runtime.shutdown_background();
    result
}
