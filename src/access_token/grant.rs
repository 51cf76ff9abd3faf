//! [`AccessGrant`]: the properties of a valid access token, as routes read them.

use std::sync::Arc;

use bytes::Bytes;
use serde_core::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::access_token::record::AccessRecord;
use crate::access_token::renewable::UpstreamLife;
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::grant::GrantKey;
use crate::subject::{Profile, Subject};
use crate::wire::client::ClientId;

/// The separator between resources, which a form value cannot contain.
const SEPARATOR: char = '\0';

/// The client, scope and resources of an access token. [`AccessLayer`](crate::AccessLayer) adds it
/// to the extensions of every request that it accepts.
///
/// ```
/// use tower_oauth_refresh::AccessGrant;
///
/// fn client_id<B>(request: &http::Request<B>) -> Option<&str> {
///     request.extensions().get::<AccessGrant>().map(AccessGrant::client_id)
/// }
/// ```
///
/// With the feature `axum` it is an extractor: a handler takes an `AccessGrant` or an
/// `Option<AccessGrant>`.
///
/// Clones are cheap and share their data. Tests of a route can create one with
/// [`builder`](AccessGrant::builder).
#[derive(Clone)]
pub struct AccessGrant(Arc<Parts>);

/// The data, in as few allocations as possible, because a cache may hold a hundred thousand of
/// them.
struct Parts {
    /// The client id, the scope and the resources, concatenated.
    text: Box<str>,
    client_end: u32,
    scope_end: u32,
    expires_at: Timestamp,
    /// The life of the upstream access token, if the layer renews it.
    upstream: Option<Box<UpstreamLife>>,
    /// The grant that the token ends with.
    grant: Option<GrantKey>,
    /// The sealed upstream access token, as stored.
    sealed: Box<[u8]>,
    /// The profile of the user. `None` if the user is unknown.
    profile: Option<Arc<Profile>>,
}

impl AccessGrant {
    pub(crate) fn new(
        record: &AccessRecord,
        grant: Option<GrantKey>,
        profile: Option<Arc<Profile>>,
    ) -> Self {
        let mut text = String::from(record.client_id.as_str());
        let client_end = end(&text);
        text.push_str(record.scope.as_ref().map(Utf8::as_str).unwrap_or_default());
        let scope_end = end(&text);
        for resource in &record.resources {
            text.push_str(resource.as_str());
            text.push(SEPARATOR);
        }
        let life = record.renewable.as_ref().map(|renewable| renewable.life);
        Self(Arc::new(Parts {
            text: text.into(),
            client_end,
            scope_end,
            expires_at: record.expires_at,
            upstream: life.map(Box::new),
            grant,
            sealed: record.sealed[..].into(),
            profile,
        }))
    }

    /// Returns a builder for the tests of a route, which then need no layer: add the grant to the
    /// extensions of the request, or pass it to the handler.
    ///
    /// By default the grant has no scope and no resource, belongs to no refresh token grant and
    /// never expires. It has no token.
    ///
    /// ```
    /// use axum::{Extension, http::StatusCode};
    /// use tower_oauth_refresh::AccessGrant;
    ///
    /// async fn delete(Extension(grant): Extension<AccessGrant>) -> StatusCode {
    ///     if grant.has_scope("files:write") {
    ///         StatusCode::NO_CONTENT
    ///     } else {
    ///         StatusCode::FORBIDDEN
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth_refresh::InvalidClientId> {
    /// let reader = AccessGrant::builder("app".parse()?).scope("files:read").build();
    /// assert_eq!(delete(Extension(reader)).await, StatusCode::FORBIDDEN);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(client_id: ClientId) -> AccessGrantBuilder {
        let record = AccessRecord {
            client_id: client_id.as_str().into(),
            scope: None,
            resources: Vec::new(),
            issued_at: Timestamp::default(),
            expires_at: Timestamp::from_millis(u64::MAX),
            has_grant: false,
            sealed: Bytes::new(),
            profile: None,
            renewable: None,
            revocation_pending: false,
            unknown: Vec::new(),
        };
        AccessGrantBuilder {
            record,
            grant: None,
            subject: None,
            claims: Map::new(),
        }
    }

    /// Returns the client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.part(0, self.0.client_end)
    }

    /// Returns the granted scope tokens (RFC 6749 §3.3): the ones in the token response of the
    /// inner service. If the response names none, the ones that the client requested, with a grant
    /// type whose token request defines the scope. The iterator is empty if the scope is unknown.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.part(self.0.client_end, self.0.scope_end);
        scope.split(' ').filter(|token| !token.is_empty())
    }

    /// Returns whether this scope token was granted.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|granted| granted == scope)
    }

    /// Returns the resources that the token is valid for (RFC 8707): the ones in the token response
    /// of the inner service. If the response names none, the requested ones that
    /// [`allowed_resources`](crate::RefreshLayerBuilder::allowed_resources) lists.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.part(self.0.scope_end, end(&self.0.text))
            .split_terminator(SEPARATOR)
    }

    /// Returns the expiry of the token. It may end earlier, with its grant.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Returns the key of the grant that the token belongs to and ends with, for
    /// [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant). `None` if the token was issued
    /// without a refresh token.
    #[must_use]
    pub fn grant(&self) -> Option<GrantKey> {
        self.0.grant
    }

    /// Returns the user that the token was issued for, if the layer knows it: see [`Subject`].
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.profile.as_ref().map(|profile| &profile.subject)
    }

    /// Returns a claim about the user, as in the last ID token of the grant. `None` if the layer
    /// does not keep this claim ([`claims`](crate::RefreshLayerBuilder::claims)), if the ID token
    /// does not have it, or if its value is not a `T`.
    ///
    /// ```
    /// use tower_oauth_refresh::AccessGrant;
    ///
    /// fn is_admin(grant: &AccessGrant) -> bool {
    ///     let groups: Vec<String> = grant.claim("groups").unwrap_or_default();
    ///     groups.iter().any(|group| group == "admins")
    /// }
    /// # let user = tower_oauth_refresh::Subject::new("ann").unwrap();
    /// # let grant = AccessGrant::builder("app".parse().unwrap()).subject(user);
    /// # assert!(is_admin(&grant.claim("groups", vec!["admins"]).build()));
    /// ```
    #[must_use]
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.0.profile.as_ref()?.claim(name)?).ok()
    }

    fn part(&self, start: u32, end: u32) -> &str {
        let range = start as usize..end as usize;
        self.0.text.get(range).unwrap_or_default()
    }

    /// Returns the life of the upstream access token, if the layer renews it.
    pub(crate) fn upstream_life(&self) -> Option<UpstreamLife> {
        self.0.upstream.as_deref().copied()
    }

    pub(crate) fn profile(&self) -> Option<Arc<Profile>> {
        self.0.profile.clone()
    }

    pub(crate) fn sealed(&self) -> &[u8] {
        &self.0.sealed
    }

    /// Returns the size in bytes, without the overhead of the allocations.
    pub(crate) fn size(&self) -> usize {
        let Parts { text, sealed, .. } = &*self.0;
        let counts = 2 * size_of::<usize>();
        let upstream = self.0.upstream.as_deref().map_or(0, size_of_val);
        let profile = self.0.profile.as_ref().map_or(0, |profile| profile.size());
        size_of::<Parts>() + counts + text.len() + sealed.len() + upstream + profile
    }
}

/// Returns the length of `text`. The client id, scope and resources of a token are short.
fn end(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

redacted_debug!(self: AccessGrant {
    client_id: self.client_id(), scopes: self.scopes().collect::<Vec<_>>(),
    resources: self.resources().collect::<Vec<_>>(), expires_at: self.expires_at(),
    grant: self.grant(),
});

/// A builder for the [`AccessGrant`] of a test, from [`AccessGrant::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct AccessGrantBuilder {
    /// The token, which the store does not have.
    record: AccessRecord,
    grant: Option<GrantKey>,
    subject: Option<Subject>,
    claims: Map<String, Value>,
}

impl AccessGrantBuilder {
    /// Sets the granted scope: scope tokens separated by spaces (RFC 6749 §3.3).
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        let scope: String = scope.into();
        self.record.scope = Some(scope.as_str().into());
        self
    }

    /// Adds a resource that the token is valid for (RFC 8707).
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        let uri: String = uri.into();
        self.record.resources.push(uri.as_str().into());
        self
    }

    /// Sets the expiry of the token.
    pub const fn expires_at(mut self, end: Timestamp) -> Self {
        self.record.expires_at = end;
        self
    }

    /// Sets the grant that the token belongs to.
    pub const fn grant(mut self, grant: GrantKey) -> Self {
        self.grant = Some(grant);
        self
    }

    /// Sets the user that the token was issued for.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Adds a claim about the user, if there is a [`subject`](Self::subject).
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Builds the grant, as a route gets it.
    #[must_use]
    pub fn build(self) -> AccessGrant {
        let profile = self
            .subject
            .map(|subject| Arc::new(Profile::with_claims(subject, self.claims)));
        AccessGrant::new(&self.record, self.grant, profile)
    }
}

#[cfg(test)]
mod tests;
