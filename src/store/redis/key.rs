//! The keys of Redis: `prefix{tag}rest` of an entry, and `prefix{tag}:name` of its sidecars.
//!
//! The text between the braces chooses the slot of a cluster, so an entry and its sidecars have the
//! same slot. `tag` and `rest` together are the key of the entry in base64url. `name` is a hash.
//!
//! The key of a sidecar contains only eight characters of the key of its entry, because a grant may
//! have many links. The allocator of Redis rounds sizes up: with a prefix of at most five bytes,
//! the key of a sidecar takes 48 bytes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::store::{Key, SidecarName};

/// The bytes of a key that are between the braces. They spread keys evenly over the slots, because
/// every key is a hash.
const TAG: usize = 6;

/// The bytes of the hash that names a sidecar. With those of the tag, 216 bits identify it.
const NAME: usize = 21;

/// Returns the Redis key of the entry under `key`.
pub(super) fn entry_key(prefix: &str, key: &Key) -> Vec<u8> {
    let mut text = slot(prefix, key);
    URL_SAFE_NO_PAD.encode_string(&key.as_bytes()[TAG..], &mut text);
    text.into_bytes()
}

/// Returns the Redis key of a sidecar of the entry under `key`.
///
/// It contains a hash of the whole key, so that entries with the same tag do not share sidecars.
pub(super) fn sidecar_key(prefix: &str, key: &Key, name: &SidecarName) -> Vec<u8> {
    let hash = Sha256::new()
        .chain_update(key.as_bytes())
        .chain_update(name.as_bytes())
        .finalize();
    let mut text = slot(prefix, key);
    text.push(':');
    URL_SAFE_NO_PAD.encode_string(&hash[..NAME], &mut text);
    text.into_bytes()
}

/// Returns the beginning of the Redis keys of the entry under `key` and of its sidecars.
fn slot(prefix: &str, key: &Key) -> String {
    let mut text = String::with_capacity(prefix.len() + 45);
    text.push_str(prefix);
    text.push('{');
    URL_SAFE_NO_PAD.encode_string(&key.as_bytes()[..TAG], &mut text);
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GrantKey;

    const KEY: Key = Key::new([0xfb; 32]);
    const SIDECAR: SidecarName = SidecarName::new([2; 16]);

    fn text(key: Vec<u8>) -> String {
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn an_entry_has_the_text_form_of_its_grant_key() {
        let key = text(entry_key("app:", &KEY));
        let grant = GrantKey::from(KEY).to_string();
        assert_eq!(key, format!("app:{{{}}}{}", &grant[..8], &grant[8..]));
    }

    #[test]
    fn a_sidecar_has_the_slot_of_its_entry() {
        let entry = text(entry_key("app:", &KEY));
        let sidecar = text(sidecar_key("app:", &KEY, &SIDECAR));
        let (slot, rest) = entry.split_at(entry.find('}').unwrap() + 1);
        let name = sidecar.strip_prefix(slot).unwrap();
        assert_eq!((&name[..1], name.len()), (":", 29));
        assert!(!rest.contains(':'), "no entry has the key of a sidecar");
    }

    #[test]
    fn every_byte_of_key_and_name_counts() {
        let sidecar = sidecar_key("rt:", &KEY, &SIDECAR);
        for at in 0..32 {
            let mut other = *KEY.as_bytes();
            other[at] ^= 1;
            let other = Key::new(other);
            assert_ne!(entry_key("rt:", &other), entry_key("rt:", &KEY), "{at}");
            assert_ne!(sidecar_key("rt:", &other, &SIDECAR), sidecar, "{at}");
        }
        for at in 0..16 {
            let mut other = *SIDECAR.as_bytes();
            other[at] ^= 1;
            let other = SidecarName::new(other);
            assert_ne!(sidecar_key("rt:", &KEY, &other), sidecar, "{at}");
        }
    }

    #[test]
    fn the_key_of_a_sidecar_takes_48_bytes_of_redis() {
        // Redis adds four bytes to a string of this length.
        assert!(sidecar_key("four:", &KEY, &SIDECAR).len() + 4 <= 48);
    }
}
