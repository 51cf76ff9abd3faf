//! The settings of a `RefreshLayer`, and the checks that `RefreshLayerBuilder::build` makes.
//!
//! [`Config`] holds all settings. [`Paths`] also maps the path of a request to a guarded endpoint.

use std::cmp::Reverse;
use std::time::Duration;

use http::StatusCode;

use crate::clock::{CENTURY, Timestamp};
use crate::endpoint::Endpoint;
use crate::error::ConfigError;
pub(crate) use crate::grant::Windows;
use crate::wire::disclosure::Withheld;
use crate::wire::path::{InvalidPath, PathMatch, PathPrefix, PathRules, is_pattern};
use crate::wire::scope::valid_resource;

/// The default prefix of reference access tokens.
pub(crate) const ACCESS_PREFIX: &str = "at_";

const DAY: Duration = Duration::from_secs(24 * 3600);
const LARGEST_LIMIT: usize = 16 << 20;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The time that a lease outlives the time limit of the inner service, so that the response can be
/// committed.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) paths: Paths,
    pub(crate) prefix: String,
    /// Whether clients get reference access tokens.
    pub(crate) reference: bool,
    pub(crate) access_prefix: String,
    pub(crate) keep_id_token: bool,
    /// The resources that an access token is valid for if its client requests them.
    pub(crate) allowed_resources: Vec<String>,
    pub(crate) windows: Windows,
    pub(crate) idle_lifetime: Duration,
    pub(crate) absolute_lifetime: Option<Duration>,
    pub(crate) rotation_timeout: Duration,
    pub(crate) issue_timeout: Duration,
    pub(crate) request_body_timeout: Duration,
    /// Whether a log-in fails if its grant cannot be stored.
    pub(crate) refuse_unstored_grants: bool,
    pub(crate) adopt_until: Option<Timestamp>,
    pub(crate) max_request_body: usize,
    pub(crate) max_response_body: usize,
    pub(crate) invalid_grant_status: StatusCode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: Paths::default(),
            prefix: "rt_".into(),
            reference: false,
            access_prefix: ACCESS_PREFIX.into(),
            keep_id_token: false,
            allowed_resources: Vec::new(),
            windows: Windows::default(),
            idle_lifetime: 30 * DAY,
            absolute_lifetime: None,
            rotation_timeout: Duration::from_secs(10),
            issue_timeout: Duration::from_secs(30),
            request_body_timeout: Duration::from_secs(10),
            refuse_unstored_grants: false,
            adopt_until: None,
            max_request_body: 64 << 10,
            max_response_body: 256 << 10,
            invalid_grant_status: StatusCode::BAD_REQUEST,
        }
    }
}

impl Config {
    /// Returns the time limit of the inner service for a request that rotates, revokes or
    /// introspects.
    pub(crate) fn upstream_timeout(&self) -> Duration {
        self.rotation_timeout * 2
    }

    /// Returns which tokens of the inner service must not reach a client.
    pub(crate) const fn withheld(&self) -> Withheld {
        if self.reference {
            Withheld::AllTokens {
                keep_id_token: self.keep_id_token,
            }
        } else {
            Withheld::RefreshTokens
        }
    }

    /// Returns the duration of a lease. It is longer than the time limit of the inner service, so
    /// that no other instance takes a grant over while its upstream token is in use.
    pub(crate) fn lease(&self) -> Duration {
        self.upstream_timeout() + LEASE_MARGIN
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_prefix("token_prefix", &self.prefix)?;
        check_prefix("access_token_prefix", &self.access_prefix)?;
        if self.prefix == self.access_prefix {
            return Err(ConfigError::SamePrefix(self.prefix.clone()));
        }
        if self.keep_id_token && !self.reference {
            return Err(ConfigError::IdTokenWithoutReference);
        }
        if let Some(uri) = self
            .allowed_resources
            .iter()
            .find(|uri| !valid_resource(uri))
        {
            return Err(ConfigError::Uri {
                setting: "allowed_resources",
                uri: uri.clone(),
            });
        }
        let durations = [
            ("idle_lifetime", Some(self.idle_lifetime)),
            ("absolute_lifetime", self.absolute_lifetime),
            ("rotation_timeout", Some(self.rotation_timeout)),
            ("issue_timeout", Some(self.issue_timeout)),
            ("request_body_timeout", Some(self.request_body_timeout)),
        ];
        for (setting, duration) in durations {
            if duration.is_some_and(|duration| duration.as_millis() == 0 || duration > CENTURY) {
                return Err(ConfigError::Duration(setting));
            }
        }
        if self.rotation_timeout > LONGEST_TIMEOUT {
            return Err(ConfigError::RotationTimeout);
        }
        for (setting, timeout) in [
            ("issue_timeout", self.issue_timeout),
            ("request_body_timeout", self.request_body_timeout),
        ] {
            if timeout > LONGEST_TIMEOUT {
                return Err(ConfigError::Timeout(setting));
            }
        }
        for (setting, limit) in [
            ("max_request_body", self.max_request_body),
            ("max_response_body", self.max_response_body),
        ] {
            if limit == 0 || limit > LARGEST_LIMIT {
                return Err(ConfigError::Limit(setting));
            }
        }
        Ok(())
    }
}

/// Rejects a prefix that is too long, or has a character that must be escaped in a form.
pub(crate) fn check_prefix(setting: &'static str, prefix: &str) -> Result<(), ConfigError> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if prefix.len() > 32 || !prefix.bytes().all(unreserved) {
        return Err(ConfigError::Prefix {
            setting,
            prefix: prefix.to_owned(),
        });
    }
    Ok(())
}

/// The guarded paths, checked by [`checked`](Paths::checked).
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) token: String,
    pub(crate) revocation: String,
    pub(crate) introspection: Option<String>,
    pub(crate) normalized: bool,
    /// Prefixes below which ambiguous paths are allowed.
    pub(crate) allowed: Vec<String>,
    /// Set if other spellings of the guarded paths are guarded, too.
    rules: Option<EndpointRules>,
}

/// The rules that match all spellings of the guarded paths.
#[derive(Clone, Debug)]
struct EndpointRules {
    paths: PathRules,
    /// The endpoint of each guarded prefix.
    endpoints: Vec<Endpoint>,
}

/// The target of a POST request, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Endpoint(Endpoint),
    /// The path is ambiguous and must not reach the inner service.
    Refused,
    /// A path that is not guarded.
    Other,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            token: "/token".into(),
            revocation: "/revoke".into(),
            introspection: None,
            normalized: false,
            allowed: Vec::new(),
            rules: None,
        }
    }
}

impl Paths {
    pub(crate) fn checked(mut self) -> Result<Self, ConfigError> {
        let mut before: Vec<(&'static str, &str)> = Vec::new();
        for (endpoint, path) in self.endpoints() {
            let setting = endpoint.setting();
            check_path(setting, path)?;
            if let Some((other, path)) = before.iter().find(|(_, other)| *other == path) {
                return Err(ConfigError::SamePath {
                    settings: [*other, setting],
                    path: (*path).to_owned(),
                });
            }
            before.push((setting, path));
        }
        if self.normalized {
            self.rules = Some(self.rules()?);
        } else if !self.allowed.is_empty() {
            return Err(ConfigError::AllowedWithoutNormalized);
        }
        Ok(self)
    }

    /// Builds the rules that match all spellings. One guarded path may be below another, but two
    /// must not be spellings of the same path.
    fn rules(&self) -> Result<EndpointRules, ConfigError> {
        let mut guarded: Vec<(Endpoint, PathPrefix)> = Vec::new();
        for (endpoint, path) in self.endpoints() {
            let prefix = prefix(endpoint.setting(), path)?;
            let same = |other: &PathPrefix| {
                other.depth() == prefix.depth()
                    && (other.encloses(&prefix) || prefix.encloses(other))
            };
            if let Some((other, same)) = guarded.iter().find(|(_, other)| same(other)) {
                let path = same.as_str().to_owned();
                return Err(ConfigError::SamePath {
                    settings: [other.setting(), endpoint.setting()],
                    path,
                });
            }
            guarded.push((endpoint, prefix));
        }
        // The longest path comes first, because one guarded path may be below another: the
        // introspection endpoint of Keycloak is below its token endpoint.
        guarded.sort_by_key(|(_, prefix)| Reverse(prefix.depth()));
        let mut allowed = Vec::new();
        for path in &self.allowed {
            let prefix = prefix(ALLOWED, path)?;
            if let Some((other, guarded)) = guarded
                .iter()
                .find(|(_, guarded)| guarded.encloses(&prefix))
            {
                let path = guarded.as_str().to_owned();
                return Err(ConfigError::SamePath {
                    settings: [other.setting(), ALLOWED],
                    path,
                });
            }
            allowed.push(prefix);
        }
        let (endpoints, guarded): (Vec<_>, Vec<_>) = guarded.into_iter().unzip();
        Ok(EndpointRules {
            paths: PathRules::new(guarded, allowed),
            endpoints,
        })
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (Endpoint, &str)> {
        let paths = [
            (Endpoint::Token, self.token.as_str()),
            (Endpoint::Revocation, self.revocation.as_str()),
        ];
        paths.into_iter().chain(
            self.introspection
                .iter()
                .map(|path| (Endpoint::Introspection, path.as_str())),
        )
    }

    /// Returns the configured path of an endpoint. The inner service gets its requests under this
    /// path.
    pub(crate) fn of(&self, endpoint: Endpoint) -> Option<&str> {
        self.endpoints()
            .find_map(|(one, path)| (one == endpoint).then_some(path))
    }

    /// Returns the target of a POST request with this path.
    pub(crate) fn target(&self, path: &str) -> Target {
        if let Some((endpoint, _)) = self.endpoints().find(|(_, guarded)| *guarded == path) {
            return Target::Endpoint(endpoint);
        }
        let Some(rules) = &self.rules else {
            return Target::Other;
        };
        match rules.paths.find(path) {
            PathMatch::Open => Target::Other,
            PathMatch::Guarded(index) => rules
                .endpoints
                .get(index)
                .map_or(Target::Refused, |endpoint| Target::Endpoint(*endpoint)),
            PathMatch::Refused => Target::Refused,
        }
    }
}

const ALLOWED: &str = "allow_ambiguous_paths";

fn check_path(setting: &'static str, path: &str) -> Result<(), ConfigError> {
    let parsed = path.parse::<http::uri::PathAndQuery>();
    let absolute =
        path.starts_with('/') && parsed.is_ok_and(|parsed| parsed.as_str() == parsed.path());
    if !absolute || path.contains('#') {
        return Err(ConfigError::Path {
            setting,
            path: path.to_owned(),
        });
    }
    if is_pattern(path) {
        return Err(ConfigError::PathPattern {
            setting,
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn prefix(setting: &'static str, path: &str) -> Result<PathPrefix, ConfigError> {
    let path_owned = || path.to_owned();
    path.parse().map_err(|error| match error {
        InvalidPath::NotAbsolute => ConfigError::Path {
            setting,
            path: path_owned(),
        },
        InvalidPath::Pattern => ConfigError::PathPattern {
            setting,
            path: path_owned(),
        },
        InvalidPath::Ambiguous => ConfigError::AmbiguousPath {
            setting,
            path: path_owned(),
        },
    })
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(60),
            recovery: DAY,
        }
    }
}

impl Windows {
    pub(crate) fn checked(
        retry: Option<Duration>,
        recovery: Option<Duration>,
        strict: bool,
    ) -> Result<Self, ConfigError> {
        let none = Self {
            retry: Duration::ZERO,
            recovery: Duration::ZERO,
        };
        if strict {
            let set = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
            return if set(retry) || set(recovery) {
                Err(ConfigError::StrictWithWindow)
            } else {
                Ok(none)
            };
        }
        let default = Self::default();
        let retry = retry.unwrap_or(default.retry);
        // A long retry window raises the default of the recovery window. Only a recovery window
        // that the application has set can contradict the retry window.
        let recovery = recovery.unwrap_or_else(|| match retry {
            Duration::ZERO => retry,
            retry => default.recovery.max(retry.saturating_mul(2)),
        });
        for (setting, window) in [("retry_window", retry), ("recovery_window", recovery)] {
            if window > CENTURY || (!window.is_zero() && window.as_millis() == 0) {
                return Err(ConfigError::Duration(setting));
            }
        }
        if !recovery.is_zero() && retry.is_zero() {
            return Err(ConfigError::RecoveryWithoutRetry);
        }
        if !recovery.is_zero() && recovery <= retry {
            return Err(ConfigError::RecoveryWithinRetry);
        }
        Ok(Self { retry, recovery })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().check().unwrap();
        Paths::default().checked().unwrap();
        Windows::checked(None, None, false).unwrap();
        Windows::checked(None, None, true).unwrap();
    }

    #[test]
    fn an_invalid_path_is_rejected() {
        for path in [
            "",
            "token",
            "/token?x=1",
            "/to ken",
            "*",
            "https://as.example/token",
            "/token#x",
        ] {
            let paths = Paths {
                token: path.into(),
                ..Paths::default()
            };
            assert_eq!(
                paths.checked().unwrap_err(),
                ConfigError::Path {
                    setting: "token_path",
                    path: path.into()
                },
                "{path:?}"
            );
        }
        let [token, revocation, introspection] =
            ["token_path", "revocation_path", "introspection_path"];
        let rows = [
            ("/a", "/a", None, false, [token, revocation], "/a"),
            ("/a", "/a/", None, true, [token, revocation], "/a"),
            ("/a", "/b", Some("/a"), false, [token, introspection], "/a"),
            (
                "/a",
                "/b",
                Some("//b"),
                true,
                [revocation, introspection],
                "/b",
            ),
            (
                "/a/b",
                "//A/b.json",
                None,
                true,
                [token, revocation],
                "/a/b",
            ),
            (
                "/x",
                "/A.json",
                Some("/a"),
                true,
                [revocation, introspection],
                "/A.json",
            ),
        ];
        for (token, revocation, introspection, normalized, settings, path) in rows {
            let introspection = introspection.map(str::to_owned);
            let paths = Paths {
                token: token.into(),
                revocation: revocation.into(),
                introspection,
                normalized,
                ..Paths::default()
            };
            assert_eq!(
                paths.checked().unwrap_err(),
                ConfigError::SamePath {
                    settings,
                    path: path.into()
                }
            );
        }
    }

    #[test]
    fn an_invalid_setting_is_rejected() {
        let long = Duration::MAX;
        const ZERO: Duration = Duration::ZERO;
        let zero = ZERO;
        let prefix = |prefix: &str| ConfigError::Prefix {
            setting: "token_prefix",
            prefix: prefix.into(),
        };
        let uri = ConfigError::Uri {
            setting: "allowed_resources",
            uri: "https://a/#x".into(),
        };
        let rows: [(&str, ConfigError, fn(&mut Config)); 14] = [
            ("a resource with a fragment", uri, |c| {
                c.allowed_resources = vec!["https://a/".into(), "https://a/#x".into()];
            }),
            ("a prefix with a space", prefix("r t"), |c| {
                c.prefix = "r t".into()
            }),
            ("a prefix that a form would escape", prefix("r+"), |c| {
                c.prefix = "r+".into()
            }),
            ("a prefix of 33 bytes", prefix(&"r".repeat(33)), |c| {
                c.prefix = "r".repeat(33)
            }),
            (
                "an idle lifetime of zero",
                ConfigError::Duration("idle_lifetime"),
                |c| c.idle_lifetime = Duration::ZERO,
            ),
            (
                "an absolute lifetime of a microsecond",
                ConfigError::Duration("absolute_lifetime"),
                |c| {
                    c.absolute_lifetime = Some(Duration::from_micros(1));
                },
            ),
            (
                "an unlimited time-out",
                ConfigError::Duration("rotation_timeout"),
                |c| c.rotation_timeout = Duration::MAX,
            ),
            (
                "a time-out of more than an hour",
                ConfigError::RotationTimeout,
                |c| c.rotation_timeout = Duration::from_secs(3601),
            ),
            (
                "an issue time-out of zero",
                ConfigError::Duration("issue_timeout"),
                |c| c.issue_timeout = ZERO,
            ),
            (
                "an issue time-out of more than an hour",
                ConfigError::Timeout("issue_timeout"),
                |c| c.issue_timeout = 2 * LONGEST_TIMEOUT,
            ),
            (
                "a body time-out of zero",
                ConfigError::Duration("request_body_timeout"),
                |c| c.request_body_timeout = ZERO,
            ),
            (
                "a body time-out of more than an hour",
                ConfigError::Timeout("request_body_timeout"),
                |c| {
                    c.request_body_timeout = LONGEST_TIMEOUT + Duration::from_millis(1);
                },
            ),
            (
                "a request limit of zero",
                ConfigError::Limit("max_request_body"),
                |c| c.max_request_body = 0,
            ),
            (
                "a response limit of more than 16 MiB",
                ConfigError::Limit("max_response_body"),
                |c| c.max_response_body = usize::MAX,
            ),
        ];
        for (name, error, set) in rows {
            let mut config = Config::default();
            set(&mut config);
            assert_eq!(config.check().unwrap_err(), error, "{name}");
        }
        let windows = [
            (
                "strict with a retry window",
                Some(DAY),
                None,
                true,
                ConfigError::StrictWithWindow,
            ),
            (
                "strict with a recovery window",
                None,
                Some(DAY),
                true,
                ConfigError::StrictWithWindow,
            ),
            (
                "a recovery window as long as the retry window",
                Some(DAY),
                Some(DAY),
                false,
                ConfigError::RecoveryWithinRetry,
            ),
            (
                "an unlimited retry window",
                Some(long),
                Some(long),
                false,
                ConfigError::Duration("retry_window"),
            ),
            (
                "an unlimited recovery window",
                None,
                Some(long),
                false,
                ConfigError::Duration("recovery_window"),
            ),
            (
                "a recovery window without a retry window",
                Some(zero),
                Some(DAY),
                false,
                ConfigError::RecoveryWithoutRetry,
            ),
        ];
        for (name, retry, recovery, strict, error) in windows {
            assert_eq!(
                Windows::checked(retry, recovery, strict).unwrap_err(),
                error,
                "{name}"
            );
        }
    }
}
