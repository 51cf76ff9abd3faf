//! Encodes and decodes the record of a grant, in the format of [`crate::codec`].

use bytes::{Buf as _, Bytes};

use super::{Binding, Previous, Record};
use crate::clock::Timestamp;
use crate::codec::{
    DecodeError, TIMESTAMP, Writer, checked, flag, next, once, read_timestamp, split, text,
    timestamp,
};
use crate::store::{ClaimTag, Key};

const FORMAT: u8 = 1;

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
const ROTATED_AT: u8 = 12;

impl Record {
    pub(crate) fn encode(&self, key: &Key, tag: &ClaimTag) -> Bytes {
        let mut out = Writer::new(FORMAT);
        let Binding {
            client_id,
            scope,
            resources,
            absolute_end,
        } = &self.binding;
        out.put(CLIENT_ID, client_id.as_bytes());
        if let Some(scope) = scope {
            out.put(SCOPE, scope.as_bytes());
        }
        for resource in resources {
            out.put(RESOURCE, resource.as_bytes());
        }
        let times = [
            (CREATED_AT, Some(self.created_at)),
            (ROTATED_AT, self.rotated_at),
            (ABSOLUTE_END, *absolute_end),
            (UPSTREAM_END, self.upstream_end),
            (EXPIRES_AT, Some(self.expires_at)),
        ];
        for (field, time) in times {
            if let Some(time) = time {
                out.put_time(field, time);
            }
        }
        out.put(GENERATION, &self.generation.to_be_bytes());
        out.put(SEALED, &self.sealed);
        if let Some(Previous {
            hash,
            retry_until,
            recover_until,
            sealed,
        }) = &self.previous
        {
            let sealed = sealed.as_deref().unwrap_or_default();
            let windows = [timestamp(*retry_until), timestamp(*recover_until)];
            out.put_parts(PREVIOUS, &[hash.as_bytes(), windows.as_flattened(), sealed]);
        }
        if self.ended {
            out.put(ENDED, &[]);
        }
        for (field, bytes) in &self.unknown {
            out.put(*field, bytes);
        }
        out.finish(key, tag)
    }

    pub(crate) fn decode(key: &Key, tag: &ClaimTag, value: &Bytes) -> Result<Self, DecodeError> {
        read(checked(FORMAT, key, tag, value)?)
    }
}

impl Binding {
    /// Decodes the part of a record that never changes, from the value of any of its versions. Does
    /// not check the checksum over key and tag.
    pub(crate) fn decode(value: &Bytes) -> Result<Self, DecodeError> {
        let (_, fields) = split(FORMAT, value)?;
        read(fields).map(|record| record.binding)
    }
}

fn read(mut fields: Bytes) -> Result<Record, DecodeError> {
    let mut client_id = None;
    let mut scope = None;
    let mut resources = Vec::new();
    let mut created_at = None;
    let mut rotated_at = None;
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
            ROTATED_AT => once(&mut rotated_at, read_timestamp(&bytes)?)?,
            ABSOLUTE_END => once(&mut absolute_end, read_timestamp(&bytes)?)?,
            UPSTREAM_END => once(&mut upstream_end, read_timestamp(&bytes)?)?,
            EXPIRES_AT => once(&mut expires_at, read_timestamp(&bytes)?)?,
            GENERATION => {
                let bytes = bytes[..].try_into().map_err(|_| DecodeError::Damaged)?;
                once(&mut generation, u32::from_be_bytes(bytes))?;
            }
            SEALED => once(&mut sealed, bytes)?,
            PREVIOUS => once(&mut previous, read_previous(bytes)?)?,
            ENDED => once(&mut ended, flag(&bytes)?)?,
            field => unknown.push((field, bytes)),
        }
    }
    Ok(Record {
        binding: Binding {
            client_id: client_id.ok_or(DecodeError::Damaged)?,
            scope,
            resources,
            absolute_end,
        },
        created_at: created_at.ok_or(DecodeError::Damaged)?,
        rotated_at,
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
    bytes
        .try_copy_to_slice(&mut hash)
        .map_err(|_| DecodeError::Damaged)?;
    let mut time = || {
        bytes
            .try_get_uint(TIMESTAMP)
            .map(Timestamp::from_millis)
            .map_err(|_| DecodeError::Damaged)
    };
    let (retry_until, recover_until) = (time()?, time()?);
    let sealed = Some(bytes).filter(|bytes| !bytes.is_empty());
    Ok(Previous {
        hash: ClaimTag::new(hash),
        retry_until,
        recover_until,
        sealed,
    })
}
