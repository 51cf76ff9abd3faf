//! The state that the server keeps between requests. It is in the same store as the grants, so that
//! any instance can serve any step.
//!
//! A record that only one party may read is sealed under a [`Handle`] that this party has and the
//! store does not.

mod handle;
mod random;

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{
    BoxStore, Change, ClaimTag, Entry, Key, Store as _, StoreError, Swap, Ttl, Version,
};

pub(crate) use self::handle::Handle;
pub(crate) use self::random::random;

/// The kind of a record. Records of different kinds never have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A registered client (RFC 7591), identified by its client ID.
    Client,
    /// The client in a client ID metadata document, identified by its URL.
    MetadataDocument,
    /// A log-in that waits for the user's consent, sealed.
    Login,
    /// A log-in that continues at the provider, sealed under the `state` that was sent there.
    AtProvider,
    /// An authorization code, sealed.
    Code,
    /// The token response for an authorization code, sealed under a handle that is derived from the
    /// code. It exists for as long as a repeated exchange gets the same response.
    CodeAnswer,
    /// A client assertion that was used, identified by the client ID and its `jti`.
    Assertion,
    /// An identity assertion that was used, identified by its issuer and its `jti`.
    IdentityAssertion,
    /// A remembered consent: the user of this browser has approved the client before.
    Consent,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Client => b"mcp client",
            Self::MetadataDocument => b"mcp cached document",
            Self::Login => b"mcp login",
            Self::AtProvider => b"mcp at provider",
            Self::Code => b"mcp code",
            Self::CodeAnswer => b"mcp code answer",
            Self::Assertion => b"mcp assertion",
            Self::IdentityAssertion => b"mcp identity assertion",
            Self::Consent => b"mcp consent",
        }
    }

    fn key(self, id: &[u8]) -> Key {
        let label = self.label();
        // The length in front of the label makes sure that no label is a prefix of another.
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        Key::new(
            Sha256::new()
                .chain_update([length])
                .chain_update(label)
                .chain_update(id)
                .finalize()
                .into(),
        )
    }
}

/// A record and the version under which it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    version: Version,
}

/// The records in the store.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    store: BoxStore,
}

impl Records {
    pub(crate) const fn new(store: BoxStore) -> Self {
        Self { store }
    }

    /// Returns the record with this ID.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let Some(entry) = self.store.get(&kind.key(id.as_bytes())).await? else {
            return Ok(None);
        };
        Ok(Some(Stored {
            value: decode(&entry.value)?,
            version: entry.version,
        }))
    }

    /// Creates or replaces the record with this ID.
    pub(crate) async fn put<T: Serialize + Sync>(
        &self,
        kind: Kind,
        id: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (key, value) = (kind.key(id.as_bytes()), encode(value)?);
        let mut expected = None;
        // Concurrent writes both succeed; the last one wins.
        loop {
            let entry = Entry::new(version()?, TAG, value.clone());
            match self
                .store
                .swap(
                    &key,
                    expected,
                    Change::Put {
                        entry,
                        ttl: Ttl::After(ttl),
                    },
                    &[],
                )
                .await?
            {
                Swap::Swapped => return Ok(()),
                Swap::Conflict(current) => expected = current.map(|entry| entry.version),
            }
        }
    }

    /// Creates a record without a value. Returns `false` if it exists.
    pub(crate) async fn insert(
        &self,
        kind: Kind,
        id: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let entry = Entry::new(version()?, TAG, Bytes::new());
        let change = Change::Put {
            entry,
            ttl: Ttl::After(ttl),
        };
        let key = kind.key(id.as_bytes());
        Ok(self.store.swap(&key, None, change, &[]).await? == Swap::Swapped)
    }

    /// Returns the record that is sealed under this handle.
    pub(crate) async fn open<T: DeserializeOwned>(
        &self,
        kind: Kind,
        handle: &Handle,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let Some(entry) = self.store.get(&kind.key(&handle.name())).await? else {
            return Ok(None);
        };
        if entry.value.is_empty() {
            // [`Self::take`] has marked it as removed.
            return Ok(None);
        }
        Ok(Some(Stored {
            value: decode(&handle.open(kind.label(), &entry.value)?)?,
            version: entry.version,
        }))
    }

    /// Writes a new record, sealed under a new handle.
    pub(crate) async fn seal<T: Serialize + Sync>(
        &self,
        kind: Kind,
        handle: &Handle,
        value: &T,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        self.swap_sealed(kind, handle, None, value, ttl)
            .await
            .map(drop)
    }

    /// Replaces a record if it has not changed since it was read. Returns whether it was replaced.
    pub(crate) async fn reseal<T: Serialize + Sync, Before: Sync>(
        &self,
        kind: Kind,
        handle: &Handle,
        before: &Stored<Before>,
        value: &T,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.swap_sealed(kind, handle, Some(before.version), value, ttl)
            .await
    }

    /// Removes a record if it has not changed since it was read. Returns whether it was removed.
    pub(crate) async fn take<T: Sync>(
        &self,
        kind: Kind,
        handle: &Handle,
        before: &Stored<T>,
    ) -> Result<bool, StoreError> {
        let key = kind.key(&handle.name());
        // The removal of an absent entry succeeds, because it may be a retry. To let only one of
        // two concurrent calls succeed, the record is first replaced with an empty one.
        let version = version()?;
        let entry = Entry::new(version, TAG, Bytes::new());
        let change = Change::Put {
            entry,
            ttl: Ttl::Keep,
        };
        match self
            .store
            .swap(&key, Some(before.version), change, &[])
            .await?
        {
            Swap::Conflict(_) => Ok(false),
            Swap::Swapped => self
                .store
                .swap(&key, Some(version), Change::Remove, &[])
                .await
                .map(|_| true),
        }
    }

    async fn swap_sealed<T: Serialize + Sync>(
        &self,
        kind: Kind,
        handle: &Handle,
        expected: Option<Version>,
        value: &T,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let sealed = handle.seal(kind.label(), &encode(value)?)?;
        let entry = Entry::new(version()?, TAG, sealed.into());
        let change = Change::Put {
            entry,
            ttl: Ttl::After(ttl),
        };
        Ok(self
            .store
            .swap(&kind.key(&handle.name()), expected, change, &[])
            .await?
            == Swap::Swapped)
    }
}

/// Records are never leased, so all of them have the same tag.
const TAG: ClaimTag = ClaimTag::new([0; 32]);

fn version() -> Result<Version, StoreError> {
    random().map(Version::new)
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(StoreError::corrupt)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(StoreError::corrupt)
}
