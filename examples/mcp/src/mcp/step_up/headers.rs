//! The headers of a message.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refused;
use super::message::Message;

/// Returns an error if the body is not UTF-8 as it is. A server could decode it.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Refused::Encoding);
    }
    for value in headers.get_all(CONTENT_TYPE) {
        let value = value.to_str().map_err(|_| Refused::Encoding)?;
        let value = value.to_ascii_lowercase();
        let mut charsets = value.split("charset").skip(1);
        let is_utf8 = |text: &str| {
            let text = text.trim_start().trim_start_matches('=').trim_start();
            let text = text.split(';').next().unwrap_or_default();
            matches!(text.trim().trim_matches('"'), "utf-8" | "utf8")
        };
        if !charsets.all(is_utf8) {
            return Err(Refused::Encoding);
        }
    }
    Ok(())
}

/// Returns an error if `Mcp-Method` or `Mcp-Name` disagree with the message (MCP 2026-07-28,
/// Streamable HTTP). A server could follow either. Older revisions send neither.
pub(super) fn check_names(headers: &HeaderMap, messages: &[Message]) -> Result<(), Refused> {
    let (method, name) = (one(headers, "mcp-method")?, one(headers, "mcp-name")?);
    if method.is_none() && name.is_none() {
        return Ok(());
    }
    let [message] = messages else {
        return Err(Refused::Headers);
    };
    if method.is_some() && method != message.method {
        return Err(Refused::Headers);
    }
    // The names of other methods concern no tool.
    let is_other = message.tool().is_some() && name.is_some() && name.as_deref() != message.tool();
    if is_other {
        Err(Refused::Headers)
    } else {
        Ok(())
    }
}

/// Returns the value of a header that must not be repeated.
fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refused> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| Refused::Headers)?;
    if values.next().is_some() {
        return Err(Refused::Headers);
    }
    decode(value).ok_or(Refused::Headers).map(Some)
}

/// Decodes a value that is not plain ASCII: `=?base64?…?=`.
fn decode(value: &str) -> Option<String> {
    let encoded = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match encoded {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_utf8_is_read() {
        let checked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
            check_encoding(&headers).is_ok()
        };
        for value in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;Charset=\"UTF-8\"; x=y",
        ] {
            assert!(checked(value), "{value}");
        }
        for value in [
            "application/json; charset=utf-7",
            "application/json; charset=utf-16le",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset",
        ] {
            assert!(!checked(value), "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(check_encoding(&headers), Err(Refused::Encoding));
    }

    #[test]
    fn a_name_may_be_encoded() {
        assert_eq!(decode("tools/call").as_deref(), Some("tools/call"));
        assert_eq!(decode("=?base64?QsO8Y2hlcg==?=").as_deref(), Some("Bücher"));
        assert_eq!(decode("=?base64?x?="), None);
    }
}
