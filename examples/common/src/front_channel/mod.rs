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

mod form;
mod multipart;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use url::Url;

use self::form::FormCheck;
use self::multipart::MultipartCheck;

/// The beginning of the URI of a pushed authorization request (RFC 9126 §2.2).
const PUSHED: &str = "urn:ietf:params:oauth:request_uri:";

/// A decoder that accepts everything that lenient decoders accept.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

fn check_pairs(query: &[u8]) -> Result<(), Refusal> {
    query
        .split(|byte| is_separator(*byte))
        .try_for_each(check_pair)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

/// A parameter that is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    ResponseType,
    Request,
    RequestUri,
}

impl Parameter {
    fn named(name: &[u8]) -> Option<Self> {
        let once = decoded(name);
        Self::read(&once).or_else(|| Self::read(&decoded(&once)))
    }

    /// Reads a decoded name: the whole name, or only the part before a NUL, where servers written
    /// in C end it.
    fn read(name: &[u8]) -> Option<Self> {
        let before_nul = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self::folded(&folded(name)).or_else(|| Self::folded(&folded(before_nul)))
    }

    /// Finds the parameter of a name without case and punctuation: `response_type`, `responseType`
    /// and `response_type[0]` are one name.
    fn folded(name: &str) -> Option<Self> {
        match name.trim_end_matches(|last: char| last.is_ascii_digit()) {
            "responsetype" => Some(Self::ResponseType),
            "request" => Some(Self::Request),
            "requesturi" => Some(Self::RequestUri),
            _ => None,
        }
    }

    /// Returns whether a name that begins like this can be that of an inspected parameter.
    fn may_begin(name: &[u8]) -> bool {
        let may_begin = |name: &[u8]| {
            let all = folded(name);
            let all = all.trim_end_matches(|last: char| last.is_ascii_digit());
            // A complete name matches whatever follows it, if a NUL comes first.
            ["responsetype", "requesturi"]
                .iter()
                .any(|known| known.starts_with(all))
                || Self::read(name).is_some()
        };
        let once = decoded(without_open_escape(name));
        may_begin(&once) || may_begin(&decoded(without_open_escape(&once)))
    }

    fn check(self, value: &[u8]) -> Result<(), Refusal> {
        let value = decoded(value);
        match self {
            Self::ResponseType if has_token(&value) || has_token(&decoded(&value)) => {
                Err(Refusal::ResponseType)
            }
            Self::ResponseType => Ok(()),
            Self::Request => at_both_levels(&value, check_request_object),
            Self::RequestUri => at_both_levels(&value, check_request_uri),
        }
    }
}

fn check_pair(pair: &[u8]) -> Result<(), Refusal> {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    let (name, value) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    Parameter::named(name).map_or(Ok(()), |parameter| parameter.check(value))
}

/// Checks a value, and, if it still contains an escape, the value decoded once more.
fn at_both_levels(
    value: &[u8],
    check: impl Fn(&[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    check(value)?;
    if value.contains(&b'%') {
        check(&decoded(value))
    } else {
        Ok(())
    }
}

fn has_token(response_type: &[u8]) -> bool {
    folded(response_type).contains("token")
}

/// Returns the letters and digits of a text, in lower case.
fn folded(text: &[u8]) -> String {
    text.iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

/// Decodes `+`, `%74`, and `%u0074`, which some servers decode.
fn decoded(mut text: &[u8]) -> Vec<u8> {
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
fn without_open_escape(text: &[u8]) -> &[u8] {
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

/// Checks a JWT whose claims are the parameters of the request. The upstream checks its signature.
fn check_request_object(value: &[u8]) -> Result<(), Refusal> {
    // Lenient decoders skip every other byte, `=` included.
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let compact: Vec<u8> = value
        .iter()
        .map(|byte| url_safe(*byte))
        .filter(is_known)
        .collect();
    let mut parts = compact.split(|byte| *byte == b'.');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next());
    // A value whose header is not a JSON object cannot be a request object: the parameter has
    // another meaning on this path.
    if !base64_decoded(header).is_some_and(|header| is_object(&header)) {
        return Ok(());
    }
    // JWS has three parts, JWE five.
    if parts.count() != 1 {
        return Err(Refusal::RequestObject);
    }
    let payload = base64_decoded(payload.unwrap_or_default()).ok_or(Refusal::RequestObject)?;
    serde_json::from_slice::<Claims>(&payload)
        .map_err(|_| Refusal::RequestObject)?
        .0
}

/// Decodes base64 as lenient decoders do: they ignore a last digit that does not complete a byte.
fn base64_decoded(digits: &[u8]) -> Option<Vec<u8>> {
    let surplus = usize::from(digits.len() % 4 == 1);
    BASE64.decode(digits.get(..digits.len() - surplus)?).ok()
}

/// Returns whether the text begins like a JSON object, in UTF-8, UTF-16 or UTF-32, with or without
/// a byte order mark.
fn is_object(text: &[u8]) -> bool {
    let is_skipped = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, 0 | 0xbb | 0xbf | 0xef | 0xfe | 0xff)
    };
    text.iter().find(|byte| !is_skipped(byte)) == Some(&b'{')
}

const fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        byte => byte,
    }
}

fn check_request_uri(value: &[u8]) -> Result<(), Refusal> {
    let value = String::from_utf8_lossy(value);
    let value = value.trim_matches(|edge: char| edge.is_whitespace() || edge.is_control());
    let pushed = value
        .get(..PUSHED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PUSHED));
    // A value that is not an absolute URI cannot be fetched, so the parameter has another meaning
    // on this path.
    if pushed || Url::parse(value).is_err() {
        Ok(())
    } else {
        Err(Refusal::RequestUri)
    }
}

/// The verdict on the claims of a request object, repeated ones included.
struct Claims(Result<(), Refusal>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut verdict = Ok(());
                while let Some(name) = map.next_key::<String>()? {
                    match Parameter::read(name.as_bytes()) {
                        Some(Parameter::ResponseType) => {
                            let value: serde_json::Value = map.next_value()?;
                            if has_token(value.to_string().as_bytes()) {
                                verdict = Err(Refusal::ResponseType);
                            }
                        }
                        // RFC 9101 §4 forbids both in a request object.
                        Some(Parameter::Request | Parameter::RequestUri) => {
                            map.next_value::<IgnoredAny>()?;
                            verdict = verdict.and(Err(Refusal::RequestObject));
                        }
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Claims(verdict))
            }
        }

        deserializer.deserialize_map(Object)
    }
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
