//! The server key with which the layer itself can open upstream tokens, to revoke them.
//!
//! Every other sealed value of a grant needs a token of its client. This one does not, so it exists
//! only if the application has set
//! [`revocation_key`](crate::RefreshLayerBuilder::revocation_key).

use bytes::Bytes;
use hkdf::Hkdf;
use zeroize::Zeroizing;

use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer, Secret, expand};
use crate::store::Key;

const INFO: &[u8] = b"tower-oauth-refresh v1 revocation seal";

/// The secret of [`revocation_key`](crate::RefreshLayerBuilder::revocation_key).
#[derive(Clone)]
pub(crate) struct RevocationKey(Zeroizing<[u8; 32]>);

impl RevocationKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Seals an upstream token of a grant. `sealed` is the same token, sealed for the current token
    /// of the grant. It is authenticated, because an instance that does not know the field keeps it
    /// as it is: an older upstream token beside a newer one, which would be revoked instead.
    ///
    /// The nonce may be that of `sealed`, because the keys differ.
    pub(crate) fn seal(
        &self,
        nonce: SealNonce,
        context: Context<'_>,
        sealed: &[u8],
        token: &[u8],
    ) -> Result<Bytes, SealError> {
        let context = context.with(Purpose::Revocation);
        self.sealer(context.key)
            .seal(nonce, context, &[sealed], token)
            .map(Bytes::from)
    }

    /// Opens what [`seal`](Self::seal) has sealed.
    pub(crate) fn open(
        &self,
        context: Context<'_>,
        sealed: &[u8],
        revocable: &[u8],
    ) -> Result<Zeroizing<String>, SealError> {
        let context = context.with(Purpose::Revocation);
        self.sealer(context.key)
            .open_text(context, &[sealed], revocable)
    }

    /// Each grant has a key of its own, because one key must not seal more than 2^32 messages with
    /// random nonces (NIST SP 800-38D §8.3), and the server key is used for all grants.
    fn sealer(&self, grant: &Key) -> Sealer {
        let derived = Hkdf::new(Some(&self.0[..]), grant.as_bytes());
        Sealer::new(Secret::new(&expand(&derived, INFO)))
    }
}

redacted_debug!(self: RevocationKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_the_token_of_its_grant() {
        let (grant, other) = (Key::new([1; 32]), Key::new([2; 32]));
        let context = |key, client_id| Context {
            purpose: Purpose::Current,
            key,
            client_id,
        };
        let key = RevocationKey::new([7; 32]);
        let app = context(&grant, "app");
        let sealed = key.seal([9; 12], app, b"sealed", b"upstream-1").unwrap();
        let opened = key.open(app, b"sealed", &sealed).unwrap();
        assert_eq!(*opened, "upstream-1");
        let changed = RevocationKey::new([8; 32]);
        for (name, key, grant, client_id, beside) in [
            ("another key", &changed, &grant, "app", b"sealed"),
            ("another grant", &key, &other, "app", b"sealed"),
            ("another client", &key, &grant, "web", b"sealed"),
            ("a newer upstream token", &key, &grant, "app", b"SEALED"),
        ] {
            let opened = key.open(context(grant, client_id), beside, &sealed);
            assert_eq!(opened, Err(SealError), "{name}");
        }
        assert_eq!(format!("{key:?}"), "RevocationKey");
    }
}
