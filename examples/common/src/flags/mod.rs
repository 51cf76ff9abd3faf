//! The command line: the flags that both servers have, parsers of values, and the environment
//! variables.

mod admin;
mod config_error;
mod config_file;
mod limits;
mod log;
mod public_url;
mod revocation;
mod rotation;
mod sessions;
mod store;
mod upstream_client;

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Parser};
use tower_oauth_refresh::{AccessLayerBuilder, RefreshLayerBuilder, Store};

pub use self::admin::{About, AdminFlags};
pub use self::config_error::config_error;
use self::config_file::{ConfigFile, message};
pub use self::config_file::{ConfigFlags, read_toml};
pub use self::limits::LimitFlags;
pub use self::log::LogFlags;
pub use self::public_url::warn_without_tls;
pub use self::revocation::{RevocationFlags, parse_key};
pub use self::rotation::RotationFlags;
pub use self::sessions::SessionFlags;
pub use self::store::StoreFlags;
pub use self::upstream_client::{ClientAuth, UpstreamClientFlags};

/// The flags that both servers have.
#[derive(Debug, clap::Args)]
pub struct SharedFlags {
    #[command(flatten)]
    pub store: StoreFlags,

    #[command(flatten)]
    pub sessions: SessionFlags,

    #[command(flatten)]
    pub revocation: RevocationFlags,

    #[command(flatten)]
    pub limits: LimitFlags,

    #[command(flatten)]
    pub admin: AdminFlags,

    #[command(flatten)]
    pub log: LogFlags,

    #[command(flatten)]
    pub config: ConfigFlags,
}

impl SharedFlags {
    /// Applies the flags to the builder of a refresh layer.
    pub fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
        retry_window: Option<Duration>,
    ) -> RefreshLayerBuilder<S> {
        let builder = self.sessions.configure(builder, retry_window);
        let builder = self.limits.configure(builder);
        // A logout token need not name a user.
        builder.provider_sessions(self.admin.backchannel_logout_issuer.is_some())
    }

    /// Applies the flags to the builder of an access layer.
    pub fn configure_access<S: Store>(
        &self,
        builder: AccessLayerBuilder<S>,
    ) -> AccessLayerBuilder<S> {
        builder
            .cache_size(self.store.cache_size())
            .cache_ttl(self.store.cache_ttl())
            .end_responses(true)
    }
}

/// A command line.
#[derive(Debug)]
pub struct Parsed<C> {
    pub cli: C,
    /// A warning to be logged once the program logs.
    pub warning: Option<String>,
}

/// Parses the command line, the environment and the configuration file, in this order of
/// precedence. Exits with a message if they are invalid, or if help is requested.
///
/// Every flag that is not hidden has an environment variable: with the prefix `PROXY_`,
/// `--public-url` is `PROXY_PUBLIC_URL`. The prefix is not repeated if the name of the flag begins
/// with it: with the prefix `MCP_`, `--mcp-token` is `MCP_TOKEN`.
pub fn parse<C: Parser>(prefix: &str) -> Parsed<C> {
    let mut command = C::command().mut_args(|arg| with_environment(arg, prefix));
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut file = ConfigFile::read(&command, &arguments);
    // clap reports one error at a time. Those about the file are collected.
    let parsed = loop {
        let arguments = arguments.iter().chain(file.arguments());
        let parsed = command
            .try_get_matches_from_mut(arguments)
            .and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
        match parsed {
            Err(error) if file.take(&error) => {}
            parsed => break parsed,
        }
    };
    let mut problems = std::mem::take(&mut file.problems);
    let warning = file.is_exposed.then(|| {
        let path = file.path().display();
        format!("--config {path} has secrets, and other users can read it: change its mode")
    });
    match parsed {
        Ok(cli) if problems.is_empty() => return Parsed { cli, warning },
        Ok(_) => {}
        Err(error) if problems.is_empty() || !error.use_stderr() => error.exit(),
        Err(error) => problems.push(message(&error.to_string()).to_owned()),
    }
    command
        .error(ErrorKind::InvalidValue, problems.join("\nerror: "))
        .exit()
}

fn with_environment(arg: Arg, prefix: &str) -> Arg {
    let Some(long) = arg.get_long().filter(|_| !arg.is_hide_set()) else {
        return arg;
    };
    let name = long.to_uppercase().replace('-', "_");
    let name = match name.strip_prefix(prefix) {
        Some(_) => name,
        None => format!("{prefix}{name}"),
    };
    // clap keeps the name until the process ends.
    let arg = arg.env(&*name.leak());
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg.value_parser(BoolishValueParser::new())
    } else {
        arg
    }
}

/// Parses a number of seconds; fractions are allowed.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let invalid = || "not a number of seconds".to_owned();
    // `f64` would also parse `inf`, `1e9` and `-1`.
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Err(invalid());
    }
    let seconds = text.parse::<f64>().map_err(|_| invalid())?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "the number of seconds is too large".to_owned())
}

/// Parses a time limit: a number of seconds, more than 0 and at most a day.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let limit = seconds(text)?;
    if limit.is_zero() || limit > Duration::from_secs(86_400) {
        return Err("must be more than 0 and at most a day (86400)".into());
    }
    Ok(limit)
}

/// Parses a whole number above 0.
pub fn count(text: &str) -> Result<usize, String> {
    // A count may become the number of permits of a `tokio::sync::Semaphore`, which allows no more.
    let most = usize::MAX >> 4;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| "not a whole number above 0".to_owned())
}
