//! The checked requirements of a route, and the changes to a request that meets them.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};

use crate::access::bearer::ParsedToken;
#[cfg(feature = "axum")]
use crate::access::challenge::AnonymousChallenge;
use crate::access::challenge::{AccessError, Challenges};
use crate::access::requirements::{Requirements, ScopePolicy};
use crate::access_token::grant::AccessGrant;
use crate::body::ResponseBody;
use crate::error::ConfigError;
use crate::seal::{Context, Purpose, open_behind};
use crate::store::StoreError;

/// Checked [`Requirements`], with the challenges for requests that do not meet them.
#[derive(Debug)]
pub(crate) struct Route {
    strip: bool,
    requirements: Requirements,
    scope_policy: ScopePolicy,
    challenges: Challenges,
}

impl Route {
    pub(crate) fn new(
        strip: bool,
        realm: &str,
        requirements: Requirements,
        scope_policy: ScopePolicy,
    ) -> Result<Self, ConfigError> {
        requirements.check()?;
        let scope = requirements.requested_scope(&scope_policy);
        let challenges =
            Challenges::new(realm, scope.as_deref(), requirements.metadata.as_deref())?;
        Ok(Self {
            strip,
            requirements,
            scope_policy,
            challenges,
        })
    }

    /// Returns the error response for the client.
    pub(crate) fn refuse<B>(&self, error: AccessError) -> Response<ResponseBody<B>> {
        let challenge = self.challenges.of(&error);
        error.respond(challenge)
    }

    /// Adds the challenge to a request without a token that passes, for a handler that needs one.
    #[cfg(feature = "axum")]
    pub(crate) fn mark_anonymous<B>(&self, request: &mut Request<B>) {
        let challenge = self.challenges.of(&AccessError::TokenMissing);
        if let Some(challenge) = challenge.map(AnonymousChallenge) {
            request.extensions_mut().insert(challenge);
        }
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
