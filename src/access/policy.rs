//! The requirements for the tokens of a route, and the changes to a request that meets them.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use crate::access::bearer::ParsedToken;
use crate::access::challenge::{AccessError, Challenges};
use crate::access_token::grant::AccessGrant;
use crate::error::ConfigError;
use crate::seal::{Context, Purpose, open_behind};
use crate::store::StoreError;
use crate::wire::scope::{valid_resource, valid_scope};

/// The settings of a policy, before they are checked.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) strip: bool,
    pub(crate) realm: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: Option<String>,
    pub(crate) metadata: Option<String>,
}

/// A checked [`Policy`], with the challenges for requests that do not meet it.
#[derive(Debug)]
pub(crate) struct ValidatedPolicy {
    policy: Policy,
    challenges: Challenges,
}

impl ValidatedPolicy {
    pub(crate) fn new(policy: Policy) -> Result<Self, ConfigError> {
        let Policy {
            realm,
            scopes,
            resource,
            metadata,
            ..
        } = &policy;
        if realm.is_empty() || !realm.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigError::Realm(realm.clone()));
        }
        for (setting, uri) in [("resource", resource), ("resource_metadata", metadata)] {
            if let Some(uri) = uri.as_ref().filter(|uri| !valid_resource(uri)) {
                return Err(ConfigError::Uri {
                    setting,
                    uri: uri.clone(),
                });
            }
        }
        if let Some(scope) = scopes
            .iter()
            .find(|scope| !valid_scope(scope) || scope.contains(' '))
        {
            return Err(ConfigError::Scope(scope.clone()));
        }
        let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
        let challenges = Challenges::new(realm, scope.as_deref(), metadata.as_deref())?;
        Ok(Self { policy, challenges })
    }

    /// Returns a changed copy.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Policy)) -> Result<Self, ConfigError> {
        let mut policy = self.policy.clone();
        change(&mut policy);
        Self::new(policy)
    }

    pub(crate) const fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Checks the resource and the scope of a token, and prepares the request for the inner
    /// service.
    pub(crate) fn admit<B>(
        &self,
        request: &mut Request<B>,
        parsed: &ParsedToken,
        grant: AccessGrant,
    ) -> Result<(), AccessError> {
        if let Some(resource) = &self.policy.resource
            && !grant.resources().any(|known| known == resource)
        {
            tracing::debug!("an access token was rejected because it is for another resource");
            return Err(AccessError::InvalidToken);
        }
        let mut scopes = self.policy.scopes.iter();
        if !scopes.all(|scope| grant.has_scope(scope)) {
            return Err(AccessError::InsufficientScope);
        }
        if self.policy.strip {
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
