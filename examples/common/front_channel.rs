//! Refuses authorization requests that would return tokens on the front channel.
//!
//! With reference access tokens the upstream's tokens must not reach a client. The proxy replaces them in the answers of
//! the token endpoint, but a response type such as `token` or `code id_token` puts them into the URL that the browser is
//! redirected to, or into a form that it posts. So such requests are refused, wherever they are sent:
//!
//! 1. `response_type` with `token` in any of its values, in the query or in a form, of any method and on any path. That
//!    includes pushed authorization requests (RFC 9126), which are forms.
//! 2. `request` objects (RFC 9101) whose claims say so, and those that cannot be read because they are encrypted.
//! 3. `request_uri`, unless it comes from a pushed authorization request: the proxy cannot see what is behind it.
//!
//! Names and values are compared as the most lenient servers read them: without case and punctuation, percent-decoded up
//! to twice, `;` as a separator. A parameter that only looks like one of these is refused, too; none is known.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use url::Url;

/// The longest parameter of a form that is looked into, in bytes.
const LONGEST: usize = 64 << 10;

/// Up to this length the beginning of a name is looked at whenever more of it arrives, in bytes.
const SHORT_NAME: usize = 512;

/// How the URI of a pushed authorization request begins (RFC 9126 §2.2).
const PUSHED: &str = "urn:ietf:params:oauth:request_uri:";

/// Reads what lenient decoders read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("response types with a token are not available here: use response_type=code")]
    ResponseType,
    #[error("the request object cannot be read")]
    RequestObject,
    #[error("a request_uri must come from a pushed authorization request")]
    RequestUri,
    #[error("the form has an encoding or a character set that is not supported")]
    Encoding,
    #[error("a parameter of the form is too long")]
    TooLong,
}

impl Refusal {
    /// The error code of OAuth (RFC 6749 §4.1.2.1, RFC 9101 §7, OpenID Connect Core §3.1.2.6).
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::ResponseType => "unsupported_response_type",
            Self::RequestObject => "invalid_request_object",
            Self::RequestUri => "request_uri_not_supported",
            Self::Encoding | Self::TooLong => "invalid_request",
        }
    }
}

/// Checks the query of a request.
pub(crate) fn check_query(query: &str) -> Result<(), Refusal> {
    query.as_bytes().split(|byte| is_separator(*byte)).try_for_each(check_pair)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

/// A parameter that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    ResponseType,
    Request,
    RequestUri,
}

impl Parameter {
    fn named(name: &[u8]) -> Option<Self> {
        let once = decoded(name);
        [folded(&once), folded(&decoded(&once))].iter().find_map(|name| Self::folded(name))
    }

    /// `response_type`, `responseType` and `response_type[0]` are one name.
    fn folded(name: &str) -> Option<Self> {
        match name.trim_end_matches(|last: char| last.is_ascii_digit()) {
            "responsetype" => Some(Self::ResponseType),
            "request" => Some(Self::Request),
            "requesturi" => Some(Self::RequestUri),
            _ => None,
        }
    }

    /// Returns whether a name that begins so can be one of them.
    fn may_begin(name: &[u8]) -> bool {
        let may_begin = |name: &str| {
            let name = name.trim_end_matches(|last: char| last.is_ascii_digit());
            ["responsetype", "requesturi"].iter().any(|known| known.starts_with(name))
        };
        let once = decoded(without_open_escape(name));
        may_begin(&folded(&once)) || may_begin(&folded(&decoded(without_open_escape(&once))))
    }

    fn check(self, value: &[u8]) -> Result<(), Refusal> {
        let value = decoded(value);
        match self {
            Self::ResponseType if has_token(&value) || has_token(&decoded(&value)) => Err(Refusal::ResponseType),
            Self::ResponseType => Ok(()),
            Self::Request => check_request_object(&value),
            Self::RequestUri => check_request_uri(&value),
        }
    }
}

fn check_pair(pair: &[u8]) -> Result<(), Refusal> {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    Parameter::named(name).map_or(Ok(()), |parameter| parameter.check(value))
}

fn has_token(response_type: &[u8]) -> bool {
    folded(response_type).contains("token")
}

/// Letters and digits, in lower case.
fn folded(text: &[u8]) -> String {
    text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// Decodes `+`, `%74` and, as some servers do, `%u0074`.
fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let escaped = match rest {
            [b'u' | b'U', a, b, c, d, rest @ ..] if *first == b'%' => {
                hex(&[*a, *b, *c, *d]).map(|code| (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
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

/// Cuts off an escape at the end that more bytes can complete.
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
    digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
}

/// Checks a JWT whose claims are the parameters of the request. Its signature is the upstream's affair.
fn check_request_object(value: &[u8]) -> Result<(), Refusal> {
    let compact: Vec<u8> =
        value.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| url_safe(*byte)).collect();
    let mut parts = compact.split(|byte| *byte == b'.');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next());
    let is_jose = |header: Vec<u8>| header.trim_ascii_start().starts_with(b"{");
    // Anything else cannot be a request object: the parameter has another meaning where it was sent.
    if !BASE64.decode(header).is_ok_and(is_jose) {
        return Ok(());
    }
    // JWS has three parts, JWE five.
    if parts.count() != 1 {
        return Err(Refusal::RequestObject);
    }
    let payload = BASE64.decode(payload.unwrap_or_default()).map_err(|_| Refusal::RequestObject)?;
    serde_json::from_slice::<Claims>(&payload).map_err(|_| Refusal::RequestObject)?.0
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
    let pushed = value.get(..PUSHED.len()).is_some_and(|start| start.eq_ignore_ascii_case(PUSHED));
    // What is not an absolute URI cannot be fetched: the parameter has another meaning where it was sent.
    if pushed || Url::parse(value).is_err() { Ok(()) } else { Err(Refusal::RequestUri) }
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
                    match Parameter::folded(&folded(name.as_bytes())) {
                        Some(Parameter::ResponseType) => {
                            let value: serde_json::Value = map.next_value()?;
                            if has_token(value.to_string().as_bytes()) {
                                verdict = Err(Refusal::ResponseType);
                            }
                        }
                        // RFC 9101 §4 forbids them here.
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

/// Checks a form while it streams to the upstream. A parameter that is looked into is held back until it is complete, so
/// that the upstream never has all of a form that is refused.
#[derive(Debug, Default)]
pub(crate) struct FormCheck {
    /// The current parameter, as far as it may have to be looked into.
    held: BytesMut,
    place: Place,
    /// The length of a name at which its beginning is looked at again.
    look_again: usize,
}

/// Where the end of what has arrived is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Name,
    Checked,
    Skipped,
}

impl FormCheck {
    /// Returns a check for the body of a request with these headers, if it can be a form.
    pub(crate) fn new(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let mut types = headers.get_all(CONTENT_TYPE).iter().map(|value| value.as_bytes().to_ascii_lowercase());
        let is_form = types.any(|value| contains(&value, b"form-urlencoded"));
        // Some servers read a form whatever its type is, if that is missing.
        let has_type = headers.get_all(CONTENT_TYPE).iter().any(|value| !value.as_bytes().trim_ascii().is_empty());
        if has_type && !is_form {
            return Ok(None);
        }
        let encodings = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.as_bytes().trim_ascii());
        let mut encodings = encodings.filter(|encoding| !encoding.is_empty());
        if encodings.any(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) || has_odd_charset(headers) {
            return if is_form { Err(Refusal::Encoding) } else { Ok(None) };
        }
        Ok(Some(Self::default()))
    }

    /// Takes the next bytes of the form. Returns those that may be passed on.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::with_capacity(self.held.len() + data.len());
        let mut rest = data;
        while let [first, after @ ..] = rest {
            let is_end = |byte: &u8| is_separator(*byte) || (self.place == Place::Name && *byte == b'=');
            let length = rest.iter().position(is_end).unwrap_or(rest.len());
            if length > 0 {
                let (piece, after) = rest.split_at(length);
                if self.place == Place::Skipped {
                    out.extend_from_slice(piece)
                } else {
                    self.hold(piece, &mut out)?
                }
                rest = after;
            } else if *first == b'=' {
                self.place = if Parameter::named(&self.held).is_some() { Place::Checked } else { Place::Skipped };
                self.held.extend_from_slice(b"=");
                if self.place == Place::Skipped {
                    out.unsplit(self.held.split());
                }
                rest = after;
            } else {
                self.finish_pair(&mut out)?;
                out.extend_from_slice(&[*first]);
                rest = after;
            }
        }
        // Most names are known to be others early on. A long name is not looked at too often.
        if self.place == Place::Name && self.held.len() >= self.look_again {
            if self.held.len() > SHORT_NAME {
                self.look_again = self.held.len() * 2;
            }
            if !Parameter::may_begin(&self.held) {
                self.place = Place::Skipped;
                out.unsplit(self.held.split());
            }
        }
        Ok(out.freeze())
    }

    /// Returns what was held back when the form is at its end.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::new();
        self.finish_pair(&mut out)?;
        Ok(out.freeze())
    }

    /// How many bytes are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    fn hold(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<(), Refusal> {
        self.held.extend_from_slice(piece);
        if self.held.len() <= LONGEST {
            return Ok(());
        }
        if self.place == Place::Checked {
            return Err(Refusal::TooLong);
        }
        // No parameter has such a name.
        self.place = Place::Skipped;
        out.unsplit(self.held.split());
        Ok(())
    }

    fn finish_pair(&mut self, out: &mut BytesMut) -> Result<(), Refusal> {
        check_pair(&self.held)?;
        out.unsplit(self.held.split());
        self.place = Place::Name;
        self.look_again = 0;
        Ok(())
    }
}

/// Returns whether the form may be in a character set that is not an extension of ASCII.
fn has_odd_charset(headers: &HeaderMap) -> bool {
    const USUAL: [&[u8]; 8] =
        [b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-", b"iso8859-", b"latin", b"windows-125"];
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        let mut parameters = value.split(|byte| matches!(byte, b';' | b','));
        parameters.any(|parameter| {
            let Some(charset) = parameter.trim_ascii().strip_prefix(b"charset") else { return false };
            let edge = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'=' | b'"' | b'\'' | b'*');
            let start = charset.iter().position(|byte| !edge(byte)).unwrap_or(charset.len());
            let charset = charset.get(start..).unwrap_or_default();
            !charset.is_empty() && !USUAL.iter().any(|usual| charset.starts_with(usual))
        })
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn jwt(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn tokens_on_the_front_channel_are_refused_in_every_spelling() {
        for query in [
            "response_type=token",
            "response_type=id_token",
            "a=b&response_type=code%20token",
            "response_type=code+id_token+token",
            "response_type=token%09code",
            "response_type=code%0atoken",
            "response_type=code,token",
            "response_type=TOKEN",
            "response_type=%74%6Fken",
            "response_type=%2574oken",
            "response_type=%u0074oken",
            "%72esponse%5Ftype=token",
            "%2572esponse_type=token",
            "response%u005ftype=token",
            "Response_Type=Id_Token",
            "responseType=token",
            "response.type=token",
            "response+type=token",
            "response_type[]=token",
            "response_type%5B0%5D=token",
            "response_type%00=token",
            "+response_type=token",
            "response_type=code&response_type=token",
            "response_type=token&response_type=code",
            "a=b;response_type=token",
            "response_type=%00token",
            "&&;&response_type==token",
        ] {
            assert_eq!(check_query(query), Err(Refusal::ResponseType), "{query}");
        }
    }

    #[test]
    fn requests_without_them_are_accepted() {
        for query in [
            "",
            "response_type",
            "response_type=",
            "response_type=code",
            "response_type=none&prompt=none",
            "client_id=token&state=id_token&scope=token&token=response_type",
            "redirect_uri=https%3A%2F%2Fa%2F%3Fresponse_type%3Dtoken",
            "token_response_type=token",
            "response_types=token",
            "response_mode=fragment&response_type=code",
            "request=x&request=www.example.com",
            "request_uri=&request_uri=/next",
            "request_uri=urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c",
            "request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A1",
            "%=%&%u=%u00&%7",
        ] {
            assert_eq!(check_query(query), Ok(()), "{query}");
        }
        let claims = r#"{"iss":"c","response_type":"code","claims":{"id_token":{"response_type":"token"}}}"#;
        assert_eq!(check_query(&format!("request={}", jwt(r#"{"alg":"none"}"#, claims))), Ok(()));
    }

    #[test]
    fn a_request_object_is_read_or_refused() {
        let header = r#"{"alg":"RS256"}"#;
        for (claims, refusal) in [
            (r#"{"response_type":"code token"}"#, Refusal::ResponseType),
            (r#"{"response_type":["code","id_token"]}"#, Refusal::ResponseType),
            (r#"{"response_type":"code","response_type":"token"}"#, Refusal::ResponseType),
            (r#"{"response_type":"token","response_type":"code"}"#, Refusal::ResponseType),
            (r#"{"r\u0065sponse_type":"t\u006fken"}"#, Refusal::ResponseType),
            (r#"{"Response_Type":"TOKEN"}"#, Refusal::ResponseType),
            (r#"{"request_uri":"https://a"}"#, Refusal::RequestObject),
            (r#"{"response_type":"code","#, Refusal::RequestObject),
            ("[]", Refusal::RequestObject),
            ("\u{feff}{}", Refusal::RequestObject),
            ("", Refusal::RequestObject),
        ] {
            let jwt = jwt(header, claims);
            for name in ["request", "Request", "%72equest", "request[]"] {
                assert_eq!(check_query(&format!("{name}={jwt}")), Err(refusal), "{name}: {claims}");
            }
            let spaced: String = jwt.chars().flat_map(|character| ['+', character]).collect();
            assert_eq!(check_query(&format!("request={spaced}")), Err(refusal), "{claims}");
        }
        let header = URL_SAFE_NO_PAD.encode(r#" {"alg":"RSA-OAEP","enc":"A128GCM"}"#);
        for encrypted in [format!("{header}.a.b.c.d"), format!("{header}.e30.b.c.d"), format!("{header}."), header] {
            assert_eq!(check_query(&format!("request={encrypted}")), Err(Refusal::RequestObject), "{encrypted}");
        }
    }

    #[test]
    fn a_request_uri_that_was_not_pushed_is_refused() {
        for uri in
            ["https://app.example.com/r.jwt", "HTTP://a", "%20https%3A%2F%2Fa", "urn:other:1", "data:,e30.e30.e30"]
        {
            for name in ["request_uri", "Request_URI", "request%5Furi", "requestUri"] {
                assert_eq!(check_query(&format!("a=b&{name}={uri}")), Err(Refusal::RequestUri), "{name}={uri}");
            }
        }
    }

    fn form_check(headers: &[(&'static str, &'static str)]) -> Result<bool, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        FormCheck::new(&map).map(|check| check.is_some())
    }

    #[test]
    fn forms_are_checked_and_nothing_else() {
        for form in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=UTF-8", ""] {
            assert_eq!(form_check(&[("content-type", form)]), Ok(true), "{form}");
            assert_eq!(form_check(&[("content-type", form), ("content-encoding", "identity")]), Ok(true), "{form}");
            let encoded = if form.is_empty() { Ok(false) } else { Err(Refusal::Encoding) };
            assert_eq!(form_check(&[("content-type", form), ("content-encoding", "gzip")]), encoded);
        }
        let two = [("content-type", "text/plain"), ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(form_check(&two), Ok(true));
        assert_eq!(form_check(&[]), Ok(true));
        for other in ["application/json", "multipart/form-data; boundary=x", "text/plain"] {
            assert_eq!(form_check(&[("content-type", other), ("content-encoding", "gzip")]), Ok(false), "{other}");
        }
        for odd in ["utf-16", "\"UTF-16LE\"", "ibm037", "utf-7", "cp037", "EBCDIC-US"] {
            let value = format!("application/x-www-form-urlencoded; Charset = {odd}");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(&value).unwrap())]);
            assert!(FormCheck::new(&headers).is_err(), "{odd}");
        }
    }

    /// What the upstream gets of a form that arrives in these pieces.
    fn streamed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<(), Refusal>) {
        let mut check = FormCheck::default();
        let mut passed = Vec::new();
        for piece in pieces {
            match check.feed(piece) {
                Ok(data) => passed.extend_from_slice(&data),
                Err(refusal) => return (passed, Err(refusal)),
            }
        }
        let rest = check.finish();
        passed.extend_from_slice(rest.as_deref().unwrap_or_default());
        (passed, rest.map(drop))
    }

    #[test]
    fn what_is_held_back_of_a_form_is_bounded() {
        let long = "x".repeat(LONGEST + 1);
        let (passed, verdict) = streamed([long.as_bytes(), b"=1&response_type=token"].into_iter());
        assert_eq!((passed.len(), verdict), (long.len() + 3, Err(Refusal::ResponseType)));
        let (passed, _) = streamed([" ".repeat(LONGEST + 1).as_bytes()].into_iter());
        assert_eq!(passed.len(), LONGEST + 1);
        let (_, verdict) = streamed([b"response_type=", long.as_bytes()].into_iter());
        assert_eq!(verdict, Err(Refusal::TooLong));
        let (passed, verdict) = streamed([b"a=", long.as_bytes(), b"&b=", long.as_bytes()].into_iter());
        assert_eq!((passed.len(), verdict), (2 * long.len() + 5, Ok(())));
    }

    #[test]
    fn names_of_no_interest_are_not_held_back() {
        for piece in ["one", "{\"a\":", "\u{0}\u{1}a", "client_id", "requests", "responsive", "r%65d", "%2572x"] {
            let mut check = FormCheck::default();
            assert_eq!(check.feed(piece.as_bytes()).unwrap(), piece);
        }
        let padded =
            [" ".repeat(SHORT_NAME).as_bytes(), b"%2", b"572espon", b"se_typ", b"e=tok", b"en"].map(<[u8]>::to_vec);
        let (passed, verdict) = streamed(padded.iter().map(Vec::as_slice));
        assert_eq!((passed.len(), verdict), (0, Err(Refusal::ResponseType)));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(
            form in proptest::collection::vec(
                "(response_type|request|%2572equest_uri|res%u0070onse[+%]type%00|x|re)?[=&;]?(token|code|https://a)?",
                0..8,
            ),
            size in 1..9_usize,
        ) {
            let form = form.concat();
            let (passed, verdict) = streamed(form.as_bytes().chunks(size));
            prop_assert_eq!(verdict, check_query(&form));
            prop_assert!(form.as_bytes().starts_with(&passed));
            prop_assert_eq!(verdict.is_ok(), passed.len() == form.len(), "the upstream must not have all of it");
        }
    }
}
