//! Issues reference access tokens.
//!
//! [`mint`] replaces the access token of a response and returns an [`AccessWrite`], the record that
//! must be stored before the response is sent.

use std::borrow::Cow;
use std::time::Duration;

use crate::clock::{CENTURY, Timestamp};
use crate::endpoint::config::Config;
use crate::endpoint::state::State;
use crate::endpoint::token::entropy::AccessEntropy;
use crate::seal::{Context, Purpose, SealError, Sealer};
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl};
use crate::subject::Profile;
use crate::token::{AccessToken, TokenId};
use crate::wire::scope::resources_fit;
use crate::wire::token_response::{AnswerError, TokenResponse};

use crate::access_token::record::AccessRecord;

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
    /// What is known about the user.
    pub(crate) profile: Option<&'a Profile>,
}

/// Returns the resources that an access token is valid for: the ones that the response names,
/// otherwise the ones of `requested` that
/// [`allowed_resources`](crate::RefreshLayerBuilder::allowed_resources) lists.
///
/// A requested resource alone proves nothing, because an inner service that does not support RFC
/// 8707 ignores the parameter.
pub(crate) fn granted_resources<'a>(
    config: &Config,
    answer: &TokenResponse,
    requested: impl Iterator<Item = &'a str>,
) -> Vec<Cow<'a, str>> {
    if let Some(named) = answer.resources() {
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

/// The grant that an access token ends with, and its generation, or no grant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// The grant with this id.
    Grant(TokenId, u32),
    /// No grant. The id is random.
    Alone(TokenId),
}

/// A new access token that is not stored yet.
#[derive(Debug)]
pub(crate) struct MintedAccessToken {
    /// The response, with this token instead of the upstream access token.
    pub(crate) answer: TokenResponse,
    pub(crate) write: AccessWrite,
}

/// The reason why no access token could be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the token response cannot be rewritten")]
    Answer(AnswerError),
}

/// Replaces the access token of a response with a reference access token that is issued at `now`.
/// Returns `None` if the response has no access token, or the layer does not issue reference access
/// tokens.
pub(crate) fn mint<St>(
    shared: &State<St>,
    now: Timestamp,
    home: Owner,
    draw: AccessEntropy,
    terms: &Terms<'_>,
    answer: &TokenResponse,
) -> Result<Option<MintedAccessToken>, MintError> {
    let config = shared.config();
    let Some(upstream) = answer.access_token().filter(|_| config.reference) else {
        return Ok(None);
    };
    let (id, generation, has_grant) = match home {
        Owner::Grant(id, generation) => (id, generation, true),
        Owner::Alone(id) => (id, 0, false),
    };
    let token = AccessToken::new(id, generation, &draw.secret);
    let key = token.key();
    let context = Context {
        purpose: Purpose::Access,
        key: &key,
        client_id: terms.client_id,
    };
    let sealer = Sealer::new(token.secret());
    let sealed = sealer.seal(draw.nonce, context, &[], upstream.as_bytes())?;
    let profile = terms
        .profile
        .map(|profile| {
            let purpose = Purpose::Profile;
            profile.seal(&sealer, draw.profile_nonce, Context { purpose, ..context })
        })
        .transpose()?;
    let lifetime = lifetime(config, answer);
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
        has_grant,
        sealed: sealed.into(),
        profile: profile.map(Into::into),
        revocation_pending: false,
        unknown: Vec::new(),
    };
    let text = token.encode(&config.access_prefix);
    let stated = config.access_token_lifetime.map(|_| lifetime);
    let answer = answer
        .with_access_token(&text, stated)
        .map_err(MintError::Answer)?;
    let entry = record.entry(&key, draw.version);
    Ok(Some(MintedAccessToken {
        answer,
        write: AccessWrite { key, record, entry },
    }))
}

/// Returns the lifetime of an access token: the configured one, but not longer than the upstream
/// access token lives, if the inner service names its lifetime.
fn lifetime(config: &Config, answer: &TokenResponse) -> Duration {
    let longest = match (config.access_token_lifetime, answer.lifetime()) {
        (Some(own), Some(upstream)) => own.min(upstream),
        (Some(lifetime), None) | (None, Some(lifetime)) => lifetime,
        (None, None) => DEFAULT_LIFETIME,
    };
    longest.min(CENTURY)
}

/// The record of an access token, to be written to the store.
#[derive(Clone, Debug)]
pub(crate) struct AccessWrite {
    key: Key,
    record: AccessRecord,
    entry: Entry,
}

impl AccessWrite {
    /// Stores the record. Safe to repeat.
    pub(crate) async fn insert<St: Store>(
        &self,
        store: &St,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match store.swap(&self.key, None, self.change(now), &[]).await? {
            Swap::Swapped => Ok(()),
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
        let expected = self.entry.version;
        let version = shared.random().map_err(StoreError::unavailable)?;
        self.record.has_grant = false;
        self.entry = self
            .record
            .entry(&self.key, crate::store::Version::new(version));
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
            entry: self.entry.clone(),
            ttl: Ttl::After(self.record.time_to_live(now)),
        }
    }
}

/// Stores the record of an access token, if there is one.
pub(crate) async fn insert<St: Store>(
    write: Option<&AccessWrite>,
    shared: &State<St>,
) -> Result<(), StoreError> {
    match write {
        Some(write) => write.insert(shared.store(), shared.now()).await,
        None => Ok(()),
    }
}
