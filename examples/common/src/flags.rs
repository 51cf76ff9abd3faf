//! Parsers and error texts for flags that both servers share.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tower_oauth_refresh::ConfigError;
use tracing_subscriber::filter::LevelFilter;

/// Formats an error of the layer's builder with the names of the flags instead of the settings.
pub fn config_error(error: &ConfigError) -> String {
    let flag = |setting: &str| match setting {
        // The setting is a list, the flag is repeated.
        "allow_ambiguous_paths" => "--allow-ambiguous-path".to_owned(),
        setting => format!("--{}", setting.replace('_', "-")),
    };
    match error {
        ConfigError::Path { setting, path } => {
            format!("{}: {path:?} is not a path such as /token", flag(setting))
        }
        ConfigError::SamePath {
            settings: [one, other],
            path,
        } => {
            format!(
                "{} and {} are both {path:?} or below it",
                flag(one),
                flag(other)
            )
        }
        ConfigError::PathPattern { setting, path } => {
            format!(
                "{}: {path:?} looks like a route pattern, but paths are compared literally",
                flag(setting)
            )
        }
        ConfigError::AmbiguousPath { setting, path } => {
            format!(
                "{}: {path:?} can be read in more than one way",
                flag(setting)
            )
        }
        ConfigError::Duration(setting) => format!(
            "{} must be more than 0 and at most a hundred years",
            flag(setting)
        ),
        ConfigError::RotationTimeout => "--rotation-timeout must be at most an hour (3600)".into(),
        ConfigError::Timeout(setting) => {
            format!("{} must be at most an hour (3600)", flag(setting))
        }
        ConfigError::RecoveryWithinRetry => {
            "--recovery-window must be 0 or longer than --retry-window".into()
        }
        ConfigError::StrictWithWindow => {
            "--strict cannot be combined with --retry-window or --recovery-window".into()
        }
        ConfigError::IdTokenWithoutReference => {
            "--keep-id-token needs --reference-access-tokens".into()
        }
        ConfigError::Scope(scope) => format!("--resource-scope: {scope:?} is not a scope"),
        ConfigError::Uri { setting, uri } => {
            // The setting is a list, the flag is repeated.
            let flag = flag(setting.trim_end_matches('s'));
            format!("{flag}: {uri:?} is not a URI such as https://a/b")
        }
        ConfigError::CacheTtl => {
            "--cache-ttl must be at most a day (86400) with --resource-prefix".into()
        }
        other => other.to_string(),
    }
}

/// Parses a number of seconds; fractions are allowed.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let not = || "not a number of seconds".to_owned();
    // `f64` would also parse `inf`, `1e9` and `-1`.
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Err(not());
    }
    let seconds = text.parse::<f64>().map_err(|_| not())?;
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

/// Returns the parser of a log level.
pub fn level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|level| level.parse::<LevelFilter>())
}
