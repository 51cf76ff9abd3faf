//! What the server has to remember between two requests, in the same store as the grants: any
//! instance can serve any step.
//!
//! A record that only one party may read is sealed under a [`Handle`] that this party holds and the
//! store does not.

mod handle;

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{
    BoxStore, Change, Entry, Key, Store as _, StoreError, Swap, Tag, Ttl, Version,
};

pub(crate) use self::handle::Handle;

/// What a record is about: records of two kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A registered client (RFC 7591), by its client id.
    Client,
    /// A client id metadata document, by its URL.
    MetadataDocument,
    /// A log-in that waits for consent, sealed.
    Login,
    /// A log-in that is at the provider, sealed under the `state` sent there.
    AtProvider,
    /// An authorization code, sealed.
    Code,
    /// The answer to an authorization code, sealed under a handle that is derived from the code,
    /// for as long as a repeated exchange gets it again.
    CodeAnswer,
    /// That a browser has agreed to a client before.
    Consent,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Client => b"mcp client",
            Self::MetadataDocument => b"mcp metadata document",
            Self::Login => b"mcp login",
            Self::AtProvider => b"mcp at provider",
            Self::Code => b"mcp code",
            Self::CodeAnswer => b"mcp code answer",
            Self::Consent => b"mcp consent",
        }
    }

    fn key(self, id: &[u8]) -> Key {
        let label = self.label();
        // No label is the beginning of another with its length before it.
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

/// A record and the version it was read in.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    version: Version,
}

/// All records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    store: BoxStore,
}

impl Records {
    pub(crate) const fn new(store: BoxStore) -> Self {
        Self { store }
    }

    /// The record with this id.
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

    /// Writes the record with this id, whether there was one or not.
    pub(crate) async fn put<T: Serialize + Sync>(
        &self,
        kind: Kind,
        id: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (key, value) = (kind.key(id.as_bytes()), encode(value)?);
        let mut expected = None;
        // Two that write at once both mean it: the last one stays.
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
                    None,
                )
                .await?
            {
                Swap::Swapped => return Ok(()),
                Swap::Conflict(current) => expected = current.map(|entry| entry.version),
            }
        }
    }

    /// The record that is sealed under this handle.
    pub(crate) async fn open<T: DeserializeOwned>(
        &self,
        kind: Kind,
        handle: &Handle,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let Some(entry) = self.store.get(&kind.key(&handle.name())).await? else {
            return Ok(None);
        };
        if entry.value.is_empty() {
            // Taken, a moment ago.
            return Ok(None);
        }
        Ok(Some(Stored {
            value: decode(&handle.open(kind.label(), &entry.value)?)?,
            version: entry.version,
        }))
    }

    /// Writes a new record, sealed under a handle that is as new.
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

    /// Writes the record anew, if nobody has changed or taken it since it was read; whether it was.
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

    /// Removes the record, if nobody has changed or taken it since it was read; whether it was.
    pub(crate) async fn take<T: Sync>(
        &self,
        kind: Kind,
        handle: &Handle,
        before: &Stored<T>,
    ) -> Result<bool, StoreError> {
        let key = kind.key(&handle.name());
        // A removal that finds nothing has succeeded (it may be a repeated one): who takes a record
        // leaves a mark first.
        let version = version()?;
        let entry = Entry::new(version, TAG, Bytes::new());
        let change = Change::Put {
            entry,
            ttl: Ttl::Keep,
        };
        match self
            .store
            .swap(&key, Some(before.version), change, None)
            .await?
        {
            Swap::Conflict(_) => Ok(false),
            Swap::Swapped => self
                .store
                .swap(&key, Some(version), Change::Remove, None)
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
            .swap(&kind.key(&handle.name()), expected, change, None)
            .await?
            == Swap::Swapped)
    }
}

/// Records need none: nobody takes a lease.
const TAG: Tag = Tag::new([0; 32]);

fn version() -> Result<Version, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::unavailable("no randomness to be had"))?;
    Ok(Version::new(bytes))
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(StoreError::corrupt)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(StoreError::corrupt)
}
