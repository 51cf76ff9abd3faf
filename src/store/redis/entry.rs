#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::store::{ClaimTag, Entry, StoreError, Version};

/// `format(1) ‖ version(8) ‖ expiry of the lease(6, unix milliseconds, 0 = none) ‖ tag(32) ‖ value`
///
/// The version and the lease are adjacent, so that a claim writes both with one command.
const FORMAT: u8 = 1;
const VERSION: usize = 1;
const LEASE: usize = 9;
const TAG: usize = 15;
const VALUE: usize = 47;

/// The latest expiry of a lease that fits: in the year 10889.
const LAST: u64 = (1 << 48) - 1;

/// The maximum size of an entry. The layer reads bodies of up to 16 MiB, and stores no more than
/// the tokens in them.
const LARGEST: usize = 17 << 20;

/// Returns the first bytes of every entry with this version.
pub fn beginning(version: Version) -> [u8; LEASE] {
    let mut bytes = [FORMAT; LEASE];
    bytes[VERSION..].copy_from_slice(version.as_bytes());
    bytes
}

/// Writes the version and the encoded lease of a claim into an encoded entry. Returns the entry,
/// and whether the lease took over an expired one (see `claim.lua`). `None` if the lengths do not
/// match.
pub fn claimed(mut entry: Vec<u8>, version: Version, lease: &[u8]) -> Option<(Vec<u8>, bool)> {
    let head = entry.get_mut(VERSION..TAG)?;
    let (place, end) = head.split_at_mut(LEASE - VERSION);
    let odd = lease.last().filter(|_| lease.len() == end.len())? % 2 == 1;
    place.copy_from_slice(version.as_bytes());
    end.copy_from_slice(lease);
    Some((entry, odd))
}

pub fn encode(entry: &Entry) -> Vec<u8> {
    let lease = entry.lease.map_or(0, |end| end.as_millis().clamp(1, LAST));
    [
        &beginning(entry.version)[..],
        &lease.to_be_bytes()[2..],
        entry.tag.as_bytes(),
        &entry.value,
    ]
    .concat()
}

pub fn decode(bytes: Vec<u8>) -> Result<Entry, StoreError> {
    let bytes = Bytes::from(bytes);
    let (Some(&format), Some(version), Some(lease), Some(tag)) = (
        bytes.first(),
        field(&bytes, VERSION),
        field::<6>(&bytes, LEASE),
        field(&bytes, TAG),
    ) else {
        let length = bytes.len();
        let message = format!("an entry of {length} bytes is too short");
        return Err(StoreError::corrupt(message));
    };
    if bytes.len() > LARGEST {
        let length = bytes.len();
        let message = format!("an entry of {length} bytes is larger than the layer writes");
        return Err(StoreError::corrupt(message));
    }
    if format != FORMAT {
        let message =
            format!("an entry has format {format}, but this release reads only format {FORMAT}");
        return Err(StoreError::corrupt(message));
    }
    let lease = lease
        .iter()
        .fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    let entry = Entry::new(
        Version::new(version),
        ClaimTag::new(tag),
        bytes.slice(VALUE..),
    );
    Ok(entry.with_lease((lease != 0).then(|| Timestamp::from_millis(lease))))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lease: Option<u64>) -> Entry {
        let value = Bytes::from_static(b"a value");
        Entry::new(Version::new([7; 8]), ClaimTag::new([9; 32]), value)
            .with_lease(lease.map(Timestamp::from_millis))
    }

    #[test]
    fn entries_round_trip() {
        for lease in [None, Some(1), Some(1_700_000_000_000), Some(LAST)] {
            assert_eq!(
                decode(encode(&entry(lease))).unwrap(),
                entry(lease),
                "{lease:?}"
            );
        }
    }

    #[test]
    fn a_lease_that_expires_too_late_is_cut_to_the_latest_expiry() {
        assert_eq!(
            decode(encode(&entry(Some(u64::MAX)))).unwrap(),
            entry(Some(LAST))
        );
    }

    #[test]
    fn a_claim_replaces_version_and_lease() {
        let version = Version::new([8; 8]);
        for (millis, taken_over) in [(1_700_000_000_000, false), (1_700_000_000_001, true)] {
            let after = Entry::new(
                version,
                ClaimTag::new([9; 32]),
                Bytes::from_static(b"a value"),
            )
            .with_lease(Some(Timestamp::from_millis(millis)));
            let encoded = encode(&after);
            let lease = &encoded[LEASE..TAG];
            assert_eq!(
                claimed(encode(&entry(None)), version, lease),
                Some((encoded.clone(), taken_over))
            );
            for short in [&lease[1..], &[]] {
                assert_eq!(claimed(encode(&entry(None)), version, short), None);
            }
            assert_eq!(claimed(vec![FORMAT; TAG - 1], version, lease), None);
        }
    }

    #[test]
    fn bytes_that_are_not_an_entry_are_corrupt() {
        let whole = encode(&entry(None));
        let mut newer = whole.clone();
        newer[0] = 2;
        let mut large = whole.clone();
        large.resize(LARGEST + 1, 0);
        let rows = [
            ("empty", vec![]),
            ("short", whole[..VALUE - 1].to_vec()),
            ("of a newer format", newer),
            ("too large", large),
        ];
        for (row, bytes) in rows {
            assert!(
                matches!(decode(bytes), Err(StoreError::Corrupt(_))),
                "{row}"
            );
        }
        assert!(
            decode(whole[..VALUE].to_vec()).is_ok(),
            "an empty value is valid"
        );
    }
}
