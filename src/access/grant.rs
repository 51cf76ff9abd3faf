use std::fmt;
use std::sync::Arc;

use super::record::AccessRecord;
use crate::clock::Timestamp;
use crate::fields::Utf8;
use crate::grant::GrantKey;

/// Between resources: no form can have it in a value.
const SEPARATOR: char = '\0';

/// What an access token is good for: [`AccessLayer`](crate::AccessLayer) puts it into the extensions of every request
/// that it lets through.
///
/// ```
/// use tower_oauth_refresh::AccessGrant;
///
/// fn whose<B>(request: &http::Request<B>) -> Option<&str> {
///     request.extensions().get::<AccessGrant>().map(AccessGrant::client_id)
/// }
/// ```
///
/// A clone is another handle on the same grant.
#[derive(Clone)]
pub struct AccessGrant(Arc<Parts>);

/// Everything in as few pieces as can be: there may be a hundred thousand.
struct Parts {
    /// Client, scope and resources, one behind the other.
    text: Box<str>,
    client_end: usize,
    scope_end: usize,
    expires_at: Timestamp,
    /// What it ends with.
    grant: Option<GrantKey>,
    /// The upstream's access token, as sealed as it is in the store.
    sealed: Box<[u8]>,
}

impl AccessGrant {
    pub(crate) fn new(record: &AccessRecord, grant: Option<GrantKey>) -> Self {
        let mut text = String::from(record.client_id.as_str());
        let client_end = text.len();
        text.push_str(record.scope.as_ref().map(Utf8::as_str).unwrap_or_default());
        let scope_end = text.len();
        for resource in &record.resources {
            text.push_str(resource.as_str());
            text.push(SEPARATOR);
        }
        let sealed = record.sealed.as_ref().into();
        let expires_at = record.expires_at;
        Self(Arc::new(Parts { text: text.into(), client_end, scope_end, expires_at, grant, sealed }))
    }

    /// The client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.0.text.get(..self.0.client_end).unwrap_or_default()
    }

    /// The scope tokens that were granted (RFC 6749 §3.3); none if neither the authorization server nor the client said
    /// which.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.0.text.get(self.0.client_end..self.0.scope_end).unwrap_or_default();
        scope.split(' ').filter(|token| !token.is_empty())
    }

    /// Whether this scope token was granted.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|granted| granted == scope)
    }

    /// The resources that the token is for (RFC 8707); none if the client named none.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.0.text.get(self.0.scope_end..).unwrap_or_default().split_terminator(SEPARATOR)
    }

    /// When the token ends, unless its grant does so before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The grant that the token belongs to, and ends with: to be ended with
    /// [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant). None if the token came without a refresh token.
    #[must_use]
    pub fn grant(&self) -> Option<GrantKey> {
        self.0.grant
    }

    pub(crate) fn sealed(&self) -> &[u8] {
        &self.0.sealed
    }

    /// How many bytes it takes up, without what allocating them costs.
    pub(crate) fn size(&self) -> usize {
        size_of::<Parts>() + 2 * size_of::<usize>() + self.0.text.len() + self.0.sealed.len()
    }
}

impl fmt::Debug for AccessGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessGrant")
            .field("client_id", &self.client_id())
            .field("scopes", &self.scopes().collect::<Vec<_>>())
            .field("resources", &self.resources().collect::<Vec<_>>())
            .field("expires_at", &self.expires_at())
            .field("grant", &self.grant())
            .finish_non_exhaustive()
    }
}
