//! The encoding of the rows of the tables. Numbers are big-endian.

use bytes::Bytes;

use super::super::{ClaimTag, Entry, Key, SidecarName, Version};
use super::error::Unreadable;
use crate::clock::Timestamp;

const FREE: u8 = 0;
const LEASED: u8 = 1;

/// An entry with its expiry. Encoded as kind (1), version (8), tag (32), expiry (8), expiry of the
/// lease (8, if leased), value.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) end: Timestamp,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Entry {
            version,
            tag,
            lease,
            value,
        } = &self.entry;
        let kind = if lease.is_some() { LEASED } else { FREE };
        let lease = lease.map(|end| end.as_millis().to_be_bytes());
        [
            &[kind][..],
            version.as_bytes(),
            tag.as_bytes(),
            &self.end.as_millis().to_be_bytes(),
            lease.as_ref().map_or(&[], |end| &end[..]),
            value,
        ]
        .concat()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, Unreadable> {
        let [kind] = take(&mut bytes)?;
        let (version, tag) = (
            Version::new(take(&mut bytes)?),
            ClaimTag::new(take(&mut bytes)?),
        );
        let end = take_time(&mut bytes)?;
        let lease = match kind {
            FREE => None,
            LEASED => Some(take_time(&mut bytes)?),
            _ => return Err(Unreadable),
        };
        Ok(Self {
            entry: Entry::new(version, tag, Bytes::copy_from_slice(bytes)).with_lease(lease),
            end,
        })
    }
}

/// A sidecar. Encoded as kind (1), expiry (8), a number that increases with each swap that writes
/// sidecars of the entry (8), value.
pub(super) struct SidecarRecord<'a> {
    pub(super) end: Timestamp,
    pub(super) order: u64,
    pub(super) value: &'a [u8],
}

impl<'a> SidecarRecord<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let end = self.end.as_millis().to_be_bytes();
        [&[FREE][..], &end, &self.order.to_be_bytes(), self.value].concat()
    }

    pub(super) fn decode(mut bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let [FREE] = take(&mut bytes)? else {
            return Err(Unreadable);
        };
        let (end, order) = (
            take_time(&mut bytes)?,
            u64::from_be_bytes(take(&mut bytes)?),
        );
        Ok(Self {
            end,
            order,
            value: bytes,
        })
    }
}

/// Returns the key of a sidecar: the key of the entry, then the name.
pub(super) fn sidecar_key(key: &Key, name: &SidecarName) -> [u8; 48] {
    let mut bytes = [0; 48];
    let (head, tail) = bytes.split_at_mut(32);
    head.copy_from_slice(key.as_bytes());
    tail.copy_from_slice(name.as_bytes());
    bytes
}

/// Returns the row of the removal queue for `key` (32 bytes for an entry, 48 for a sidecar).
pub(super) fn end_row(end: Timestamp, key: &[u8]) -> Vec<u8> {
    [&end.as_millis().to_be_bytes(), key].concat()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (head, rest) = bytes.split_first_chunk().ok_or(Unreadable)?;
    *bytes = rest;
    Ok(*head)
}

fn take_time(bytes: &mut &[u8]) -> Result<Timestamp, Unreadable> {
    Ok(Timestamp::from_millis(u64::from_be_bytes(take(bytes)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_round_trip(
            version: [u8; 8],
            tag: [u8; 32],
            lease: Option<u64>,
            end: u64,
            order: u64,
            value: Vec<u8>,
        ) {
            let entry = Entry::new(Version::new(version), ClaimTag::new(tag), Bytes::from(value.clone()));
            let entry = entry.with_lease(lease.map(Timestamp::from_millis));
            let end = Timestamp::from_millis(end);
            let decoded = Record::decode(&Record { entry: entry.clone(), end }.encode()).unwrap();
            prop_assert_eq!((decoded.entry, decoded.end), (entry, end));
            let bytes = SidecarRecord { end, order, value: &value }.encode();
            let decoded = SidecarRecord::decode(&bytes).unwrap();
            prop_assert_eq!((decoded.end, decoded.order, decoded.value), (end, order, value.as_slice()));
        }

        #[test]
        fn any_bytes_are_decoded_or_rejected(bytes: Vec<u8>, kind in 0..3_u8) {
            let bytes = [&[kind][..], &bytes].concat();
            let head = if kind == LEASED { 57 } else { 49 };
            prop_assert_eq!(Record::decode(&bytes).is_ok(), kind <= LEASED && bytes.len() >= head);
            prop_assert_eq!(SidecarRecord::decode(&bytes).is_ok(), kind == FREE && bytes.len() >= 17);
        }
    }
}
