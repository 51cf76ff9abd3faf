use redb::{
    ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};

use super::super::decide::{self, MAX_SIDECARS};
use super::super::{Change, Entry, Key, Sidecar, SidecarName, Swap, Ttl, Version};
use super::error::Failure;
use super::leases::Claimed;
use super::record::{Record, SidecarRecord, end_row, sidecar_key};
use super::removal::GRACE;
use crate::clock::Timestamp;

type Grants = TableDefinition<'static, &'static [u8; 32], &'static [u8]>;
type Sidecars = TableDefinition<'static, &'static [u8; 48], &'static [u8]>;
type Ends = TableDefinition<'static, &'static [u8], ()>;

/// Entries, by key.
const GRANTS: Grants = TableDefinition::new("grants");
/// Sidecars, by the key of their entry and their name.
const SIDECARS_TABLE: Sidecars = TableDefinition::new("sidecars");
/// The removal queue. A row is a time, followed by the key of an entry or a sidecar, so that due
/// rows come first. A sidecar may be removed at its expiry, an entry [`GRACE`] after it.
const ENDS: Ends = TableDefinition::new("ends");

/// The most rows that one commit removes, so that no call waits long for it.
const PORTION: usize = 256;

/// Returns the committed record under `key`.
pub(super) fn read_record(read: &ReadTransaction, key: &Key) -> Result<Option<Record>, Failure> {
    record(&read.open_table(GRANTS)?, key)
}

/// Passes the committed sidecar `name` of the entry under `key` to `take`, and returns its result;
/// `None` if there is no such sidecar.
pub(super) fn read_sidecar<T>(
    read: &ReadTransaction,
    key: &Key,
    name: &SidecarName,
    take: impl FnOnce(&SidecarRecord<'_>) -> T,
) -> Result<Option<T>, Failure> {
    let sidecars = read.open_table(SIDECARS_TABLE)?;
    let found = sidecars.get(&sidecar_key(key, name))?;
    found
        .map(|found| Ok(take(&SidecarRecord::decode(found.value())?)))
        .transpose()
}

/// Returns whether an expired entry or sidecar can be removed.
pub(super) fn is_sweep_due(read: &ReadTransaction, now: Timestamp) -> Result<bool, redb::Error> {
    let ends = read.open_table(ENDS)?;
    let Some((row, _)) = ends.first()? else {
        return Ok(false);
    };
    Ok(row.value() < after(now).as_slice())
}

/// The arguments of a `swap`.
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) expected: Option<Version>,
    pub(super) change: Change,
    pub(super) sidecars: Vec<Sidecar>,
}

/// The result of a sweep.
#[derive(Default)]
pub(super) struct Swept {
    /// The entries that were removed.
    pub(super) gone: Vec<Key>,
    /// Whether anything changed: perhaps only sidecars were removed.
    pub(super) changed: bool,
    /// Whether more rows may be due.
    pub(super) behind: bool,
}

/// The tables within one transaction.
pub(super) struct Tables<'txn> {
    grants: Table<'txn, &'static [u8; 32], &'static [u8]>,
    sidecars: Table<'txn, &'static [u8; 48], &'static [u8]>,
    ends: Table<'txn, &'static [u8], ()>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(write: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            grants: write.open_table(GRANTS)?,
            sidecars: write.open_table(SIDECARS_TABLE)?,
            ends: write.open_table(ENDS)?,
        })
    }

    /// Decides a swap and makes its change. Returns whether anything changed, and the result.
    pub(super) fn swap(
        &mut self,
        asked: &Asked,
        claimed: Option<Claimed>,
        now: Timestamp,
    ) -> Result<(bool, Swap), Failure> {
        let Asked {
            key,
            expected,
            change,
            sidecars,
        } = asked;
        let old = record(&self.grants, key)?;
        let live = old.as_ref().filter(|old| old.end > now);
        let current = live.map(|live| with_lease(live.entry.clone(), claimed));
        if let Some(answer) = decide::swap(current.as_ref(), *expected, change) {
            return Ok((false, answer));
        }
        let end = match (change, live) {
            (
                Change::Put {
                    ttl: Ttl::After(ttl),
                    ..
                },
                _,
            ) => now.saturating_add(*ttl),
            (Change::Put { ttl: Ttl::Keep, .. }, Some(live)) => live.end,
            // An absent entry has no expiry to keep.
            (Change::Put { ttl: Ttl::Keep, .. }, None) => return Ok((false, Swap::Conflict(None))),
            (Change::Remove, _) => {
                self.remove(key, old.map(|old| old.end))?;
                return Ok((true, Swap::Swapped));
            }
        };
        // Read before anything is written: a swap that fails because of an unreadable sidecar must
        // change nothing.
        let others = if live.is_some() && !sidecars.is_empty() {
            self.sidecars_of(key)?
        } else {
            Vec::new()
        };
        let old_end = old.as_ref().map(|old| old.end);
        if live.is_none() {
            self.remove(key, old_end)?;
        } else if let Some(old_end) = old_end.filter(|old_end| *old_end != end) {
            self.ends.remove(entry_row(old_end, key).as_slice())?;
        }
        if live.is_none() || old_end != Some(end) {
            self.ends.insert(entry_row(end, key).as_slice(), ())?;
        }
        if let Change::Put { entry, .. } = change {
            let record = Record {
                entry: entry.clone(),
                end,
            };
            self.grants
                .insert(key.as_bytes(), record.encode().as_slice())?;
        }
        self.put_sidecars(key, sidecars, others, now)?;
        Ok((true, Swap::Swapped))
    }

    /// Removes entries and sidecars that are due, as many as one commit may remove.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Result<Swept, StorageError> {
        let mut due = Vec::new();
        for row in self
            .ends
            .range::<&[u8]>(..after(now).as_slice())?
            .take(PORTION)
        {
            due.push(row?.0.value().to_vec());
        }
        let mut gone = Vec::new();
        for row in &due {
            self.ends.remove(row.as_slice())?;
            let Some((_, key)) = row.split_first_chunk::<8>() else {
                continue;
            };
            // An unreadable record is removed as well when it is due.
            if let Ok(key) = <&[u8; 32]>::try_from(key) {
                let key = Key::new(*key);
                let record = self
                    .grants
                    .get(key.as_bytes())?
                    .map(|found| Record::decode(found.value()));
                match record {
                    // In a file from before the grace period, the row of an entry has the expiry
                    // itself. Queue it again.
                    Some(Ok(record)) if record.end.saturating_add(GRACE) > now => {
                        self.ends
                            .insert(entry_row(record.end, &key).as_slice(), ())?;
                    }
                    Some(_) | None => {
                        self.remove(&key, None)?;
                        gone.push(key);
                    }
                }
            } else if let Ok(key) = <&[u8; 48]>::try_from(key) {
                let sidecar = self
                    .sidecars
                    .get(key)?
                    .map(|found| SidecarRecord::decode(found.value()).map(|it| it.end));
                if !sidecar.is_some_and(|end| end.is_ok_and(|end| end > now)) {
                    self.sidecars.remove(key)?;
                }
            }
        }
        Ok(Swept {
            gone,
            changed: !due.is_empty(),
            behind: due.len() == PORTION,
        })
    }

    /// Removes an entry with its sidecars, and its row in the removal queue if its expiry `end` is
    /// given.
    fn remove(&mut self, key: &Key, end: Option<Timestamp>) -> Result<(), StorageError> {
        self.grants.remove(key.as_bytes())?;
        if let Some(end) = end {
            self.ends.remove(entry_row(end, key).as_slice())?;
        }
        let mut sidecars = Vec::new();
        for sidecar in self
            .sidecars
            .range::<&[u8; 48]>(&first_sidecar(key)..=&last_sidecar(key))?
        {
            let (name, value) = sidecar?;
            sidecars.push((
                *name.value(),
                SidecarRecord::decode(value.value()).map(|sidecar| sidecar.end),
            ));
        }
        for (sidecar, end) in sidecars {
            self.sidecars.remove(&sidecar)?;
            // The row of an unreadable sidecar is removed when it is due.
            if let Ok(end) = end {
                self.ends.remove(end_row(end, &sidecar).as_slice())?;
            }
        }
        Ok(())
    }

    fn sidecars_of(&self, key: &Key) -> Result<Vec<Neighbour>, Failure> {
        let mut sidecars = Vec::new();
        for sidecar in self
            .sidecars
            .range::<&[u8; 48]>(&first_sidecar(key)..=&last_sidecar(key))?
        {
            let (key, value) = sidecar?;
            let SidecarRecord { end, order, .. } = SidecarRecord::decode(value.value())?;
            sidecars.push(Neighbour {
                key: *key.value(),
                end,
                order,
            });
        }
        sidecars.sort_unstable_by_key(|sidecar| sidecar.order);
        Ok(sidecars)
    }

    /// Writes the sidecars `new` of an entry that has the sidecars `others`, oldest first.
    fn put_sidecars(
        &mut self,
        key: &Key,
        new: &[Sidecar],
        mut others: Vec<Neighbour>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let order = others.last().map_or(0, |last| last.order.saturating_add(1));
        let is_replaced = |other: &Neighbour| {
            new.iter()
                .any(|new| other.key[32..] == *new.name.as_bytes())
        };
        let mut dropped: Vec<Neighbour> = others
            .extract_if(.., |other| other.end <= now || is_replaced(other))
            .collect();
        let surplus = (others.len() + new.len()).saturating_sub(MAX_SIDECARS);
        dropped.extend(others.drain(..surplus));
        for Neighbour { key, end, .. } in dropped {
            self.sidecars.remove(&key)?;
            self.ends.remove(end_row(end, &key).as_slice())?;
        }
        for Sidecar { name, value, ttl } in new {
            let (sidecar, end) = (sidecar_key(key, name), now.saturating_add(*ttl));
            let record = SidecarRecord { end, order, value };
            self.sidecars.insert(&sidecar, record.encode().as_slice())?;
            self.ends.insert(end_row(end, &sidecar).as_slice(), ())?;
        }
        Ok(())
    }
}

/// A sidecar without its value.
struct Neighbour {
    key: [u8; 48],
    end: Timestamp,
    order: u64,
}

/// Returns the entry with the claim applied to it, if there is one.
pub(super) fn with_lease(mut entry: Entry, claimed: Option<Claimed>) -> Entry {
    if let Some(claimed) = claimed {
        claimed.apply(&mut entry);
    }
    entry
}

fn record(
    grants: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    key: &Key,
) -> Result<Option<Record>, Failure> {
    let found = grants.get(key.as_bytes())?;
    Ok(found
        .map(|found| Record::decode(found.value()))
        .transpose()?)
}

/// Returns the row in the removal queue of an entry that expires at `end`.
fn entry_row(end: Timestamp, key: &Key) -> Vec<u8> {
    end_row(end.saturating_add(GRACE), key.as_bytes())
}

fn first_sidecar(key: &Key) -> [u8; 48] {
    sidecar_key(key, &SidecarName::new([0; 16]))
}

fn last_sidecar(key: &Key) -> [u8; 48] {
    sidecar_key(key, &SidecarName::new([0xff; 16]))
}

/// Returns a bound that is greater than every row that is due at `now`, and not greater than any
/// other row.
fn after(now: Timestamp) -> Vec<u8> {
    match now.as_millis().checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        // At the latest possible time, every row is due.
        None => vec![0xff; 57],
    }
}
