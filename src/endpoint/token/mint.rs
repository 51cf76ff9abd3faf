//! Issues reference access tokens.
//!
//! [`mint`] replaces the access token of a response and returns an [`AccessWrite`], the record that
//! must be stored before the response is sent.

use std::borrow::Cow;
use std::time::Duration;

use tower::BoxError;

use crate::clock::{CENTURY, Timestamp};
use crate::endpoint::config::Config;
use crate::endpoint::state::State;
use crate::endpoint::token::entropy::Entropy;
use crate::endpoint::token::request::ClientRequest;
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{Change, Key, Store, StoreError, Swap, Ttl, Version};
use crate::subject::Profile;
use crate::token::{AccessToken, RefreshToken};
use crate::wire::scope::resources_fit;
use crate::wire::token_response::TokenResponse;

use crate::access_token::record::AccessRecord;
use crate::access_token::renewable::Renewable;

/// The lifetime of an access token if the inner service does not state one.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// The client, scope and resources of an access token.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) client_id: &'a str,
    /// The granted scope, if known.
    pub(crate) scope: Option<Cow<'a, str>>,
    /// The resources that it is valid for. Empty if unknown.
    pub(crate) resources: Vec<Cow<'a, str>>,
    /// The profile of the user, if known.
    pub(crate) profile: Option<&'a Profile>,
    /// The request to which the token response belongs.
    pub(crate) request: &'a ClientRequest<'a>,
    /// Whether the client has authenticated itself before.
    pub(crate) authenticated: bool,
}

impl Terms<'_> {
    /// Returns whether the layer can renew the upstream access token: with its own credentials, and
    /// for what this token is for. A renewal asks for the scope and the resources of the token, so
    /// these must be known if the request named some. Otherwise the new upstream access token could
    /// do more than the one before.
    fn are_renewable(&self, config: &Config) -> bool {
        let request = self.request;
        let Some(service) = config.upstream_refresh.get() else {
            return false;
        };
        let knows_scope = match &self.scope {
            Some(scope) => !scope.is_empty(),
            None => request.scope.is_none(),
        };
        let known = |resource: &&str| self.resources.iter().any(|known| known == resource);
        let knows_resources = request.resources.is_empty()
            || (request.resources.len() == self.resources.len()
                && request.resources.iter().all(known));
        let authenticates = self.authenticated || request.has_credential();
        // A proof may bind the tokens to a key that the layer does not have.
        !request.proofs.any()
            && service.credentials.cover(self.client_id, authenticates)
            && knows_scope
            && knows_resources
            && !request.form.audience
    }
}

/// Returns the resources that an access token is valid for: the ones that the response names,
/// otherwise the ones of `requested` that
/// [`allowed_resources`](crate::RefreshLayerBuilder::allowed_resources) lists.
///
/// A requested resource alone proves nothing, because an inner service that does not support RFC
/// 8707 ignores the parameter.
pub(crate) fn granted_resources<'a>(
    config: &Config,
    response: &TokenResponse,
    requested: impl Iterator<Item = &'a str>,
) -> Vec<Cow<'a, str>> {
    if let Some(named) = response.resources() {
        // Resources that exceed the limits of a stored entry count as unknown.
        let fit = resources_fit(named.iter().map(String::as_str));
        return if fit {
            named.into_iter().map(Cow::Owned).collect()
        } else {
            Vec::new()
        };
    }
    let allowed = |resource: &&str| {
        config
            .allowed_resources
            .iter()
            .any(|allowed| allowed == resource)
    };
    requested.filter(allowed).map(Cow::Borrowed).collect()
}

/// A new access token that is not stored yet.
#[derive(Debug)]
pub(crate) struct MintedAccessToken {
    /// The response, with this token instead of the upstream access token.
    pub(crate) response: TokenResponse,
    pub(crate) write: AccessWrite,
}

/// Replaces the access token of a response with a reference access token that is issued at `now`
/// and ends with the grant of `refresh_token`, if there is one. Returns `None` if the response has
/// no access token, or the layer does not issue reference access tokens.
pub(crate) fn mint<St>(
    shared: &State<St>,
    now: Timestamp,
    refresh_token: Option<&RefreshToken>,
    entropy: &Entropy,
    terms: &Terms<'_>,
    response: &TokenResponse,
) -> Result<Option<MintedAccessToken>, BoxError> {
    let config = shared.config();
    let (Some(random), Some(upstream)) = (&entropy.access, response.access_token()) else {
        return Ok(None);
    };
    let (id, generation) = match refresh_token {
        Some(token) => (token.access_id(), token.generation()),
        None => (entropy.id, 0),
    };
    let token = AccessToken::new(id, generation, &random.secret);
    let key = token.key();
    let context = Context::new(Purpose::Access, &key, terms.client_id);
    let sealer = Sealer::new(token.secret());
    let sealed = sealer.seal(random.nonce, context, &[], upstream.as_bytes())?;
    let profile = terms
        .profile
        .map(|profile| profile.seal(&sealer, random.profile_nonce, context))
        .transpose()?;
    let renewable = refresh_token
        .filter(|_| terms.are_renewable(config))
        .map(|token| Renewable::seal(&sealer, random.refresh_nonce, context, token))
        .transpose()?
        .map(|sealed| {
            let lifetime = upstream_lifetime(response);
            Renewable::new(now, lifetime, config.idle_lifetime, sealed.into())
        });
    let lifetime = lifetime(config, response, renewable.is_some());
    let record = AccessRecord {
        client_id: terms.client_id.into(),
        scope: terms.scope.as_deref().map(Into::into),
        resources: terms
            .resources
            .iter()
            .map(|resource| (&**resource).into())
            .collect(),
        issued_at: now,
        expires_at: now.saturating_add(lifetime),
        has_grant: refresh_token.is_some(),
        sealed: sealed.into(),
        profile,
        renewable,
        revocation_pending: false,
        unknown: Vec::new(),
    };
    let text = token.encode(&config.access_prefix);
    let stated = config.access_token_lifetime.map(|_| lifetime);
    let response = response
        .with_access_token(&text, stated)
        .map_err(|_| "the token response cannot be rewritten")?;
    let write = AccessWrite {
        key,
        record,
        expected: None,
        version: random.version,
    };
    Ok(Some(MintedAccessToken { response, write }))
}

/// Returns the lifetime of an access token: the configured one, but not longer than the upstream
/// access token lives, if the inner service names its lifetime and the layer does not renew it.
fn lifetime(config: &Config, response: &TokenResponse, renewed: bool) -> Duration {
    let upstream = response.lifetime().filter(|_| !renewed);
    let longest = match (config.access_token_lifetime, upstream) {
        (Some(own), Some(upstream)) => own.min(upstream),
        (Some(lifetime), None) | (None, Some(lifetime)) => lifetime,
        (None, None) => DEFAULT_LIFETIME,
    };
    longest.min(CENTURY)
}

/// Returns the lifetime of the upstream access token in a response.
pub(super) fn upstream_lifetime(response: &TokenResponse) -> Duration {
    response.lifetime().unwrap_or(DEFAULT_LIFETIME).min(CENTURY)
}

/// The record of an access token, to be written to the store.
#[derive(Clone, Debug)]
pub(crate) struct AccessWrite {
    pub(super) key: Key,
    pub(super) record: AccessRecord,
    /// The version that this one replaces. `None` for a new token.
    pub(super) expected: Option<Version>,
    pub(super) version: Version,
}

impl AccessWrite {
    /// Stores the record. Safe to repeat.
    pub(crate) async fn write<St: Store>(&self, shared: &State<St>) -> Result<(), StoreError> {
        let (store, change) = (shared.store(), self.change(shared.now()));
        match store.swap(&self.key, self.expected, change, &[]).await? {
            Swap::Swapped => Ok(()),
            // The token was revoked or renewed in the meantime, and that counts.
            Swap::Conflict(_) if self.expected.is_some() => Ok(()),
            // The key is a hash of 32 random bytes. If it exists already, the random number
            // generator is broken.
            Swap::Conflict(_) => Err(StoreError::unavailable(
                "the key of a new access token exists already, the random number generator may be broken",
            )),
        }
    }

    /// Rewrites the stored record as one without a grant, because the grant could not be stored.
    pub(crate) async fn detach_from_grant<St: Store>(
        mut self,
        shared: &State<St>,
    ) -> Result<(), StoreError> {
        let expected = self.version;
        self.version = Version::new(shared.random().map_err(StoreError::unavailable)?);
        self.record.has_grant = false;
        if let Some(renewable) = self.record.renewable.take() {
            self.record.expires_at = self.record.expires_at.min(renewable.life.ends_at);
        }
        match shared
            .store()
            .swap(&self.key, Some(expected), self.change(shared.now()), &[])
            .await?
        {
            Swap::Swapped => Ok(()),
            Swap::Conflict(_) => Err(StoreError::unavailable(
                "the entry of a new access token was changed concurrently",
            )),
        }
    }

    fn change(&self, now: Timestamp) -> Change {
        Change::Put {
            entry: self.record.entry(&self.key, self.version),
            ttl: Ttl::After(self.record.time_to_live(now)),
        }
    }
}
