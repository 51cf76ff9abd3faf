//! Decodes names and values as the most lenient servers do.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// A decoder that accepts everything that lenient decoders accept.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the letters and digits of a text that are ASCII, in lower case. Servers that ignore case
/// take some other letters for them, such as `ſ` for `s` and the Kelvin sign for `k`.
pub(super) fn folded(text: &[u8]) -> String {
    if text.is_ascii() {
        let kept = text.iter().filter(|byte| byte.is_ascii_alphanumeric());
        return kept
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect();
    }
    String::from_utf8_lossy(text)
        .chars()
        .map(narrow)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

/// Returns the ASCII character of a full-width one.
fn narrow(character: char) -> char {
    match u32::from(character) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(character),
        _ => character,
    }
}

/// Decodes `+`, `%74` and, because some servers do, `%u0074`.
pub(super) fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let escaped = match rest {
            [b'u' | b'U', a, b, c, d, rest @ ..] if *first == b'%' => {
                hex(&[*a, *b, *c, *d]).map(|code| {
                    (
                        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                        rest,
                    )
                })
            }
            _ => None,
        };
        let byte = match rest {
            [a, b, rest @ ..] if *first == b'%' => hex(&[*a, *b]).map(|code| (code as u8, rest)),
            _ => None,
        };
        text = match (escaped, byte) {
            (Some((character, rest)), _) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest
            }
            (None, Some((byte, rest))) => {
                out.push(byte);
                rest
            }
            (None, None) => {
                out.push(if *first == b'+' { b' ' } else { *first });
                rest
            }
        };
    }
    out
}

/// Removes an incomplete escape at the end, which the next bytes may complete.
pub(super) fn without_open_escape(text: &[u8]) -> &[u8] {
    let tail = text.len().saturating_sub(5);
    let is_open = |at: &usize| match text.get(*at..).unwrap_or_default() {
        [b'%', b'u' | b'U', digits @ ..] => digits.len() < 4,
        [b'%', digits @ ..] => digits.len() < 2,
        _ => false,
    };
    let end = (tail..text.len()).find(is_open);
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| {
        Some(code * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// Decodes base64 as lenient decoders do: they ignore a last digit that does not complete a byte.
pub(super) fn base64_decoded(digits: &[u8]) -> Option<Vec<u8>> {
    let surplus = usize::from(digits.len() % 4 == 1);
    BASE64.decode(digits.get(..digits.len() - surplus)?).ok()
}

pub(super) const fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        byte => byte,
    }
}
