//! The checked requirements of a route, and the changes to a request that meets them.

#[cfg(feature = "axum")]
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};

use crate::access::bearer::ParsedToken;
use crate::access::body::AccessBody;
use crate::access::challenge::AccessError;
use crate::access::policy::Policy;
use crate::access::requirements::{Requirements, ScopePolicy};
use crate::access_token::grant::AccessGrant;
use crate::error::ConfigError;
use crate::seal::{Context, Purpose, open_behind};
use crate::store::StoreError;

/// Checked [`Requirements`], and the content of the challenges for requests that do not meet them.
#[derive(Debug)]
pub(crate) struct Route {
    strip: bool,
    pub(super) realm: String,
    pub(super) requirements: Requirements,
    scope_policy: ScopePolicy,
    /// The scope that a client without a token must request.
    pub(super) required_scope: Option<String>,
}

/// The route of a request without a token that passes. A handler that needs a token sends its
/// challenge.
#[cfg(feature = "axum")]
#[derive(Clone)]
pub(crate) struct AnonymousRoute(pub(crate) Arc<Route>);

impl Route {
    pub(crate) fn new(policy: &Policy, requirements: Requirements) -> Result<Self, ConfigError> {
        requirements.check()?;
        Ok(Self {
            strip: policy.strip,
            realm: policy.realm.clone(),
            required_scope: requirements.requested_scope(&policy.scope_policy),
            requirements,
            scope_policy: policy.scope_policy.clone(),
        })
    }

    /// Returns the error response for the client.
    pub(crate) fn refuse<B>(&self, error: AccessError) -> Response<AccessBody<B>> {
        let challenge = self.challenge(&error);
        error.respond(challenge)
    }

    /// Adds the route to a request without a token that passes, for a handler that needs one.
    #[cfg(feature = "axum")]
    pub(crate) fn mark_anonymous<B>(self: &Arc<Self>, request: &mut Request<B>) {
        let route = AnonymousRoute(Arc::clone(self));
        request.extensions_mut().insert(route);
    }

    /// Checks the resource and the scope of a token, and prepares the request for the inner
    /// service.
    pub(crate) fn admit<B>(
        &self,
        request: &mut Request<B>,
        parsed: &ParsedToken,
        grant: AccessGrant,
    ) -> Result<(), AccessError> {
        if let Some(resource) = &self.requirements.resource
            && !grant.resources().any(|known| known == resource)
        {
            tracing::debug!("an access token was rejected because it is for another resource");
            return Err(AccessError::InvalidToken);
        }
        let has = |required: &str| self.scope_policy.any_covers(required, grant.scopes());
        if !self.requirements.met_by(has) {
            let granted = grant.scopes().collect();
            return Err(AccessError::InsufficientScope {
                scope: self.requirements.with_missing(granted, &self.scope_policy),
            });
        }
        if self.strip {
            request.headers_mut().remove(AUTHORIZATION);
        } else {
            let value = upstream_header(parsed, &grant).map_err(AccessError::Store)?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request.extensions_mut().insert(grant);
        Ok(())
    }
}

/// Returns the `Authorization` header with the upstream access token.
fn upstream_header(parsed: &ParsedToken, grant: &AccessGrant) -> Result<HeaderValue, StoreError> {
    let context = Context {
        purpose: Purpose::Access,
        key: &parsed.key,
        client_id: grant.client_id(),
    };
    let secret = parsed.token.secret();
    let opened =
        open_behind(b"Bearer ", secret, context, grant.sealed()).map_err(StoreError::corrupt)?;
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from(opened)).map_err(StoreError::corrupt)?;
    value.set_sensitive(true);
    Ok(value)
}
