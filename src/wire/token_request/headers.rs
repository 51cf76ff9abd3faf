use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::FormError;

/// Checks that the headers declare a form without a content coding.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<(), FormError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return Err(FormError::ContentType);
    };
    let plain = content_type.to_str().is_ok_and(is_form) && !has_content_coding(headers);
    if plain {
        Ok(())
    } else {
        Err(FormError::ContentType)
    }
}

/// Charsets that include ASCII. Clients that declare one of them still percent-encode in UTF-8.
const CHARSETS: [&str; 5] = ["utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"];

fn is_form(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
        && parts
            .filter_map(|parameter| parameter.split_once('='))
            .all(|(name, value)| {
                let value = value.trim_start().trim_matches('"');
                !name.trim_end().eq_ignore_ascii_case("charset")
                    || CHARSETS
                        .iter()
                        .any(|charset| value.eq_ignore_ascii_case(charset))
            })
}

/// Returns whether the body has a content coding, according to any `Content-Encoding` header.
pub(crate) fn has_content_coding(headers: &HeaderMap) -> bool {
    !headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.to_str().is_ok_and(is_identity))
}

fn is_identity(codings: &str) -> bool {
    codings
        .split(',')
        .map(str::trim)
        .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
}
