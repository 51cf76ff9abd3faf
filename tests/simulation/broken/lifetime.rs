//! A record that lives longer than its instance has decided.

use std::mem;

use tower_oauth_refresh::store::{Entry, Key};

/// The length of the format and the checksum, and that of a time.
const HEAD: usize = 5;
const TIME: usize = 6;

/// The field of a record that holds its end.
const EXPIRES_AT: u8 = 7;

/// A day, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// Returns the entry of a grant that ends thirty days later.
pub(super) fn prolonged(key: &Key, entry: Entry) -> Entry {
    let mut value = entry.value.to_vec();
    let end = end_of(&mut value).expect("a record has an end");
    let mut time = [0; 8];
    time[8 - TIME..].copy_from_slice(end);
    let later = (u64::from_be_bytes(time) + 30 * DAY).to_be_bytes();
    end.copy_from_slice(&later[8 - TIME..]);
    let mut checksum = crc32fast::Hasher::new();
    for part in [&key.as_bytes()[..], entry.tag.as_bytes(), &value[HEAD..]] {
        checksum.update(part);
    }
    value[1..HEAD].copy_from_slice(&checksum.finalize().to_be_bytes());
    Entry::new(entry.version, entry.tag, value.into()).with_lease(entry.lease)
}

/// Returns the place of the end in the value of an entry.
fn end_of(value: &mut [u8]) -> Option<&mut [u8]> {
    let mut rest = value.get_mut(HEAD..)?;
    loop {
        let (field, mut tail) = mem::take(&mut rest).split_first_mut()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let (byte, after) = tail.split_first_mut()?;
            tail = after;
            length |= usize::from(*byte & 0x7f) << shift;
            shift += 7;
            if *byte < 0x80 {
                break;
            }
        }
        let (content, after) = tail.split_at_mut_checked(length)?;
        if *field == EXPIRES_AT {
            return Some(content);
        }
        rest = after;
    }
}
