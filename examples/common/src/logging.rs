//! Sets up the log.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The format of the log: one line of text, or one JSON object, for each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Logs the events of `program` and of the layer to standard error, from `level` up. Other crates
/// log warnings and errors only, and `h2` only errors.
///
/// Returns an error if a subscriber was set before.
pub fn init(
    program: &'static str,
    format: LogFormat,
    level: LevelFilter,
) -> Result<(), TryInitError> {
    // The lower levels of the HTTP libraries are verbose and not useful to operators. `h2` warns of
    // connections that it closes, so that clients could fill the log.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("h2", level.min(LevelFilter::ERROR))
        .with_target(program, level)
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target("tower_oauth_refresh", level);
    let registry = tracing_subscriber::registry().with(targets);
    let writer = || Printable(io::stderr());
    match format {
        LogFormat::Text => registry
            .with(fmt::layer().with_ansi(false).with_writer(writer))
            .try_init(),
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(writer))
            .try_init(),
    }
}

/// A writer that writes each event as one line of printable characters, so that a client cannot
/// forge log lines with a path, a client name or an error text. Other characters are escaped as in
/// JSON, which is valid in both formats.
struct Printable<W>(W);

impl<W: io::Write> io::Write for Printable<W> {
    /// Writes one event: the subscriber writes each event in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let is_escaped =
            |char: char| char.is_control() || (!char.is_ascii() && char.escape_debug().len() > 1);
        if !line.contains(is_escaped) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut out = String::with_capacity(text.len() + 16);
        for char in line.chars() {
            if is_escaped(char) {
                char.encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            } else {
                out.push(char);
            }
        }
        out.push_str(text.get(line.len()..).unwrap_or_default());
        self.0.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
