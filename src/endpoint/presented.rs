//! A refresh token of the layer that a client presents.

use zeroize::Zeroizing;

use crate::codec::DecodeError;
use crate::endpoint::context::RequestContext;
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::grant::{Presented, Record, Standing, StoredGrant, Verdict, decide};
use crate::link;
use crate::seal::{Context, Purpose, SealError, Sealer};
use crate::store::{ClaimTag, Entry, Key, Store, StoreError};
use crate::subject::Profile;
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// A token in the layer's format, and the request and the client that present it.
pub(crate) struct PresentedToken<'a, St> {
    pub(crate) context: &'a RequestContext<St>,
    pub(crate) client_id: &'a ClientId,
    pub(crate) token: RefreshToken,
    pub(crate) key: Key,
    pub(crate) hash: ClaimTag,
    /// Whether the request presents a token from before the layer, which leads to this one.
    pub(crate) adopted: bool,
}

impl<'a, St: Store> PresentedToken<'a, St> {
    pub(crate) fn new(
        context: &'a RequestContext<St>,
        token: RefreshToken,
        client_id: &'a ClientId,
    ) -> Self {
        Self {
            context,
            client_id,
            key: token.key(),
            hash: token.hash(),
            token,
            adopted: false,
        }
    }

    pub(crate) fn subject(&self) -> EventSubject<'_> {
        let generation = self.token.generation();
        EventSubject::grant(Some(self.client_id), &self.key, Some(generation))
    }

    pub(crate) fn emit(&self, kind: EventKind) {
        self.context.emit(kind, self.subject());
    }

    /// Emits a store-failure event and returns the error for the client.
    pub(crate) fn store_failed(&self, error: StoreError) -> RefreshError {
        self.context.store_failed(error, self.subject())
    }

    /// Returns the error for a grant whose record is damaged, and emits the event.
    pub(crate) fn damaged(&self) -> RefreshError {
        self.store_failed(StoreError::corrupt(DecodeError::Damaged))
    }

    pub(crate) fn presented(&self) -> Presented<'_> {
        Presented {
            client_id: self.client_id.as_str(),
            generation: self.token.generation(),
            hash: &self.hash,
        }
    }

    /// Reads the record in an entry of the grant.
    pub(crate) fn decode(&self, entry: &Entry) -> Result<Record, RefreshError> {
        Record::decode(&self.key, &entry.tag, &entry.value)
            .map_err(|error| self.store_failed(StoreError::corrupt(error)))
    }

    /// Reads the stored grant and decides about the token, for a request that does not ask for the
    /// lease.
    pub(crate) fn decide(&self, entry: &Entry) -> Result<(Record, Verdict), RefreshError> {
        let now = self.context.shared.now();
        let record = self.decode(entry)?.at(now);
        let grant = StoredGrant::new(&record, &entry.tag);
        let verdict = decide(grant, self.presented(), Standing::Free, false, now);
        tracing::trace!(?verdict, grant = ?self.key, waited = false, "decided");
        Ok((record, verdict))
    }

    /// Returns the context of a value that is sealed with the grant.
    pub(crate) fn sealed_for(&self, purpose: Purpose) -> Context<'_> {
        Context::new(purpose, &self.key, self.client_id.as_str())
    }

    /// Returns the current token, if the presented token is the current or the previous one.
    pub(crate) fn current_token(
        &self,
        record: &Record,
        current: &ClaimTag,
    ) -> Result<RefreshToken, SealError> {
        if self.hash == *current {
            return Ok(self.token.clone());
        }
        let link = record.link_from(&self.hash).ok_or(SealError)?;
        let token = link::open(&self.token, self.sealed_for(Purpose::Link), link)?;
        if token.hash() == *current {
            Ok(token)
        } else {
            Err(SealError)
        }
    }

    /// Opens the profile of the user with the sealer of the current token. A profile that
    /// cannot be opened counts as unknown: an instance of an older version, which keeps the field
    /// as it is, may have rotated the grant.
    pub(crate) fn open_profile(&self, sealer: &Sealer, record: &Record) -> Option<Profile> {
        let sealed = record.profile.as_ref()?;
        Profile::open(sealer, self.sealed_for(Purpose::Profile), sealed)
            .inspect_err(
                |_| tracing::debug!(grant = ?self.key, "the profile of a grant cannot be opened"),
            )
            .ok()
    }

    /// Opens the upstream token with the sealer of the current token. Returns `None` if the record
    /// is damaged.
    pub(crate) fn unseal(&self, sealer: &Sealer, record: &Record) -> Option<Zeroizing<String>> {
        let context = self.sealed_for(Purpose::Current);
        sealer.open_text(context, &[], &record.sealed).ok()
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::grant::Binding;
    use crate::subject::Subject;
    use crate::token::TokenId;
    use crate::{MemoryStore, RefreshLayer};

    #[test]
    fn a_profile_that_was_sealed_for_another_token_counts_as_unknown() {
        let shared = RefreshLayer::new(MemoryStore::new()).shared;
        let context = RequestContext::new(shared, Arc::default());
        let client_id: ClientId = "app".parse().unwrap();
        let id: TokenId = [1; 12];
        let older = RefreshToken::new(id, 0, &[2; 32]);
        let presented =
            PresentedToken::new(&context, RefreshToken::new(id, 1, &[3; 32]), &client_id);
        let profile = Profile::new(Subject::new("ann").unwrap(), None, &[]);
        let record = |sealer: &Sealer| {
            let sealed_for = presented.sealed_for(Purpose::Profile);
            let sealed = profile.seal(sealer, [4; 12], sealed_for).unwrap();
            let binding = Binding {
                client_id: "app".into(),
                scope: None,
                resources: Vec::new(),
                absolute_end: None,
            };
            let now = Timestamp::from_millis(1_800_000_000_000);
            let hour = Duration::from_secs(3600);
            let mut record = Record::begin(binding, Bytes::new(), now, hour, None, None);
            record.profile = Some(sealed);
            record
        };
        let (old, new) = (
            Sealer::new(older.secret()),
            Sealer::new(presented.token.secret()),
        );
        assert!(presented.open_profile(&new, &record(&new)) == Some(profile.clone()));
        assert!(presented.open_profile(&new, &record(&old)).is_none());
    }
}
