//! Segments that servers drop because they name a program.

use super::prefix::{folded, is_blank};
use crate::wire::fold::Folded;

/// The extensions of program names. A number may follow (`.php8`).
const ENDINGS: [&[u8]; 22] = [
    b"php", b"phtml", b"phar", b"cgi", b"fcgi", b"fpl", b"pl", b"py", b"wsgi", b"rb", b"lua",
    b"dll", b"exe", b"jsp", b"jspx", b"asp", b"aspx", b"ashx", b"asmx", b"svc", b"axd", b"cfm",
];

/// Returns whether some server reads the segment as the name of a program that handles the path
/// after it (RFC 3875 §4.1.5).
pub(super) fn is_script(segment: &[u8]) -> bool {
    let mut rest = folded(segment);
    while let Some(found) = rest.next() {
        match found {
            Folded::Ascii(b'.') if ENDINGS.iter().any(|ending| ends_with(rest.clone(), ending)) => {
                return true;
            }
            Folded::Ascii(b';') => return false,
            _ => {}
        }
    }
    false
}

/// Returns whether `rest` is `ending`, followed only by characters that servers ignore at the end
/// of a file name.
fn ends_with(rest: impl Iterator<Item = Folded>, ending: &[u8]) -> bool {
    let mut found = rest.filter(|folded| *folded != Folded::Invisible && !is_blank(folded));
    for wanted in ending {
        match found.next() {
            Some(Folded::Ascii(byte)) if byte == *wanted => {}
            Some(Folded::Letters) => return true,
            _ => return false,
        }
    }
    let mut tail =
        found.take_while(|folded| !matches!(folded, Folded::Ascii(b';' | b'?' | b'#' | b':')));
    tail.all(|folded| matches!(folded, Folded::Ascii(b'.' | b'0'..=b'9') | Folded::Letters))
}
