use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Announcements, Beside, Change, Claim, Entry, Hint, Key, Lease, Name, StoreError, Swap, Tag,
    Ttl, Version,
};
use crate::clock::{Clock as _, SystemClock, Timestamp};

/// A place for grants: any database with a conditional write, values of bytes and a time to live.
///
/// An implementation **must** keep to what each method promises; the feature `store-tests` has the
/// whole contract as tests to run over it. Write the methods as plain `async fn`. A program that
/// chooses between stores when it runs has [`BoxStore`](super::BoxStore).
///
/// Every call may be sent twice (by a client library that repeats what timed out), and **must**
/// then have the effect of one. Every call **must** end in bounded time, with
/// [`StoreError::Unavailable`] if need be. A call that fails may have taken effect. What has
/// expired is absent.
///
/// # What comes late
///
/// A copy of a call may still be on its way when another one has been answered: in a buffer of the
/// network, in the queue of a server that was frozen. It **must not** undo what has become of the
/// entry since. Of almost every call a store need do nothing for that: the call names the version
/// that it expects, none is used twice, and so a late copy finds another one and has no effect.
///
/// The exception is the insert, a [`swap`](Store::swap) that expects nothing. It fits again once
/// what it inserted has been removed: a copy that comes then brings back a grant that was revoked
/// or ended for reuse, and the token that it began with is good until its time to live is over.
/// (That of an access token does the same for a token that was revoked alone.) Nothing in the call
/// tells it from the insert of a new grant, and no test of the suite can show it. So whoever
/// implements this **must** see to it that no copy of an insert takes effect after one has been
/// answered:
///
/// - Send an insert again only when the copy before cannot come any more, because the server has
///   closed that connection, or has answered what was sent behind it over the same one. Otherwise
///   it is [`StoreError::Unavailable`].
/// - The layer, too, repeats some inserts, for about a minute. Where a call that timed out may be
///   held up for long, let the server refuse it: by a deadline in the call that the server's clock
///   is compared with, or by keeping the versions of what was removed for longer than any copy can
///   be on its way.
/// - Turn off what repeats by itself between here and the server (a client library, a proxy), or
///   bound it likewise.
pub trait Store: Send + Sync + 'static {
    /// The entry under `key`, as the last completed [`swap`](Store::swap) left it: never a stale
    /// one.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and never "absent" for what cannot be read.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes `change` if the entry under `key` has the version `expected` (or, if `None`, is
    /// absent), and with it, if given, writes `also` beside it: all of it or nothing, at once for
    /// every reader.
    ///
    /// To be safe to send twice, an entry that already has the version of the new one counts as
    /// [`Swap::Swapped`], and so does the removal of what is absent.
    ///
    /// With [`Ttl::Keep`] the entry **must** keep the end that it had. `also` comes with a
    /// [`Change::Put`] alone; it may go when its entry goes, and must go when its own time is over.
    /// A store may bound how many values lie beside one entry, to eight or more, and then drops
    /// first what was written first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the change may then have been made or not.
    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send;

    /// The value called `name` beside the entry under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and never "absent" for what cannot be read.
    fn beside(
        &self,
        key: &Key,
        name: &Name,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Reads the entry under `key` and, if it has this `tag` and nobody holds a lease on it, takes
    /// a lease of length `lease` under the new `version`. Value, tag and end of the entry stay as
    /// they are. `None` if it is absent.
    ///
    /// To be safe to send twice, an entry that already has the version `version` counts as
    /// [`Lease::Taken`]. A lease is measured by the store's own clock alone. One that has run out
    /// stays in [`Entry::lease`] until the entry is written again: it tells that somebody took it
    /// and never came back. Who takes its place **must** be told so by [`Claim::taken_over`], and
    /// should be when the same call is sent again.
    ///
    /// Provided over [`get`](Store::get) and [`swap`](Store::swap); a store that can do it in one
    /// trip should.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the lease may then have been taken or not.
    fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        async move {
            let mut found = self.get(key).await?;
            loop {
                let Some(entry) = found else { return Ok(None) };
                if entry.version == version {
                    return Ok(Some(Claim::new(Lease::Taken, entry)));
                }
                let now = self.now();
                let held = entry
                    .lease
                    .map(|end| end.saturating_since(now))
                    .filter(|left| !left.is_zero());
                if entry.tag != *tag {
                    return Ok(Some(Claim::new(Lease::OtherTag(held), entry)));
                }
                if let Some(left) = held {
                    return Ok(Some(Claim::new(Lease::Held(left), entry)));
                }
                let (expected, ran_out) = (Some(entry.version), entry.lease.is_some());
                let claimed = Entry {
                    version,
                    lease: Some(now.saturating_add(lease)),
                    ..entry
                };
                let change = Change::Put {
                    entry: claimed.clone(),
                    ttl: Ttl::Keep,
                };
                match self.swap(key, expected, change, None).await? {
                    Swap::Swapped => {
                        return Ok(Some(Claim::new(Lease::Taken, claimed).taking_over(ran_out)));
                    }
                    Swap::Conflict(current) => found = current,
                }
            }
        }
    }

    /// What is known of `key` from memory, at once and without waiting for anything.
    ///
    /// A hint lets the layer refuse a request without a trip to the store. For keys that are used
    /// once, as those of grants are, it **must** never become wrong: see [`Hint`]. Nobody asks
    /// about keys that come and go.
    fn peek(&self, key: &Key) -> Option<Hint> {
        let _ = key;
        None
    }

    /// Tells every instance that shares the store that what is under these keys has ended for good,
    /// so that it is forgotten where it was remembered. To be called once it has ended in the
    /// store.
    ///
    /// Whoever subscribed before gets each of them from its [`announcements`](Store::announcements)
    /// in bounded time, the caller's own instance included, or is told that something was lost. By
    /// default nobody is told: what is remembered then goes by its time to live.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it is known that not everybody can be told. What has ended has ended all
    /// the same.
    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = ended;
        std::future::ready(Ok(()))
    }

    /// Subscribes to what ends, from here on; none, which is the default, if the store has no
    /// channel for it. Always the one or always the other.
    ///
    /// A channel that breaks **must** say [`Announcement::Lost`](super::Announcement::Lost) when it
    /// is back, before anything else, and should say so when it breaks. An
    /// [`Announcer`](super::Announcer) does the rest.
    fn announcements(&self) -> Option<Announcements> {
        None
    }

    /// The clock by which the provided [`claim`](Store::claim) measures leases: by default that of
    /// this machine. All instances that share a store **must** get about the same time from it.
    fn now(&self) -> Timestamp {
        SystemClock.now()
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
        also: Option<Beside>,
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        (**self).swap(key, expected, change, also)
    }

    fn beside(
        &self,
        key: &Key,
        name: &Name,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        (**self).beside(key, name)
    }

    fn claim(
        &self,
        key: &Key,
        tag: &Tag,
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
}
