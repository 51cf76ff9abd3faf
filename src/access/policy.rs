//! Finds the requirements for a request, by its path.

use std::cmp::Reverse;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN,
    TRANSFER_ENCODING,
};
use http::{Method, Request};

use crate::access::challenge::AccessError;
use crate::access::requirements::{Requirements, ScopePolicy};
use crate::access::route::Route;
use crate::endpoint::config::{ALLOWED, prefix};
use crate::error::ConfigError;
use crate::wire::path::{PathMatch, PathPrefix, PathRules, replace_path};

const RESOURCE_FOR: &str = "resource_for";

/// The settings of a policy, before they are checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) strip: bool,
    pub(crate) realm: String,
    pub(crate) scope_policy: ScopePolicy,
    /// The requirements for all paths. The ones of a resource are added to them.
    pub(crate) base: Requirements,
    /// The resources, by path prefix.
    pub(crate) resources: Vec<(String, Requirements)>,
    /// Prefixes below which ambiguous paths are allowed.
    pub(crate) allowed: Vec<String>,
    pub(crate) open_elsewhere: bool,
    pub(crate) pass_preflights: bool,
    pub(crate) allow_anonymous: bool,
}

/// A checked [`Policy`].
#[derive(Debug)]
pub(crate) struct ValidatedPolicy {
    policy: Policy,
    /// The route of paths without a resource.
    elsewhere: Arc<Route>,
    table: Option<Table>,
}

/// The routes by path.
#[derive(Debug)]
struct Table {
    rules: PathRules,
    /// The route of each guarded prefix.
    routes: Vec<Arc<Route>>,
}

/// The result of matching a request.
pub(crate) enum Place<'a> {
    /// The request needs no token.
    Open,
    /// The request needs no token because it is a CORS preflight.
    Preflight,
    Guarded(&'a Arc<Route>),
}

impl ValidatedPolicy {
    pub(crate) fn new(policy: Policy) -> Result<Self, ConfigError> {
        let realm = &policy.realm;
        if realm.is_empty() || !realm.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigError::Realm(realm.clone()));
        }
        let elsewhere = Arc::new(Route::new(&policy, policy.base.clone())?);
        let table = if policy.resources.is_empty() {
            None
        } else {
            Some(policy.table()?)
        };
        Ok(Self {
            policy,
            elsewhere,
            table,
        })
    }

    /// Returns a copy with other requirements for all paths.
    pub(crate) fn require(
        &self,
        change: impl FnOnce(Requirements) -> Requirements,
    ) -> Result<Self, ConfigError> {
        let mut policy = self.policy.clone();
        policy.base = change(policy.base);
        Self::new(policy)
    }

    pub(crate) const fn allows_anonymous(&self) -> bool {
        self.policy.allow_anonymous
    }

    /// Finds the route of a request. Changes the path of a request for a resource to the configured
    /// spelling, and removes the credentials of a preflight that passes.
    ///
    /// # Errors
    ///
    /// [`AccessError::AmbiguousPath`] if servers could resolve the path to different resources, or
    /// to a resource although it is not one, and [`AccessError::Trace`].
    pub(crate) fn place<B>(&self, request: &mut Request<B>) -> Result<Place<'_>, AccessError> {
        let guarded = match &self.table {
            Some(table) => table.find(request)?,
            None => None,
        };
        let route = match guarded {
            Some(route) => route,
            None if self.policy.open_elsewhere => return Ok(Place::Open),
            None => &self.elsewhere,
        };
        if is_echo(request.method()) {
            return Err(AccessError::Trace);
        }
        if self.policy.pass_preflights && is_preflight(request) {
            request.headers_mut().remove(AUTHORIZATION);
            #[cfg(feature = "axum")]
            route.mark_anonymous(request);
            return Ok(Place::Preflight);
        }
        Ok(Place::Guarded(route))
    }
}

impl Policy {
    fn table(&self) -> Result<Table, ConfigError> {
        let mut resources = Vec::with_capacity(self.resources.len());
        for (path, requirements) in &self.resources {
            resources.push((prefix(RESOURCE_FOR, path)?, requirements));
        }
        // The innermost prefix comes first. Of two prefixes with equal depth, the longer one may be
        // below the other: `/api.v2` is a format of `/api`.
        resources.sort_by_key(|(prefix, _)| Reverse((prefix.depth(), prefix.as_str().len())));
        let allowed = self.allowed.iter();
        let allowed: Vec<_> = allowed
            .map(|path| prefix(ALLOWED, path))
            .collect::<Result<_, _>>()?;
        for (at, (outer, _)) in resources.iter().enumerate() {
            let overlap = |setting| ConfigError::SamePath {
                settings: [RESOURCE_FOR, setting],
                path: outer.as_str().to_owned(),
            };
            // An earlier prefix would hide this one. They are spellings of the same path.
            let mut before = resources.iter().take(at);
            if before.any(|(inner, _)| inner.encloses(outer)) {
                return Err(overlap(RESOURCE_FOR));
            }
            if allowed.iter().any(|allowed| outer.encloses(allowed)) {
                return Err(overlap(ALLOWED));
            }
        }
        let mut routes = Vec::with_capacity(resources.len());
        let mut left = resources.as_slice();
        while let [(inner, own), around @ ..] = left {
            let requirements = self.requirements(inner, own, around)?;
            routes.push(Arc::new(Route::new(self, requirements)?));
            left = around;
        }
        let prefixes = resources.into_iter().map(|(prefix, _)| prefix);
        Ok(Table {
            rules: PathRules::new(prefixes, allowed),
            routes,
        })
    }

    /// Returns the requirements for a resource: its `own`, with those of the resources that are
    /// around it. So if the inner service resolves a path to the outer resource where this layer
    /// matched the inner one, the token still meets the outer requirements.
    fn requirements(
        &self,
        inner: &PathPrefix,
        own: &Requirements,
        around: &[(PathPrefix, &Requirements)],
    ) -> Result<Requirements, ConfigError> {
        let mut all = self.base.clone();
        let outermost_first = around.iter().rev();
        for (outer, requirements) in outermost_first.filter(|(outer, _)| outer.encloses(inner)) {
            all = requirements.below(&all);
            if let (Some(one), Some(other)) = (&own.resource, &all.resource)
                && one != other
            {
                return Err(ConfigError::NestedResource {
                    inner: inner.as_str().to_owned(),
                    outer: outer.as_str().to_owned(),
                });
            }
        }
        Ok(own.below(&all))
    }
}

impl Table {
    /// Returns the route of a request for a resource.
    fn find<B>(&self, request: &mut Request<B>) -> Result<Option<&Arc<Route>>, AccessError> {
        let path = request.uri().path();
        // The request concerns the server as a whole (RFC 9110 §9.3.7).
        if *request.method() == Method::OPTIONS && path == "*" {
            return Ok(None);
        }
        let route = match self.rules.find(path) {
            PathMatch::Open => return Ok(None),
            PathMatch::Guarded(index) => self.guarded(index, request),
            PathMatch::Refused => None,
        };
        route.ok_or(AccessError::AmbiguousPath).map(Some)
    }

    /// Returns the route of this guarded prefix, and respells the path of the request. Returns
    /// `None` if the path may lead to another resource.
    fn guarded<B>(&self, index: usize, request: &mut Request<B>) -> Option<&Arc<Route>> {
        let path = request.uri().path();
        let canonical = self.rules.canonical(index, path)?;
        if canonical != path {
            *request.uri_mut() = replace_path(request.uri().clone(), &canonical).ok()?;
        }
        self.routes.get(index)
    }
}

/// Returns whether this is a CORS preflight (Fetch §3.3.2), which a browser sends without
/// credentials before a request with credentials. A preflight has no content.
fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let content = [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];
    let has_content = |name| headers.get(name).is_some_and(|value| value != "0");
    !content.iter().any(has_content)
        && *request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns whether servers answer a method with the request that they received. Some ignore the
/// case of methods.
fn is_echo(method: &Method) -> bool {
    let is = |name: &str| method.as_str().eq_ignore_ascii_case(name);
    is("TRACE") || is("TRACK")
}
