//! Decodes the characters of a path or a name once, and folds them as the most lenient server does.

/// One character of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Unit {
    Char {
        char: char,
        /// Whether it was percent-encoded.
        escaped: bool,
    },
    /// A `%` that is not followed by two hexadecimal digits.
    BadEscape {
        /// Whether it begins a non-standard escape (`%u002f`).
        unicode: bool,
    },
    /// Bytes that are not UTF-8.
    BadUtf8,
}

/// An iterator over the characters of a text, percent-decoded once.
#[derive(Clone, Debug)]
pub(in crate::wire) struct Units<'a>(pub(in crate::wire) &'a [u8]);

impl Units<'_> {
    /// Returns the next byte and whether it was escaped; `None` at the end or at an invalid escape.
    fn byte(&mut self) -> Option<(u8, bool)> {
        match *self.0 {
            [b'%', high, low, ref rest @ ..] => {
                let byte = hex(high)? << 4 | hex(low)?;
                self.0 = rest;
                Some((byte, true))
            }
            [b'%', ..] | [] => None,
            [byte, ref rest @ ..] => {
                self.0 = rest;
                Some((byte, false))
            }
        }
    }
}

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let Some((first, escaped)) = self.byte() else {
            let rest = self.0.strip_prefix(b"%")?;
            self.0 = rest;
            return Some(Unit::BadEscape {
                unicode: rest
                    .first()
                    .is_some_and(|byte| byte.eq_ignore_ascii_case(&b'u')),
            });
        };
        if first.is_ascii() {
            return Some(Unit::Char {
                char: char::from(first),
                escaped,
            });
        }
        let mut bytes = [first, 0, 0, 0];
        let length = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Some(Unit::BadUtf8),
        };
        let (bytes, _) = bytes.split_at_mut(length);
        for slot in bytes.iter_mut().skip(1) {
            let before = self.clone();
            match self.byte() {
                Some((byte, _)) if !byte.is_ascii() => *slot = byte,
                _ => {
                    *self = before;
                    return Some(Unit::BadUtf8);
                }
            }
        }
        let decoded = std::str::from_utf8(bytes).ok();
        let char = decoded.and_then(|text| text.chars().next());
        Some(char.map_or(Unit::BadUtf8, |char| Unit::Char { char, escaped }))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// The meaning of a character for a lenient server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Folded {
    /// This ASCII character, in lower case. A blank is a space.
    Ascii(u8),
    /// A delimiter, after Unicode normalization.
    Delimiter,
    /// No visible character: it is invisible, or a mark that belongs to the character before it.
    Invisible,
    /// One or more ASCII characters, after Unicode normalization or case folding. It does not
    /// matter which.
    Letters,
    /// The character itself.
    Other,
}

/// Folds a character: case, and compatibility with ASCII (the mapping NFKC and case folding of
/// Unicode).
///
/// The ranges are wider than the tables of Unicode where that costs nothing.
pub(in crate::wire) fn fold(char: char) -> Folded {
    match char {
        '\0'..='\x7f' => Folded::Ascii(u8::try_from(char).unwrap_or_default().to_ascii_lowercase()),
        '\u{80}'..='\u{9f}' => Folded::Delimiter,
        // Characters that fold to a text with one of `/ \ . ; % ? # :` in it.
        '\u{37e}'
        | '\u{2024}'..='\u{2026}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2044}'
        | '\u{2047}'..='\u{2049}'
        | '\u{2100}'
        | '\u{2101}'
        | '\u{2105}'
        | '\u{2106}'
        | '\u{2215}'
        | '\u{2216}'
        | '\u{2488}'..='\u{249b}'
        | '\u{29f5}'
        | '\u{29f8}'
        | '\u{29f9}'
        | '\u{2a74}'
        | '\u{33c2}'
        | '\u{33c7}'
        | '\u{33d8}'
        | '\u{fe13}'
        | '\u{fe14}'
        | '\u{fe16}'
        | '\u{fe19}'
        | '\u{fe30}'
        | '\u{fe52}'
        | '\u{fe54}'..='\u{fe56}'
        | '\u{fe5f}'
        | '\u{fe68}'
        | '\u{fe6a}'
        | '\u{ff03}'
        | '\u{ff05}'
        | '\u{ff0e}'
        | '\u{ff0f}'
        | '\u{ff1a}'
        | '\u{ff1b}'
        | '\u{ff1f}'
        | '\u{ff3c}'
        | '\u{ff61}'
        | '\u{1f100}' => Folded::Delimiter,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Folded::Ascii(b' ')
        }
        '\u{ad}'
        | '\u{300}'..='\u{36f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => Folded::Invisible,
        '\u{130}' | '\u{131}' => Folded::Ascii(b'i'),
        '\u{17f}' => Folded::Ascii(b's'),
        '\u{212a}' => Folded::Ascii(b'k'),
        '\u{aa}'
        | '\u{b2}'
        | '\u{b3}'
        | '\u{b9}'
        | '\u{ba}'
        | '\u{bc}'..='\u{be}'
        | '\u{df}'
        | '\u{132}'
        | '\u{133}'
        | '\u{13f}'
        | '\u{140}'
        | '\u{149}'
        | '\u{1c4}'..='\u{1cc}'
        | '\u{1f0}'..='\u{1f3}'
        | '\u{2b0}'..='\u{2b8}'
        | '\u{2e0}'..='\u{2e4}'
        | '\u{1d2c}'..='\u{1d6a}'
        | '\u{1d9c}'..='\u{1dbf}'
        | '\u{1e96}'..='\u{1e9e}'
        | '\u{1fef}'
        | '\u{203c}'
        | '\u{2070}'..='\u{209f}'
        | '\u{20a8}'
        | '\u{2102}'..='\u{214f}'
        | '\u{2150}'..='\u{218f}'
        | '\u{2460}'..='\u{24ff}'
        | '\u{2a75}'
        | '\u{2a76}'
        | '\u{2c7c}'
        | '\u{2c7d}'
        | '\u{3200}'..='\u{33ff}'
        | '\u{a7f1}'..='\u{a7f4}'
        | '\u{fb00}'..='\u{fb06}'
        | '\u{fb29}'
        | '\u{fe10}'..='\u{fe6b}'
        | '\u{ff01}'..='\u{ff5e}'
        | '\u{10780}'..='\u{107ba}'
        | '\u{1ccd6}'..='\u{1ccf9}'
        | '\u{1d400}'..='\u{1d7ff}'
        | '\u{1df95}'
        | '\u{1f101}'..='\u{1f1ad}'
        | '\u{1fbf0}'..='\u{1fbf9}' => Folded::Letters,
        _ => Folded::Other,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Folded, fold};

    /// A server that normalizes a path or a name may map more characters to ASCII than this table
    /// knows, after an update of Unicode. UTS 46, by which a URL parser maps the name of a host, is
    /// NFKC and case folding, and maps the ideographic full stop to a dot.
    #[test]
    fn no_character_without_an_ascii_form_is_mapped_to_ascii() {
        let skipped = [
            '\u{3002}'..='\u{3002}',
            '\u{3400}'..='\u{a000}',
            '\u{ac00}'..='\u{d7a3}',
            '\u{17000}'..='\u{18cff}',
            '\u{20000}'..='\u{3ffff}',
            '\u{40000}'..='\u{dffff}',
            '\u{e1000}'..='\u{10ffff}',
        ];
        let mut checked = 0;
        let mut mapped = Vec::new();
        for char in '\u{80}'..=char::MAX {
            if fold(char) != Folded::Other || skipped.iter().any(|range| range.contains(&char)) {
                continue;
            }
            checked += 1;
            let url = Url::parse(&format!("http://a{char}b/"));
            let host = url.as_ref().ok().and_then(Url::host_str);
            if let Some(host) = host.filter(|host| !host.starts_with("xn--")) {
                mapped.push(format!("U+{:04X} to {host}", u32::from(char)));
            }
        }
        assert!(mapped.is_empty(), "{mapped:?}");
        assert!(checked > 40_000, "{checked}");
    }
}
