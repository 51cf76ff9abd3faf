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

            /// The bytes, to be written as they are.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            /// The first four bytes in hexadecimal: enough to tell two apart in a log.
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
    /// The key of an entry: a SHA-256, never a token or a part of one.
    Key, 32, PartialEq, Eq, PartialOrd, Ord, Hash
}
opaque_bytes! {
    /// Which write an entry comes from: random bytes, chosen anew by the writer of every change.
    Version, 8, PartialEq, Eq, PartialOrd, Ord, Hash
}
opaque_bytes! {
    /// What an entry is about right now (the hash of a grant's current token): a
    /// [`claim`](super::Store::claim) must name it.
    Tag, 32, Eq
}
impl PartialEq for Tag {
    /// In constant time: it may be the hash of a secret.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for Tag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

opaque_bytes! {
    /// The name of a value that lies beside an entry.
    Name, 16, PartialEq, Eq, PartialOrd, Ord, Hash
}

/// What a store keeps under a [`Key`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Which write this comes from.
    pub version: Version,
    /// What the entry is about right now.
    pub tag: Tag,
    /// Until when somebody has the right to change the entry, by the clock of the store; none if
    /// nobody took it.
    pub lease: Option<Timestamp>,
    /// The bytes of the layer. A store keeps them and looks at none.
    pub value: Bytes,
}

impl Entry {
    /// An entry that nobody holds a lease on.
    #[must_use]
    pub const fn new(version: Version, tag: Tag, value: Bytes) -> Self {
        Self {
            version,
            tag,
            lease: None,
            value,
        }
    }

    /// The same with a lease until `end`, by the clock of the store.
    #[must_use]
    pub const fn with_lease(mut self, end: Option<Timestamp>) -> Self {
        self.lease = end;
        self
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("version", &self.version)
            .field("tag", &self.tag)
            .field("lease", &self.lease)
            .field("len", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// What [`Store::swap`](super::Store::swap) makes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes this entry.
    Put {
        /// The new entry.
        entry: Entry,
        /// When it goes away by itself.
        ttl: Ttl,
    },
    /// Removes the entry, whatever its time to live.
    Remove,
}

/// When an entry goes away by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// When the entry that it replaces would have. Only together with an expected version.
    Keep,
    /// After this time, whole milliseconds; never zero.
    After(Duration),
}

/// A value beside an entry, with a name and an end of its own.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beside {
    /// Tells it from other values beside the same entry.
    pub name: Name,
    /// The bytes of the layer.
    pub value: Bytes,
    /// When it goes away by itself: after this time, whole milliseconds; never zero.
    pub ttl: Duration,
}

impl Beside {
    /// A value to be written beside an entry.
    #[must_use]
    pub const fn new(name: Name, value: Bytes, ttl: Duration) -> Self {
        Self { name, value, ttl }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside")
            .field("name", &self.name)
            .field("len", &self.value.len())
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// How a [`Store::swap`](super::Store::swap) ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a swap that met a conflict has changed nothing"]
pub enum Swap {
    /// The change stands.
    Swapped,
    /// Nothing was changed: this is what was found instead of the expected version.
    Conflict(Option<Entry>),
}

/// How a [`Store::claim`](super::Store::claim) of an entry that is there ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// What became of the lease.
    pub lease: Lease,
    /// The entry as it is now: with the new version and lease, if the lease was taken.
    pub entry: Entry,
    /// Whether the lease that was taken takes the place of one that had run out, so that a write of
    /// whoever held that one may yet come.
    pub taken_over: bool,
}

impl Claim {
    /// Puts the two together, of an entry that nobody's lease had run out on.
    #[must_use]
    pub const fn new(lease: Lease, entry: Entry) -> Self {
        Self {
            lease,
            entry,
            taken_over: false,
        }
    }

    /// The same with a word on whether the lease was taken over from one that had run out.
    #[must_use]
    pub const fn taking_over(mut self, taken_over: bool) -> Self {
        self.taken_over = taken_over;
        self
    }
}

/// What became of a lease that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is the caller's.
    Taken,
    /// The tag fits, but somebody else's lease has this long to run.
    Held(Duration),
    /// The entry has another tag. If somebody holds a lease on it, it has this long to run.
    OtherTag(Option<Duration>),
}

/// What a store knows of a key from memory: enough to refuse a request, never to grant one.
///
/// It is about keys that are used once, as those of grants are: random, not known to anybody before
/// their entry is there, and never written again once it is gone. The layer asks about no others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// There is no such entry, and, since its key is used once, there never will be again.
    Ended,
    /// Some version of the entry, which may be gone by now. What never changes in it (the client,
    /// the scope, the absolute end of the grant) can be relied upon, and nothing else.
    Value {
        /// The tag that the entry had with this value.
        tag: Tag,
        /// The bytes of the layer.
        value: Bytes,
    },
}

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached, is too slow or overloaded: the same call may succeed later. The call
    /// may have taken effect. The client gets 503.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// What lies there cannot be read: damaged, or of a newer format. The client gets 500.
    #[error("what lies in the store cannot be read")]
    Corrupt(#[source] Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// [`StoreError::Unavailable`] for this cause.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// [`StoreError::Corrupt`] for this cause.
    pub fn corrupt(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(Arc::from(source.into()))
    }
}
