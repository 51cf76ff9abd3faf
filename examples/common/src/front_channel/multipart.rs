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

/// The header of a part that holds its name, and the headers from which some servers take the name
/// of a part that has none.
const NAMING: [&[u8]; 3] = [DISPOSITION, b"content-id", b"content-type"];

/// The longest such header that is accepted, in bytes.
const LONGEST: usize = 8 << 10;

/// The most names that such a header may have. A header with more is refused, so that the cost of
/// checking it stays proportional to its length.
const MOST_NAMES: usize = 16;

/// Checks a body while it streams to the upstream.
#[derive(Debug, Default)]
pub struct MultipartCheck {
    /// The current line and its continuation lines, while they may be a header that names a part.
    held: BytesMut,
    place: Place,
}

/// The position of the last received byte in the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a line that may be a header that names a part.
    #[default]
    Line,
    /// After a line of the header. If the next line begins with a space or a tab, it continues the
    /// header.
    NextLine,
    /// In another line.
    Skipped,
}

impl MultipartCheck {
    /// Consumes the next bytes of the body. Returns the bytes that may be passed on.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::with_capacity(self.held.len() + data.len());
        let mut rest = data;
        while let [byte, after @ ..] = rest {
            let is_end = is_line_end(*byte);
            if self.place == Place::Skipped {
                let length = rest
                    .iter()
                    .position(|byte| is_line_end(*byte))
                    .map_or(rest.len(), |end| end + 1);
                let (piece, after) = rest.split_at(length);
                out.extend_from_slice(piece);
                if piece.last().is_some_and(|byte| is_line_end(*byte)) {
                    self.place = Place::Line;
                }
                rest = after;
                continue;
            }
            if self.place == Place::NextLine {
                if matches!(byte, b' ' | b'\t') {
                    self.place = Place::Line;
                } else if !(*byte == b'\n' && self.held.ends_with(b"\r")) {
                    self.finish_header(&mut out)?;
                }
            }
            self.held.extend_from_slice(&[*byte]);
            self.follow(is_end, &mut out)?;
            rest = after;
        }
        Ok(out.freeze())
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

    fn follow(&mut self, is_end: bool, out: &mut BytesMut) -> Result<(), Refusal> {
        if NAMING.iter().any(|name| has_prefix(&self.held, name)) {
            if is_end {
                self.place = Place::NextLine;
            }
            return if self.held.len() > LONGEST {
                Err(Refusal::TooLong)
            } else {
                Ok(())
            };
        }
        if !NAMING.iter().any(|name| has_prefix(name, &self.held)) {
            out.unsplit(self.held.split());
            self.place = if is_end { Place::Line } else { Place::Skipped };
        }
        Ok(())
    }

    fn finish_header(&mut self, out: &mut BytesMut) -> Result<(), Refusal> {
        for (number, name) in names(&self.held).enumerate() {
            if number == MOST_NAMES || name.len() > SHORT_NAME {
                return Err(Refusal::TooLong);
            }
            // Some servers decode encoded words (RFC 2047) in a name.
            if name.windows(2).any(|pair| pair == b"=?") {
                return Err(Refusal::Encoding);
            }
            check_name(&name)?;
        }
        if let Some(value) = other_name(&self.held) {
            check_name(value)?;
        }
        out.unsplit(self.held.split());
        self.place = Place::Line;
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), Refusal> {
    match Parameter::named(name) {
        Some(Parameter::ResponseType) => Err(Refusal::ResponseType),
        Some(Parameter::RequestUri) => Err(Refusal::RequestUri),
        Some(Parameter::Request) | None => Ok(()),
    }
}

/// Returns the value of a header other than `Content-Disposition`, as a name; `None` if it is too
/// long for one that is refused.
fn other_name(header: &[u8]) -> Option<&[u8]> {
    let mut others = NAMING.iter().filter(|name| **name != DISPOSITION);
    let name = others.find(|name| has_prefix(header, name))?;
    let value = header.get(name.len()..)?.trim_ascii().strip_prefix(b":")?;
    let value = value.trim_ascii_start();
    (value.len() <= SHORT_NAME).then_some(value)
}

fn has_prefix(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Returns all values that some parser reads as the parameter `name` of a header: lenient parsers
/// differ in spaces, quotes and `name*`. A value longer than `SHORT_NAME` is cut to one byte more
/// than that length.
fn names(header: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let header: &[u8] = if has_prefix(header, DISPOSITION) {
        header
    } else {
        &[]
    };
    let starts = (0..header.len()).filter(|at| {
        let rest = header.get(*at..).unwrap_or_default();
        let is_whole = at.checked_sub(1).is_none_or(|at| {
            header
                .get(at)
                .is_none_or(|byte| !byte.is_ascii_alphanumeric())
        });
        is_whole
            && rest
                .get(..4)
                .is_some_and(|name| name.eq_ignore_ascii_case(b"name"))
    });
    starts.filter_map(|at| {
        let rest = header.get(at + 4..)?;
        let is_between =
            |byte: &&u8| byte.is_ascii_whitespace() || byte.is_ascii_digit() || **byte == b'*';
        let between = rest.iter().take_while(is_between).count();
        let value = rest.get(between..)?.strip_prefix(b"=")?.trim_ascii_start();
        Some(match value {
            [quote @ (b'"' | b'\''), value @ ..] => {
                let value = value
                    .iter()
                    .copied()
                    .take_while(|byte| byte != quote)
                    .filter(|byte| *byte != b'\\');
                value.take(SHORT_NAME + 1).collect()
            }
            // In `name*=utf-8''response_type` the character set comes first.
            value => {
                let value = value.split(|byte| *byte == b';').next().unwrap_or_default();
                let value = value
                    .rsplit(|byte| *byte == b'\'')
                    .next()
                    .unwrap_or_default();
                value.iter().copied().take(SHORT_NAME + 1).collect()
            }
        })
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
            "--x\r\nX-Content-Disposition: name=\"response_type\"\r\n\r\n content\r\n--x--",
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
        ] {
            let header = format!("Content-Disposition: form-data; {value}\r\n\r\n");
            for size in [1, 4096] {
                assert_eq!(streamed(&header, size).1, verdict, "{value:.80} by {size}");
            }
        }
    }
}
