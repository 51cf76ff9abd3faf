use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};

use super::super::decide::{self, MAX_SIDECARS};
use super::super::{Change, Key, Sidecar, SidecarName, Swap, Ttl, Version};
use super::error::Failure;
use super::leases::{Claimed, with_lease};
use super::record::{Record, SidecarRecord, end_row, sidecar_key};
use super::removal::GRACE;
use crate::clock::Timestamp;

/// Entries, by key.
const GRANTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("grants");
/// Sidecars, by the key of their entry and their name.
const SIDECARS: TableDefinition<'_, &[u8; 48], &[u8]> = TableDefinition::new("sidecars");
/// The removal queue. A row is a time, followed by the key of an entry or a sidecar, so that due
/// rows come first. A sidecar may be removed at its expiry, an entry [`GRACE`] after it.
const ENDS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("ends");

/// The most rows that one commit removes, so that no call waits long for it.
pub(super) const PORTION: usize = 256;

/// Returns the committed record under `key`.
pub(super) fn read_record(read: &ReadTransaction, key: &Key) -> Result<Option<Record>, Failure> {
    record(&read.open_table(GRANTS)?, key)
}

/// Returns the value of the committed sidecar `name` of the entry under `key`, unless it has
/// expired.
pub(super) fn read_sidecar(
    read: &ReadTransaction,
    key: &Key,
    name: &SidecarName,
    now: Timestamp,
) -> Result<Option<Bytes>, Failure> {
    let sidecars = read.open_table(SIDECARS)?;
    let Some(found) = sidecars.get(&sidecar_key(key, name))? else {
        return Ok(None);
    };
    let sidecar = SidecarRecord::decode(found.value())?;
    Ok((sidecar.end > now).then(|| Bytes::copy_from_slice(sidecar.value)))
}

/// Returns whether an expired entry or sidecar can be removed.
pub(super) fn is_sweep_due(read: &ReadTransaction, now: Timestamp) -> Result<bool, Failure> {
    let ends = read.open_table(ENDS)?;
    let first = ends.first()?;
    Ok(first.is_some_and(|(row, _)| row.value() < after(now).as_slice()))
}

/// The arguments of a `swap`.
pub(super) struct SwapArguments {
    pub(super) key: Key,
    pub(super) expected: Option<Version>,
    pub(super) change: Change,
    pub(super) sidecars: Vec<Sidecar>,
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
            sidecars: write.open_table(SIDECARS)?,
            ends: write.open_table(ENDS)?,
        })
    }

    /// Decides a swap. Returns `None` if the change was made, and otherwise the result of the swap.
    pub(super) fn swap(
        &mut self,
        arguments: &SwapArguments,
        claimed: Option<Claimed>,
        now: Timestamp,
    ) -> Result<Option<Swap>, Failure> {
        let SwapArguments {
            key,
            expected,
            change,
            sidecars,
        } = arguments;
        let old = record(&self.grants, key)?;
        let live = old.as_ref().filter(|old| old.end > now);
        let current = live.map(|live| with_lease(live.entry.clone(), claimed));
        if let Some(answer) = decide::swap(current.as_ref(), *expected, change) {
            return Ok(Some(answer));
        }
        let old_end = old.as_ref().map(|old| old.end);
        let Change::Put { entry, ttl } = change else {
            self.remove(key, old_end)?;
            return Ok(None);
        };
        let end = match ttl {
            Ttl::After(ttl) => now.saturating_add(*ttl),
            Ttl::Keep => live.map_or(now, |live| live.end),
        };
        // Read before anything is written: a swap that fails because of an unreadable sidecar must
        // change nothing.
        let others = if live.is_some() && !sidecars.is_empty() {
            self.sidecars_of(key)?
        } else {
            Vec::new()
        };
        match live {
            Some(live) => drop(self.ends.remove(entry_row(live.end, key).as_slice())?),
            None => self.remove(key, old_end)?,
        }
        self.ends.insert(entry_row(end, key).as_slice(), ())?;
        let record = Record {
            entry: entry.clone(),
            end,
        };
        self.grants
            .insert(key.as_bytes(), record.encode().as_slice())?;
        self.put_sidecars(key, sidecars, others, now)?;
        Ok(None)
    }

    /// Removes entries and sidecars that are due, as many as one commit may remove. Adds the
    /// entries to `gone`. Returns the number of rows that it has taken from the queue.
    pub(super) fn sweep(&mut self, now: Timestamp, gone: &mut Vec<Key>) -> Result<usize, Failure> {
        let mut due = Vec::new();
        for row in self
            .ends
            .extract_from_if::<&[u8], _>(..after(now).as_slice(), |_, ()| true)?
            .take(PORTION)
        {
            due.push(row?.0.value().to_vec());
        }
        for row in &due {
            let Some((_, key)) = row.split_first_chunk::<8>() else {
                continue;
            };
            // An unreadable record is removed as well when it is due.
            if let Ok(key) = <&[u8; 32]>::try_from(key) {
                let key = Key::new(*key);
                match record(&self.grants, &key) {
                    // In a file from before the grace period, the row of an entry has the expiry
                    // itself. Queue it again.
                    Ok(Some(record)) if record.end.saturating_add(GRACE) > now => {
                        self.ends
                            .insert(entry_row(record.end, &key).as_slice(), ())?;
                    }
                    Err(failure @ Failure::Database(_)) => return Err(failure),
                    Ok(_) | Err(Failure::Record(_)) => {
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
        Ok(due.len())
    }

    /// Removes an entry with its sidecars, and its row in the removal queue if its expiry `end` is
    /// given.
    fn remove(&mut self, key: &Key, end: Option<Timestamp>) -> Result<(), StorageError> {
        self.grants.remove(key.as_bytes())?;
        if let Some(end) = end {
            self.ends.remove(entry_row(end, key).as_slice())?;
        }
        let [first, last] = sidecar_bounds(key);
        for sidecar in self
            .sidecars
            .extract_from_if::<&[u8; 48], _>(&first..=&last, |_, _| true)?
        {
            let (sidecar, value) = sidecar?;
            // The row of an unreadable sidecar is removed when it is due.
            if let Ok(found) = SidecarRecord::decode(value.value()) {
                self.ends
                    .remove(end_row(found.end, sidecar.value()).as_slice())?;
            }
        }
        Ok(())
    }

    fn sidecars_of(&self, key: &Key) -> Result<Vec<Neighbour>, Failure> {
        let [first, last] = sidecar_bounds(key);
        let mut sidecars = Vec::new();
        for sidecar in self.sidecars.range::<&[u8; 48]>(&first..=&last)? {
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

/// Returns the first and the last key that a sidecar of an entry can have.
fn sidecar_bounds(key: &Key) -> [[u8; 48]; 2] {
    [0, 0xff].map(|byte| sidecar_key(key, &SidecarName::new([byte; 16])))
}

/// Returns a bound that is greater than every row that is due at `now`, and not greater than any
/// other row.
fn after(now: Timestamp) -> [u8; 8] {
    now.as_millis().saturating_add(1).to_be_bytes()
}
