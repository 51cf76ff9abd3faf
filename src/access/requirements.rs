//! The requirements that the token of a request must meet.

use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::wire::scope::{valid_resource, valid_scope};

/// The requirements for the access tokens of one resource, for
/// [`AccessLayerBuilder::resource_for`](crate::AccessLayerBuilder::resource_for).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "requirements do nothing until they are given to a layer"]
pub struct Requirements {
    /// A token must have one scope token of each set.
    scopes: Vec<Vec<String>>,
    pub(crate) resource: Option<String>,
    pub(crate) metadata: Option<String>,
}

impl Requirements {
    /// Returns no requirements: every valid token meets them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scope token that the access token must have, like
    /// [`AccessLayerBuilder::require_scope`](crate::AccessLayerBuilder::require_scope).
    pub fn require_scope(self, scope: impl Into<String>) -> Self {
        self.require_any_scope([scope])
    }

    /// Adds scope tokens of which the access token must have one, like
    /// [`AccessLayerBuilder::require_any_scope`](crate::AccessLayerBuilder::require_any_scope).
    pub fn require_any_scope(
        mut self,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.scopes
            .push(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the resource that the access token must be valid for, like
    /// [`AccessLayerBuilder::resource`](crate::AccessLayerBuilder::resource).
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Sets the URL of the resource metadata in challenges, like
    /// [`AccessLayerBuilder::resource_metadata`](crate::AccessLayerBuilder::resource_metadata).
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.metadata = Some(url.into());
        self
    }

    /// Returns the requirements that apply below `outer`: the scopes of both, and the resource and
    /// the metadata of these, or else of `outer`.
    pub(crate) fn below(&self, outer: &Self) -> Self {
        let scopes = outer.scopes.iter().chain(&self.scopes);
        let resource = self.resource.as_ref().or(outer.resource.as_ref());
        let metadata = self.metadata.as_ref().or(outer.metadata.as_ref());
        Self {
            scopes: scopes.cloned().collect(),
            resource: resource.cloned(),
            metadata: metadata.cloned(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let uris = [
            ("resource", &self.resource),
            ("resource_metadata", &self.metadata),
        ];
        for (setting, uri) in uris {
            if let Some(uri) = uri.as_ref().filter(|uri| !valid_resource(uri)) {
                return Err(ConfigError::Uri {
                    setting,
                    uri: uri.clone(),
                });
            }
        }
        if self.scopes.iter().any(Vec::is_empty) {
            return Err(ConfigError::NoScope);
        }
        let is_invalid = |scope: &&String| !valid_scope(scope) || scope.contains(' ');
        match self.scopes.iter().flatten().find(is_invalid) {
            Some(scope) => Err(ConfigError::Scope(scope.clone())),
            None => Ok(()),
        }
    }

    /// Returns whether the scopes of a token meet the requirements. `has` returns whether they
    /// cover a required scope token.
    pub(crate) fn met_by(&self, has: impl Fn(&str) -> bool) -> bool {
        self.scopes
            .iter()
            .all(|set| set.iter().any(|required| has(required)))
    }

    /// Returns the scope that a client must request: the first scope token of each set, without the
    /// ones that are not needed because another one covers them. Returns `None` if no scope is
    /// required.
    pub(crate) fn requested_scope(&self, policy: &ScopePolicy) -> Option<String> {
        let first = self.scopes.iter().filter_map(|set| set.first());
        let mut scopes: Vec<&str> = first.map(String::as_str).collect();
        for at in (0..scopes.len()).rev() {
            let scope = scopes.remove(at);
            if !self.met_by(|required| policy.any_covers(required, scopes.iter().copied())) {
                scopes.insert(at, scope);
            }
        }
        (!scopes.is_empty()).then(|| scopes.join(" "))
    }

    /// Returns the granted scope tokens, and the first one of each set that they do not cover.
    pub(crate) fn with_missing<'a>(
        &'a self,
        mut scopes: Vec<&'a str>,
        policy: &ScopePolicy,
    ) -> String {
        for set in &self.scopes {
            let covers = |required: &String| policy.any_covers(required, scopes.iter().copied());
            if !set.iter().any(covers) {
                scopes.extend(set.first().map(String::as_str));
            }
        }
        scopes.join(" ")
    }
}

/// Decides which required scope tokens a granted one covers.
#[derive(Clone, Default)]
pub(crate) struct ScopePolicy(Option<Arc<dyn Fn(&str, &str) -> bool + Send + Sync>>);

impl ScopePolicy {
    pub(crate) fn new(covers: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(covers)))
    }

    /// Returns whether one of the granted scope tokens covers the required one. A scope token
    /// always covers itself.
    pub(crate) fn any_covers<'a>(
        &self,
        required: &str,
        mut granted: impl Iterator<Item = &'a str>,
    ) -> bool {
        let covers = |granted: &str| {
            let policy = self.0.as_ref();
            policy.is_some_and(|covers| covers(required, granted))
        };
        granted.any(|granted| granted == required || covers(granted))
    }
}

impl fmt::Debug for ScopePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "custom" } else { "equal" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_scope_is_minimal_and_meets_the_requirements() {
        let hierarchy = ScopePolicy::new(|required, granted| {
            required
                .strip_prefix(granted)
                .is_some_and(|rest| rest.starts_with(':'))
        });
        let equal = ScopePolicy::default();
        let rows: [(&str, &[&[&str]], &str, &str); 9] = [
            ("nothing", &[], "", ""),
            ("one", &[&["a"]], "a", "a"),
            ("the same twice", &[&["a"], &["b"], &["a"]], "a b", "a b"),
            ("one of several", &[&["a", "b"]], "a", "a"),
            (
                "one that is required anyway",
                &[&["a", "b"], &["b"]],
                "b",
                "b",
            ),
            (
                "a scope and a narrower one",
                &[&["repo:read"], &["repo"]],
                "repo:read repo",
                "repo",
            ),
            (
                "a narrower one of several",
                &[&["repo:read", "user"], &["repo"]],
                "repo:read repo",
                "repo",
            ),
            (
                "the broader one is not the first",
                &[&["repo:read", "repo"]],
                "repo:read",
                "repo:read",
            ),
            (
                "a chain",
                &[&["a:b:c"], &["a:b"], &["a"], &["ab"]],
                "a:b:c a:b a ab",
                "a ab",
            ),
        ];
        for (name, sets, plain, with_hierarchy) in rows {
            let requirements = sets.iter().fold(Requirements::new(), |requirements, set| {
                requirements.require_any_scope(set.iter().copied())
            });
            for (policy, expected) in [(&equal, plain), (&hierarchy, with_hierarchy)] {
                let requested = requirements.requested_scope(policy).unwrap_or_default();
                assert_eq!(requested, expected, "{name}");
                let granted = || requested.split(' ').filter(|scope| !scope.is_empty());
                assert!(
                    requirements.met_by(|required| policy.any_covers(required, granted())),
                    "{name}"
                );
            }
        }
    }
}
