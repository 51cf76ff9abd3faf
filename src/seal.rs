//! Seals values so that the store cannot read them: only a token opens them.
//!
//! The key is derived from the secret of the token that the client holds, by the expand step of
//! HKDF-SHA-256 (RFC 5869 §2.3). The secret is uniformly random, so the extract step is not needed
//! (RFC 5869 §3.3). The cipher is AES-256-GCM with a random nonce. One token seals a few messages
//! for each call of the inner service, far less than the 2^32 that are allowed for one key (NIST SP
//! 800-38D §8.3).

use std::mem;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use bytes::BufMut as _;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::store::Key;

const NONCE: usize = 12;
const TAG: usize = 16;
const INFO: &[u8] = b"tower-oauth-refresh v1 seal";

/// The number of bytes that sealing adds to a message.
pub(crate) const OVERHEAD: usize = NONCE + TAG;

/// The random nonce of one sealed message.
pub(crate) type SealNonce = [u8; NONCE];

/// 32 uniformly random bytes that a client holds and the store does not.
#[derive(Clone, Copy)]
pub(crate) struct Secret<'a>(&'a [u8; 32]);

impl<'a> Secret<'a> {
    pub(crate) const fn new(bytes: &'a [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        self.0
    }
}

/// The purpose, the grant and the client of a message. They are authenticated with it, so a message
/// cannot be opened in place of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) key: &'a Key,
    pub(crate) client_id: &'a str,
}

impl<'a> Context<'a> {
    pub(crate) const fn new(purpose: Purpose, key: &'a Key, client_id: &'a str) -> Self {
        Self {
            purpose,
            key,
            client_id,
        }
    }

    /// Returns the context of a message with another purpose.
    pub(crate) const fn with(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }
}

/// The purpose of a sealed message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The upstream token, sealed for the current token.
    Current = 1,
    /// The generation and the secret of a newer token, sealed for an older one.
    Link = 2,
    /// A stored answer, for a client that repeats its request.
    Replay = 3,
    /// The upstream access token, sealed for the reference access token.
    Access = 4,
    /// The profile of the user, sealed for the current token or the reference access token.
    Profile = 5,
    /// The sessions of a user, sealed with a key that is derived from the subject.
    Sessions = 6,
    /// A refresh token of the grant, sealed for a reference access token.
    RefreshToken = 7,
    /// The upstream token, sealed with a key that is derived from the revocation key.
    Revocation = 8,
}

/// Seals and opens messages with the key of one secret.
// Boxed because the key schedule takes a kilobyte, which would be moved with every future that
// contains it.
pub(crate) struct Sealer(Box<Aes256Gcm>);

impl Sealer {
    pub(crate) fn new(secret: Secret<'_>) -> Self {
        Self(Box::new(cipher(secret)))
    }

    /// Seals `message`. `context` and `extra` are authenticated with it.
    pub(crate) fn seal(
        &self,
        nonce: SealNonce,
        context: Context<'_>,
        extra: &[&[u8]],
        message: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        self.seal_parts(nonce, context, extra, &[message])
    }

    /// Seals the concatenation of `parts` without an intermediate copy.
    pub(crate) fn seal_parts(
        &self,
        nonce: SealNonce,
        context: Context<'_>,
        extra: &[&[u8]],
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, SealError> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut sealed = Vec::with_capacity(len + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        for part in parts {
            sealed.extend_from_slice(part);
        }
        let (_, text) = sealed.split_at_mut(NONCE);
        let tag = with_associated_data(context, extra, |data| {
            self.0
                .encrypt_inout_detached(&Nonce::from(nonce), data, text.into())
        });
        let tag = tag.map_err(|_| SealError)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens a message that was sealed with the same secret, context and `extra`.
    pub(crate) fn open(
        &self,
        context: Context<'_>,
        extra: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        decrypt(&self.0, &[], context, extra, sealed)
    }

    /// Opens a text, like [`open`](Self::open). Returns an error if the message is not UTF-8.
    pub(crate) fn open_text(
        &self,
        context: Context<'_>,
        extra: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, SealError> {
        let mut message = self.open(context, extra, sealed)?;
        String::from_utf8(mem::take(&mut *message))
            .map(Zeroizing::new)
            .map_err(|_| SealError)
    }
}

redacted_debug!(self: Sealer);

/// Opens a message that was sealed with this secret and context, and appends it to `lead`. Makes
/// one allocation of the exact size.
#[cfg_attr(
    not(feature = "access"),
    allow(dead_code, reason = "used by `AccessLayer`")
)]
pub(crate) fn open_behind(
    lead: &[u8],
    secret: Secret<'_>,
    context: Context<'_>,
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    decrypt(&cipher(secret), lead, context, &[], sealed).map(|mut whole| mem::take(&mut *whole))
}

fn cipher(secret: Secret<'_>) -> Aes256Gcm {
    let derived = Hkdf::from_prk(secret.0)
        .expect("32 bytes are long enough as a pseudorandom key of SHA-256");
    Aes256Gcm::new((&*expand(&derived, INFO)).into())
}

/// Returns the key that HKDF derives for `info` (RFC 5869 §2.3).
pub(crate) fn expand(derived: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    derived
        .expand(info, &mut *key)
        .expect("HKDF can expand to 32 bytes");
    key
}

/// Opens a message and appends it to `lead`.
fn decrypt(
    cipher: &Aes256Gcm,
    lead: &[u8],
    context: Context<'_>,
    extra: &[&[u8]],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(SealError)?;
    let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError)?;
    let mut whole = Zeroizing::new([lead, text].concat());
    let (_, text) = whole.split_at_mut(lead.len());
    let opened = with_associated_data(context, extra, |data| {
        cipher.decrypt_inout_detached(&Nonce::from(*nonce), data, text.into(), &Tag::from(*tag))
    });
    opened.map_err(|_| SealError)?;
    Ok(whole)
}

/// Calls `then` with the associated data. Every part is preceded by its length, so that two
/// different lists of parts never have the same encoding. Short data is kept on the stack.
fn with_associated_data<T>(
    context: Context<'_>,
    extra: &[&[u8]],
    then: impl FnOnce(&[u8]) -> T,
) -> T {
    const ROOM: usize = 256;
    let own = [&context.key.as_bytes()[..], context.client_id.as_bytes()];
    let parts = || own.iter().chain(extra);
    let len = parts().map(|part| part.len() + 8).sum::<usize>() + 1;
    let mut room = [0; ROOM];
    let mut heap = Vec::new();
    let data = match room.get_mut(..len) {
        Some(data) => data,
        None => {
            heap.resize(len, 0);
            &mut heap[..]
        }
    };
    let mut rest = &mut *data;
    rest.put_u8(context.purpose as u8);
    for part in parts() {
        rest.put_u64(part.len() as u64);
        rest.put_slice(part);
    }
    let result = then(data);
    // Erases only the part in use, because erasing is slow.
    data.zeroize();
    result
}

/// The error for a message that cannot be opened: it has another secret or context, or is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to open a sealed value: wrong secret or context, or damaged")]
pub(crate) struct SealError;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::new([1; 32]);
    const CONTEXT: Context<'_> = Context {
        purpose: Purpose::Replay,
        key: &KEY,
        client_id: "app",
    };

    fn sealer(secret: u8) -> Sealer {
        Sealer::new(Secret::new(&[secret; 32]))
    }

    #[test]
    fn a_sealed_message_can_be_opened() {
        for message in [b"".as_slice(), b"token", &[0; 70_000]] {
            let sealed = sealer(1)
                .seal([9; NONCE], CONTEXT, &[b"x"], message)
                .unwrap();
            assert_eq!(sealed.len(), message.len() + OVERHEAD);
            assert_eq!(*sealer(1).open(CONTEXT, &[b"x"], &sealed).unwrap(), message);

            let long = "c".repeat(512);
            let context = Context {
                purpose: Purpose::Access,
                client_id: &long,
                ..CONTEXT
            };
            let sealed = sealer(1).seal([9; NONCE], context, &[], message).unwrap();
            let opened = open_behind(b"Bearer ", Secret::new(&[1; 32]), context, &sealed).unwrap();
            assert_eq!(opened, [b"Bearer ", message].concat());
            assert_eq!(
                open_behind(b"", Secret::new(&[2; 32]), context, &sealed),
                Err(SealError)
            );
        }
    }

    #[test]
    fn only_the_same_secret_context_and_extra_open_a_message() {
        let sealed = sealer(1)
            .seal([9; NONCE], CONTEXT, &[b"ab", b"c"], b"token")
            .unwrap();
        let other_key = Key::new([2; 32]);
        let rows: [(&str, Sealer, Context<'_>, &[&[u8]]); 7] = [
            ("another secret", sealer(2), CONTEXT, &[b"ab", b"c"]),
            (
                "another purpose",
                sealer(1),
                Context {
                    purpose: Purpose::Current,
                    ..CONTEXT
                },
                &[b"ab", b"c"],
            ),
            (
                "another grant",
                sealer(1),
                Context {
                    key: &other_key,
                    ..CONTEXT
                },
                &[b"ab", b"c"],
            ),
            (
                "another client",
                sealer(1),
                Context {
                    client_id: "ap",
                    ..CONTEXT
                },
                &[b"ab", b"c"],
            ),
            ("another extra", sealer(1), CONTEXT, &[b"ab", b"d"]),
            (
                "extras split at another place",
                sealer(1),
                CONTEXT,
                &[b"a", b"bc"],
            ),
            ("no extras", sealer(1), CONTEXT, &[]),
        ];
        for (name, sealer, context, extra) in rows {
            assert_eq!(
                sealer.open(context, extra, &sealed).unwrap_err(),
                SealError,
                "{name}"
            );
        }
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(
                sealer(1).open(CONTEXT, &[b"ab", b"c"], &damaged).is_err(),
                "byte {at} flipped"
            );
            assert!(
                sealer(1)
                    .open(CONTEXT, &[b"ab", b"c"], &sealed[..at])
                    .is_err(),
                "cut at {at}"
            );
        }
    }
}
