//! Strings found in a body: borrowed from it, or owned where they had to be decoded.

use std::fmt;
use std::ops::{Deref, Range};

use percent_encoding::percent_decode;
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

/// Whether a text would give the secret away: as it is, or however its characters are escaped in JSON or in a form.
///
/// Which of them an encoder escapes is its own affair: some write `=`, `+` and `/` as `\u003d`, `\u002B` and `\/`.
pub(crate) fn mentions(text: &[u8], secret: &str) -> bool {
    if secret.is_empty() {
        return false;
    }
    let found = |text: &[u8]| text.windows(secret.len()).any(|window| window == secret.as_bytes());
    let in_form = |text: &[u8]| {
        // Decoding never lengthens, so the buffer never moves.
        let decoded = |text: &[u8]| {
            let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
            out.extend(percent_decode(text));
            out
        };
        let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
        let spaced = Zeroizing::new(text.iter().map(space).collect::<Vec<_>>());
        found(&decoded(text)) || found(&decoded(&spaced))
    };
    let in_text = |text: &[u8]| found(text) || (text.contains(&b'%') || text.contains(&b'+')) && in_form(text);
    in_text(text) || text.contains(&b'\\') && in_text(&unescaped(text))
}

/// A piece of JSON with the escapes in it decoded, wherever they stand.
fn unescaped(json: &[u8]) -> Zeroizing<Vec<u8>> {
    // An escape is never shorter than what it stands for, so the buffer never moves.
    let mut out = Zeroizing::new(Vec::with_capacity(json.len()));
    let mut rest = json;
    while let Some((byte, after)) = rest.split_first() {
        if let Some((char, after)) = escape(rest) {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

/// The character that an escape at the beginning stands for (RFC 8259 §7), and what follows.
fn escape(json: &[u8]) -> Option<(char, &[u8])> {
    let (kind, rest) = json.strip_prefix(b"\\")?.split_first()?;
    let char = match kind {
        b'u' => {
            let (first, rest) = code_unit(json)?;
            if let Some(char) = char::from_u32(first.into()) {
                return Some((char, rest));
            }
            let (second, rest) = code_unit(rest)?;
            let char = char::decode_utf16([first, second]).next()?.ok()?;
            return Some((char, rest));
        }
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(*other),
    };
    Some((char, rest))
}

fn code_unit(json: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = json.strip_prefix(b"\\u")?.split_first_chunk::<4>()?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let unit = digits.iter().try_fold(0, |unit, next| digit(next).map(|digit| unit << 4 | digit))?;
    Some((u16::try_from(unit).ok()?, rest))
}

/// Whether every `%` begins an escape.
pub(crate) fn escapes_are_whole(text: &str) -> bool {
    let whole = |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%').skip(1).all(whole)
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn a_secret_is_found_however_it_is_spelled() {
        let rows = [
            ("as it is", "x a/+=ä y", true),
            ("a slash escaped", r"a\/+=ä", true),
            ("what some encoders escape for HTML", r"a/\u002B\u003dä", true),
            ("every character", r"\u0061\u002f\u002b\u003d\u00e4", true),
            ("in a form", "t=a%2F%2B%3D%C3%A4&x=y", true),
            ("in a link, where a plus is a plus", "?t=a/+%3d%c3%a4", true),
            ("in a link in JSON", r"?t=a\/%2B%3D%C3%A4", true),
            ("a part of it", r"a\/+=", false),
            ("half an escape", r"\u006/+=ä", false),
            ("half a pair", r"\ud83da/+=", false),
            ("nothing", "", false),
        ];
        for (sentence, text, expected) in rows {
            assert_eq!(mentions(text.as_bytes(), "a/+=ä"), expected, "{sentence}: {text}");
        }
        assert!(mentions(r"\ud83d\ude00\n".as_bytes(), "\u{1f600}\n") && mentions(b"a+b", "a b"));
        assert!(!mentions(b"anything", ""), "no secret is in no text");
    }
}
