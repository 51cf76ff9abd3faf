//! A record as bytes: `format ‖ checksum ‖ fields`, a field being `id ‖ length ‖ bytes`.
//!
//! The checksum covers the key and the tag of the entry too, so that no damage and no mix-up is taken for a decision. It
//! is no protection against whoever can write to the store; sealing is.

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};

use super::{Binding, Previous, Record, Utf8};
use crate::clock::Timestamp;
use crate::store::{Key, Tag};

const FORMAT: u8 = 1;
const CHECKSUM: usize = 4;
const HEAD: usize = 1 + CHECKSUM;
const TIMESTAMP: usize = 6;

const CLIENT_ID: u8 = 1;
const SCOPE: u8 = 2;
const RESOURCE: u8 = 3;
const CREATED_AT: u8 = 4;
const ABSOLUTE_END: u8 = 5;
const UPSTREAM_END: u8 = 6;
const EXPIRES_AT: u8 = 7;
const GENERATION: u8 = 8;
const SEALED: u8 = 9;
const PREVIOUS: u8 = 10;
const ENDED: u8 = 11;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the record is of format {0}, which this version does not know")]
    Format(u8),
    #[error("the record is damaged")]
    Damaged,
}

impl Record {
    pub(crate) fn encode(&self, key: &Key, tag: &Tag) -> Bytes {
        let mut out = Vec::with_capacity(512);
        out.push(FORMAT);
        out.extend_from_slice(&[0; CHECKSUM]);
        let Binding { client_id, scope, resources, absolute_end } = &self.binding;
        put(&mut out, CLIENT_ID, client_id.as_bytes());
        if let Some(scope) = scope {
            put(&mut out, SCOPE, scope.as_bytes());
        }
        for resource in resources {
            put(&mut out, RESOURCE, resource.as_bytes());
        }
        let times = [
            (CREATED_AT, Some(self.created_at)),
            (ABSOLUTE_END, *absolute_end),
            (UPSTREAM_END, self.upstream_end),
            (EXPIRES_AT, Some(self.expires_at)),
        ];
        for (field, time) in times {
            if let Some(time) = time {
                put(&mut out, field, &timestamp(time));
            }
        }
        put(&mut out, GENERATION, &self.generation.to_be_bytes());
        put(&mut out, SEALED, &self.sealed);
        if let Some(Previous { hash, retry_until, recover_until, sealed }) = &self.previous {
            let sealed = sealed.as_deref().unwrap_or_default();
            put_len(&mut out, PREVIOUS, hash.as_bytes().len() + 2 * TIMESTAMP + sealed.len());
            out.extend_from_slice(hash.as_bytes());
            out.extend_from_slice(&timestamp(*retry_until));
            out.extend_from_slice(&timestamp(*recover_until));
            out.extend_from_slice(sealed);
        }
        if self.ended {
            put(&mut out, ENDED, &[]);
        }
        for (field, bytes) in &self.unknown {
            put(&mut out, *field, bytes);
        }
        let sum = checksum(key, tag, &out[HEAD..]);
        out[1..HEAD].copy_from_slice(&sum);
        out.into()
    }

    pub(crate) fn decode(key: &Key, tag: &Tag, value: &Bytes) -> Result<Self, DecodeError> {
        let (head, fields) = split(value)?;
        if head[..] != checksum(key, tag, &fields) {
            return Err(DecodeError::Damaged);
        }
        read(fields)
    }
}

impl Binding {
    /// The part of a record that never changes, from any version of its value.
    pub(crate) fn decode(value: &Bytes) -> Result<Self, DecodeError> {
        let (_, fields) = split(value)?;
        read(fields).map(|record| record.binding)
    }
}

fn split(value: &Bytes) -> Result<(Bytes, Bytes), DecodeError> {
    match value.first() {
        None => Err(DecodeError::Damaged),
        Some(&FORMAT) if value.len() >= HEAD => Ok((value.slice(1..HEAD), value.slice(HEAD..))),
        Some(&FORMAT) => Err(DecodeError::Damaged),
        Some(&format) => Err(DecodeError::Format(format)),
    }
}

fn read(mut fields: Bytes) -> Result<Record, DecodeError> {
    let mut client_id = None;
    let mut scope = None;
    let mut resources = Vec::new();
    let mut created_at = None;
    let mut absolute_end = None;
    let mut upstream_end = None;
    let mut expires_at = None;
    let mut generation = None;
    let mut sealed = None;
    let mut previous = None;
    let mut ended = None;
    let mut unknown = Vec::new();
    while let Some((field, bytes)) = next(&mut fields)? {
        match field {
            CLIENT_ID => once(&mut client_id, text(bytes)?)?,
            SCOPE => once(&mut scope, text(bytes)?)?,
            RESOURCE => resources.push(text(bytes)?),
            CREATED_AT => once(&mut created_at, read_timestamp(&bytes)?)?,
            ABSOLUTE_END => once(&mut absolute_end, read_timestamp(&bytes)?)?,
            UPSTREAM_END => once(&mut upstream_end, read_timestamp(&bytes)?)?,
            EXPIRES_AT => once(&mut expires_at, read_timestamp(&bytes)?)?,
            GENERATION => {
                let bytes = bytes[..].try_into().map_err(|_| DecodeError::Damaged)?;
                once(&mut generation, u32::from_be_bytes(bytes))?;
            }
            SEALED => once(&mut sealed, bytes)?,
            PREVIOUS => once(&mut previous, read_previous(bytes)?)?,
            ENDED => once(&mut ended, ())?,
            field => unknown.push((field, bytes)),
        }
    }
    Ok(Record {
        binding: Binding { client_id: client_id.ok_or(DecodeError::Damaged)?, scope, resources, absolute_end },
        created_at: created_at.ok_or(DecodeError::Damaged)?,
        upstream_end,
        expires_at: expires_at.ok_or(DecodeError::Damaged)?,
        generation: generation.ok_or(DecodeError::Damaged)?,
        sealed: sealed.ok_or(DecodeError::Damaged)?,
        previous,
        ended: ended.is_some(),
        unknown,
    })
}

fn read_previous(mut bytes: Bytes) -> Result<Previous, DecodeError> {
    let mut hash = [0; 32];
    bytes.try_copy_to_slice(&mut hash).map_err(|_| DecodeError::Damaged)?;
    let mut time = || bytes.try_get_uint(TIMESTAMP).map(Timestamp::from_millis).map_err(|_| DecodeError::Damaged);
    let (retry_until, recover_until) = (time()?, time()?);
    let sealed = Some(bytes).filter(|bytes| !bytes.is_empty());
    Ok(Previous { hash: Tag::new(hash), retry_until, recover_until, sealed })
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::Damaged),
    }
}

fn text(bytes: Bytes) -> Result<Utf8, DecodeError> {
    Utf8::from_bytes(bytes).ok_or(DecodeError::Damaged)
}

/// Milliseconds in 48 bits, enough until the year 10889; later is never.
fn timestamp(time: Timestamp) -> [u8; TIMESTAMP] {
    let [_, _, bytes @ ..] = time.as_millis().min((1 << 48) - 1).to_be_bytes();
    bytes
}

fn read_timestamp(mut bytes: &[u8]) -> Result<Timestamp, DecodeError> {
    if bytes.len() != TIMESTAMP {
        return Err(DecodeError::Damaged);
    }
    Ok(Timestamp::from_millis(bytes.get_uint(TIMESTAMP)))
}

fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_len(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// The length in groups of seven bits, the lowest first, each but the last with the high bit set.
fn put_len(out: &mut Vec<u8>, field: u8, mut len: usize) {
    out.push(field);
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn next(fields: &mut Bytes) -> Result<Option<(u8, Bytes)>, DecodeError> {
    let Ok(field) = fields.try_get_u8() else { return Ok(None) };
    let mut len = 0_usize;
    for shift in [0, 7, 14, 21] {
        let byte = fields.try_get_u8().map_err(|_| DecodeError::Damaged)?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if len > fields.len() {
                return Err(DecodeError::Damaged);
            }
            return Ok(Some((field, fields.split_to(len))));
        }
    }
    Err(DecodeError::Damaged)
}

fn checksum(key: &Key, tag: &Tag, fields: &[u8]) -> [u8; CHECKSUM] {
    let digest =
        Sha256::new().chain_update(key.as_bytes()).chain_update(tag.as_bytes()).chain_update(fields).finalize();
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest[..CHECKSUM]);
    sum
}
