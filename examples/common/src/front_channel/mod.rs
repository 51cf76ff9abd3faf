//! Refuses authorization requests that would return tokens on the front channel.
//!
//! With reference access tokens, the upstream's tokens must not reach a client. The proxy replaces
//! them in the responses of the token endpoint, but a response type such as `token` or
//! `code id_token` puts them into the URL that the browser is redirected to, or into a form that
//! the browser posts. The proxy therefore refuses these requests on every path:
//!
//! 1. A `response_type` with `token` in any of its values, in the query or in a form, with any
//!    method. That includes pushed authorization requests (RFC 9126), which are forms. A part named
//!    `response_type` in `multipart/form-data` is refused, too, because some frameworks treat it as
//!    a form parameter.
//! 2. A `request` object (RFC 9101) with such a `response_type` in its claims, or an encrypted one,
//!    which the proxy cannot read.
//! 3. A `request_uri`, unless it comes from a pushed authorization request: the proxy cannot read
//!    the request object behind it.
//!
//! Names and values are compared as the most lenient servers read them: case and punctuation are
//! ignored, percent-encoding is decoded up to twice, and `;` separates parameters. A name is also
//! compared up to its first NUL, as PHP reads it, and an encoded `?` in the path begins a query. A
//! harmless parameter that looks like one of these is refused, too; no such parameter is known.

mod decoding;
mod form;
mod multipart;
mod parameter;
mod request_object;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use self::decoding::decoded;
use self::form::FormCheck;
use self::multipart::MultipartCheck;
use self::parameter::check_pairs;

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("response types that return a token are not supported: use response_type=code")]
    ResponseType,
    #[error("the request object cannot be read")]
    RequestObject,
    #[error("a request_uri must come from a pushed authorization request")]
    RequestUri,
    #[error("the encoding or the character set of the form is not supported")]
    Encoding,
    #[error("a parameter of the form is too long")]
    TooLong,
}

impl Refusal {
    /// Returns the OAuth error code (RFC 6749 §4.1.2.1, RFC 9101 §7, OpenID Connect Core
    /// §3.1.2.6).
    pub const fn code(self) -> &'static str {
        match self {
            Self::ResponseType => "unsupported_response_type",
            Self::RequestObject => "invalid_request_object",
            Self::RequestUri => "request_uri_not_supported",
            Self::Encoding | Self::TooLong => "invalid_request",
        }
    }
}

/// Checks the query of a request.
pub fn check_query(query: &str) -> Result<(), Refusal> {
    check_pairs(query.as_bytes())
}

/// Checks the path of a request for an encoded `?`: a server that decodes the path before it splits
/// it sees a query.
pub fn check_path(path: &str) -> Result<(), Refusal> {
    if !path.contains('%') {
        return Ok(());
    }
    let once = decoded(path.as_bytes());
    let twice = decoded(&once);
    [once, twice]
        .iter()
        .filter_map(|path| path.splitn(2, |byte| *byte == b'?').nth(1))
        .try_for_each(check_pairs)
}

/// Checks the body of a request while it streams to the upstream.
#[derive(Debug)]
pub enum BodyCheck {
    Form(FormCheck),
    Multipart(MultipartCheck),
}

impl BodyCheck {
    /// Returns a check for the body of a request with these headers, if it can be a form.
    pub fn new(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let types = || {
            headers
                .get_all(CONTENT_TYPE)
                .iter()
                .map(|value| value.as_bytes().to_ascii_lowercase())
        };
        let is_form = types().any(|value| contains(&value, b"form-urlencoded"));
        let is_multipart = types().any(|value| contains(&value, b"multipart/form-data"));
        // Some servers read a body without a type as a form.
        let has_type = types().any(|value| !value.trim_ascii().is_empty());
        if has_type && !is_form && !is_multipart {
            return Ok(None);
        }
        let encodings = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .map(|value| value.as_bytes().trim_ascii());
        let mut encodings = encodings.filter(|encoding| !encoding.is_empty());
        if encodings.any(|encoding| !encoding.eq_ignore_ascii_case(b"identity"))
            || has_odd_charset(headers)
        {
            return if has_type {
                Err(Refusal::Encoding)
            } else {
                Ok(None)
            };
        }
        match (is_form, is_multipart) {
            // A server may parse the body as either type.
            (true, true) => Err(Refusal::Encoding),
            (false, true) => Ok(Some(Self::Multipart(MultipartCheck::default()))),
            (_, false) => Ok(Some(Self::Form(FormCheck::default()))),
        }
    }

    /// Consumes the next bytes of the body. Returns the bytes that may be passed on.
    pub fn feed(&mut self, data: &[u8]) -> Result<Bytes, Refusal> {
        match self {
            Self::Form(check) => check.feed(data),
            Self::Multipart(check) => check.feed(data),
        }
    }

    /// Returns the bytes that were held back, at the end of the body.
    pub fn finish(&mut self) -> Result<Bytes, Refusal> {
        match self {
            Self::Form(check) => check.finish(),
            Self::Multipart(check) => check.finish(),
        }
    }

    /// Returns how many bytes are held back.
    pub fn held(&self) -> usize {
        match self {
            Self::Form(check) => check.held(),
            Self::Multipart(check) => check.held(),
        }
    }
}

/// Returns whether the form may be in a character set that is not an extension of ASCII.
fn has_odd_charset(headers: &HeaderMap) -> bool {
    const USUAL: [&[u8]; 8] = [
        b"utf-8",
        b"utf8",
        b"us-ascii",
        b"ascii",
        b"iso-8859-",
        b"iso8859-",
        b"latin",
        b"windows-125",
    ];
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        let mut parameters = value.split(|byte| matches!(byte, b';' | b','));
        parameters.any(|parameter| {
            let Some(charset) = parameter.trim_ascii().strip_prefix(b"charset") else {
                return false;
            };
            let edge = |byte: &u8| {
                byte.is_ascii_whitespace() || matches!(byte, b'=' | b'"' | b'\'' | b'*')
            };
            let start = charset
                .iter()
                .position(|byte| !edge(byte))
                .unwrap_or(charset.len());
            let charset = charset.get(start..).unwrap_or_default();
            !charset.is_empty() && !USUAL.iter().any(|usual| charset.starts_with(usual))
        })
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
