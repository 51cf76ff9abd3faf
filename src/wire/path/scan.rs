//! Classifies paths.

use percent_encoding::percent_decode;

use super::prefix::is_blank;
use crate::wire::fold::{Folded, Unit, Units, fold};

/// The most levels of encoding that [`fully_decoded`] decodes.
const LEVELS: usize = 4;

/// The parts of a path that servers read in different ways, in order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// No such part.
    Plain,
    /// A backslash, or an encoded slash, backslash or percent sign. Every reading stays below the
    /// segments before it, unless a dot segment follows.
    Delimiters,
    /// Any other such part, mainly dot segments.
    Hard,
}

/// A segment that is being scanned.
#[derive(Default)]
struct Segment {
    /// Whether it has a dot or an invisible character.
    suspect: bool,
    /// Whether it has a character that is not a dot, not blank and not invisible.
    named: bool,
    /// Whether some servers read the rest as a parameter, a query or a fragment.
    closed: bool,
}

impl Segment {
    /// Returns whether some server reads it as `.` or `..`, or ignores it although it is not empty.
    const fn is_hard(&self) -> bool {
        self.suspect && !self.named
    }
}

/// Scans a path that has not been decoded yet.
pub(super) fn scan(path: &[u8]) -> Scan {
    if is_plain(path) {
        Scan::Plain
    } else {
        scan_units(path, false)
    }
}

/// Returns whether all servers read all characters of the path in the same way. This is true for
/// most paths, so this check comes first.
fn is_plain(path: &[u8]) -> bool {
    let mut before = b'/';
    path.iter().all(|byte| {
        let before = std::mem::replace(&mut before, *byte);
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => true,
            b'/' | b'-' | b'_' | b'~' | b':' | b'@' | b'=' | b',' => true,
            b'.' => !matches!(before, b'/' | b'.'),
            _ => false,
        }
    })
}

/// Scans a path. `decoded` says that the path is already decoded, so that a lone `%` is a character
/// and not an error.
fn scan_units(path: &[u8], decoded: bool) -> Scan {
    let mut found = Scan::Plain;
    let mut segment = Segment::default();
    let mut units = Units(path);
    if is_cookieless(units.clone()) {
        return Scan::Hard;
    }
    while let Some(unit) = units.next() {
        let (char, escaped) = match unit {
            Unit::Char { char, escaped } => (char, escaped),
            Unit::BadEscape { unicode: false } if decoded => ('-', false),
            Unit::BadEscape { .. } | Unit::BadUtf8 => return Scan::Hard,
        };
        match fold(char) {
            Folded::Ascii(byte @ (b'/' | b'\\')) => {
                if segment.is_hard() || is_cookieless(units.clone()) {
                    return Scan::Hard;
                }
                segment = Segment::default();
                if escaped || byte == b'\\' {
                    found = Scan::Delimiters;
                }
            }
            Folded::Delimiter | Folded::Ascii(..=0x1f | 0x7f) => return Scan::Hard,
            Folded::Ascii(b'%') => {
                found = Scan::Delimiters;
                segment.named |= !segment.closed;
            }
            Folded::Ascii(b';' | b'?' | b'#') => segment.closed = true,
            Folded::Ascii(b' ' | b'+') => {}
            Folded::Ascii(b'.') | Folded::Invisible => segment.suspect |= !segment.closed,
            Folded::Ascii(_) | Folded::Letters | Folded::Other => segment.named |= !segment.closed,
        }
    }
    if segment.is_hard() { Scan::Hard } else { found }
}

/// Returns whether a segment begins like one that ASP.NET drops, because it holds a session
/// identifier (`(S(x))`, `(A(x)F(y))`).
fn is_cookieless(segment: Units<'_>) -> bool {
    // Parentheses, including the compatibility forms of Unicode.
    const OPEN: [char; 6] = [
        '(', '\u{207d}', '\u{208d}', '\u{fe35}', '\u{fe59}', '\u{ff08}',
    ];
    let chars = segment.map_while(|unit| match unit {
        Unit::Char { char, .. } => Some(char),
        Unit::BadEscape { .. } | Unit::BadUtf8 => None,
    });
    let mut visible = chars
        .filter(|char| fold(*char) != Folded::Invisible)
        .skip_while(|char| is_blank(&fold(*char)));
    let is_open = |char| OPEN.contains(&char);
    let is_letter = |char| matches!(fold(char), Folded::Ascii(b'a'..=b'z') | Folded::Letters);
    visible.next().is_some_and(is_open)
        && visible.next().is_some_and(is_letter)
        && visible.next().is_some_and(is_open)
}

/// Decodes a path until nothing changes, and returns it if no level holds anything
/// [hard](Scan::Hard).
///
/// Returns `None` for a path with more than [`LEVELS`] levels, so that the work is bounded.
pub(super) fn fully_decoded(path: &[u8]) -> Option<Vec<u8>> {
    let mut text = match scan(path) {
        Scan::Hard => return None,
        Scan::Plain | Scan::Delimiters => path.to_vec(),
    };
    for _ in 0..LEVELS {
        let next: Vec<u8> = percent_decode(&text).collect();
        if next == text {
            return Some(text);
        }
        if scan_units(&next, true) == Scan::Hard {
            return None;
        }
        text = next;
    }
    None
}
