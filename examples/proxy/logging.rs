//! The log.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Logs to standard error what `program` has to say, and the layer.
pub(crate) fn init(program: &'static str, format: LogFormat, level: LevelFilter) -> Result<(), TryInitError> {
    // What the HTTP libraries say at the lower levels is much, and of use to their authors alone.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(program, level)
        .with_target("tower_oauth_refresh", level);
    let registry = tracing_subscriber::registry().with(targets);
    match format {
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(io::stderr)).try_init(),
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init(),
    }
}
