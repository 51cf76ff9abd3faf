//! The command line: the flags that both servers have, parsers of values, and the environment
//! variables.

mod admin;
mod config_error;
mod limits;
mod log;
mod revocation;
mod rotation;
mod sessions;
mod store;
mod upstream_client;

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Parser};
use tower_oauth_refresh::{AccessLayerBuilder, RefreshLayerBuilder, Store};

pub use self::admin::{About, AdminFlags};
pub use self::config_error::config_error;
pub use self::limits::LimitFlags;
pub use self::log::LogFlags;
pub use self::revocation::RevocationFlags;
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
}

impl SharedFlags {
    /// Applies the flags to the builder of a refresh layer.
    pub fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
        retry_window: Option<Duration>,
    ) -> RefreshLayerBuilder<S> {
        let builder = self.sessions.configure(builder, retry_window);
        // A logout token need not name a user.
        builder.provider_sessions(self.admin.backchannel_logout_issuer.is_some())
    }

    /// Applies the flags to the builder of an access layer.
    pub fn configure_access<S: Store>(
        &self,
        builder: AccessLayerBuilder<S>,
    ) -> AccessLayerBuilder<S> {
        builder
            .cache_size(self.store.cache_size)
            .cache_ttl(self.store.cache_ttl)
            .end_responses(true)
    }
}

/// Parses the command line and the environment. Exits with a message if they are invalid, or if
/// help is requested.
///
/// Every flag that is not hidden has an environment variable: with the prefix `PROXY_`,
/// `--public-url` is `PROXY_PUBLIC_URL`. The prefix is not repeated if the name of the flag begins
/// with it: with the prefix `MCP_`, `--mcp-token` is `MCP_TOKEN`.
pub fn parse<C: Parser>(prefix: &str) -> C {
    let command = C::command().mut_args(|arg| with_environment(arg, prefix));
    let mut matches = command.get_matches();
    C::from_arg_matches_mut(&mut matches)
        .unwrap_or_else(|error| error.format(&mut C::command()).exit())
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
