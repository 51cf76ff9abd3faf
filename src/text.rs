//! Strings found in a body: borrowed from it, or owned where they had to be decoded.

use std::fmt;
use std::ops::{Deref, Range};

use zeroize::Zeroizing;

/// A string that may be a secret. It is owned only if it had to be decoded, and then zeroized on drop.
pub(crate) enum Text<'a> {
    /// As it stands in the body.
    Borrowed(&'a str),
    /// Decoded.
    Owned(Zeroizing<String>),
}

impl Text<'_> {
    /// The same string, borrowing nothing.
    pub(crate) fn into_owned(self) -> Text<'static> {
        Text::Owned(match self {
            Self::Borrowed(text) => Zeroizing::new(text.to_owned()),
            Self::Owned(text) => text,
        })
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A [`Text`] of which only the place in the body is kept, so that it can live beside the body.
pub(crate) struct TextAt {
    at: Range<usize>,
    decoded: Option<Zeroizing<String>>,
}

impl TextAt {
    /// What the bytes of the body `at` this range were read as.
    pub(crate) fn new(at: Range<usize>, text: Text<'_>) -> Self {
        let decoded = match text {
            Text::Borrowed(_) => None,
            Text::Owned(text) => Some(text),
        };
        Self { at, decoded }
    }

    /// Where it lies in the body, undecoded.
    pub(crate) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// The decoded string. `body` is the one that it was found in.
    pub(crate) fn as_str<'a>(&'a self, body: &'a [u8]) -> &'a str {
        match &self.decoded {
            Some(text) => text,
            None => body.get(self.at()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default(),
        }
    }
}

/// Whether a text would give the secret away: as it is, or as it is written in JSON or in a form.
pub(crate) fn mentions(text: &[u8], secret: &str) -> bool {
    let in_json = Zeroizing::new(secret.replace('/', "\\/"));
    let in_form = Zeroizing::new(form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>());
    [secret, in_json.as_str(), in_form.as_str()].into_iter().any(|spelling| {
        !spelling.is_empty() && text.windows(spelling.len()).any(|window| window == spelling.as_bytes())
    })
}

/// Whether every `%` begins an escape.
pub(crate) fn escapes_are_whole(text: &str) -> bool {
    let whole = |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%').skip(1).all(whole)
}
