//! A refresh token of the layer that a client presents.

use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::codec::DecodeError;
use crate::event::Subject;
use crate::grant::{Presented, Record, Standing, StoredGrant, Verdict, decide};
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{ClaimTag, Entry, Key};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// A token in the layer's format, and the client that presents it.
#[derive(Debug)]
pub(crate) struct PresentedToken<'a> {
    pub(crate) client_id: &'a ClientId,
    pub(crate) token: RefreshToken,
    pub(crate) key: Key,
    pub(crate) hash: ClaimTag,
}

impl<'a> PresentedToken<'a> {
    pub(crate) fn new(token: RefreshToken, client_id: &'a ClientId) -> Self {
        Self {
            client_id,
            key: token.key(),
            hash: token.hash(),
            token,
        }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            client_id: Some(self.client_id),
            grant: Some((&self.key, Some(self.token.generation()))),
        }
    }

    pub(crate) fn presented(&self) -> Presented<'_> {
        Presented {
            client_id: self.client_id.as_str(),
            generation: self.token.generation(),
            hash: &self.hash,
        }
    }

    /// Decodes the stored grant and decides about the token, for a request that does not ask for
    /// the lease.
    pub(crate) fn decide(
        &self,
        entry: &Entry,
        waited: bool,
        now: Timestamp,
    ) -> Result<(Record, Verdict), DecodeError> {
        let record = Record::decode(&self.key, &entry.tag, &entry.value)?.at(now);
        let grant = StoredGrant {
            record: &record,
            current: &entry.tag,
        };
        let verdict = decide(grant, self.presented(), Standing::Free, waited, now);
        tracing::trace!(?verdict, grant = ?self.key, waited, "decided");
        Ok((record, verdict))
    }

    pub(crate) fn context(&self, purpose: Purpose) -> Context<'_> {
        Context {
            purpose,
            key: &self.key,
            client_id: self.client_id.as_str(),
        }
    }

    /// Opens the upstream token with the presented token, which is the current or the previous one.
    /// Returns `None` if the record is damaged.
    pub(crate) fn unseal(
        &self,
        sealer: &Sealer,
        record: &Record,
        current: &ClaimTag,
    ) -> Option<Zeroizing<String>> {
        let (purpose, sealed) = if self.hash == *current {
            (Purpose::Current, &record.sealed)
        } else {
            (
                Purpose::Previous,
                record.previous.as_ref()?.sealed.as_ref()?,
            )
        };
        let mut opened = sealer.open(self.context(purpose), &[], sealed).ok()?;
        String::from_utf8(std::mem::take(&mut *opened))
            .ok()
            .map(Zeroizing::new)
    }
}
