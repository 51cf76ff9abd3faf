//! Parses the bearer token of a request (RFC 6750 §2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::store::Key;
use crate::token::AccessToken;

/// A token in the format of the layer, and the key of its record.
#[derive(Debug)]
pub(crate) struct ParsedToken {
    pub(crate) token: AccessToken,
    pub(crate) key: Key,
}

/// The content of the `Authorization` header.
#[derive(Debug)]
pub(crate) enum BearerHeader {
    /// No header, or credentials of another scheme.
    Missing,
    /// More than one header, or one that is not a valid bearer token.
    Malformed,
    /// A bearer token that does not have the format of the layer.
    Foreign,
    Token(ParsedToken),
}

impl BearerHeader {
    /// Parses the `Authorization` header. Tokens in a form or in the query (RFC 6750 §2.2 and §2.3)
    /// are ignored: RFC 9700 §4.3.2 advises against the query.
    pub(crate) fn parse(headers: &HeaderMap, prefix: &str) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Self::Missing;
        };
        if values.next().is_some() {
            return Self::Malformed;
        }
        let value = value.as_bytes().trim_ascii();
        let end = value
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(value.len());
        let (scheme, token) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::Missing;
        }
        match std::str::from_utf8(token.trim_ascii_start()) {
            Ok(text) if is_token68(text) => match AccessToken::parse(prefix, text) {
                Some(token) => Self::Token(ParsedToken {
                    key: token.key(),
                    token,
                }),
                None => Self::Foreign,
            },
            _ => Self::Malformed,
        }
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
            ("none", vec![], "Missing"),
            ("basic", vec!["Basic YTpi".into()], "Missing"),
            (
                "a scheme that starts with the word Bearer",
                vec!["Bearers abc".into()],
                "Missing",
            ),
            ("an empty header", vec![String::new()], "Missing"),
            ("a token", vec![format!("Bearer {token}")], "Token"),
            (
                "a scheme in another case",
                vec![format!("bEARER {token}")],
                "Token",
            ),
            (
                "several spaces",
                vec![format!("  Bearer   {token} ")],
                "Token",
            ),
            (
                "a token of another issuer",
                vec!["Bearer abc.def-_~+/==".into()],
                "Foreign",
            ),
            (
                "a token with another prefix",
                vec![format!("Bearer {}", token.replace("at_", "rt_"))],
                "Foreign",
            ),
            (
                "a truncated token",
                vec![format!("Bearer {}", &token[..60])],
                "Foreign",
            ),
            ("the scheme alone", vec!["Bearer".into()], "Malformed"),
            (
                "the scheme and a space",
                vec!["Bearer ".into()],
                "Malformed",
            ),
            ("padding alone", vec!["Bearer ==".into()], "Malformed"),
            (
                "two tokens",
                vec![format!("Bearer {token} {token}")],
                "Malformed",
            ),
            (
                "a list",
                vec![format!("Bearer {token},Bearer {token}")],
                "Malformed",
            ),
            (
                "two headers",
                vec![format!("Bearer {token}"), format!("Bearer {token}")],
                "Malformed",
            ),
            (
                "a bearer token and another header",
                vec![format!("Bearer {token}"), "Basic YTpi".into()],
                "Malformed",
            ),
        ];
        for (name, values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
            }
            let found = format!("{:?}", BearerHeader::parse(&headers, "at_"));
            assert!(found.starts_with(expected), "{name}: {found}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap(),
        );
        assert!(
            matches!(
                BearerHeader::parse(&headers, "at_"),
                BearerHeader::Malformed
            ),
            "not UTF-8"
        );
    }
}
