use bytes::Bytes;

use crate::clock::Timestamp;
use crate::store::{Entry, StoreError, Tag, Version};

/// `format(1) ‖ version(8) ‖ end of the lease(6, unix milliseconds, 0 = none) ‖ tag(32) ‖ value`.
/// Version and lease are side by side, so that a claim writes both at once.
const FORMAT: u8 = 1;
const VERSION: usize = 1;
const LEASE: usize = 9;
const TAG: usize = 15;
const VALUE: usize = 47;

/// The last end of a lease that fits: in the year 10889.
const LAST: u64 = (1 << 48) - 1;

/// The most bytes of an entry. The layer reads bodies of up to 16 MiB, and stores no more than
/// their tokens.
const LARGEST: usize = 17 << 20;

/// How the bytes of an entry of this version begin.
pub(crate) fn beginning(version: Version) -> [u8; LEASE] {
    let mut bytes = [FORMAT; LEASE];
    bytes[VERSION..].copy_from_slice(version.as_bytes());
    bytes
}

/// The entry, with what a claim has written into it: version and lease. `None` if they do not fit
/// into it.
pub(crate) fn with_head(mut entry: Vec<u8>, head: &[u8]) -> Option<Vec<u8>> {
    let place = entry
        .get_mut(VERSION..TAG)
        .filter(|place| place.len() == head.len())?;
    place.copy_from_slice(head);
    Some(entry)
}

pub(crate) fn encode(entry: &Entry) -> Vec<u8> {
    let lease = entry.lease.map_or(0, |end| end.as_millis().clamp(1, LAST));
    let mut bytes = Vec::with_capacity(VALUE + entry.value.len());
    bytes.extend_from_slice(&beginning(entry.version));
    bytes.extend_from_slice(&lease.to_be_bytes()[2..]);
    bytes.extend_from_slice(entry.tag.as_bytes());
    bytes.extend_from_slice(&entry.value);
    bytes
}

/// What lies in Redis where an entry should.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("an entry of {0} bytes is too short to be one")]
    Short(usize),
    #[error("an entry of {0} bytes is larger than the layer writes")]
    Long(usize),
    #[error("an entry has format {0}, and this release knows {FORMAT} alone")]
    Format(u8),
}

pub(crate) fn decode(bytes: Vec<u8>) -> Result<Entry, StoreError> {
    let bytes = Bytes::from(bytes);
    let (Some(&format), Some(version), Some(lease), Some(tag)) = (
        bytes.first(),
        field(&bytes, VERSION),
        field::<6>(&bytes, LEASE),
        field(&bytes, TAG),
    ) else {
        return Err(StoreError::corrupt(Unreadable::Short(bytes.len())));
    };
    if bytes.len() > LARGEST {
        return Err(StoreError::corrupt(Unreadable::Long(bytes.len())));
    }
    if format != FORMAT {
        return Err(StoreError::corrupt(Unreadable::Format(format)));
    }
    let lease = lease
        .iter()
        .fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    let entry = Entry::new(Version::new(version), Tag::new(tag), bytes.slice(VALUE..));
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
        Entry::new(Version::new([7; 8]), Tag::new([9; 32]), value)
            .with_lease(lease.map(Timestamp::from_millis))
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for lease in [None, Some(1), Some(1_700_000_000_000), Some(LAST)] {
            assert_eq!(
                decode(encode(&entry(lease))).unwrap(),
                entry(lease),
                "{lease:?}"
            );
        }
    }

    #[test]
    fn a_lease_without_an_end_lasts_as_long_as_fits() {
        assert_eq!(
            decode(encode(&entry(Some(u64::MAX)))).unwrap(),
            entry(Some(LAST))
        );
    }

    #[test]
    fn what_a_claim_has_written_takes_its_place() {
        let claimed = Entry::new(
            Version::new([8; 8]),
            Tag::new([9; 32]),
            Bytes::from_static(b"a value"),
        )
        .with_lease(Some(Timestamp::from_millis(1_700_000_000_000)));
        let head = &encode(&claimed)[VERSION..TAG];
        assert_eq!(
            decode(with_head(encode(&entry(None)), head).unwrap()).unwrap(),
            claimed
        );
        assert_eq!(
            with_head(encode(&entry(None)), &head[1..]),
            None,
            "too short"
        );
        assert_eq!(
            with_head(vec![FORMAT; TAG - 1], head),
            None,
            "no room for it"
        );
    }

    #[test]
    fn what_is_no_entry_is_corrupt() {
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
            "an empty value is one"
        );
    }
}
