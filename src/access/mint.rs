use std::borrow::Cow;
use std::time::Duration;

use crate::answer::{AnswerError, TokenAnswer};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::random::RandomUnavailable;
use crate::rotation::AccessDraw;
use crate::scope::resources_fit;
use crate::seal::{Context, Purpose, SealError, Sealer};
use crate::shared::Shared;
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl};
use crate::token::{AccessToken, TokenId};

use super::record::AccessRecord;

/// How long an access token lives of which the inner service does not say it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// No server means more.
const LONGEST_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What an access token is good for, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) client_id: &'a str,
    /// The scope granted, if known.
    pub(crate) scope: Option<Cow<'a, str>>,
    /// The resources that it is for; none if not known.
    pub(crate) resources: Vec<Cow<'a, str>>,
}

/// Returns the resources that an access token is for: the ones that the answer names, otherwise the
/// ones of `requested` that every client may have.
///
/// A request by itself grants nothing: an inner service that does not know RFC 8707 ignores it.
pub(crate) fn granted_resources<'a>(
    config: &Config,
    answer: &TokenAnswer,
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

/// Where an access token belongs: the grant that it ends with and the generation of it, or nowhere.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    /// The grant that this id leads to.
    Grant(TokenId, u32),
    /// No grant; the id is random.
    Alone(TokenId),
}

/// An access token that was minted, and is not stored.
#[derive(Debug)]
pub(crate) struct Reference {
    /// The answer with it in the place of the upstream's.
    pub(crate) answer: TokenAnswer,
    pub(crate) write: AccessWrite,
}

/// Why no access token could be minted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the answer cannot be rewritten")]
    Answer(AnswerError),
}

/// Replaces the access token of an answer, if it has one, by one of the layer that is issued `now`,
/// if the layer has reference access tokens.
pub(crate) fn mint<St>(
    shared: &Shared<St>,
    now: Timestamp,
    home: Home,
    draw: AccessDraw,
    terms: &Terms<'_>,
    answer: &TokenAnswer,
) -> Result<Option<Reference>, MintError> {
    let config = shared.config();
    let Some(upstream) = answer.access_token().filter(|_| config.reference) else {
        return Ok(None);
    };
    let (id, generation, has_grant) = match home {
        Home::Grant(id, generation) => (id, generation, true),
        Home::Alone(id) => (id, 0, false),
    };
    let token = AccessToken::new(id, generation, &draw.secret);
    let key = token.key();
    let context = Context {
        purpose: Purpose::Access,
        key: &key,
        client_id: terms.client_id,
    };
    let sealed = Sealer::new(token.secret()).seal(draw.nonce, context, &[], upstream.as_bytes())?;
    let lifetime = answer
        .lifetime()
        .unwrap_or(DEFAULT_LIFETIME)
        .min(LONGEST_LIFETIME);
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
        ended: false,
        unknown: Vec::new(),
    };
    let text = token.encode(&config.access_prefix);
    let answer = answer.with_access_token(&text).map_err(MintError::Answer)?;
    let entry = record.entry(&key, draw.version);
    Ok(Some(Reference {
        answer,
        write: AccessWrite { key, record, entry },
    }))
}

/// The record of an access token on its way to the store.
#[derive(Clone, Debug)]
pub(crate) struct AccessWrite {
    key: Key,
    record: AccessRecord,
    entry: Entry,
}

impl AccessWrite {
    /// Stores it. Safe to repeat.
    pub(crate) async fn insert<St: Store>(
        &self,
        store: &St,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match store.swap(&self.key, None, self.change(now), None).await? {
            Swap::Swapped => Ok(()),
            // The hash of 32 random bytes that was there before: the source of randomness is
            // broken.
            Swap::Conflict(_) => Err(StoreError::unavailable(
                "the key of a new access token is taken",
            )),
        }
    }

    /// Stores it again, once it is there: as one without a grant, for its grant could not be
    /// stored.
    pub(crate) async fn forsake<St: Store>(
        mut self,
        shared: &Shared<St>,
    ) -> Result<(), StoreError> {
        let expected = self.entry.version;
        let version = shared.random().map_err(StoreError::unavailable)?;
        self.record.has_grant = false;
        self.entry = self
            .record
            .entry(&self.key, crate::store::Version::new(version));
        match shared
            .store()
            .swap(&self.key, Some(expected), self.change(shared.now()), None)
            .await?
        {
            Swap::Swapped => Ok(()),
            Swap::Conflict(_) => Err(StoreError::unavailable("a new access token has changed")),
        }
    }

    fn change(&self, now: Timestamp) -> Change {
        Change::Put {
            entry: self.entry.clone(),
            ttl: Ttl::After(self.record.time_to_live(now)),
        }
    }
}

/// Stores the access token, if there is one.
pub(crate) async fn insert<St: Store>(
    write: Option<&AccessWrite>,
    shared: &Shared<St>,
) -> Result<(), StoreError> {
    match write {
        Some(write) => write.insert(shared.store(), shared.now()).await,
        None => Ok(()),
    }
}
