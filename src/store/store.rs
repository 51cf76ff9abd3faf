use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, StoreError,
    Swap, Ttl, Version, decide,
};
use crate::clock::{Clock as _, SystemClock, Timestamp};

/// The most sidecars that one [`Store::swap`] writes.
pub const MAX_SIDECARS_PER_SWAP: usize = 4;

/// A database of grants: byte values under keys, with compare-and-swap and a time to live.
///
/// A whole implementation, over SQLite, is in the [docs of the module](super#a-store-of-your-own).
/// One line tests it: `tower_oauth_refresh::store_conformance!(async || SqliteStore::open(path))`.
///
/// The layer keeps each grant (and each reference access token) as one [`Entry`] under a [`Key`].
/// An entry consists of:
///
/// - a [`Version`]: random bytes that identify the write that the entry comes from;
/// - a [`ClaimTag`]: the hash of the current token of the grant;
/// - optionally the expiry of a lease, the exclusive right to rotate the grant;
/// - a value that is opaque to the store.
///
/// The store also keeps a time to live for each entry. A rotation is two calls:
///
/// 1. [`claim`](Store::claim) reads the entry and takes the lease, if the tag is that of the
///    presented token and no lease is held. The entry gets a new version.
/// 2. [`swap`](Store::swap) commits the rotation. It replaces the entry if it still has the version
///    of the claim. The new entry has a new tag and no lease, so the swap also releases the lease.
///    The same call writes the response as a sidecar: a value beside the entry, with a name and a
///    time to live of its own. A replay reads it with [`sidecar`](Store::sidecar). One call writes
///    up to four sidecars.
///
/// An implementation must provide [`get`](Store::get), [`swap`](Store::swap) and
/// [`sidecar`](Store::sidecar). The default [`claim`](Store::claim) is built from `get` and `swap`;
/// override it if the database can do it in one round trip. The other methods are optional. Write
/// the methods as plain `async fn`. To choose between stores at run time, use
/// [`BoxStore`](super::BoxStore).
///
/// # Promises
///
/// The layer is only as safe as its store. An implementation **must** keep these promises. The
/// feature `conformance` tests those that can be tested from outside: 1, 2, 3 and 5.
///
/// 1. **Atomic.** A `swap` makes all of its change, or nothing. No reader sees a part of it.
/// 2. **Current.** `get`, `sidecar` and `claim` see the last completed write, on every instance. A
///    stale read is not allowed.
/// 3. **Idempotent.** A client library may send a call again after a time-out. A call that is sent
///    twice has the effect of one.
/// 4. **Bounded.** Every call returns in bounded time, if necessary with
///    [`StoreError::Unavailable`].
/// 5. **Expired means absent.** No call sees an entry or a sidecar after its time to live is over,
///    even if it has not been deleted yet.
/// 6. **Unreadable is not absent.** A value that cannot be read is [`StoreError::Corrupt`].
///    "Absent" ends the session of a user.
/// 7. **A late copy changes nothing.** See [below](#delayed-copies-of-a-call).
///
/// # Expiry
///
/// The store removes what has expired. The layer never lists keys, and never removes an entry
/// because it has expired. Redis does this on its own; a store over SQL needs a task that deletes
/// expired rows. When it deletes them does not matter, because of promise 5.
///
/// # Leases
///
/// A lease is part of its entry: [`Entry::lease`] is the time at which it expires, by the clock of
/// the store. Only `claim` checks it; a `swap` compares the version and nothing else. A claim gives
/// the entry a new version, so an instance whose lease was taken over cannot commit: its swap no
/// longer finds the version that it expects.
///
/// A lease is not removed when it expires, only when its entry is written again. An expired lease
/// shows that its holder took it and did not finish. The next claim takes the lease over and
/// reports that in [`Claim::taken_over`].
///
/// # Errors
///
/// A call that returns an error may have taken effect or not; the layer allows for both.
/// [`StoreError::Unavailable`] means that the call may succeed later: the client gets 503.
/// [`StoreError::Corrupt`] means that the stored data cannot be read: the client gets 500.
///
/// # Delayed copies of a call
///
/// A copy of a call can arrive after another copy has been answered, for example because it was in
/// a network buffer or in the queue of a frozen server. It **must not** undo later changes of the
/// entry. For almost every call this needs no extra work: the call names the version that it
/// expects, no version is used twice, and so a late copy finds another version and has no effect.
///
/// The exception is the insert: a [`swap`](Store::swap) that expects no entry. It matches again
/// after the inserted entry has been removed. A late copy would restore a grant that was revoked or
/// ended because of reuse, and the first token of that grant would be valid until its time to live
/// is over. (A late insert of a reference access token would restore that token.) Nothing in the
/// call distinguishes it from the insert of a new grant, and the test suite cannot test for it. An
/// implementation **must** make sure that no copy of an insert takes effect after a copy has been
/// answered:
///
/// - Send an insert again only if the previous copy can no longer arrive: the server has closed
///   that connection, or has answered a later call on the same connection. Otherwise return
///   [`StoreError::Unavailable`].
/// - The layer also repeats some inserts, for about a minute. If a call that timed out can be
///   delayed for long, let the server reject it: send a deadline that the server compares with its
///   clock, or keep the versions of removed entries for longer than any copy can be delayed.
/// - Disable or bound automatic retries between the store and the server (in a client library or a
///   proxy).
pub trait Store: Send + Sync + 'static {
    /// Returns the entry under `key`, as the last completed [`swap`](Store::swap) or
    /// [`claim`](Store::claim) left it; `None` if it is absent or has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. An entry that cannot be read is an error, never `None`.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes `change` if the entry under `key` has the version `expected` (or, if `expected` is
    /// `None`, is absent). With the change it writes `sidecars`, in the same atomic step: all of
    /// them, or none if the change is not made. A sidecar replaces one with the same name.
    ///
    /// Two cases return [`Swap::Swapped`] so that the call is idempotent: the entry already has the
    /// version of the new entry, and the removal of an absent entry.
    ///
    /// With [`Ttl::Keep`] the entry **must** keep its expiry.
    ///
    /// The caller passes sidecars only with a [`Change::Put`], at most [`MAX_SIDECARS_PER_SWAP`],
    /// with different names. A sidecar **must** be absent after its own time to live, and may be
    /// removed together with its entry. A store may limit the number of sidecars of one entry, to
    /// 128 or more, and then drops the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The change may have been made or not. With more than
    /// [`MAX_SIDECARS_PER_SWAP`] sidecars the store **must** return the error of
    /// [`decide::check_sidecars`], and change nothing.
    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send;

    /// Returns the sidecar `name` of the entry under `key`; `None` if it is absent or has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. A sidecar that cannot be read is an error, never `None`.
    fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Reads the entry under `key`. If it has this `tag` and no lease is held, takes a lease of
    /// length `lease` and gives the entry the new `version`. The value, the tag and the expiry of
    /// the entry do not change. Returns `None` if the entry is absent.
    ///
    /// An entry that already has the version `version` counts as
    /// [`Lease::Taken`](super::Lease::Taken), so that the call is idempotent. Only the clock of the
    /// store measures a lease. An expired lease stays in [`Entry::lease`] until the entry is
    /// written again. A claim that replaces it **must** set [`Claim::taken_over`], and should set
    /// it again when the same call is repeated.
    ///
    /// The default implementation calls [`get`](Store::get) and [`swap`](Store::swap). A store that
    /// can claim in one round trip should override it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The lease may have been taken or not.
    fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        async move {
            let mut found = self.get(key).await?;
            while let Some(mut entry) = found {
                let expected = entry.version;
                let claim = decide::claim(&mut entry, tag, version, lease, self.now());
                if entry.version == expected {
                    return Ok(Some(claim));
                }
                let change = Change::Put {
                    entry,
                    ttl: Ttl::Keep,
                };
                match self.swap(key, Some(expected), change, &[]).await? {
                    Swap::Swapped => return Ok(Some(claim)),
                    Swap::Conflict(current) => found = current,
                }
            }
            Ok(None)
        }
    }

    /// Returns what this process remembers about `key`, without I/O. By default `None`.
    ///
    /// With a hint the layer can refuse a request without a round trip to the store. The layer asks
    /// only about keys that are used once, as the keys of grants are. For such a key a hint
    /// **must** never become false: see [`Hint`].
    fn peek(&self, key: &Key) -> Option<Hint> {
        let _ = key;
        None
    }

    /// Publishes to every instance that shares the store that the entries under these keys have
    /// ended for good, so that the instances drop what they have cached about them. Call it after
    /// the entries have ended in the store.
    ///
    /// Every earlier subscriber, including those of this instance, receives each key from its
    /// [`announcements`](Store::announcements) in bounded time, or is notified that announcements
    /// were lost. By default nothing is published, and cached data is used until its time to live
    /// is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store knows that not every instance can be reached. The entries have
    /// ended even then.
    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = ended;
        std::future::ready(Ok(()))
    }

    /// Subscribes to the keys that are announced from now on. Returns `None`, the default, if the
    /// store has no channel. A store always returns `Some`, or always `None`.
    ///
    /// When a broken channel works again, subscribers **must** receive
    /// [`Announcement::Lost`](super::Announcement::Lost) before anything else; they should receive
    /// it when the channel breaks, too. An [`Announcer`](super::Announcer) does the rest.
    fn announcements(&self) -> Option<Announcements> {
        None
    }

    /// Returns the time by which the default [`claim`](Store::claim) measures leases: by default
    /// that of this machine. All instances that share a store **must** see about the same time.
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Returns the name of the database for traces, as in `db.system.name` of the semantic
    /// conventions of OpenTelemetry: `redis`, `postgresql`, `sqlite`. Default: `None`, for a store
    /// without a database. Then the spans of its calls have the kind *internal* instead of
    /// *client*.
    fn system_name(&self) -> Option<&'static str> {
        None
    }
}

impl<S: Store> Store for Arc<S> {
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send {
        (**self).get(key)
    }

    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        (**self).swap(key, expected, change, sidecars)
    }

    fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        (**self).sidecar(key, name)
    }

    fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        (**self).claim(key, tag, version, lease)
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        (**self).peek(key)
    }

    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).announce(ended)
    }

    fn announcements(&self) -> Option<Announcements> {
        (**self).announcements()
    }

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn system_name(&self) -> Option<&'static str> {
        (**self).system_name()
    }
}
