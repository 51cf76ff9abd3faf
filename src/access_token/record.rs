//! [`AccessRecord`]: the stored form of a reference access token.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::access_token::renewable::Renewable;
use crate::clock::Timestamp;
use crate::codec::{DecodeError, Fields, Utf8, Writer, bytes, read_timestamp, text, timestamp};
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{ClaimTag, Entry, Key, StoreError, Version};
#[cfg(feature = "access")]
use crate::subject::Profile;
use crate::token::AccessToken;

/// The format byte. It differs from that of a grant, so that one is never decoded as the other.
const FORMAT: u8 = 65;

/// The tag of every access token entry. Access tokens are never claimed, so it carries no
/// information.
const TAG: ClaimTag = ClaimTag::new([2; 32]);

const CLIENT_ID: u8 = 1;
const SCOPE: u8 = 2;
const RESOURCE: u8 = 3;
const ISSUED_AT: u8 = 4;
const EXPIRES_AT: u8 = 5;
const GRANT: u8 = 6;
const SEALED: u8 = 7;
const REVOCATION_PENDING: u8 = 8;
const PROFILE: u8 = 9;
const RENEWABLE: u8 = 10;

/// The properties of an access token. They are fixed when it is issued, except what a renewal of
/// its upstream access token changes.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessRecord {
    pub client_id: Utf8,
    /// The granted scope, if known (RFC 6749 §3.3).
    pub scope: Option<Utf8>,
    /// The resources that it is valid for (RFC 8707). Empty if unknown.
    pub resources: Vec<Utf8>,
    pub(crate) issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether it ends with the grant that has its id.
    pub has_grant: bool,
    /// The upstream access token, sealed under this token.
    pub(crate) sealed: Bytes,
    /// The profile of the user, sealed under this token. `None` if the user is unknown.
    pub(crate) profile: Option<Bytes>,
    /// The means to renew the upstream access token. `None` if the layer does not renew it.
    pub(crate) renewable: Option<Renewable>,
    /// Whether its revocation is pending: revoked here, not yet confirmed by the inner service.
    pub revocation_pending: bool,
    /// Fields of later versions, which are kept when the record is written again.
    pub(crate) unknown: Vec<(u8, Bytes)>,
}

impl AccessRecord {
    /// Encodes the record as the entry for `key`.
    pub fn entry(&self, key: &Key, version: Version) -> Entry {
        let mut out = Writer::new(FORMAT);
        out.put(CLIENT_ID, self.client_id.as_ref());
        out.put_all(SCOPE, &self.scope);
        out.put_all(RESOURCE, &self.resources);
        out.put(ISSUED_AT, &timestamp(self.issued_at));
        out.put(EXPIRES_AT, &timestamp(self.expires_at));
        out.put_flag(GRANT, self.has_grant);
        out.put(SEALED, &self.sealed);
        out.put_all(PROFILE, &self.profile);
        if let Some(renewable) = &self.renewable {
            renewable.put(RENEWABLE, &mut out);
        }
        out.put_flag(REVOCATION_PENDING, self.revocation_pending);
        for (field, bytes) in &self.unknown {
            out.put(*field, bytes);
        }
        Entry::new(version, TAG, out.finish(key, &TAG))
    }

    /// Decodes the entry that was stored under `key`.
    pub fn decode(key: &Key, entry: &Entry) -> Result<Self, DecodeError> {
        let fields = Fields::checked(FORMAT, key, &entry.tag, &entry.value)?;
        Ok(Self {
            client_id: fields.required(CLIENT_ID, text)?,
            scope: fields.optional(SCOPE, text)?,
            resources: fields.repeated(RESOURCE, text)?,
            issued_at: fields.required(ISSUED_AT, read_timestamp)?,
            expires_at: fields.required(EXPIRES_AT, read_timestamp)?,
            has_grant: fields.flag(GRANT)?,
            sealed: fields.required(SEALED, bytes)?,
            profile: fields.optional(PROFILE, bytes)?,
            renewable: fields.optional(RENEWABLE, Renewable::read)?,
            revocation_pending: fields.flag(REVOCATION_PENDING)?,
            unknown: fields.unknown(CLIENT_ID..=RENEWABLE),
        })
    }

    /// Returns the record with a pending revocation. It is kept until `until`, or until the token
    /// expires, so that the client can repeat the revocation.
    pub(crate) fn with_pending_revocation(mut self, until: Timestamp) -> Self {
        self.revocation_pending = true;
        self.expires_at = self.expires_at.min(until);
        self
    }

    /// Returns the time to live of the entry: the rest of the token's lifetime, at least a
    /// millisecond.
    pub(crate) fn time_to_live(&self, now: Timestamp) -> Duration {
        self.expires_at
            .saturating_since(now)
            .max(Duration::from_millis(1))
    }

    /// Opens what is known about the user. `key` is the key of the token.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the sealed value cannot be opened.
    #[cfg(feature = "access")]
    pub(crate) fn open_profile(
        &self,
        token: &AccessToken,
        key: &Key,
    ) -> Result<Option<Profile>, StoreError> {
        let Some(sealed) = &self.profile else {
            return Ok(None);
        };
        let context = Context {
            purpose: Purpose::Profile,
            key,
            client_id: self.client_id.as_str(),
        };
        Profile::open(&Sealer::new(token.secret()), context, sealed)
            .map(Some)
            .map_err(StoreError::corrupt)
    }

    /// Opens the sealed upstream access token. `key` is the key of the token.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the sealed value cannot be opened.
    pub(crate) fn unseal(
        &self,
        token: &AccessToken,
        key: &Key,
    ) -> Result<Zeroizing<String>, StoreError> {
        let context = Context {
            purpose: Purpose::Access,
            key,
            client_id: self.client_id.as_str(),
        };
        Sealer::new(token.secret())
            .open_text(context, &[], &self.sealed)
            .map_err(StoreError::corrupt)
    }
}

redacted_debug!(self: AccessRecord {
    client_id, scope, resources, expires_at, has_grant, revocation_pending,
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key::new([9; 32]);
    const VERSION: Version = Version::new([1; 8]);

    fn record() -> AccessRecord {
        AccessRecord {
            client_id: "app".into(),
            scope: Some("read write".into()),
            resources: vec!["https://one.example/".into(), "https://two.example/".into()],
            issued_at: Timestamp::from_millis(1_000),
            expires_at: Timestamp::from_millis(3_601_000),
            has_grant: true,
            sealed: Bytes::from_static(b"sealed"),
            profile: Some(Bytes::from_static(b"profile")),
            renewable: Some(Renewable::new(
                Timestamp::from_millis(1_000),
                Duration::from_secs(60),
                Duration::from_secs(3600),
                Bytes::from_static(b"refresh"),
            )),
            revocation_pending: false,
            unknown: vec![(77, Bytes::from_static(b"of a later version"))],
        }
    }

    #[test]
    fn a_record_survives_a_round_trip() {
        let bare = AccessRecord {
            scope: None,
            resources: Vec::new(),
            has_grant: false,
            profile: None,
            renewable: None,
            unknown: Vec::new(),
            ..record()
        };
        for record in [
            record(),
            bare,
            record().with_pending_revocation(Timestamp::from_millis(5_000)),
        ] {
            assert_eq!(
                AccessRecord::decode(&KEY, &record.entry(&KEY, VERSION)).unwrap(),
                record
            );
        }
    }

    #[test]
    fn a_flag_with_a_value_is_rejected() {
        for flag in [GRANT, REVOCATION_PENDING] {
            let unknown = vec![(flag, Bytes::from_static(b"later"))];
            let entry = AccessRecord {
                has_grant: false,
                unknown,
                ..record()
            }
            .entry(&KEY, VERSION);
            assert_eq!(
                AccessRecord::decode(&KEY, &entry),
                Err(DecodeError::Damaged),
                "field {flag}"
            );
        }
    }

    #[test]
    fn a_pending_revocation_never_extends_the_lifetime() {
        let expiry = |until| {
            record()
                .with_pending_revocation(Timestamp::from_millis(until))
                .expires_at
                .as_millis()
        };
        assert_eq!((expiry(5_000), expiry(9_000_000)), (5_000, 3_601_000));
    }

    #[test]
    fn entries_of_another_key_tag_or_format_are_rejected() {
        let entry = record().entry(&KEY, VERSION);
        let other_key = AccessRecord::decode(&Key::new([8; 32]), &entry);
        let other_tag = AccessRecord::decode(
            &KEY,
            &Entry::new(VERSION, ClaimTag::new([3; 32]), entry.value.clone()),
        );
        assert_eq!(
            (other_key, other_tag),
            (Err(DecodeError::Damaged), Err(DecodeError::Damaged))
        );
        let grant = Entry::new(VERSION, TAG, Writer::new(1).finish(&KEY, &TAG));
        assert_eq!(
            AccessRecord::decode(&KEY, &grant),
            Err(DecodeError::Format(1))
        );
        assert_eq!(
            crate::grant::Record::decode(&KEY, &TAG, &entry.value),
            Err(DecodeError::Format(FORMAT))
        );
    }

    proptest! {
        #[test]
        fn a_damaged_entry_is_rejected(at in any::<prop::sample::Index>(), flip in 1..=u8::MAX, cut in any::<bool>()) {
            let mut entry = record().entry(&KEY, VERSION);
            let mut bytes = entry.value.to_vec();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            entry.value = bytes.into();
            prop_assert!(AccessRecord::decode(&KEY, &entry).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_rejected(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let entry = Entry::new(VERSION, TAG, bytes.into());
            prop_assert!(AccessRecord::decode(&KEY, &entry).is_err());
        }
    }
}
