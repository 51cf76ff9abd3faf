use bytes::Bytes;

use crate::access::record::AccessRecord;
use crate::fields::{DecodeError, with_checksum};
use crate::grant::{Binding, Record};
use crate::store::{Entry, Key, Tag, Version};

const KEY: Key = Key::new([9; 32]);
const TAG: Tag = Tag::new([7; 32]);
const ACCESS_TAG: Tag = Tag::new([2; 32]);
const VERSION: Version = Version::new([1; 8]);
/// `format ‖ checksum`.
const HEAD: usize = 5;

const GRANT_FORMAT: u8 = 1;
const ACCESS_FORMAT: u8 = 65;

/// Input: the value of the entry of a grant. Its checksum is put right first, whatever it is.
pub fn record(input: &[u8]) {
    let decode = |value: &Bytes| Record::decode(&KEY, &TAG, value);
    let encode = |record: &Record| record.encode(&KEY, &TAG);
    let value = with_checksum(&KEY, &TAG, input);
    judge(GRANT_FORMAT, input, &value, decode, encode);
    let Ok(record) = decode(&value) else { return };
    let binding = Binding::decode(&Bytes::copy_from_slice(input));
    assert_eq!(
        binding.as_ref(),
        Ok(&record.binding),
        "the binding is read whatever the checksum"
    );
    let Binding {
        client_id,
        scope,
        resources,
        absolute_end,
    } = &record.binding;
    let shown = format!(
        "Record {{ binding: Binding {{ client_id: {client_id:?}, scope: {scope:?}, resources: {resources:?}, \
         absolute_end: {absolute_end:?} }}, generation: {:?}, expires_at: {:?}, ended: {:?}, .. }}",
        record.generation, record.expires_at, record.ended
    );
    assert_eq!(
        format!("{record:?}"),
        shown,
        "Debug shows nothing that is sealed, and no hash"
    );
    if let Some(previous) = &record.previous {
        let (retry, recover) = (previous.retry_until, previous.recover_until);
        let shown =
            format!("Previous {{ retry_until: {retry:?}, recover_until: {recover:?}, .. }}");
        assert_eq!(format!("{previous:?}"), shown);
    }
}

/// Input: the value of the entry of an access token. Its checksum is put right first, whatever it
/// is.
pub fn access_record(input: &[u8]) {
    let decode =
        |value: &Bytes| AccessRecord::decode(&KEY, &Entry::new(VERSION, ACCESS_TAG, value.clone()));
    let encode = |record: &AccessRecord| record.entry(&KEY, VERSION).value;
    let value = with_checksum(&KEY, &ACCESS_TAG, input);
    judge(ACCESS_FORMAT, input, &value, decode, encode);
    let Ok(AccessRecord {
        client_id,
        scope,
        resources,
        expires_at,
        has_grant,
        ended,
        ..
    }) = decode(&value)
    else {
        return;
    };
    let shown = format!(
        "AccessRecord {{ client_id: {client_id:?}, scope: {scope:?}, resources: {resources:?}, \
         expires_at: {expires_at:?}, has_grant: {has_grant:?}, ended: {ended:?}, .. }}"
    );
    assert_eq!(
        decode(&value).map(|record| format!("{record:?}")),
        Ok(shown),
        "Debug shows nothing that is sealed"
    );
}

/// A record is written with all that was read; what is no record is damaged or of another format.
fn judge<R: PartialEq>(
    format: u8,
    input: &[u8],
    value: &Bytes,
    decode: impl Fn(&Bytes) -> Result<R, DecodeError>,
    encode: impl Fn(&R) -> Bytes,
) {
    if input != value {
        assert!(
            decode(&Bytes::copy_from_slice(input)).is_err(),
            "another checksum is not let pass"
        );
    }
    match decode(value) {
        Ok(record) => {
            assert_eq!(value.first(), Some(&format));
            let written = encode(&record);
            assert!(
                decode(&written).is_ok_and(|again| again == record),
                "what was written is read as it was"
            );
            assert_eq!(
                decode(&written).map(|again| encode(&again)),
                Ok(written.clone()),
                "and written as it is"
            );
            let (before, after) = (fields(value), fields(&written));
            let sorted = |fields: &[Field]| {
                let mut fields = fields.to_vec();
                fields.sort();
                fields
            };
            assert_eq!(
                sorted(&after),
                sorted(&before),
                "no field is lost, none comes in"
            );
            let unknown = |fields: &[Field]| {
                fields
                    .iter()
                    .filter(|(field, _)| is_unknown(format, *field))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                unknown(&after),
                unknown(&before),
                "those of later versions keep their order"
            );
            if after == before {
                // A length in more bytes than it needs is read, and not written.
                assert!(
                    written == *value || written.len() < value.len(),
                    "in its own order it is written as it was"
                );
            }
        }
        Err(DecodeError::Format(found)) => {
            assert!(
                found != format && value.first() == Some(&found),
                "another format is named"
            );
        }
        Err(DecodeError::Damaged) => {
            assert!(
                value.is_empty() || value.first() == Some(&format),
                "damage is found in this format only"
            );
        }
    }
}

type Field = (u8, Vec<u8>);

const fn is_unknown(format: u8, field: u8) -> bool {
    match format {
        GRANT_FORMAT => !matches!(field, 1..=11),
        _ => !matches!(field, 1..=8),
    }
}

/// The fields of a sound record, read once more.
fn fields(value: &[u8]) -> Vec<Field> {
    let mut bytes = value.iter().skip(HEAD);
    let mut fields = Vec::new();
    while let Some(field) = bytes.next() {
        let (mut len, mut shift) = (0, 0);
        for byte in bytes.by_ref() {
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        fields.push((*field, bytes.by_ref().take(len).copied().collect()));
    }
    fields
}
