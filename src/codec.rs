//! The encoding of records. A record is `format ‖ checksum ‖ fields`, and a field is
//! `id ‖ length ‖ bytes`.
//!
//! The checksum, a CRC-32, also covers the key and the tag of the entry, so that a damaged value,
//! or the value of another entry, is never used for a decision. It does not protect against an
//! attacker who can write to the store; sealing does.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::fmt;
use std::ops::RangeInclusive;
use std::str;

use bytes::{Buf as _, Bytes};

use crate::clock::Timestamp;
use crate::store::{ClaimTag, Key};

/// The format bytes of entries that are not grants: access tokens, epochs, and the sessions of a
/// user.
pub(crate) const NO_GRANT: RangeInclusive<u8> = 65..=67;

const CHECKSUM: usize = 4;
const HEAD: usize = 1 + CHECKSUM;
pub(crate) const TIMESTAMP: usize = 6;

/// The error for bytes that are not a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the record has the unknown format {0}: it was written by a later version")]
    Format(u8),
    #[error("the record is damaged")]
    Damaged,
}

/// A record that is being encoded.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(format: u8) -> Self {
        let mut out = Vec::with_capacity(512);
        out.push(format);
        out.extend_from_slice(&[0; CHECKSUM]);
        Self(out)
    }

    pub(crate) fn put(&mut self, field: u8, bytes: &[u8]) {
        self.put_parts(field, &[bytes]);
    }

    /// Writes a field that is the concatenation of several parts.
    pub(crate) fn put_parts(&mut self, field: u8, parts: &[&[u8]]) {
        self.put_len(field, parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    /// Writes a field for each of these values.
    pub(crate) fn put_all<T: AsRef<[u8]>>(
        &mut self,
        field: u8,
        values: impl IntoIterator<Item = T>,
    ) {
        for value in values {
            self.put(field, value.as_ref());
        }
    }

    /// Writes a field without contents if `flag` is set.
    pub(crate) fn put_flag(&mut self, field: u8, flag: bool) {
        if flag {
            self.put(field, &[]);
        }
    }

    /// Writes the length in groups of seven bits, lowest group first. The high bit is set in every
    /// group except the last.
    fn put_len(&mut self, field: u8, mut len: usize) {
        self.0.push(field);
        while len >= 0x80 {
            self.0.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        self.0.push(len as u8);
    }

    pub(crate) fn finish(self, key: &Key, tag: &ClaimTag) -> Bytes {
        let Self(mut out) = self;
        let sum = checksum(key, tag, &out[HEAD..]);
        out[1..HEAD].copy_from_slice(&sum);
        out.into()
    }
}

/// Returns the same bytes with a correct checksum. Without this, a fuzzer could not reach the code
/// behind the checksum.
#[cfg(fuzzing)]
pub fn with_checksum(key: &Key, tag: &ClaimTag, value: &[u8]) -> Bytes {
    let mut out = value.to_vec();
    if let Some((head, fields)) = out.split_at_mut_checked(HEAD) {
        head[1..].copy_from_slice(&checksum(key, tag, fields));
    }
    out.into()
}

/// The fields of a record, in order. A decoder takes each by its id.
pub(crate) struct Fields<'a> {
    record: &'a Bytes,
    fields: Vec<(u8, &'a [u8])>,
}

impl<'a> Fields<'a> {
    /// Returns the fields of a record, and checks its format and its checksum.
    pub(crate) fn checked(
        format: u8,
        key: &Key,
        tag: &ClaimTag,
        record: &'a Bytes,
    ) -> Result<Self, DecodeError> {
        let fields = Self::unchecked(format, record)?;
        if record[1..HEAD] != checksum(key, tag, &record[HEAD..]) {
            return Err(DecodeError::Damaged);
        }
        Ok(fields)
    }

    /// Returns the fields of a record, and checks its format and the lengths of the fields.
    pub(crate) fn unchecked(format: u8, record: &'a Bytes) -> Result<Self, DecodeError> {
        match record.first() {
            Some(&found) if found != format => return Err(DecodeError::Format(found)),
            _ if record.len() < HEAD => return Err(DecodeError::Damaged),
            _ => {}
        }
        // The record of a grant has up to twenty fields.
        let mut fields = Vec::with_capacity(24);
        let mut rest = &record[HEAD..];
        while let Some(field) = next(&mut rest)? {
            fields.push(field);
        }
        Ok(Self { record, fields })
    }

    /// Decodes a field that the record must have, once.
    pub(crate) fn required<T>(
        &self,
        id: u8,
        decode: impl FnOnce(Field<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.optional(id, decode)?.ok_or(DecodeError::Damaged)
    }

    /// Decodes a field that the record may have, at most once.
    pub(crate) fn optional<T>(
        &self,
        id: u8,
        decode: impl FnOnce(Field<'_>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let mut found = self.all(id);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(field), None) => decode(field).map(Some),
            (Some(_), Some(_)) => Err(DecodeError::Damaged),
        }
    }

    /// Decodes a field that the record may have any number of times.
    pub(crate) fn repeated<T>(
        &self,
        id: u8,
        decode: impl Fn(Field<'_>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.all(id).map(decode).collect()
    }

    /// Returns whether the record has a flag: a field without contents. Contents that a later
    /// version has written would be lost when the record is encoded again, so they are an error.
    pub(crate) fn flag(&self, id: u8) -> Result<bool, DecodeError> {
        Ok(self.optional(id, |field| field.end())?.is_some())
    }

    /// Returns the fields of later versions, whose ids are not `known`.
    pub(crate) fn unknown(&self, known: RangeInclusive<u8>) -> Vec<(u8, Bytes)> {
        let unknown = self.fields.iter().filter(|(id, _)| !known.contains(id));
        unknown
            .map(|(id, bytes)| (*id, self.record.slice_ref(bytes)))
            .collect()
    }

    /// Returns the fields with this id.
    fn all(&self, id: u8) -> impl Iterator<Item = Field<'a>> {
        let record = self.record;
        let found = self.fields.iter().filter(move |(found, _)| *found == id);
        found.map(move |(_, bytes)| Field { bytes, record })
    }
}

/// The contents of a field.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    bytes: &'a [u8],
    record: &'a Bytes,
}

impl<'a> Field<'a> {
    /// Removes the first `N` bytes and returns them.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Damaged)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// Removes a time and returns it.
    pub(crate) fn take_timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        let bytes: [u8; TIMESTAMP] = self.take()?;
        Ok(Timestamp::from_millis((&bytes[..]).get_uint(TIMESTAMP)))
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns an error unless the field is empty.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        self.is_empty().then_some(()).ok_or(DecodeError::Damaged)
    }

    /// Returns the contents, which share the bytes of the record.
    pub(crate) fn to_bytes(self) -> Bytes {
        self.record.slice_ref(self.bytes)
    }
}

/// Removes the next field and returns it. Returns `None` at the end.
fn next<'a>(fields: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, DecodeError> {
    let Ok(field) = fields.try_get_u8() else {
        return Ok(None);
    };
    let mut len = 0_usize;
    for shift in [0, 7, 14, 21] {
        let byte = fields.try_get_u8().map_err(|_| DecodeError::Damaged)?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let bytes = fields.split_off(..len).ok_or(DecodeError::Damaged)?;
            return Ok(Some((field, bytes)));
        }
    }
    Err(DecodeError::Damaged)
}

/// Decodes a field of arbitrary bytes.
pub(crate) fn bytes(field: Field<'_>) -> Result<Bytes, DecodeError> {
    Ok(field.to_bytes())
}

/// Decodes a field that is UTF-8.
pub(crate) fn text(field: Field<'_>) -> Result<Utf8, DecodeError> {
    str::from_utf8(field.bytes).map_err(|_| DecodeError::Damaged)?;
    Ok(Utf8(field.to_bytes()))
}

/// Encodes a time as milliseconds in 48 bits, which is enough until the year 10889. A later time is
/// encoded as the largest value.
pub(crate) fn timestamp(time: Timestamp) -> [u8; TIMESTAMP] {
    let [_, _, bytes @ ..] = time.as_millis().min((1 << 48) - 1).to_be_bytes();
    bytes
}

/// Decodes a field that is a time.
pub(crate) fn read_timestamp(mut field: Field<'_>) -> Result<Timestamp, DecodeError> {
    let time = field.take_timestamp()?;
    field.end()?;
    Ok(time)
}

fn checksum(key: &Key, tag: &ClaimTag, fields: &[u8]) -> [u8; CHECKSUM] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key.as_bytes());
    crc.update(tag.as_bytes());
    crc.update(fields);
    crc.finalize().to_be_bytes()
}

/// A UTF-8 string that shares the bytes from which it was parsed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Utf8(Bytes);

impl Utf8 {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Utf8 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Utf8 {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
