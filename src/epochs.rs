//! The ends of all grants of a client, or of every grant, at once: a grant that began before such
//! an epoch is refused.
//!
//! One entry of the store has all epochs. Every instance caches it for [`MAX_AGE`], and reads it
//! again when its change is announced. A read runs at the same time as the read of the grant or of
//! the access token, so it costs no time of its own.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::cas;
use crate::clock::{CENTURY, EARLIEST, Timestamp};
use crate::codec::{DecodeError, Fields, Utf8, Writer, read_timestamp, text, timestamp};
use crate::random::SecureRandom;
use crate::store::{Change, ClaimTag, Entry, Key, Store, StoreError, Ttl, Version};
use crate::wire::client::ClientId;

/// The longest time for which an instance uses the epochs that it has read.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

/// The most clients with an epoch of their own.
const MOST_CLIENTS: usize = 1000;

/// The format byte. No other kind of entry has it.
const FORMAT: u8 = 66;
const TAG: ClaimTag = ClaimTag::new([3; 32]);

const ALL: u8 = 1;
const CLIENT: u8 = 2;

/// Returns the key of the entry with the epochs.
pub(crate) fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| Key::new(Sha256::digest(b"tower-oauth-refresh v1 epochs").into()))
}

/// The epochs as one instance knows them.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// The time at which the epochs were read, and the epochs.
    read: Option<(Instant, Arc<Table>)>,
    /// The number of changes that were announced. A read that began before the last one is not
    /// cached.
    changes: u64,
}

impl Epochs {
    /// Returns the epochs, at most [`MAX_AGE`] old.
    pub(crate) async fn current<St: Store>(&self, store: &St) -> Result<Arc<Table>, StoreError> {
        let (table, _) = self.younger_than(MAX_AGE, store).await?;
        Ok(table)
    }

    /// Returns epochs that are younger than `max_age` and at most [`MAX_AGE`] old, and their age
    /// when this call began.
    pub(crate) async fn younger_than<St: Store>(
        &self,
        max_age: Duration,
        store: &St,
    ) -> Result<(Arc<Table>, Duration), StoreError> {
        let began = Instant::now();
        let changes = {
            let cached = self.lock();
            if let Some((read, table)) = &cached.read {
                let age = began.saturating_duration_since(*read);
                if age < max_age.min(MAX_AGE) {
                    return Ok((Arc::clone(table), age));
                }
            }
            cached.changes
        };
        let entry = store.get(key()).await?;
        let table = entry.as_ref().map_or(Ok(Table::default()), Table::decode);
        let table = Arc::new(table.map_err(StoreError::corrupt)?);
        let mut cached = self.lock();
        if cached.changes == changes {
            cached.read = Some((began, Arc::clone(&table)));
        }
        Ok((table, Duration::ZERO))
    }

    /// Forgets the epochs, because they have changed.
    pub(crate) fn forget(&self) {
        let mut cached = self.lock();
        cached.read = None;
        cached.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends every grant of a client that began before `now`, or every grant if no client is named.
pub(crate) async fn begin<St: Store>(
    store: &St,
    random: &dyn SecureRandom,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if now < EARLIEST {
        return Err(StoreError::unavailable(
            "the clock of this machine is not set, so it cannot tell which grants have begun",
        ));
    }
    let found = store.get(key()).await?;
    cas::write(store, key(), found, |found| {
        let mut table = match found.map_or(Ok(Table::default()), Table::decode) {
            // The new epoch ends whatever the damaged entry has ended.
            Err(DecodeError::Damaged) if client_id.is_none() => Table::default(),
            read => read.map_err(StoreError::corrupt)?,
        };
        table.add(client_id, now)?;
        let mut version = [0; 8];
        random.fill(&mut version).map_err(StoreError::unavailable)?;
        let entry = table.entry(Version::new(version));
        let ttl = Ttl::After(CENTURY);
        Ok(Some(Change::Put { entry, ttl }))
    })
    .await
}

/// All epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    all: Timestamp,
    clients: Vec<(Utf8, Timestamp)>,
    /// Fields of later versions, which are kept when the entry is written again.
    unknown: Vec<(u8, Bytes)>,
}

impl Table {
    /// Returns whether a grant of this client that began at `began` has ended.
    pub(crate) fn ends(&self, client_id: &str, began: Timestamp) -> bool {
        began < self.all
            || self
                .clients
                .iter()
                .any(|(client, epoch)| began < *epoch && client.as_str() == client_id)
    }

    fn add(&mut self, client_id: Option<&ClientId>, now: Timestamp) -> Result<(), StoreError> {
        // A grant that began at this very moment has ended, too.
        let now = now.saturating_add(Duration::from_millis(1));
        let Some(client_id) = client_id.map(ClientId::as_str) else {
            self.all = self.all.max(now);
            self.clients.retain(|(_, epoch)| *epoch > now);
            return Ok(());
        };
        let mut known = self.clients.iter_mut();
        if let Some((_, epoch)) = known.find(|(client, _)| client.as_str() == client_id) {
            // A slower call must not undo a later one.
            *epoch = now.max(*epoch);
            return Ok(());
        }
        if self.clients.len() >= MOST_CLIENTS {
            return Err(StoreError::unavailable(
                "1,000 clients have been ended already, which is the most that one store keeps; \
                 ending all grants makes room",
            ));
        }
        self.clients.push((client_id.into(), now));
        Ok(())
    }

    fn entry(&self, version: Version) -> Entry {
        let mut out = Writer::new(FORMAT);
        out.put(ALL, &timestamp(self.all));
        for (client, epoch) in &self.clients {
            out.put_parts(CLIENT, &[&timestamp(*epoch), client.as_ref()]);
        }
        for (field, bytes) in &self.unknown {
            out.put(*field, bytes);
        }
        Entry::new(version, TAG, out.finish(key(), &TAG))
    }

    fn decode(entry: &Entry) -> Result<Self, DecodeError> {
        let fields = Fields::checked(FORMAT, key(), &entry.tag, &entry.value)?;
        Ok(Self {
            all: fields.required(ALL, read_timestamp)?,
            clients: fields.repeated(CLIENT, |mut field| {
                let epoch = field.take_timestamp()?;
                Ok((text(field)?, epoch))
            })?,
            unknown: fields.unknown(ALL..=CLIENT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_epoch_ends_what_began_before_it() {
        let mut table = Table::default();
        assert!(!table.ends("app", at(0)));
        let app: ClientId = "app".parse().unwrap();
        table.add(Some(&app), at(10)).unwrap();
        table.add(Some(&app), at(5)).unwrap();
        let rows = [("app", 9), ("app", 10), ("app", 11), ("other", 9)];
        let ended = rows.map(|(client, began)| table.ends(client, at(began)));
        assert_eq!(ended, [true, true, false, false]);
        table.add(None, at(20)).unwrap();
        table.add(None, at(15)).unwrap();
        let rows = [("app", 11), ("other", 20), ("other", 21)];
        let ended = rows.map(|(client, began)| table.ends(client, at(began)));
        assert_eq!(ended, [true, true, false]);
        assert!(table.clients.is_empty(), "the epoch of all covers them");
    }

    #[tokio::test(start_paused = true)]
    async fn epochs_that_are_too_old_for_a_caller_are_read_again() {
        let (store, epochs) = (MemoryStore::new(), Epochs::default());
        let limit = Duration::from_millis(400);
        let age = async || epochs.younger_than(limit, &store).await.unwrap().1;
        assert_eq!(age().await, Duration::ZERO);
        let (first, _) = epochs.younger_than(limit, &store).await.unwrap();
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(age().await, Duration::from_millis(300));
        tokio::time::advance(Duration::from_millis(100)).await;
        let old = epochs.current(&store).await.unwrap();
        assert!(Arc::ptr_eq(&first, &old), "young enough for this caller");
        assert_eq!(age().await, Duration::ZERO);
        let read = epochs.current(&store).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &read));
        tokio::time::advance(MAX_AGE).await;
        let (_, age) = epochs.younger_than(Duration::MAX, &store).await.unwrap();
        assert_eq!(age, Duration::ZERO, "the limit of every caller");
    }

    #[test]
    fn the_table_is_bounded_and_survives_a_round_trip() {
        let mut table = Table::default();
        let client = |number| ClientId::try_from(format!("client-{number}").as_str()).unwrap();
        for number in 0..MOST_CLIENTS {
            table.add(Some(&client(number)), at(5)).unwrap();
        }
        assert!(table.add(Some(&client(MOST_CLIENTS)), at(6)).is_err());
        table
            .add(Some(&client(0)), at(6))
            .expect("a client that has an epoch already");
        let entry = table.entry(Version::new([1; 8]));
        assert_eq!(Table::decode(&entry).unwrap(), table);
        table.add(None, at(7)).unwrap();
        assert!(table.clients.is_empty());
    }
}
