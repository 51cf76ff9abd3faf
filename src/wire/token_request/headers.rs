use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::FormError;

const FORM: &str = "application/x-www-form-urlencoded";

/// Forms in a charset that includes ASCII. Clients that declare one of them still percent-encode in
/// UTF-8.
const WITH_CHARSET: [&str; 4] = [
    "application/x-www-form-urlencoded; charset=utf-8",
    "application/x-www-form-urlencoded; charset=us-ascii",
    "application/x-www-form-urlencoded; charset=iso-8859-1",
    "application/x-www-form-urlencoded; charset=windows-1252",
];

/// Checks that the headers declare a form without a content coding, and reduces `Content-Type` to
/// the type and its charset.
///
/// The inner service gets no other parameter of the type: it might find a charset in it that this
/// check has not found (RFC 2231 has `charset*` and `charset*0`, for example).
pub(crate) fn normalize_headers(headers: &mut HeaderMap) -> Result<(), FormError> {
    if has_content_coding(headers) {
        return Err(FormError::ContentType);
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return Err(FormError::ContentType);
    };
    if content_type != FORM {
        let text = content_type.to_str().map_err(|_| FormError::ContentType)?;
        let normal = normal_form(text).ok_or(FormError::ContentType)?;
        headers.insert(CONTENT_TYPE, normal);
    }
    Ok(())
}

/// Returns the type of a form in its normal form. `None` if the text declares another type, or a
/// charset that is not known to include ASCII or may be read as another one.
fn normal_form(content_type: &str) -> Option<HeaderValue> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(FORM) {
        return None;
    }
    let mut found = None;
    for parameter in parts {
        if !contains_charset(parameter) {
            continue;
        }
        let (name, value) = parameter.split_once('=')?;
        if !name.trim_end().eq_ignore_ascii_case("charset") {
            return None;
        }
        let normal = with_charset(unquoted(value.trim_start())?)?;
        if found.is_some_and(|found| found != normal) {
            return None;
        }
        found = Some(normal);
    }
    Some(HeaderValue::from_static(found.unwrap_or(FORM)))
}

/// Returns the normal form of a type with this charset.
fn with_charset(name: &str) -> Option<&'static str> {
    let name = if name.eq_ignore_ascii_case("utf8") {
        "utf-8"
    } else {
        name
    };
    let is_named = |charset: &str| charset.eq_ignore_ascii_case(name);
    WITH_CHARSET
        .into_iter()
        .find(|normal| normal.rsplit('=').next().is_some_and(is_named))
}

/// Returns whether the parameter may declare a charset, also if it is malformed or has another
/// name, as `charset*` has.
fn contains_charset(parameter: &str) -> bool {
    const CHARSET: &[u8] = b"charset";
    parameter
        .as_bytes()
        .windows(CHARSET.len())
        .any(|part| part.eq_ignore_ascii_case(CHARSET))
}

/// Returns a value without its quotes. `None` if only one end has a quote.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => (!value.ends_with('"')).then_some(value),
    }
}

/// Returns whether the body has a content coding, according to any `Content-Encoding` header.
pub(crate) fn has_content_coding(headers: &HeaderMap) -> bool {
    let is_identity = |coding: &str| {
        let coding = coding.trim();
        coding.is_empty() || coding.eq_ignore_ascii_case("identity")
    };
    let are_identity = |codings: &str| codings.split(',').all(is_identity);
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    !values.all(|codings| codings.to_str().is_ok_and(are_identity))
}
