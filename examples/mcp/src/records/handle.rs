use std::fmt;
use std::str::FromStr;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_oauth_refresh::store::StoreError;
use zeroize::{Zeroize as _, Zeroizing};

use super::random;

const NONCE: usize = 12;

/// 32 random bytes that identify a record and decrypt it: an authorization code, a `state`, or the
/// value of a cookie. The store contains only a hash of them.
#[derive(Clone)]
pub(crate) struct Handle([u8; 32]);

impl Handle {
    /// Generates a new handle.
    pub(crate) fn random() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// Returns a hash of the handle, which the store may contain.
    pub(crate) fn name(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"mcp handle")
            .chain_update(self.0)
            .finalize()
            .into()
    }

    /// Derives another handle for `purpose`, such as a token in a form that protects against forged
    /// requests. Only the holder of this handle can derive it, and it does not disclose this
    /// handle.
    pub(crate) fn derive(&self, purpose: &str) -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        self.expand(&[b"mcp derived ", purpose.as_bytes()], &mut bytes)?;
        Ok(Self(bytes))
    }

    pub(super) fn seal(&self, purpose: &[u8], message: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE] = random()?;
        let sealed = self.cipher()?.encrypt(
            &Nonce::from(nonce),
            Payload {
                msg: message,
                aad: purpose,
            },
        );
        let sealed = sealed.map_err(|_| StoreError::corrupt("encrypting a record failed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(super) fn open(
        &self,
        purpose: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let unreadable = || StoreError::corrupt("a sealed record is corrupt or has another key");
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or_else(unreadable)?;
        let opened = self.cipher()?.decrypt(
            &Nonce::from(*nonce),
            Payload {
                msg: sealed,
                aad: purpose,
            },
        );
        opened.map(Zeroizing::new).map_err(|_| unreadable())
    }

    fn cipher(&self) -> Result<Aes256Gcm, StoreError> {
        let mut key = Zeroizing::new([0; 32]);
        self.expand(&[b"mcp seal"], &mut *key)?;
        Aes256Gcm::new_from_slice(&*key).map_err(StoreError::corrupt)
    }

    /// HKDF-Expand (RFC 5869 §2.3). The handle is uniformly random, so HKDF-Extract is not needed.
    fn expand(&self, info: &[&[u8]], into: &mut [u8]) -> Result<(), StoreError> {
        let hkdf = Hkdf::<Sha256>::from_prk(&self.0).map_err(StoreError::corrupt)?;
        hkdf.expand_multi_info(info, into)
            .map_err(StoreError::corrupt)
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Handle {}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// The text is not a handle.
#[derive(Debug)]
pub(crate) struct NoHandle;

impl FromStr for Handle {
    type Err = NoHandle;

    fn from_str(text: &str) -> Result<Self, NoHandle> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoHandle)?;
        bytes.try_into().map(Self).map_err(|_| NoHandle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
