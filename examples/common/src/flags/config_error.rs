use tower_oauth_refresh::ConfigError;

use crate::program::Failure;

/// Returns the failure for an error of a layer's builder. Its text names the flags instead of the
/// settings.
///
/// `scope_flag` is the flag that sets the required scopes.
pub fn config_error(error: &ConfigError, scope_flag: &str) -> Failure {
    Failure::Usage(text(error, scope_flag))
}

/// Returns the flag that sets a setting.
fn flag(setting: &str) -> String {
    let name = match setting {
        // The setting is a list, the flag is repeated.
        "allow_ambiguous_paths" => "allow_ambiguous_path",
        "allowed_resources" => "allowed_resource",
        "resource_for" => "resource_prefix",
        "shared_token_window" => "shared_window",
        setting => setting,
    };
    format!("--{}", name.replace('_', "-"))
}

/// `tests/repo` checks that every variant has an arm here.
fn text(error: &ConfigError, scope_flag: &str) -> String {
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
        ConfigError::SharedTokenWindow => "--shared-window must be at most --idle-lifetime".into(),
        ConfigError::StrictWithWindow => {
            "--strict cannot be combined with --retry-window, --shared-window or --recovery-window"
                .into()
        }
        ConfigError::HandBack => {
            "--hand-back cannot be combined with --reference-access-tokens".into()
        }
        ConfigError::IdTokenWithoutReference => {
            "--keep-id-token needs --reference-access-tokens".into()
        }
        ConfigError::AccessTokenLifetimeWithoutReference => {
            "--access-token-lifetime needs --reference-access-tokens".into()
        }
        ConfigError::UpstreamRefreshWithoutLifetime => {
            "--upstream-refresh needs --access-token-lifetime".into()
        }
        ConfigError::UpstreamRevocation => {
            "--upstream-revocation needs --revocation-key-file".into()
        }
        ConfigError::Scope(scope) => format!("{scope_flag}: {scope:?} is not a scope"),
        ConfigError::NestedResource { inner, outer } => {
            format!("--resource: {inner} is below {outer}, which requires another resource")
        }
        ConfigError::Uri { setting, uri } => {
            format!(
                "{}: {uri:?} is not a URI such as https://a/b",
                flag(setting)
            )
        }
        ConfigError::CacheTtl => {
            "--cache-ttl must be at most a day (86400) if access tokens are checked".into()
        }
        // No flags lead to these.
        ConfigError::AllowedWithoutNormalized
        | ConfigError::UpstreamRefreshWithoutLayer
        | ConfigError::UpstreamRefreshTwice
        | ConfigError::Prefix { .. }
        | ConfigError::SamePrefix(_)
        | ConfigError::Realm(_)
        | ConfigError::NoScope
        | ConfigError::Limit(_) => error.to_string(),
        _ => error.to_string(),
    }
}
