//! Finds parameters of an authorization request in a body of a `multipart` type.
//!
//! Clients do not send authorization requests in this format, but frameworks that read both form
//! formats into one table accept them, some of them also `multipart/mixed` and `multipart/related`.
//! The value of a part may be large, so only names are checked: a part named `response_type` or
//! `request_uri` is refused. A part named `request` is common in other forms and passes.

use bytes::{Bytes, BytesMut};

use super::Refusal;
use super::form::SHORT_NAME;
use super::parameter::Parameter;

/// The header of a part that holds its name (RFC 7578 §4.2).
const DISPOSITION: &[u8] = b"content-disposition";

/// The headers from which some servers take the name of a part that has none.
const OTHERS: [&[u8]; 2] = [b"content-id", b"content-type"];

/// The number of bytes before a colon that are compared with the name of a header.
const LOOK_BACK: usize = 64;

/// The longest rest of a header block that is accepted behind `Content-Disposition`, in bytes.
const LONGEST: usize = 8 << 10;

/// The most names that such a rest may have. One with more is refused, so that the cost of checking
/// it stays proportional to its length.
const MOST_NAMES: usize = 16;

/// The most lines over which a name may continue.
const MOST_LINES: usize = 8;

/// Checks a body while it streams to the upstream.
///
/// Servers do not agree on what a header line is. Some search for the name of the header anywhere
/// in the block (Rack), some ignore blanks before it (Tomcat), and some append a line without a
/// colon to the line before (PHP). So the check looks for the name of a header and a colon
/// anywhere in the body, and for names of parts up to the next empty line.
#[derive(Debug, Default)]
pub struct MultipartCheck {
    /// The last bytes that were passed on, at most [`LOOK_BACK`].
    passed: BytesMut,
    /// What follows the colon of `header`, as far as it has arrived.
    held: BytesMut,
    /// The header in whose value the last received byte is.
    header: Option<Header>,
}

/// A header that may name a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Disposition,
    /// One of [`OTHERS`].
    Other,
}

impl Header {
    /// Returns the header whose name, followed by a colon, is the end of `text`.
    fn at_end_of(text: &[u8]) -> Option<Self> {
        let name = text.strip_suffix(b":")?.trim_ascii_end();
        if has_suffix(name, DISPOSITION) {
            Some(Self::Disposition)
        } else {
            let is_other = OTHERS.iter().any(|other| has_suffix(name, other));
            is_other.then_some(Self::Other)
        }
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
                    self.pass(piece, &mut out);
                    self.header = Header::at_end_of(&self.passed);
                    after
                }
                Some(Header::Disposition) => {
                    self.held.extend_from_slice(&[*byte]);
                    if self.held.ends_with(b"\r\n\r\n") {
                        self.finish_header(&mut out)?;
                    } else if self.held.len() > LONGEST {
                        return Err(Refusal::TooLong);
                    }
                    after
                }
                Some(Header::Other) => {
                    self.feed_other(*byte, &mut out)?;
                    after
                }
            };
        }
        Ok(out.freeze())
    }

    /// Consumes a byte of the value of one of [`OTHERS`].
    fn feed_other(&mut self, byte: u8, out: &mut BytesMut) -> Result<(), Refusal> {
        if self.held.is_empty() && byte.is_ascii_whitespace() {
            self.pass(&[byte], out);
            if self.passed.ends_with(b"\r\n\r\n") {
                self.header = None;
            }
            return Ok(());
        }
        self.held.extend_from_slice(&[byte]);
        if byte == b':'
            && let Some(header) = Header::at_end_of(&self.held)
        {
            self.release(out);
            self.header = Some(header);
        } else if is_line_end(byte) {
            self.finish_header(out)?;
        } else if self.held.len() > SHORT_NAME {
            // Too long for a name that is refused.
            self.release(out);
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
            Some(Header::Disposition) => check_block(&self.held)?,
            Some(Header::Other) => check_name(self.held.trim_ascii_end())?,
            None => {}
        }
        self.release(out);
        Ok(())
    }

    /// Passes on what was held back.
    fn release(&mut self, out: &mut BytesMut) {
        let held = self.held.split();
        self.pass(&held, out);
        self.header = None;
    }

    fn pass(&mut self, piece: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(piece);
        let tail = piece.len().saturating_sub(LOOK_BACK);
        self.passed
            .extend_from_slice(piece.get(tail..).unwrap_or_default());
        let _ = self
            .passed
            .split_to(self.passed.len().saturating_sub(LOOK_BACK));
    }
}

/// Checks the rest of a header block behind the colon of `Content-Disposition`.
fn check_block(block: &[u8]) -> Result<(), Refusal> {
    for (number, value) in names(block).enumerate() {
        if number == MOST_NAMES {
            return Err(Refusal::TooLong);
        }
        check_lines(&value)?;
    }
    let colons = block.iter().enumerate().filter(|(_, byte)| **byte == b':');
    colons
        .filter(|(at, _)| {
            let from = at.saturating_sub(LOOK_BACK);
            let name = block.get(from..=*at).unwrap_or_default();
            Header::at_end_of(name) == Some(Header::Other)
        })
        .try_for_each(|(at, _)| check_name(first_line(block.get(at + 1..).unwrap_or_default())))
}

/// Returns the first line that is not empty, without the blanks around it, if it is short enough
/// for a name that is refused.
fn first_line(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let line = text.split(|byte| is_line_end(*byte)).next();
    let line = line.unwrap_or_default().trim_ascii_end();
    if line.len() <= SHORT_NAME { line } else { b"" }
}

/// Checks a name as servers read it that end it at any of its line ends, or that join its lines.
fn check_lines(value: &[u8]) -> Result<(), Refusal> {
    let ends = (1..=value.len()).filter(|end| {
        let ends_line = value.get(*end).is_none_or(|byte| is_line_end(*byte));
        let is_blank = value.get(*end - 1).is_none_or(u8::is_ascii_whitespace);
        *end == value.len() || ends_line && !is_blank
    });
    for (line, end) in ends.enumerate() {
        let name = value.get(..end).unwrap_or_default();
        if line == MOST_LINES || name.len() > SHORT_NAME {
            return Err(Refusal::TooLong);
        }
        // Some servers decode encoded words (RFC 2047) in a name.
        if name.windows(2).any(|pair| pair == b"=?") {
            return Err(Refusal::Encoding);
        }
        check_name(name)?;
        // In `name*=utf-8''response_type` the character set comes first.
        if let Some(value) = name.rsplit(|byte| *byte == b'\'').next() {
            check_name(value)?;
        }
        if !Parameter::may_begin(name) {
            break;
        }
    }
    Ok(())
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

/// Returns all values that some parser reads as the parameter `name` in a header block: lenient
/// parsers differ in spaces, quotes and `name*`. A value may continue beyond the end of its line,
/// and is cut to one byte more than `SHORT_NAME`.
fn names(block: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let starts = (0..block.len()).filter(|at| {
        let rest = block.get(*at..).unwrap_or_default();
        let is_whole = at.checked_sub(1).is_none_or(|at| {
            block
                .get(at)
                .is_none_or(|byte| !byte.is_ascii_alphanumeric())
        });
        is_whole
            && rest
                .get(..4)
                .is_some_and(|name| name.eq_ignore_ascii_case(b"name"))
    });
    starts.filter_map(|at| {
        let rest = block.get(at + 4..)?;
        let is_between =
            |byte: &&u8| byte.is_ascii_whitespace() || byte.is_ascii_digit() || **byte == b'*';
        let between = rest.iter().take_while(is_between).count();
        let value = rest.get(between..)?.strip_prefix(b"=")?.trim_ascii_start();
        let (value, end) = match value {
            [quote @ (b'"' | b'\''), value @ ..] => (value, *quote),
            value => (value, b';'),
        };
        let value = value.iter().copied().take_while(|byte| *byte != end);
        let value = value.filter(|byte| end == b';' || *byte != b'\\');
        Some(value.take(SHORT_NAME + 1).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::super::BodyCheck;
    use super::super::tests::checked;
    use super::*;

    /// Returns the bytes that the upstream receives of a body that arrives in chunks of this size,
    /// and the verdict.
    fn streamed(body: &str, size: usize) -> (Vec<u8>, Result<(), Refusal>) {
        checked(
            BodyCheck::Multipart(MultipartCheck::default()),
            body.as_bytes().chunks(size),
        )
    }

    #[test]
    fn parts_named_like_an_inspected_parameter_are_refused() {
        for (header, refusal) in [
            (
                "Content-Disposition: form-data; name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "content-disposition:form-data;name=response_type",
                Refusal::ResponseType,
            ),
            (
                "CONTENT-DISPOSITION : form-data; NAME = \"Response_Type\"; filename=x",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data;\r\n name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data;\n\tname='response_type'",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=\"a\"; name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name*=utf-8''response%5Ftype",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name*0=response_type",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=\"response\\_type\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=\"response_type[]\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=\"response_type\0x\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=request_uri%00x",
                Refusal::RequestUri,
            ),
            (
                "Content-Disposition: form-data; name name 1 * = response_type",
                Refusal::ResponseType,
            ),
            (
                "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"request_uri\"",
                Refusal::RequestUri,
            ),
            (
                "Content-Disposition: form-data; name=\"re\u{17f}ponse_type\"",
                Refusal::ResponseType,
            ),
            // Names of parts without one.
            ("Content-ID: response_type", Refusal::ResponseType),
            ("content-id :\t<Request_URI>", Refusal::RequestUri),
            (
                "Content-Disposition: form-data\r\nContent-ID:\r\n response_type",
                Refusal::ResponseType,
            ),
            ("Content-Type: response_type", Refusal::ResponseType),
            ("X-Content-ID: response_type", Refusal::ResponseType),
            (
                "Content-Type: Content-ID: response_type",
                Refusal::ResponseType,
            ),
            // Headers that begin elsewhere.
            (
                "X-Content-Disposition: form-data; name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                " Content-Disposition: form-data; name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "\x0bContent-Disposition: form-data; name=response_type",
                Refusal::ResponseType,
            ),
            (
                "Content-Type: Content-Disposition: form-data; name=response_type",
                Refusal::ResponseType,
            ),
            // Lines that continue a header without a blank, or after another header.
            (
                "Content-Disposition: form-data\r\n; name=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data;\r\nname=\"response_type\"; x=\":\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data;\n\nname=response_type\r\nA: it's",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data;\r\n\x0bname=\"response_type\"",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data\r\nA: b\r\n\x0c; name=\"request_uri\"",
                Refusal::RequestUri,
            ),
            (
                "Content-Disposition: form-data; name=resp\r\nonse_\r\ntype\r\nA: b",
                Refusal::ResponseType,
            ),
            (
                "Content-Disposition: form-data; name=\"response_type\r\nA: b",
                Refusal::ResponseType,
            ),
            // Encoded words.
            (
                "Content-Disposition: form-data; name=\"=?utf-8?B?cmVzcG9uc2VfdHlwZQ==?=\"",
                Refusal::Encoding,
            ),
            (
                "Content-Disposition: form-data; name==?utf-8?Q?response=5ftype?=",
                Refusal::Encoding,
            ),
        ] {
            let body = format!(
                "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x\r\n{header}\r\n\r\ntoken\r\n--x--"
            );
            for size in [1, 2, 3, 7, 1000] {
                let (passed, verdict) = streamed(&body, size);
                assert_eq!(verdict, Err(refusal), "{header} by {size}");
                assert!(passed.len() < body.len(), "{header} by {size}");
            }
        }
    }

    #[test]
    fn other_bodies_pass_unchanged() {
        let long = format!(
            "--x\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{}\r\n--x--",
            "c".repeat(100_000)
        );
        for body in [
            "",
            "\r\n\r\n\n",
            "--x\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\nresponse_type=token\r\n--x--\r\n",
            "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"response_type\"\r\n\r\nname=\"response_type\"\n--x--",
            "--x\r\nContent-Type:\r\n\r\nresponse_type\r\n--x--",
            "--x\r\nContent-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nb\r\n--x--",
            "headers[\"Content-Disposition\"] = 'name=response_type'",
            "--x\r\nContent-Type: application/json; charset=UTF-8; name=\"=?utf-8?B?YQ==?=\"\r\nContent-ID: <request@a>\r\n\r\n{}\r\n--x--",
            "--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"=?utf-8?B?YQ==?=\"\r\n\r\n\r\n--x--",
            "content-identity is response_type\r\ncontent-types: response_type",
            "Content-Dispo",
            "Content-Disposition: form-data; name=f\r\n\r\n\r\n\n\n name=response_type",
            "Content-Disposition: form-data; name=",
            &long,
        ] {
            for size in [1, 5, 4096] {
                let (passed, verdict) = streamed(body, size);
                assert_eq!(
                    (passed.len(), verdict),
                    (body.len(), Ok(())),
                    "{body:.80} by {size}"
                );
                assert!(passed == body.as_bytes(), "{body:.80} by {size}");
            }
        }
        let (_, verdict) = streamed(
            &format!("Content-Disposition: {}", "x".repeat(LONGEST)),
            4096,
        );
        assert_eq!(verdict, Err(Refusal::TooLong));
    }

    #[test]
    fn a_header_with_many_or_long_names_is_refused() {
        for (value, verdict) in [
            ("name=a;".repeat(MOST_NAMES), Ok(())),
            ("name=a;".repeat(MOST_NAMES + 1), Err(Refusal::TooLong)),
            ("name=".repeat(LONGEST / 8), Err(Refusal::TooLong)),
            ("name=\"".repeat(LONGEST / 8), Err(Refusal::TooLong)),
            (format!("name=\"{}\"", "a".repeat(SHORT_NAME)), Ok(())),
            (
                format!("name=\"{}\"", "a".repeat(SHORT_NAME + 1)),
                Err(Refusal::TooLong),
            ),
            (
                format!("name={}response_type", ".".repeat(SHORT_NAME)),
                Err(Refusal::TooLong),
            ),
            (
                format!("name=\"{}response_type\"", " ".repeat(SHORT_NAME)),
                Err(Refusal::TooLong),
            ),
            (
                format!("name=\"{}response_type\"", "\\".repeat(SHORT_NAME)),
                Err(Refusal::ResponseType),
            ),
            (format!("filename=\"{}\"", "a".repeat(2000)), Ok(())),
            ("name ".repeat(LONGEST / 8), Ok(())),
            ("name=r\r\n".repeat(MOST_NAMES), Ok(())),
            (
                format!("name=r{}", "\r\n.".repeat(MOST_LINES)),
                Err(Refusal::TooLong),
            ),
        ] {
            let header = format!("Content-Disposition: form-data; {value}\r\n\r\n");
            for size in [1, 4096] {
                assert_eq!(streamed(&header, size).1, verdict, "{value:.80} by {size}");
            }
        }
    }
}
