//! The index: one entry of the store for each user, with the sessions of that user. With
//! [`provider_sessions`](crate::RefreshLayerBuilder::provider_sessions) there is also one for each
//! session at the identity provider.
//!
//! Its key and the key that seals it are derived from the subject, or from the issuer and the
//! `sid`. So a dump of the store neither names a user nor says that two grants belong to the same
//! one, unless an attacker guesses these. With
//! [`subject_key`](crate::RefreshLayerBuilder::subject_key), a guess is not enough.

use bytes::{Buf as _, BufMut as _, Bytes};
use hkdf::Hkdf;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::codec::{DecodeError, Fields, Writer, bytes};
use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer, Secret, expand};
use crate::store::{ClaimTag, Entry, Key, Version};
use crate::subject::{Subject, SubjectKey};

const FORMAT: u8 = 67;
const TAG: ClaimTag = ClaimTag::new([4; 32]);
/// The sessions, as earlier versions wrote them: without `sid`.
const SEALED_WITHOUT_SID: u8 = 1;
const SEALED: u8 = 2;

const KEY_INFO: &[u8] = b"tower-oauth-refresh v1 sessions key";
const SEAL_INFO: &[u8] = b"tower-oauth-refresh v1 sessions seal";

/// The sessions of one user, or of one session at the identity provider, in the store.
pub(crate) struct Index {
    pub(crate) key: Key,
    sealer: Sealer,
}

/// One session in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The key of the grant.
    pub(crate) grant: Key,
    pub(crate) created_at: Timestamp,
    /// The time until which it is listed. A grant that is used longer is listed again.
    pub(crate) until: Timestamp,
    /// The label, or an empty text.
    pub(crate) label: Box<str>,
    /// The `sid` of the ID token, or an empty text.
    pub(crate) sid: Box<str>,
}

impl Index {
    /// Returns the index of a user.
    pub(crate) fn of(subject: &Subject, subject_key: Option<&SubjectKey>) -> Self {
        let issuer = subject.issuer();
        Self::derived(issuer.is_some().into(), issuer, subject.id(), subject_key)
    }

    /// Returns the index of a session at an identity provider.
    pub(crate) fn of_sid(issuer: &str, sid: &str, subject_key: Option<&SubjectKey>) -> Self {
        Self::derived(2, Some(issuer), sid, subject_key)
    }

    /// Derives an index from an encoded name. `kind` and the length keep the encodings of two
    /// names apart.
    fn derived(kind: u8, issuer: Option<&str>, id: &str, subject_key: Option<&SubjectKey>) -> Self {
        let mut text = Zeroizing::new(vec![kind]);
        if let Some(issuer) = issuer {
            text.put_u64(issuer.len() as u64);
            text.put_slice(issuer.as_bytes());
        }
        text.put_slice(id.as_bytes());
        let derived = Hkdf::new(subject_key.map(SubjectKey::as_bytes), &text);
        Self {
            key: Key::new(*expand(&derived, KEY_INFO)),
            sealer: Sealer::new(Secret::new(&expand(&derived, SEAL_INFO))),
        }
    }

    /// Returns the entry with these sessions.
    pub(crate) fn entry(
        &self,
        sessions: &[Listed],
        nonce: SealNonce,
        version: Version,
    ) -> Result<Entry, SealError> {
        let mut text = Zeroizing::new(Vec::new());
        for session in sessions {
            text.put_slice(session.grant.as_bytes());
            text.put_u64(session.created_at.as_millis());
            text.put_u64(session.until.as_millis());
            for part in [&session.label, &session.sid] {
                text.put_u8(part.len() as u8);
                text.put_slice(part.as_bytes());
            }
        }
        let sealed = self.sealer.seal(nonce, self.context(), &[], &text)?;
        let mut out = Writer::new(FORMAT);
        out.put(SEALED, &sealed);
        Ok(Entry::new(version, TAG, out.finish(&self.key, &TAG)))
    }

    /// Returns the sessions in this entry.
    pub(crate) fn open(&self, entry: &Entry) -> Result<Vec<Listed>, DecodeError> {
        let fields = Fields::checked(FORMAT, &self.key, &entry.tag, &entry.value)?;
        let sealed: Option<Bytes> = fields.optional(SEALED, bytes)?;
        let has_sid = sealed.is_some();
        let sealed = match sealed {
            Some(sealed) => sealed,
            None => fields.required(SEALED_WITHOUT_SID, bytes)?,
        };
        let text = self.sealer.open(self.context(), &[], &sealed);
        let text = text.map_err(|_| DecodeError::Damaged)?;
        let mut rest = &text[..];
        let mut sessions = Vec::new();
        while rest.has_remaining() {
            let session = listed(&mut rest, has_sid).ok_or(DecodeError::Damaged)?;
            sessions.push(session);
        }
        Ok(sessions)
    }

    fn context(&self) -> Context<'_> {
        Context::new(Purpose::Sessions, &self.key, "")
    }
}

fn listed(rest: &mut &[u8], has_sid: bool) -> Option<Listed> {
    let mut grant = [0; 32];
    rest.try_copy_to_slice(&mut grant).ok()?;
    let created_at = Timestamp::from_millis(rest.try_get_u64().ok()?);
    let until = Timestamp::from_millis(rest.try_get_u64().ok()?);
    let mut text = || {
        let len = rest.try_get_u8().ok()?.into();
        std::str::from_utf8(rest.split_off(..len)?).ok()
    };
    let label = text()?;
    let sid = if has_sid { text()? } else { "" };
    Some(Listed {
        grant: Key::new(grant),
        created_at,
        until,
        label: label.into(),
        sid: sid.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8, label: &str, sid: &str) -> Listed {
        Listed {
            grant: Key::new([number; 32]),
            created_at: Timestamp::from_millis(1_000),
            until: Timestamp::from_millis(2_000),
            label: label.into(),
            sid: sid.into(),
        }
    }

    #[test]
    fn an_index_of_an_earlier_version_has_no_sid() {
        let index = Index::of(&Subject::new("ann").unwrap(), None);
        let sessions = vec![session(1, "phone", ""), session(2, "", "")];
        let mut text = Vec::new();
        for session in &sessions {
            text.put_slice(session.grant.as_bytes());
            text.put_u64(session.created_at.as_millis());
            text.put_u64(session.until.as_millis());
            text.put_u8(session.label.len() as u8);
            text.put_slice(session.label.as_bytes());
        }
        let sealed = index.sealer.seal([9; 12], index.context(), &[], &text);
        let mut out = Writer::new(FORMAT);
        out.put(SEALED_WITHOUT_SID, &sealed.unwrap());
        let entry = Entry::new(Version::new([1; 8]), TAG, out.finish(&index.key, &TAG));
        assert_eq!(index.open(&entry).unwrap(), sessions);
    }

    #[test]
    fn only_the_subject_finds_and_opens_an_index() {
        let ann = || Subject::with_issuer("https://id.example", "ann").unwrap();
        let key = SubjectKey::new([7; 32]);
        let index = Index::of(&ann(), None);
        let sessions = vec![session(1, "phone", "s-1"), session(2, "", "")];
        let entry = index
            .entry(&sessions, [9; 12], Version::new([1; 8]))
            .unwrap();
        assert_eq!(Index::of(&ann(), None).open(&entry).unwrap(), sessions);
        let others = [
            Index::of(&Subject::new("ann").unwrap(), None),
            Index::of(
                &Subject::with_issuer("https://id.exampl", "eann").unwrap(),
                None,
            ),
            Index::of(&ann(), Some(&key)),
            Index::of_sid("https://id.example", "ann", None),
        ];
        for other in others {
            assert_ne!(other.key, index.key);
            assert!(other.open(&entry).is_err());
        }
        let found = |needle: &[u8]| entry.value.windows(needle.len()).any(|part| part == needle);
        assert!(!found(b"ann") && !found(b"phone") && !found(b"s-1") && !found(&[1; 32]));
    }
}
