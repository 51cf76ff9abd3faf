use bytes::Bytes;

use tower_oauth_refresh::fuzzing::{AccessRecord, Binding, DecodeError, Record, with_checksum};
use tower_oauth_refresh::store::{ClaimTag, Entry, Key, Version};

const KEY: Key = Key::new([9; 32]);
const TAG: ClaimTag = ClaimTag::new([7; 32]);
const ACCESS_TAG: ClaimTag = ClaimTag::new([2; 32]);
const VERSION: Version = Version::new([1; 8]);
/// The length of `format ‖ checksum`.
const HEAD: usize = 5;

const GRANT_FORMAT: u8 = 1;
const ACCESS_FORMAT: u8 = 65;

/// Checks the codec of grant records. The input is the value of an entry; its checksum is corrected
/// first.
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
        "the binding depends on the checksum"
    );
    let Binding {
        client_id,
        scope,
        resources,
        absolute_end,
    } = &record.binding;
    let shown = format!(
        "Record {{ binding: Binding {{ client_id: {client_id:?}, scope: {scope:?}, resources: {resources:?}, \
         absolute_end: {absolute_end:?} }}, generation: {:?}, expires_at: {:?}, \
         revocation_pending: {:?}, .. }}",
        record.generation, record.expires_at, record.revocation_pending
    );
    assert_eq!(
        format!("{record:?}"),
        shown,
        "Debug shows a sealed value or a hash"
    );
    if let Some(previous) = &record.previous {
        let (retry, recover) = (previous.retry_until, previous.recover_until);
        let shown =
            format!("Previous {{ retry_until: {retry:?}, recover_until: {recover:?}, .. }}");
        assert_eq!(format!("{previous:?}"), shown);
    }
}

/// Checks the codec of access token records. The input is the value of an entry; its checksum is
/// corrected first.
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
        revocation_pending,
        ..
    }) = decode(&value)
    else {
        return;
    };
    let shown = format!(
        "AccessRecord {{ client_id: {client_id:?}, scope: {scope:?}, resources: {resources:?}, \
         expires_at: {expires_at:?}, has_grant: {has_grant:?}, \
         revocation_pending: {revocation_pending:?}, .. }}"
    );
    assert_eq!(
        decode(&value).map(|record| format!("{record:?}")),
        Ok(shown),
        "Debug shows a sealed value"
    );
}

/// Checks that a decoded record is encoded without a loss, and that other bytes are rejected as
/// damaged or as another format.
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
            "a wrong checksum was accepted"
        );
    }
    match decode(value) {
        Ok(record) => {
            assert_eq!(value.first(), Some(&format));
            let written = encode(&record);
            assert!(
                decode(&written).is_ok_and(|again| again == record),
                "decoding the encoded record gives another record"
            );
            assert_eq!(
                decode(&written).map(|again| encode(&again)),
                Ok(written.clone()),
                "encoding the record again gives other bytes"
            );
            let (before, after) = (fields(value), fields(&written));
            let sorted = |fields: &[Field]| {
                let mut fields = fields.to_vec();
                fields.sort();
                fields
            };
            assert_eq!(sorted(&after), sorted(&before), "a field was lost or added");
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
                "fields of later versions have another order"
            );
            if after == before {
                // A length that uses more bytes than it needs can be decoded, but is never encoded.
                assert!(
                    written == *value || written.len() < value.len(),
                    "the encoded record has other bytes"
                );
            }
        }
        Err(DecodeError::Format(found)) => {
            assert!(
                found != format && value.first() == Some(&found),
                "the reported format is not that of the value"
            );
        }
        Err(DecodeError::Damaged) => {
            assert!(
                value.is_empty() || value.first() == Some(&format),
                "a value of another format was reported as damaged"
            );
        }
    }
}

type Field = (u8, Vec<u8>);

const fn is_unknown(format: u8, field: u8) -> bool {
    match format {
        GRANT_FORMAT => !matches!(field, 1..=20),
        _ => !matches!(field, 1..=10),
    }
}

/// Parses the fields of a valid record, independently of the code under test.
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
