use std::cmp::Reverse;

use crate::endpoint::Endpoint;
use crate::error::ConfigError;
use crate::wire::path::{InvalidPath, PathMatch, PathPrefix, PathRules};

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
    pub(super) rules: Option<EndpointRules>,
}

/// The rules that match all spellings of the guarded paths.
#[derive(Clone, Debug)]
pub(super) struct EndpointRules {
    /// The rules for POST requests.
    paths: PathRules,
    /// The rules for other methods.
    other_methods: PathRules,
    /// The endpoint of each guarded prefix.
    endpoints: Vec<Endpoint>,
}

/// The target of a request, by its path.
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
        let mut before: Vec<(Endpoint, &str)> = Vec::new();
        for (endpoint, path) in self.endpoints() {
            check_path(endpoint.setting(), path)?;
            if let Some((other, _)) = before.iter().find(|(_, other)| *other == path) {
                return Err(same_path(*other, endpoint.setting(), path));
            }
            before.push((endpoint, path));
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
                return Err(same_path(*other, endpoint.setting(), same.as_str()));
            }
            guarded.push((endpoint, prefix));
        }
        // The longest path comes first, because one guarded path may be below another: the
        // introspection endpoint of Keycloak is below its token endpoint.
        guarded.sort_by_key(|(_, prefix)| Reverse(prefix.depth()));
        let mut allowed = Vec::new();
        for path in &self.allowed {
            let prefix = prefix(ALLOWED, path)?;
            let encloses = |(_, guarded): &&(_, PathPrefix)| guarded.encloses(&prefix);
            if let Some((other, guarded)) = guarded.iter().find(encloses) {
                return Err(same_path(*other, ALLOWED, guarded.as_str()));
            }
            allowed.push(prefix);
        }
        let (endpoints, guarded): (Vec<_>, Vec<_>) = guarded.into_iter().unzip();
        let everywhere = prefix(ALLOWED, "/")?;
        let other_allowed = allowed.iter().cloned().chain([everywhere]);
        Ok(EndpointRules {
            other_methods: PathRules::new(guarded.iter().cloned(), other_allowed),
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
        self.find(path, |rules| &rules.paths)
    }

    /// Returns the target of a request with another method than POST. An ambiguous path is refused
    /// only if it has a dot segment, an invalid escape or the like, or may be a guarded path:
    /// other methods name files and other resources, whose names may have encoded delimiters.
    pub(crate) fn target_of_other_method(&self, path: &str) -> Target {
        self.find(path, |rules| &rules.other_methods)
    }

    fn find(&self, path: &str, rules_for: fn(&EndpointRules) -> &PathRules) -> Target {
        if let Some((endpoint, _)) = self.endpoints().find(|(_, guarded)| *guarded == path) {
            return Target::Endpoint(endpoint);
        }
        let Some(rules) = &self.rules else {
            return Target::Other;
        };
        match rules_for(rules).find(path) {
            PathMatch::Open => Target::Other,
            PathMatch::Guarded(index) => rules
                .endpoints
                .get(index)
                .map_or(Target::Refused, |endpoint| Target::Endpoint(*endpoint)),
            PathMatch::Refused => Target::Refused,
        }
    }
}

/// The setting of [`Paths::allowed`].
pub(crate) const ALLOWED: &str = "allow_ambiguous_paths";

/// Returns the error if a path of `setting` is the path of `endpoint`, or below it.
fn same_path(endpoint: Endpoint, setting: &'static str, path: &str) -> ConfigError {
    ConfigError::SamePath {
        settings: [endpoint.setting(), setting],
        path: path.to_owned(),
    }
}

fn check_path(setting: &'static str, path: &str) -> Result<(), ConfigError> {
    match prefix(setting, path) {
        // A path that is compared byte for byte may be ambiguous.
        Ok(_) | Err(ConfigError::AmbiguousPath { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Parses the path of a setting that guards all spellings.
pub(crate) fn prefix(setting: &'static str, path: &str) -> Result<PathPrefix, ConfigError> {
    path.parse().map_err(|error| {
        let path = path.to_owned();
        match error {
            InvalidPath::NotAbsolute => ConfigError::Path { setting, path },
            InvalidPath::Pattern => ConfigError::PathPattern { setting, path },
            InvalidPath::Ambiguous => ConfigError::AmbiguousPath { setting, path },
        }
    })
}
