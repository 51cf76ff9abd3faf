//! Strings in a body, and the search for a secret in every encoding of it.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::fmt;
use std::ops::{Deref, Range};

use memchr::{memchr, memchr3, memmem};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

/// A string that may be a secret. It is owned only if it had to be decoded, and then zeroized on
/// drop.
pub enum Text<'a> {
    /// A slice of the body.
    Borrowed(&'a str),
    /// A decoded copy.
    Owned(Zeroizing<String>),
}

impl Text<'_> {
    /// Copies the string if it is borrowed.
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

/// A [`Text`] that stores its position in the body instead of a reference, so that it can be stored
/// together with the body.
pub(crate) struct TextAt {
    /// Its position in the body, where it is still encoded.
    pub(crate) at: Range<usize>,
    decoded: Option<Zeroizing<String>>,
}

impl TextAt {
    /// Returns the position of `text`, which was parsed from the bytes of the body `at` this range.
    pub(crate) fn new(at: Range<usize>, text: Text<'_>) -> Self {
        let decoded = match text {
            Text::Borrowed(_) => None,
            Text::Owned(text) => Some(text),
        };
        Self { at, decoded }
    }

    /// Returns the decoded string. `body` must be the body in which it was found.
    pub(crate) fn as_str<'a>(&'a self, body: &'a [u8]) -> &'a str {
        match &self.decoded {
            Some(text) => text,
            None => text_at(body, self.at.clone()),
        }
    }
}

/// Returns the text at this range of a body, which must be UTF-8.
pub(crate) fn text_at(body: &[u8], at: Range<usize>) -> &str {
    let text = body
        .get(at)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.unwrap_or_default()
}

/// The number of times that a text is decoded during a search. A text with more layers of encoding
/// counts as a match.
const MOST_ROUNDS: usize = 16;

/// The number of places with the first byte of a secret at which [`contains`] compares.
const MOST_COMPARISONS: usize = 32;

/// Returns whether a text mentions a secret, in any spelling that [`any_decoding`] decodes. No text
/// mentions an empty secret.
///
/// Encoders differ in the characters that they escape: some write `=`, `+` and `/` as `\u003d`,
/// `\u002B` and `\/`.
pub(crate) fn mentions(text: &[u8], secret: &str) -> bool {
    // A decoded text is never longer than its encoding.
    !secret.is_empty()
        && text.len() >= secret.len()
        && any_decoding(text, |text| contains(text, secret.as_bytes()))
}

/// Returns whether a text contains a secret.
///
/// The first byte of a token is rare in most texts, so the search first looks for that byte alone:
/// [`memmem`] takes longer to prepare its search than to search a token response.
fn contains(text: &[u8], secret: &[u8]) -> bool {
    let Some(first) = secret.first() else {
        return true;
    };
    let mut rest = text;
    for _ in 0..MOST_COMPARISONS {
        let found = memchr(*first, rest).and_then(|at| rest.get(at..));
        let Some(found) = found.filter(|found| found.len() >= secret.len()) else {
            return false;
        };
        if found.starts_with(secret) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    memmem::find(rest, secret).is_some()
}

/// Returns whether `found` is true of a text or of one of its decodings: JSON escapes,
/// percent-encoding, forms and character references, in any order and nested.
pub(crate) fn any_decoding(text: &[u8], found: impl Fn(&[u8]) -> bool) -> bool {
    if found(text) {
        return true;
    }
    if memchr3(b'\\', b'%', b'+', text).is_none() && memchr(b'&', text).is_none() {
        return false;
    }
    let mut text = Zeroizing::new(text.to_vec());
    for _ in 0..MOST_ROUNDS {
        let length = text.len();
        if text.contains(&b'+') {
            // A plus is a space in a form and a plus in a link.
            let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
            let spaced = Zeroizing::new(text.iter().map(space).collect::<Vec<_>>());
            if found(&spaced) || found(&percent_decoded(&spaced)) {
                return true;
            }
        }
        for (marker, decode) in DECODERS {
            if !text.contains(&marker) {
                continue;
            }
            let decoded = decode(&text);
            // Every encoding is longer than what it stands for.
            if decoded.len() < text.len() {
                if found(&decoded) {
                    return true;
                }
                text = decoded;
            }
        }
        if text.len() == length {
            return false;
        }
    }
    true
}

type Decoder = fn(&[u8]) -> Zeroizing<Vec<u8>>;

/// The decoders, and the byte without which a decoder changes nothing.
const DECODERS: [(u8, Decoder); 3] = [
    (b'\\', unescaped),
    (b'%', percent_decoded),
    (b'&', |text| decoded(text, reference)),
];

fn percent_decoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    // Decoded text is never longer, so the buffer does not move.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    out.extend(percent_decode(text));
    out
}

/// Decodes a text. `first` returns the character that an escape at the beginning of a text stands
/// for, and the rest of the text. A character must never be longer than its escape.
fn decoded(text: &[u8], first: fn(&[u8]) -> Option<(char, &[u8])>) -> Zeroizing<Vec<u8>> {
    // Decoded text is never longer, so the buffer does not move.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        if let Some((char, after)) = first(rest) {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

/// Returns the character that a reference at the beginning stands for (HTML §13.5: the five of XML,
/// and numeric ones), and the rest of the text.
fn reference(text: &[u8]) -> Option<(char, &[u8])> {
    /// Long enough for any character, including leading zeros.
    const LONGEST: usize = 16;
    let text = text.strip_prefix(b"&")?;
    let end = text.iter().take(LONGEST).position(|byte| *byte == b';')?;
    let (name, rest) = text.split_at_checked(end)?;
    let name = std::str::from_utf8(name).ok()?;
    let char = match name {
        "quot" => '"',
        "apos" => '\'',
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        name => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?).filter(|char| char.len_utf8() < name.len() + 2)?
        }
    };
    Some((char, rest.get(1..)?))
}

/// Decodes the escapes in a piece of JSON, also outside of strings.
pub(crate) fn unescaped(json: &[u8]) -> Zeroizing<Vec<u8>> {
    decoded(json, escape)
}

/// Returns the character that an escape at the beginning stands for (RFC 8259 §7), and the rest of
/// the text.
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
        other if other.is_ascii() => char::from(*other),
        _ => return None,
    };
    Some((char, rest))
}

fn code_unit(json: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = json.strip_prefix(b"\\u")?.split_first_chunk::<4>()?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let unit = digits
        .iter()
        .try_fold(0, |unit, next| digit(next).map(|digit| unit << 4 | digit))?;
    Some((u16::try_from(unit).ok()?, rest))
}

/// Returns whether every `%` begins an escape.
pub(crate) fn escapes_are_whole(text: &str) -> bool {
    let whole = |after: &str| matches!(after.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%').skip(1).all(whole)
}

#[cfg(test)]
mod tests {
    use super::{MOST_COMPARISONS, mentions};

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let rows = [
            ("not encoded", "x a/+=ä y", true),
            ("a slash escaped", r"a\/+=ä", true),
            (
                "characters that some encoders escape for HTML",
                r"a/\u002B\u003dä",
                true,
            ),
            ("every character", r"\u0061\u002f\u002b\u003d\u00e4", true),
            ("in a form", "t=a%2F%2B%3D%C3%A4&x=y", true),
            ("in a link, where a plus is a plus", "?t=a/+%3d%c3%a4", true),
            ("in a link in JSON", r"?t=a\/%2B%3D%C3%A4", true),
            ("a part of it", r"a\/+=", false),
            ("escaped twice", r"\\u0061\\/\\u002b\\u003d\\u00e4", true),
            ("escaped three times", r"\\\\u0061/+=ä", true),
            ("percent-encoded twice", "a%252F%252B%253D%25C3%25A4", true),
            ("percent-encoded in JSON in a form", "%5Cu0061/+=ä", true),
            ("as character references", "&#x61;&#47;&#43;=&#228;", true),
            ("in an attribute of an attribute", "&amp;#97;/+=ä", true),
            ("an incomplete escape", r"\u006/+=ä", false),
            ("an incomplete reference", "&#97/+=ä", false),
            ("a lone surrogate", r"\ud83da/+=", false),
            ("nothing", "", false),
        ];
        for (sentence, text, expected) in rows {
            assert_eq!(
                mentions(text.as_bytes(), "a/+=ä"),
                expected,
                "{sentence}: {text}"
            );
        }
        assert!(mentions(r"\ud83d\ude00\n".as_bytes(), "\u{1f600}\n") && mentions(b"a+b", "a b"));
        assert!(!mentions(b"anything", ""), "an empty secret is never found");
    }

    #[test]
    fn a_secret_is_found_behind_any_number_of_near_matches() {
        for near in [
            0,
            1,
            MOST_COMPARISONS - 1,
            MOST_COMPARISONS,
            MOST_COMPARISONS + 1,
            200,
        ] {
            for (near_match, secret) in [("a", "ab"), ("ab", "abc"), ("a", "aaab")] {
                let before = near_match.repeat(near);
                assert!(mentions(format!("{before}{secret}").as_bytes(), secret));
                assert!(!mentions(before.as_bytes(), secret), "{near} {secret}");
            }
        }
    }
}
