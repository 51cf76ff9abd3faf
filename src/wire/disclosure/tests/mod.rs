//! Tokens that a response discloses: in members, error bodies and headers.

mod labels;
mod members;
mod properties;
mod secrets;

use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use serde_json::Value;
use zeroize::Zeroizing;

use super::names::COMMON_HEADERS;
use super::{MOST_SECRETS, Undisclosable, Withheld, add_secret};
use crate::wire::token_response::cut;

const ALL: Withheld = Withheld::ALL;

const KEEP: Withheld = Withheld::AllTokens {
    keep_id_token: true,
};

const REFRESH: Withheld = Withheld::RefreshTokens;

fn answer(withheld: Withheld, body: &str, secrets: &[&str]) -> Result<String, Undisclosable> {
    let secrets = secrets
        .iter()
        .map(|secret| Zeroizing::new((*secret).to_owned()))
        .collect();
    let found = withheld.in_token_response(body, secrets)?;
    Ok(String::from_utf8(cut(body.as_bytes(), found.cuts).to_vec()).unwrap())
}

#[test]
fn error_bodies_with_tokens_are_recognized() {
    let rows: [(&str, &[u8], bool, bool); 17] = [
        ("nothing", b"", false, false),
        (
            "an OAuth error",
            br#"{"error":"invalid_token","error_description":"Token is not active"}"#,
            false,
            false,
        ),
        (
            "a page",
            b"<html><title>Invalid token</title><p>Error: 503</html>",
            false,
            false,
        ),
        (
            "a nested token",
            br#"{"error":"x","data":[{"token":"t"}]}"#,
            true,
            false,
        ),
        (
            "no token",
            br#"{"error":"x","access_token":null}"#,
            false,
            false,
        ),
        (
            "a nested refresh token",
            br#"{"error":"x","data":{"refreshToken":"t"}}"#,
            true,
            true,
        ),
        ("an array", br#"[{"refresh_token":"t"}]"#, true, true),
        ("an array of texts", br#"["refresh_token=t"]"#, true, true),
        ("a form", b"error=x&refresh_token=t", true, true),
        ("an encoded form", b"error=x&refresh%5Ftoken=t", true, true),
        (
            "XML",
            b"<oauth><refresh_token>t</refresh_token></oauth>",
            true,
            true,
        ),
        (
            "XML with a namespace",
            b"<o:refresh_token xml:id='1'>t</o:refresh_token>",
            true,
            true,
        ),
        ("JavaScript", b"callback({refresh_token: 't'})", true, true),
        (
            "JSON with a byte order mark",
            b"\xef\xbb\xbf{\"refresh_token\":\"t\"}",
            true,
            true,
        ),
        ("incomplete JSON", br#"{"refresh_token":"t","#, true, true),
        ("another charset", b"\xe4 error", true, false),
        ("UTF-16", b"r\0e\0f\0r\0e\0s\0h\0", true, true),
    ];
    for (sentence, body, all, refresh) in rows {
        assert_eq!(
            ALL.discloses(&HeaderMap::new(), body, &[]),
            all,
            "{sentence}"
        );
        assert_eq!(
            REFRESH.discloses(&HeaderMap::new(), body, &[]),
            refresh,
            "{sentence}: refresh tokens"
        );
    }
}

#[test]
fn no_common_header_is_named_like_a_token() {
    for name in &COMMON_HEADERS {
        assert!(!Withheld::ALL.names(name.as_str()), "{name}");
    }
}

#[test]
fn headers_with_tokens_are_recognized_and_removed() {
    let rows = [
        (
            "location",
            "https://app.example/cb#access_token=t&token_type=Bearer",
            true,
        ),
        (
            "location",
            "https://app.example/cb?code=c&state=token",
            false,
        ),
        ("set-cookie", "access_token=t; HttpOnly", true),
        ("set-cookie", "__Host-idToken=%22t%22; Secure", true),
        ("set-cookie", "token=; Max-Age=0", false),
        ("set-cookie", "session=eyJh.eyJi.c", true),
        ("set-cookie", "session=abc", false),
        ("set-cookie", "XSRF-TOKEN=abc", false),
        ("x-access-token", "t", true),
        ("x-ratelimit-remaining-tokens", "99000", false),
        ("authorization", "Bearer t", true),
        ("x-note", "the s3cret", true),
        ("x-note", r#"{"access_token":"t"}"#, true),
        (
            "www-authenticate",
            r#"Bearer realm="token", error="invalid_token""#,
            false,
        ),
        ("link", "<https://as.example/token>; rel=\"token\"", false),
        ("content-type", "application/json", false),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT", false),
    ];
    for (name, value, expected) in rows {
        let name = HeaderName::from_static(name);
        let mut headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
        assert_eq!(
            ALL.discloses(&headers, b"", &["s3cret"]),
            expected,
            "{name}: {value}"
        );
        ALL.strip(&mut headers, &[Zeroizing::new("s3cret".to_owned())]);
        assert_eq!(headers.is_empty(), expected, "{name}: {value}");
    }
}
