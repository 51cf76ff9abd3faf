//! The encoding of records. A record is `format ‖ checksum ‖ fields`, and a field is
//! `id ‖ length ‖ bytes`.
//!
//! The checksum, a CRC-32, also covers the key and the tag of the entry, so that a damaged value,
//! or the value of another entry, is never used for a decision. It does not protect against an
//! attacker who can write to the store; sealing does.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::fmt;
use std::iter;
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

    pub(crate) fn put_time(&mut self, field: u8, time: Timestamp) {
        self.put(field, &timestamp(time));
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

/// The fields of a record. A decoder takes each by its id.
pub(crate) struct Fields {
    bytes: Bytes,
    /// The places of the fields by id. `None` for an id that the record does not have.
    places: [Option<Place>; PLACES],
}

/// All ids that a decoder knows are below this number. Fields with other ids are
/// [unknown](Fields::unknown).
const PLACES: usize = 32;

/// The place of a field in the bytes of a record.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    len: u32,
    /// Whether the record has more fields with the same id. This is the first one.
    repeated: bool,
}

impl Fields {
    /// Returns the fields of a record, and checks its format and its checksum.
    pub(crate) fn checked(
        format: u8,
        key: &Key,
        tag: &ClaimTag,
        value: &Bytes,
    ) -> Result<Self, DecodeError> {
        let fields = Self::unchecked(format, value)?;
        if value[1..HEAD] != checksum(key, tag, &fields.bytes) {
            return Err(DecodeError::Damaged);
        }
        Ok(fields)
    }

    /// Returns the fields of a record, and checks its format and the lengths of the fields.
    pub(crate) fn unchecked(format: u8, value: &Bytes) -> Result<Self, DecodeError> {
        match value.first() {
            Some(&found) if found != format => return Err(DecodeError::Format(found)),
            _ if value.len() < HEAD => return Err(DecodeError::Damaged),
            _ => {}
        }
        let bytes = value.slice(HEAD..);
        let mut places = [None; PLACES];
        let mut rest = &bytes[..];
        while let Some((id, field)) = next(&mut rest)? {
            match places.get_mut(usize::from(id)) {
                Some(Some(Place { repeated, .. })) => *repeated = true,
                Some(place) => {
                    let start = bytes.len() - rest.len() - field.len();
                    *place = Some(Place {
                        start: u32::try_from(start).map_err(|_| DecodeError::Damaged)?,
                        len: u32::try_from(field.len()).map_err(|_| DecodeError::Damaged)?,
                        repeated: false,
                    });
                }
                None => {}
            }
        }
        Ok(Self { bytes, places })
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
        match self.place(id) {
            None => Ok(None),
            Some(place) if place.repeated => Err(DecodeError::Damaged),
            Some(Place { start, len, .. }) => {
                let start = start as usize;
                let bytes = self.bytes.get(start..start + len as usize);
                decode(self.field(bytes.ok_or(DecodeError::Damaged)?)).map(Some)
            }
        }
    }

    /// Decodes a field that the record may have any number of times.
    pub(crate) fn repeated<T>(
        &self,
        id: u8,
        decode: impl Fn(Field<'_>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        if self.place(id).is_none() {
            return Ok(Vec::new());
        }
        self.all()
            .filter(|(found, _)| *found == id)
            .map(|(_, bytes)| decode(self.field(bytes)))
            .collect()
    }

    /// Returns whether the record has a flag: a field without contents. Contents that a later
    /// version has written would be lost when the record is encoded again, so they are an error.
    pub(crate) fn flag(&self, id: u8) -> Result<bool, DecodeError> {
        let empty = |field: Field<'_>| match field.bytes {
            [] => Ok(()),
            _ => Err(DecodeError::Damaged),
        };
        Ok(self.optional(id, empty)?.is_some())
    }

    /// Returns the fields of later versions, whose ids are not `known`.
    pub(crate) fn unknown(&self, known: RangeInclusive<u8>) -> Vec<(u8, Bytes)> {
        self.all()
            .filter(|(id, _)| !known.contains(id))
            .map(|(id, bytes)| (id, self.field(bytes).to_bytes()))
            .collect()
    }

    /// Returns the place of the first field with this id.
    fn place(&self, id: u8) -> Option<Place> {
        let place = self.places.get(usize::from(id));
        debug_assert!(place.is_some(), "a field with the id {id} is never found");
        place.copied().flatten()
    }

    fn field<'a>(&'a self, bytes: &'a [u8]) -> Field<'a> {
        Field {
            bytes,
            record: &self.bytes,
        }
    }

    fn all(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.bytes[..];
        iter::from_fn(move || next(&mut rest).ok().flatten())
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
    Utf8::from_bytes(field.to_bytes()).ok_or(DecodeError::Damaged)
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
    match field.is_empty() {
        true => Ok(time),
        false => Err(DecodeError::Damaged),
    }
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
    /// Returns `None` if the bytes are not UTF-8.
    pub(crate) fn from_bytes(bytes: Bytes) -> Option<Self> {
        str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) const fn as_bytes(&self) -> &Bytes {
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
