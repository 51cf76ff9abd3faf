use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::clock::Timestamp;
use crate::grant::Record;
use crate::running::RunningGuard;
use crate::shared::Shared;
use crate::store::{Change, Entry, Key, Store, StoreError, Tag, Ttl, Version};

/// What a lease was taken for, told by the lowest bit of its version.
///
/// A lease that ran out counts the current token as presented if it was taken for that token. One
/// taken to recover from the previous token says nothing of the current one, and a marker in the
/// record would cost a trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Rotation,
    Recovery,
}

impl Purpose {
    /// A version that tells this purpose.
    pub(crate) fn version(self, mut random: [u8; 8]) -> Version {
        random[7] = match self {
            Self::Rotation => random[7] & !1,
            Self::Recovery => random[7] | 1,
        };
        Version::new(random)
    }

    /// What the lease under this version was taken for.
    pub(crate) fn of(version: Version) -> Self {
        if version.as_bytes()[7] & 1 == 0 {
            Self::Rotation
        } else {
            Self::Recovery
        }
    }
}

/// The right of this request to rotate a grant; given back when dropped, on whatever path.
pub(crate) struct LeaseGuard<St: Store> {
    shared: Arc<Shared<St>>,
    key: Key,
    version: Version,
    state: State,
    running: Option<RunningGuard>,
}

enum State {
    /// The claim is on its way: whether it was granted is not known.
    Claiming,
    /// Granted, on an entry of this tag; given back, it shall have this value.
    Held {
        tag: Tag,
        value: Value,
        overdue: bool,
    },
    /// Nothing to give back.
    Over,
}

/// What an entry shall have when its lease is given back.
enum Value {
    /// What it had.
    Unchanged(Bytes),
    /// This record, its current token presented. Encoded only if it comes to that.
    Presented(Box<Record>),
}

impl Value {
    fn encode(&self, key: &Key, tag: &Tag) -> Bytes {
        match self {
            Self::Unchanged(value) => value.clone(),
            Self::Presented(record) => Record::clone(record).presented().encode(key, tag),
        }
    }
}

impl<St: Store> LeaseGuard<St> {
    /// To be made before the claim is sent under `version`.
    pub(crate) fn claiming(shared: &Arc<Shared<St>>, key: Key, version: Version) -> Self {
        let running = Some(shared.running().enter());
        Self {
            shared: Arc::clone(shared),
            key,
            version,
            state: State::Claiming,
            running,
        }
    }

    /// The claim was granted; `overdue` in the place of a lease that had run out, on which a commit
    /// may yet come. Then it is given back as one that has run out, too.
    pub(crate) fn granted(&mut self, entry: Entry, overdue: bool) {
        self.state = State::Held {
            tag: entry.tag,
            value: Value::Unchanged(entry.value),
            overdue,
        };
    }

    /// The claim was not granted.
    pub(crate) fn refused(mut self) {
        self.state = State::Over;
    }

    /// From here on, giving the lease back tells that the current token was presented.
    pub(crate) fn presented(&mut self, record: &Record) {
        if let State::Held { value, .. } = &mut self.state
            && record
                .previous
                .as_ref()
                .is_some_and(|previous| previous.sealed.is_some())
        {
            *value = Value::Presented(Box::new(record.clone()));
        }
    }

    /// Gives the lease back now.
    pub(crate) async fn give_back(mut self) {
        // If the store fails, the state stays, and with it dropping the guard tries again in the
        // background.
        if give_back(&self.shared, self.key, self.version, &self.state)
            .await
            .is_ok()
        {
            self.state = State::Over;
        }
    }

    /// The lease passes to a commit: nobody gives it back.
    pub(crate) fn into_commit(mut self) -> (Version, Option<RunningGuard>) {
        self.state = State::Over;
        (self.version, self.running.take())
    }
}

impl<St: Store> Drop for LeaseGuard<St> {
    fn drop(&mut self) {
        let state = mem::replace(&mut self.state, State::Over);
        if matches!(state, State::Over) {
            return;
        }
        // Without a runtime the lease runs out by itself.
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        let (shared, key, version, running) = (
            Arc::clone(&self.shared),
            self.key,
            self.version,
            self.running.take(),
        );
        handle.spawn(async move {
            for pause in PAUSES {
                match give_back(&shared, key, version, &state).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%error, "a lease could not be given back"),
                }
                sleep(pause).await;
            }
            drop(running);
        });
    }
}

/// How long a lease that was taken over is held before it is used.
///
/// Whoever let it run out may have the upstream's answer, and only wait for the store to be there
/// again: its commit then comes within a few seconds and overrides the lease. To use the same
/// upstream token first would end the session.
pub(super) const TAKEOVER_PAUSE: Duration = Duration::from_secs(3);

/// The end of a lease that has run out.
pub(super) const LONG_AGO: Timestamp = Timestamp::from_millis(1);

/// Between attempts to give a lease back. After them it runs out by itself, and nothing is lost.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::ZERO,
];

async fn give_back<St: Store>(
    shared: &Shared<St>,
    key: Key,
    version: Version,
    state: &State,
) -> Result<(), StoreError> {
    let (tag, value, ran_out) = match state {
        State::Over => return Ok(()),
        State::Held {
            tag,
            value,
            overdue,
        } => (
            *tag,
            value.encode(&key, tag),
            overdue.then(|| Purpose::of(version)),
        ),
        State::Claiming => match shared.store().get(&key).await? {
            // Perhaps it took the place of one that had run out. It tells nothing of the current
            // token.
            Some(entry) if entry.version == version => {
                (entry.tag, entry.value, Some(Purpose::Recovery))
            }
            _ => return Ok(()),
        },
    };
    let random = shared.random().map_err(StoreError::unavailable)?;
    let next = ran_out.map_or(Version::new(random), |purpose| purpose.version(random));
    let entry = Entry::new(next, tag, value).with_lease(ran_out.map(|_| LONG_AGO));
    let change = Change::Put {
        entry,
        ttl: Ttl::Keep,
    };
    shared
        .store()
        .swap(&key, Some(version), change, None)
        .await
        .map(drop)
}
