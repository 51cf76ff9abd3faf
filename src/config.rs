//! The settings, checked.

use std::cmp::Reverse;
use std::time::Duration;

use http::StatusCode;

use crate::clock::Timestamp;
use crate::disclosure::Withheld;
use crate::error::ConfigError;
pub(crate) use crate::grant::Windows;
use crate::path::{InvalidPath, PathMatch, PathPrefix, PathRules, is_pattern};
use crate::scope::valid_resource;
use crate::service::Endpoint;

/// What access tokens of the layer begin with, if nothing else was set.
pub(crate) const ACCESS_PREFIX: &str = "at_";

const DAY: Duration = Duration::from_secs(24 * 3600);
const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const LARGEST_LIMIT: usize = 16 << 20;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long the store is given after the inner service's last moment, before a lease runs out.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) paths: Paths,
    pub(crate) prefix: String,
    /// Whether clients get access tokens of the layer's own.
    pub(crate) reference: bool,
    pub(crate) access_prefix: String,
    pub(crate) keep_id_token: bool,
    /// Resources that clients get by asking for them.
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
    /// Returns how long the inner service may take for one request that rotates, revokes or
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

    /// How long a grant is this request's to rotate; it outlives the inner call.
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
            if duration
                .is_some_and(|duration| duration.as_millis() == 0 || duration > HUNDRED_YEARS)
            {
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

/// Refuses a prefix that a form would have to escape.
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
    /// Prefixes below which ambiguous paths are let through.
    pub(crate) allowed: Vec<String>,
    /// Set if other spellings are guarded as well.
    rules: Option<EndpointRules>,
}

/// The rules for every spelling of the guarded paths.
#[derive(Clone, Debug)]
struct EndpointRules {
    paths: PathRules,
    /// The endpoint of each guarded prefix.
    endpoints: Vec<Endpoint>,
}

/// The meaning of the path of a POST request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Endpoint(Endpoint),
    /// The path must not reach the inner service.
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

    /// Returns the rules for every spelling. One path may be below another, but no two may be
    /// spellings of one.
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
        // The innermost first: Keycloak has its introspection endpoint below its token endpoint.
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

    /// Returns the configured path of an endpoint, under which its requests go to the inner
    /// service.
    pub(crate) fn of(&self, endpoint: Endpoint) -> Option<&str> {
        self.endpoints()
            .find_map(|(one, path)| (one == endpoint).then_some(path))
    }

    /// Returns the meaning of the path of a POST request.
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
        // A longer retry window moves the default recovery along; only what was asked for can
        // contradict.
        let recovery = recovery.unwrap_or_else(|| match retry {
            Duration::ZERO => retry,
            retry => default.recovery.max(retry.saturating_mul(2)),
        });
        for (setting, window) in [("retry_window", retry), ("recovery_window", recovery)] {
            if window > HUNDRED_YEARS || (!window.is_zero() && window.as_millis() == 0) {
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
    fn the_defaults_are_sound() {
        Config::default().check().unwrap();
        Paths::default().checked().unwrap();
        Windows::checked(None, None, false).unwrap();
        Windows::checked(None, None, true).unwrap();
    }

    #[test]
    fn a_nonsensical_path_is_refused() {
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
    fn a_nonsensical_setting_is_refused() {
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
            ("a prefix that forms escape", prefix("r+"), |c| {
                c.prefix = "r+".into()
            }),
            ("a prefix of 33 bytes", prefix(&"r".repeat(33)), |c| {
                c.prefix = "r".repeat(33)
            }),
            (
                "no idle lifetime",
                ConfigError::Duration("idle_lifetime"),
                |c| c.idle_lifetime = Duration::ZERO,
            ),
            (
                "no absolute lifetime",
                ConfigError::Duration("absolute_lifetime"),
                |c| {
                    c.absolute_lifetime = Some(Duration::from_micros(1));
                },
            ),
            (
                "an endless time-out",
                ConfigError::Duration("rotation_timeout"),
                |c| c.rotation_timeout = Duration::MAX,
            ),
            ("a time-out of hours", ConfigError::RotationTimeout, |c| {
                c.rotation_timeout = Duration::from_secs(3601)
            }),
            (
                "no time for a log-in",
                ConfigError::Duration("issue_timeout"),
                |c| c.issue_timeout = ZERO,
            ),
            (
                "hours for a log-in",
                ConfigError::Timeout("issue_timeout"),
                |c| c.issue_timeout = 2 * LONGEST_TIMEOUT,
            ),
            (
                "no time for a body",
                ConfigError::Duration("request_body_timeout"),
                |c| c.request_body_timeout = ZERO,
            ),
            (
                "hours for a body",
                ConfigError::Timeout("request_body_timeout"),
                |c| {
                    c.request_body_timeout = LONGEST_TIMEOUT + Duration::from_millis(1);
                },
            ),
            (
                "no request body",
                ConfigError::Limit("max_request_body"),
                |c| c.max_request_body = 0,
            ),
            (
                "an answer of gigabytes",
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
                "recovery ends first",
                Some(DAY),
                Some(DAY),
                false,
                ConfigError::RecoveryWithinRetry,
            ),
            (
                "an endless retry window",
                Some(long),
                Some(long),
                false,
                ConfigError::Duration("retry_window"),
            ),
            (
                "an endless recovery",
                None,
                Some(long),
                false,
                ConfigError::Duration("recovery_window"),
            ),
            (
                "a recovery alone",
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
