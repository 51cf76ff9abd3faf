use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::Key;

const LEN: usize = 32;

/// The identifier of a grant. An application stores it with the session of the user, and ends the
/// grant later with [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
///
/// It never changes. The layer puts it into the extensions of a response as
/// [`Refresh`](crate::Refresh) when a grant begins or is adopted, rotated or replayed.
/// [`Event`](crate::Event) and [`AccessGrant`](crate::AccessGrant) contain it, too.
///
/// It is not a secret: it is a hash of random bytes, and no token can be derived from it. The store
/// keeps the grant under this key. Log lines have its [short form](Self::short).
///
/// Its text form is 43 characters of unpadded base64url:
///
/// ```
/// use tower_oauth_refresh::GrantKey;
///
/// # fn main() -> Result<(), tower_oauth_refresh::InvalidGrantKey> {
/// let text = "gdJWPe9Yw2EqLm5d8BqXy5hVgT0n1vZ7jQhM4cXr0kA";
/// let grant: GrantKey = text.parse()?;
/// assert_eq!(grant.to_string(), text);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantKey(Key);

impl GrantKey {
    pub(crate) const fn key(&self) -> &Key {
        &self.0
    }

    /// Returns the short form for logs: the first four bytes of the key as eight hexadecimal
    /// digits. It is also the `Debug` form. It cannot be parsed, and two grants may share it.
    #[must_use]
    pub fn short(&self) -> impl fmt::Display {
        Short(self.0)
    }
}

/// The short form of a [`GrantKey`].
struct Short(Key);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Key> for GrantKey {
    /// Returns the identifier of the grant that a store keeps under `key`.
    fn from(key: Key) -> Self {
        Self(key)
    }
}

impl FromStr for GrantKey {
    type Err = InvalidGrantKey;

    fn from_str(text: &str) -> Result<Self, InvalidGrantKey> {
        let mut key = [0; LEN];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut key) {
            Ok(LEN) => Ok(Self(Key::new(key))),
            _ => Err(InvalidGrantKey),
        }
    }
}

impl fmt::Display for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for GrantKey {
    /// Writes the [short form](GrantKey::short).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The error for a text that is not a [`GrantKey`], that is, not the unpadded base64url of 32
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid grant key: expected 43 characters of base64url")]
pub struct InvalidGrantKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_display_and_parsing() {
        for bytes in [[0; LEN], [0xff; LEN], std::array::from_fn(|n| n as u8)] {
            let key = GrantKey::from(Key::new(bytes));
            let text = key.to_string();
            assert_eq!(text.len(), 43);
            assert_eq!(text.parse(), Ok(key));
            let [a, b, c, d, ..] = bytes;
            let short = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
            assert_eq!(key.short().to_string(), short);
            assert_eq!(format!("{key:?}"), short);
        }
    }

    #[test]
    fn a_key_has_exactly_one_text_form() {
        let good = GrantKey::from(Key::new([0xfb; LEN])).to_string();
        let rows = [
            ("empty", String::new()),
            ("a character short", good[..42].into()),
            ("a character long", format!("{good}A")),
            ("padding", format!("{good}=")),
            (
                "the other alphabet",
                good.replace('-', "+").replace('_', "/"),
            ),
            ("a space", format!(" {}", &good[1..])),
            ("bits beyond the last byte", format!("{}9", &good[..42])),
            (
                "43 bytes that are not ASCII",
                format!("{}A", "ä".repeat(21)),
            ),
        ];
        for (name, text) in rows {
            assert_eq!(
                text.parse::<GrantKey>(),
                Err(InvalidGrantKey),
                "{name}: {text}"
            );
        }
    }
}
