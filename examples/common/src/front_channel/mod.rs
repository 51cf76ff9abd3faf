//! Refuses authorization requests that would return tokens on the front channel.
//!
//! With reference access tokens, the upstream's tokens must not reach a client. The proxy replaces
//! them in the responses of the token endpoint, but a response type such as `token` or
//! `code id_token` puts them into the URL that the browser is redirected to, or into a form that
//! the browser posts. The proxy therefore refuses these requests on every path:
//!
//! 1. A `response_type` with `token` in any of its values, in the query or in a form, with any
//!    method. That includes pushed authorization requests (RFC 9126), which are forms. A body
//!    without a media type is checked as a form. A part named `response_type` in a body of any
//!    `multipart` type is refused, too, because some frameworks treat it as a form parameter.
//! 2. A `request` object (RFC 9101) with such a `response_type` in its claims, or an encrypted one,
//!    which the proxy cannot read.
//! 3. A `request_uri`, unless it comes from a pushed authorization request: the proxy cannot read
//!    the request object behind it.
//!
//! Names and values are compared as the most lenient servers read them: case and punctuation are
//! ignored, also that of letters such as `ſ`, percent-encoding is decoded up to twice, and `;`
//! separates parameters. A name is also compared up to its first NUL, bracket or colon, where some
//! servers end it, and an encoded `?` in the path begins a query. In a `multipart` body, names are
//! found wherever some server finds a header. A harmless parameter that looks like one of these is
//! refused, too; no such parameter is known.

mod decoding;
mod form;
mod multipart;
mod parameter;
mod request_object;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use self::decoding::{decoded, folded};
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
        let types = || headers.get_all(CONTENT_TYPE).iter();
        let named = |part: &str| types().any(|value| folded(value.as_bytes()).contains(part));
        let is_form = named("urlencoded");
        let is_multipart = named("multipart");
        // Some servers read a body without a type as a form, even if it is said to be encoded.
        let has_type =
            types().next().is_some() && types().all(|value| is_media_type(value.as_bytes()));
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
            return Err(Refusal::Encoding);
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

/// Returns whether a value of `Content-Type` begins with a type and a subtype.
fn is_media_type(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| matches!(byte, b';' | b','));
    let essence = parts.next().unwrap_or_default().trim_ascii();
    let slash = essence.iter().position(|byte| *byte == b'/');
    slash.is_some_and(|at| at > 0 && at + 1 < essence.len())
}

/// Returns whether the form may be in a character set that is not an extension of ASCII.
fn has_odd_charset(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let mut charsets = text.match_indices(CHARSET);
        charsets.any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default().trim_ascii_end();
            let after = text.get(at + CHARSET.len()..).unwrap_or_default();
            // `charset*=utf-8''utf-7` and `charset*0=utf-7` are other spellings (RFC 2231).
            !(before.is_empty() || before.ends_with([';', ','])) || !is_usual(after)
        })
    })
}

const CHARSET: &str = "charset";

/// Returns whether the text after the name `charset` names an extension of ASCII, or nothing.
fn is_usual(text: &str) -> bool {
    let text = text
        .split([';', ','])
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let Some(value) = text.strip_prefix('=') else {
        return text.is_empty();
    };
    let value = value.trim_ascii().trim_matches(['"', '\'']).trim_ascii();
    let is_numbered = |prefix: &&str| {
        let number = value.strip_prefix(*prefix).unwrap_or_default();
        matches!(number.len(), 1..=2) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    matches!(value, "" | "utf-8" | "utf8" | "us-ascii" | "ascii")
        || NUMBERED.iter().any(is_numbered)
}

/// The beginnings of the names of numbered extensions of ASCII.
const NUMBERED: [&str; 5] = ["iso-8859-", "iso8859-", "latin", "latin-", "windows-125"];
