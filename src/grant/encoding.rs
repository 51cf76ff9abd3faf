//! Encodes and decodes the record of a grant, in the format of [`crate::codec`].

use bytes::Bytes;

use super::{Binding, Previous, Record};
use crate::codec::{DecodeError, Field, Fields, Writer, bytes, read_timestamp, text, timestamp};
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
const REVOCATION_PENDING: u8 = 11;
const ROTATED_AT: u8 = 12;
const AUTHORIZATION_END: u8 = 13;
const PRESENTED: u8 = 14;
const REPEAT_UNTIL: u8 = 15;
const AUTHENTICATED: u8 = 16;
const MINTED_AT: u8 = 17;
const PROFILE: u8 = 18;
const LISTED_UNTIL: u8 = 19;
const REVOCABLE: u8 = 20;

impl Record {
    pub fn encode(&self, key: &Key, tag: &ClaimTag) -> Bytes {
        let mut out = Writer::new(FORMAT);
        let Binding {
            client_id,
            scope,
            resources,
            absolute_end,
        } = &self.binding;
        out.put(CLIENT_ID, client_id.as_ref());
        out.put_all(SCOPE, scope);
        out.put_all(RESOURCE, resources);
        let times = [
            (CREATED_AT, Some(self.created_at)),
            (ROTATED_AT, self.rotated_at),
            (ABSOLUTE_END, *absolute_end),
            (UPSTREAM_END, self.upstream_end),
            (AUTHORIZATION_END, self.authorization_end),
            (EXPIRES_AT, Some(self.expires_at)),
            (REPEAT_UNTIL, self.repeat_until),
            (MINTED_AT, self.minted_at),
            (LISTED_UNTIL, self.listed_until),
        ];
        for (field, time) in times {
            out.put_all(field, time.map(timestamp));
        }
        out.put(GENERATION, &self.generation.to_be_bytes());
        out.put(SEALED, &self.sealed);
        out.put_all(PROFILE, &self.profile);
        out.put_all(REVOCABLE, &self.revocable);
        if let Some(Previous {
            hash,
            link,
            retry_until,
            shared_until,
            recover_until,
        }) = &self.previous
        {
            let link = link.as_deref().unwrap_or_default();
            let windows = [*retry_until, *shared_until, *recover_until].map(timestamp);
            out.put_parts(PREVIOUS, &[hash.as_bytes(), windows.as_flattened(), link]);
        }
        out.put_flag(PRESENTED, self.presented);
        out.put_flag(REVOCATION_PENDING, self.revocation_pending);
        out.put_flag(AUTHENTICATED, self.authenticated);
        for (field, bytes) in &self.unknown {
            out.put(*field, bytes);
        }
        out.finish(key, tag)
    }

    pub fn decode(key: &Key, tag: &ClaimTag, value: &Bytes) -> Result<Self, DecodeError> {
        read(&Fields::checked(FORMAT, key, tag, value)?)
    }
}

impl Binding {
    /// Decodes the part of a record that never changes, from the value of any of its versions. Does
    /// not check the checksum over key and tag.
    pub fn decode(value: &Bytes) -> Result<Self, DecodeError> {
        read(&Fields::unchecked(FORMAT, value)?).map(|record| record.binding)
    }
}

fn read(fields: &Fields<'_>) -> Result<Record, DecodeError> {
    Ok(Record {
        binding: Binding {
            client_id: fields.required(CLIENT_ID, text)?,
            scope: fields.optional(SCOPE, text)?,
            resources: fields.repeated(RESOURCE, text)?,
            absolute_end: fields.optional(ABSOLUTE_END, read_timestamp)?,
        },
        created_at: fields.required(CREATED_AT, read_timestamp)?,
        rotated_at: fields.optional(ROTATED_AT, read_timestamp)?,
        upstream_end: fields.optional(UPSTREAM_END, read_timestamp)?,
        authorization_end: fields.optional(AUTHORIZATION_END, read_timestamp)?,
        expires_at: fields.required(EXPIRES_AT, read_timestamp)?,
        generation: fields.required(GENERATION, read_generation)?,
        sealed: fields.required(SEALED, bytes)?,
        profile: fields.optional(PROFILE, bytes)?,
        revocable: fields.optional(REVOCABLE, bytes)?,
        previous: fields.optional(PREVIOUS, read_previous)?,
        presented: fields.flag(PRESENTED)?,
        repeat_until: fields.optional(REPEAT_UNTIL, read_timestamp)?,
        minted_at: fields.optional(MINTED_AT, read_timestamp)?,
        listed_until: fields.optional(LISTED_UNTIL, read_timestamp)?,
        revocation_pending: fields.flag(REVOCATION_PENDING)?,
        authenticated: fields.flag(AUTHENTICATED)?,
        unknown: fields.unknown(CLIENT_ID..=REVOCABLE),
    })
}

fn read_generation(mut field: Field<'_>) -> Result<u32, DecodeError> {
    let generation = u32::from_be_bytes(field.take()?);
    field.end()?;
    Ok(generation)
}

fn read_previous(mut field: Field<'_>) -> Result<Previous, DecodeError> {
    Ok(Previous {
        hash: ClaimTag::new(field.take()?),
        retry_until: field.take_timestamp()?,
        shared_until: field.take_timestamp()?,
        recover_until: field.take_timestamp()?,
        link: (!field.is_empty()).then(|| field.to_bytes()),
    })
}
