//! Parses the bearer token of a request (RFC 6750 §2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::token::AccessToken;

/// The content of the `Authorization` header.
#[derive(Debug)]
pub(crate) enum Presented {
    /// No header, or credentials of another scheme.
    Nothing,
    /// More than one header, or one that is not a valid bearer token.
    Malformed,
    /// A bearer token that does not have the format of the layer.
    Foreign,
    Token(AccessToken),
}

/// Parses the `Authorization` header. Tokens in a form or in the query (RFC 6750 §2.2 and §2.3) are
/// ignored: RFC 9700 §4.3.2 advises against the query.
pub(crate) fn presented(headers: &HeaderMap, prefix: &str) -> Presented {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Presented::Nothing;
    };
    if values.next().is_some() {
        return Presented::Malformed;
    }
    let value = value.as_bytes().trim_ascii();
    let end = value
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Presented::Nothing;
    }
    match std::str::from_utf8(token.trim_ascii_start()) {
        Ok(token) if is_token68(token) => {
            AccessToken::parse(prefix, token).map_or(Presented::Foreign, Presented::Token)
        }
        _ => Presented::Malformed,
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
            ("none", vec![], "Nothing"),
            ("basic", vec!["Basic YTpi".into()], "Nothing"),
            (
                "a scheme that starts with the word Bearer",
                vec!["Bearers abc".into()],
                "Nothing",
            ),
            ("an empty header", vec![String::new()], "Nothing"),
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
            let found = format!("{:?}", presented(&headers, "at_"));
            assert!(found.starts_with(expected), "{name}: {found}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap(),
        );
        assert!(
            matches!(presented(&headers, "at_"), Presented::Malformed),
            "not UTF-8"
        );
    }
}
