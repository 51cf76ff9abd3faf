use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;

macro_rules! opaque_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal, $($derived:ident),*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, $($derived),*)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Wraps the bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            /// Writes the first four bytes in hexadecimal, enough to distinguish values in a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in &self.0[..4] {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    };
}

opaque_bytes! {
    /// The key of an entry: a SHA-256 hash, never a token or a part of one.
    Key, 32, PartialEq, Eq, PartialOrd, Ord, Hash
}
opaque_bytes! {
    /// The identity of a write: random bytes that the writer chooses for every change.
    Version, 8, PartialEq, Eq, PartialOrd, Ord, Hash
}
opaque_bytes! {
    /// The condition of a [`claim`](super::Store::claim), which must name the tag that the entry
    /// has: the hash of the current token of a grant.
    ClaimTag, 32, Eq
}
impl PartialEq for ClaimTag {
    /// Compares in constant time, because a tag may be the hash of a secret.
    fn eq(&self, other: &Self) -> bool {
        // By words, because comparing in constant time by bytes is slow.
        let (words, _) = self.0.as_chunks();
        let (others, _) = other.0.as_chunks();
        let different = words
            .iter()
            .zip(others)
            .fold(0, |different, (word, other)| {
                different | (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*other))
            });
        different.ct_eq(&0).into()
    }
}

impl Hash for ClaimTag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

opaque_bytes! {
    /// The name of a sidecar.
    SidecarName, 16, PartialEq, Eq, PartialOrd, Ord, Hash
}

/// The value that a store keeps under a [`Key`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The write that this entry comes from.
    pub version: Version,
    /// The tag that a claim must name.
    pub tag: ClaimTag,
    /// The expiry of the lease, by the clock of the store; `None` if there is no lease. An expired
    /// lease stays here until the entry is written again.
    pub lease: Option<Timestamp>,
    /// The value, opaque to the store.
    pub value: Bytes,
}

impl Entry {
    /// Creates an entry without a lease.
    #[must_use]
    pub const fn new(version: Version, tag: ClaimTag, value: Bytes) -> Self {
        Self {
            version,
            tag,
            lease: None,
            value,
        }
    }

    /// Sets the expiry of the lease, by the clock of the store.
    #[must_use]
    pub const fn with_lease(mut self, end: Option<Timestamp>) -> Self {
        self.lease = end;
        self
    }
}

redacted_debug!(self: Entry { version, tag, lease, len: self.value.len() });

/// The change that [`Store::swap`](super::Store::swap) makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes an entry.
    Put {
        /// The new entry.
        entry: Entry,
        /// Its expiry.
        ttl: Ttl,
    },
    /// Removes the entry.
    Remove,
}

/// The expiry of an entry that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Keeps the expiry of the replaced entry. Only together with an expected version.
    Keep,
    /// Expires after this time: whole milliseconds, never zero.
    After(Duration),
}

/// A sidecar: a value beside an entry, with a name and an expiry of its own.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sidecar {
    /// The name, unique among the sidecars of one entry.
    pub name: SidecarName,
    /// The value, opaque to the store.
    pub value: Bytes,
    /// The time after which it expires: whole milliseconds, never zero.
    pub ttl: Duration,
}

impl Sidecar {
    /// Creates a sidecar.
    #[must_use]
    pub const fn new(name: SidecarName, value: Bytes, ttl: Duration) -> Self {
        Self { name, value, ttl }
    }
}

redacted_debug!(self: Sidecar { name, len: self.value.len(), ttl });

/// The result of a [`Store::swap`](super::Store::swap).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a swap with a conflict has changed nothing"]
pub enum Swap {
    /// The change was made.
    Swapped,
    /// Nothing was changed, because the entry does not have the expected version. Holds the entry
    /// that was found, or `None` if it is absent.
    Conflict(Option<Entry>),
}

/// The result of a [`Store::claim`](super::Store::claim) of an existing entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The state of the lease.
    pub lease: Lease,
    /// The entry after the call: with the new version and lease, if the lease was taken.
    pub entry: Entry,
    /// Whether this lease replaces an expired one. A write of the previous holder may still arrive.
    pub taken_over: bool,
}

impl Claim {
    /// Creates a result that took no expired lease over.
    #[must_use]
    pub const fn new(lease: Lease, entry: Entry) -> Self {
        Self {
            lease,
            entry,
            taken_over: false,
        }
    }

    /// Sets whether this lease replaces an expired one.
    #[must_use]
    pub const fn taking_over(mut self, taken_over: bool) -> Self {
        self.taken_over = taken_over;
        self
    }
}

/// The state of the lease that a claim asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The caller holds the lease.
    Taken,
    /// The tag matches, but another lease is held for this long.
    Held(Duration),
    /// The entry has another tag. If a lease is held on it, it is held for this long.
    OtherTag(Option<Duration>),
}

/// Cached knowledge about a key: enough to refuse a request, never to accept one.
///
/// Hints are about keys that are used once, as the keys of grants are: random, known to no client
/// before the entry is inserted, and never written again after the entry is gone. The layer does
/// not ask about other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// The entry is absent. Because its key is used once, it stays absent.
    Gone,
    /// Some version of the entry, which may have changed or ended since. Only the parts that never
    /// change are reliable: the client, the scope, the absolute end of the grant.
    Value {
        /// The tag of that version.
        tag: ClaimTag,
        /// The value of that version, opaque to the store.
        value: Bytes,
    },
}

/// The reason why a call of a store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, is too slow or is overloaded. The call may have taken effect,
    /// and the same call may succeed later. The client gets 503.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// The stored data cannot be read: it is damaged or has a newer format. The client gets 500.
    #[error("the stored entry is corrupt or has an unknown format")]
    Corrupt(#[source] Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Creates a [`StoreError::Unavailable`] with this cause.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Creates a [`StoreError::Corrupt`] with this cause.
    pub fn corrupt(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(Arc::from(source.into()))
    }

    /// Returns the kind of error, for spans.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "store_unavailable",
            Self::Corrupt(_) => "store_corrupt",
        }
    }
}
