//! Parses the bearer token of a request (RFC 6750 §2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::access::challenge::AccessError;
use crate::store::Key;
use crate::token::AccessToken;

/// A token in the format of the layer, and the key of its record.
#[derive(Debug)]
pub(crate) struct ParsedToken {
    pub(crate) token: AccessToken,
    pub(crate) key: Key,
}

impl ParsedToken {
    /// Parses the `Authorization` header. Tokens in a form or in the query (RFC 6750 §2.2 and §2.3)
    /// are ignored: RFC 9700 §4.3.2 advises against the query.
    ///
    /// # Errors
    ///
    /// [`AccessError::TokenMissing`] without a header, or with credentials of another scheme,
    /// [`AccessError::InvalidRequest`] for more than one header, or one that is not a valid bearer
    /// token, [`AccessError::InvalidToken`] for a token that does not have the format of the layer.
    pub(crate) fn read(headers: &HeaderMap, prefix: &str) -> Result<Self, AccessError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(AccessError::TokenMissing)?;
        if values.next().is_some() {
            return Err(AccessError::InvalidRequest);
        }
        let value = value.as_bytes().trim_ascii();
        let end = value.iter().position(u8::is_ascii_whitespace);
        let (scheme, text) = value.split_at(end.unwrap_or(value.len()));
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Err(AccessError::TokenMissing);
        }
        let text = std::str::from_utf8(text.trim_ascii_start()).ok();
        let text = text.filter(|text| is_token68(text));
        let text = text.ok_or(AccessError::InvalidRequest)?;
        let token = AccessToken::parse(prefix, text).ok_or(AccessError::InvalidToken)?;
        let key = token.key();
        Ok(Self { token, key })
    }
}

/// Returns whether `token` matches `b64token` of RFC 6750 §2.1.
fn is_token68(token: &str) -> bool {
    let text = token.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn authorization_headers_are_classified() {
        let token = AccessToken::new([0; 12], 0, &[0; 32]).encode("at_");
        let token = token.as_str();
        let rows: [(&str, Vec<String>, &str); 17] = [
            ("none", vec![], "Err(TokenMissing"),
            ("basic", vec!["Basic YTpi".into()], "Err(TokenMissing"),
            (
                "a scheme that starts with the word Bearer",
                vec!["Bearers abc".into()],
                "Err(TokenMissing",
            ),
            ("an empty header", vec![String::new()], "Err(TokenMissing"),
            ("a token", vec![format!("Bearer {token}")], "Ok(ParsedToken"),
            (
                "a scheme in another case",
                vec![format!("bEARER {token}")],
                "Ok(ParsedToken",
            ),
            (
                "several spaces",
                vec![format!("  Bearer   {token} ")],
                "Ok(ParsedToken",
            ),
            (
                "a token of another issuer",
                vec!["Bearer abc.def-_~+/==".into()],
                "Err(InvalidToken",
            ),
            (
                "a token with another prefix",
                vec![format!("Bearer {}", token.replace("at_", "rt_"))],
                "Err(InvalidToken",
            ),
            (
                "a truncated token",
                vec![format!("Bearer {}", &token[..60])],
                "Err(InvalidToken",
            ),
            (
                "the scheme alone",
                vec!["Bearer".into()],
                "Err(InvalidRequest",
            ),
            (
                "the scheme and a space",
                vec!["Bearer ".into()],
                "Err(InvalidRequest",
            ),
            (
                "padding alone",
                vec!["Bearer ==".into()],
                "Err(InvalidRequest",
            ),
            (
                "two tokens",
                vec![format!("Bearer {token} {token}")],
                "Err(InvalidRequest",
            ),
            (
                "a list",
                vec![format!("Bearer {token},Bearer {token}")],
                "Err(InvalidRequest",
            ),
            (
                "two headers",
                vec![format!("Bearer {token}"), format!("Bearer {token}")],
                "Err(InvalidRequest",
            ),
            (
                "a bearer token and another header",
                vec![format!("Bearer {token}"), "Basic YTpi".into()],
                "Err(InvalidRequest",
            ),
        ];
        for (name, values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
            }
            let found = format!("{:?}", ParsedToken::read(&headers, "at_"));
            assert!(found.starts_with(expected), "{name}: {found}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap(),
        );
        let found = ParsedToken::read(&headers, "at_");
        assert!(
            matches!(found, Err(AccessError::InvalidRequest)),
            "not UTF-8"
        );
    }
}
