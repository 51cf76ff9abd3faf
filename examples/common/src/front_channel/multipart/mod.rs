//! Finds parameters of an authorization request in a body of a `multipart` type.
//!
//! Clients do not send authorization requests in this format, but frameworks that read both form
//! formats into one table accept them, some of them also `multipart/mixed` and `multipart/related`.
//! The value of a part may be large, so only names are checked: a part named `response_type` or
//! `request_uri` is refused. A part named `request` is common in other forms and passes.

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use super::Refusal;
use super::form::SHORT_NAME;
use super::parameter::Parameter;

/// The header of a part that holds its name (RFC 7578 §4.2).
const DISPOSITION: &[u8] = b"content-disposition";

/// The headers from which some servers take the name of a part that has none.
const OTHERS: [&[u8]; 2] = [b"content-id", b"content-type"];

/// The parameter of that header that holds the name.
const NAME: &[u8] = b"name";

/// The number of bytes before a colon, without blanks, that are compared with the name of a header.
const LOOK_BACK: usize = 20;

/// The end of a header block.
const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// The length, in bytes, up to which the rest of a header block is held back. A longer one is
/// checked and passed on in pieces: it may be the content of a file with other line ends.
const LONGEST: usize = 8 << 10;

/// The end of a piece, which is checked with the next one. A name with its value is shorter.
const OVERLAP: usize = 4 << 10;

/// The most blanks in one place of a header.
const MOST_BLANKS: usize = SHORT_NAME;

/// The most names that a piece may have. One with more is refused, so that the cost of checking it
/// stays proportional to its length.
const MOST_NAMES: usize = 16;

/// The most lines over which a name may continue.
const MOST_LINES: usize = 8;

/// Checks a body while it streams to the upstream.
///
/// Servers do not agree on what a header line is. Some search for the name of the header anywhere
/// in the block (Rack), some ignore blanks around it (Tomcat), and some append a line without a
/// colon to the line before (PHP). So the check looks for the name of a header and a colon
/// anywhere in the body, and for names of parts up to the next empty line.
#[derive(Debug, Default)]
pub struct MultipartCheck {
    /// The last bytes that were received, without blanks: at most [`LOOK_BACK`].
    before: BytesMut,
    /// The bytes behind the colon of `header` that have arrived and are held back.
    held: BytesMut,
    /// The header in whose value the last received byte is.
    header: Option<Header>,
}

/// A header that may name a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Disposition,
    /// One of [`OTHERS`].
    Other {
        /// The number of blanks before the value, once it has begun.
        value_at: Option<usize>,
    },
}

impl Header {
    /// Returns the header whose name, followed by a colon, is the end of a text without blanks.
    fn at_end_of(text: &[u8]) -> Option<Self> {
        let name = text.strip_suffix(b":")?;
        if has_suffix(name, DISPOSITION) {
            return Some(Self::Disposition);
        }
        let is_other = OTHERS.iter().any(|other| has_suffix(name, other));
        is_other.then_some(Self::Other { value_at: None })
    }
}

impl MultipartCheck {
    /// Consumes the next bytes of the body. Returns the bytes that may be passed on.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::with_capacity(self.held.len() + data.len());
        let mut rest = data;
        while let [byte, after @ ..] = rest {
            rest = match self.header {
                None => {
                    let colon = rest.iter().position(|byte| *byte == b':');
                    let (piece, after) = rest.split_at(colon.map_or(rest.len(), |at| at + 1));
                    out.extend_from_slice(piece);
                    look_back(&mut self.before, piece);
                    self.header = colon.and_then(|_| Header::at_end_of(&self.before));
                    after
                }
                Some(Header::Disposition) => {
                    self.feed_block(*byte, &mut out)?;
                    after
                }
                // A line that begins with a blank continues the value.
                Some(Header::Other { value_at: Some(_) })
                    if !is_blank(*byte)
                        && self.held.last().is_some_and(|last| is_line_end(*last)) =>
                {
                    self.finish_header(&mut out)?;
                    rest
                }
                Some(Header::Other { value_at }) => {
                    self.feed_other(*byte, value_at, &mut out)?;
                    after
                }
            };
        }
        Ok(out.freeze())
    }

    /// Consumes a byte of a header block behind the colon of `Content-Disposition`.
    fn feed_block(&mut self, byte: u8, out: &mut BytesMut) -> Result<(), Refusal> {
        self.held.extend_from_slice(&[byte]);
        if self.held.ends_with(EMPTY_LINE) {
            self.finish_header(out)?;
        } else if self.held.len() > LONGEST {
            let checked = LONGEST - OVERLAP;
            check_block(&self.held, checked)?;
            // The next piece begins before a name that is cut here.
            let passed = checked - 2 * MOST_BLANKS;
            out.extend_from_slice(&self.held.split_to(passed));
        }
        Ok(())
    }

    /// Consumes a byte of the value of one of [`OTHERS`].
    fn feed_other(
        &mut self,
        byte: u8,
        value_at: Option<usize>,
        out: &mut BytesMut,
    ) -> Result<(), Refusal> {
        let value_at = value_at.or_else(|| (!is_blank(byte)).then_some(self.held.len()));
        self.header = Some(Header::Other { value_at });
        self.held.extend_from_slice(&[byte]);
        look_back(&mut self.before, &[byte]);
        let longest = value_at.map_or(MOST_BLANKS, |at| at + SHORT_NAME);
        if byte == b':'
            && let Some(header) = Header::at_end_of(&self.before)
        {
            out.unsplit(self.held.split());
            self.header = Some(header);
        } else if self.held.ends_with(EMPTY_LINE) || self.held.len() > longest {
            self.finish_header(out)?;
        }
        Ok(())
    }

    /// Returns the bytes that were held back, at the end of the body.
    pub(super) fn finish(&mut self) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::new();
        self.finish_header(&mut out)?;
        Ok(out.freeze())
    }

    /// Returns how many bytes are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn finish_header(&mut self, out: &mut BytesMut) -> Result<(), Refusal> {
        match self.header {
            Some(Header::Disposition) => check_block(&self.held, self.held.len())?,
            Some(Header::Other { .. }) => check_other(&self.held)?,
            None => {}
        }
        out.unsplit(self.held.split());
        self.header = None;
        Ok(())
    }
}

/// Adds a piece of a text to its last bytes, without blanks, and keeps [`LOOK_BACK`] of them.
fn look_back(before: &mut BytesMut, piece: &[u8]) {
    let kept = piece.iter().enumerate().rev();
    let kept = kept.filter(|(_, byte)| !is_blank(**byte)).take(LOOK_BACK);
    let start = kept.last().map_or(piece.len(), |(at, _)| at);
    let last = piece.get(start..).unwrap_or_default();
    before.extend(last.iter().filter(|byte| !is_blank(**byte)));
    let _ = before.split_to(before.len().saturating_sub(LOOK_BACK));
}

/// Checks the names that begin in the first `length` bytes of a header block behind the colon of
/// `Content-Disposition`.
fn check_block(block: &[u8], length: usize) -> Result<(), Refusal> {
    let mut count = 0;
    for at in words(block, NAME).take_while(|at| *at < length) {
        let rest = block.get(at + NAME.len()..).unwrap_or_default();
        if let Some(value) = value(rest)? {
            count += 1;
            // Some servers decode encoded words (RFC 2047) in a name.
            let first = lines(&value).next().unwrap_or_default();
            if first.windows(2).any(|pair| pair == b"=?") {
                return Err(Refusal::Encoding);
            }
            check_lines(&value)?;
            if is_section(rest) {
                return Err(Refusal::Encoding);
            }
        }
        if count > MOST_NAMES {
            return Err(Refusal::TooLong);
        }
    }
    let mut before = BytesMut::new();
    let mut from = 0;
    while let Some(piece) = block.get(from..length)
        && let Some(colon) = piece.iter().position(|byte| *byte == b':')
    {
        look_back(&mut before, piece.get(..=colon).unwrap_or_default());
        from += colon + 1;
        if matches!(Header::at_end_of(&before), Some(Header::Other { .. })) {
            check_other(block.get(from..).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Checks the value of one of [`OTHERS`], and what follows it.
fn check_other(value: &[u8]) -> Result<(), Refusal> {
    let blanks = blanks(value)?;
    let value = value.get(blanks..).unwrap_or_default();
    check_lines(value.get(..SHORT_NAME).unwrap_or(value))
}

/// Returns the number of blanks at the beginning of a text.
fn blanks(text: &[u8]) -> Result<usize, Refusal> {
    let blanks = text.iter().take_while(|byte| is_blank(**byte));
    match blanks.take(MOST_BLANKS + 1).count() {
        count if count > MOST_BLANKS => Err(Refusal::TooLong),
        count => Ok(count),
    }
}

/// Checks a name that may continue in the next lines: some servers end it at the end of its line,
/// and others join the lines.
fn check_lines(value: &[u8]) -> Result<(), Refusal> {
    for (line, name) in lines(value).enumerate() {
        if line == MOST_LINES || name.len() > SHORT_NAME {
            return Err(Refusal::TooLong);
        }
        check_name(name)?;
        // In `name*=utf-8''response_type` the character set comes first.
        check_name(
            name.rsplit(|byte| *byte == b'\'')
                .next()
                .unwrap_or_default(),
        )?;
        if !Parameter::may_begin(name) {
            break;
        }
    }
    Ok(())
}

/// Returns the first line of a text, its first two lines, and so on. Blank lines do not count.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (1..=text.len()).filter(|end| {
        let ends_line = text.get(*end).is_none_or(|byte| is_line_end(*byte));
        let is_blank = text.get(*end - 1).is_none_or(|byte| is_blank(*byte));
        *end == text.len() || ends_line && !is_blank
    });
    ends.filter_map(|end| text.get(..end))
}

fn check_name(name: &[u8]) -> Result<(), Refusal> {
    match Parameter::named(name) {
        Some(Parameter::ResponseType) => Err(Refusal::ResponseType),
        Some(Parameter::RequestUri) => Err(Refusal::RequestUri),
        Some(Parameter::Request) | None => Ok(()),
    }
}

fn has_suffix(text: &[u8], suffix: &[u8]) -> bool {
    let start = text.len().checked_sub(suffix.len());
    start
        .and_then(|start| text.get(start..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Returns whether some server ignores this byte around a name: Java removes all of these.
const fn is_blank(byte: u8) -> bool {
    byte <= b' '
}

/// Returns where a word stands alone in a text.
fn words<'a>(text: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    (0..text.len()).filter(|at| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric())
            && text
                .get(*at..*at + word.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(word))
    })
}

/// Returns whether the name after this word is divided into sections (`name*0=response_`,
/// `name*1=type`), which some servers join in the order of their numbers (RFC 2231 §3). Clients do
/// not send such names (RFC 7578 §4.2).
fn is_section(rest: &[u8]) -> bool {
    let mut between = rest.iter().take_while(|byte| **byte != b'=');
    between.any(|byte| *byte == b'*') && between.any(u8::is_ascii_digit)
}

/// Returns the value of the parameter `name` after this word, as some parser reads it: lenient
/// parsers differ in spaces, quotes and `name*`. The value may continue beyond the end of its line,
/// and is cut to one byte more than `SHORT_NAME`.
fn value(rest: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let is_between = |byte: &&u8| is_blank(**byte) || byte.is_ascii_digit() || **byte == b'*';
    let between = rest.iter().take_while(is_between);
    let between = between.take(MOST_BLANKS + 1).count();
    if between > MOST_BLANKS {
        return Err(Refusal::TooLong);
    }
    let Some(rest) = rest.get(between..).and_then(|rest| rest.strip_prefix(b"=")) else {
        return Ok(None);
    };
    let rest = rest.get(blanks(rest)?..).unwrap_or_default();
    let (rest, end) = match rest {
        [quote @ (b'"' | b'\''), rest @ ..] => (rest, *quote),
        rest => (rest, b';'),
    };
    let escaped = rest.iter().copied().take_while(|byte| *byte != end);
    let escaped: Vec<_> = escaped.take(2 * SHORT_NAME + 1).collect();
    let is_cut = escaped.len() > 2 * SHORT_NAME;
    let value = escaped.into_iter().filter(|byte| *byte != b'\\');
    let value: Vec<_> = value.take(SHORT_NAME + 1).collect();
    // Only backslashes make a value that is cut shorter than a name that is refused.
    if is_cut && value.len() <= SHORT_NAME {
        return Err(Refusal::TooLong);
    }
    Ok(Some(value))
}
