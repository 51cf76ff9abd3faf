//! The format of the layer's tokens, implemented a second time from its documentation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The bytes of a token before its checksum: 12 of id, 4 of generation, 32 of secret.
pub const PAYLOAD: usize = 48;

/// Returns the token with this prefix and payload, checksum included.
pub fn encode(prefix: &str, payload: &[u8]) -> String {
    let hash =
        Sha256::digest([b"tower-oauth-refresh checksum", prefix.as_bytes(), payload].concat());
    format!(
        "{prefix}{}",
        URL_SAFE_NO_PAD.encode([payload, &hash[..6]].concat())
    )
}

/// Returns the payload of a token; `None` unless `text` is a whole token with this prefix.
pub fn payload(prefix: &str, text: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?;
    bytes.truncate(PAYLOAD);
    (encode(prefix, &bytes) == text).then_some(bytes)
}

/// Returns the hash of a refresh token, by which the store knows it.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(payload("rt_", token).unwrap()).into()
}

/// Returns the key of Redis for the link of a refresh token, with the default prefix.
pub fn link_key(token: &str) -> String {
    let access_id = Sha256::digest(&payload("rt_", token).unwrap()[..12]);
    let key = Sha256::digest(&access_id[..12]);
    let text = b"tower-oauth-refresh link";
    let name = Sha256::digest([&text[..], &hash(token)].concat());
    let sidecar = Sha256::digest([&key[..], &name[..16]].concat());
    let [tag, rest] = [&key[..6], &sidecar[..21]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    format!("rt:{{{tag}}}:{rest}")
}

/// Returns a token of one prefix as a token of the other, with the checksum to match.
pub fn retyped(token: &str) -> String {
    match payload("at_", token) {
        Some(bytes) => encode("rt_", &bytes),
        None => encode("at_", &payload("rt_", token).unwrap()),
    }
}

/// Returns a well-formed token that the layer never issued.
pub fn made_up(prefix: &str) -> String {
    encode(prefix, &[0; PAYLOAD])
}
