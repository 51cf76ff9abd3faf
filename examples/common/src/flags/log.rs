use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::TryInitError;

use crate::logging::{self, LogFormat};

/// The flags for the log.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFlags {
    /// Format of the log, which is written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// Log level; `trace` logs every decision; no level logs tokens or secrets
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level())]
    log_level: LevelFilter,
}

impl LogFlags {
    /// Starts to log the events of `program`.
    pub fn init(&self, program: &'static str) -> Result<(), TryInitError> {
        logging::init(program, self.log_format, self.log_level)
    }
}

fn level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|level| level.parse::<LevelFilter>())
}
