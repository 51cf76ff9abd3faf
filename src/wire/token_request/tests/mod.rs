//! The form of a token request: reading and rewriting.

mod headers;
mod names;
mod properties;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{FormError, MAX_PIECES, Param, TokenRequest, known, names_a_param, normalize_headers};

fn parse(body: &str) -> Result<TokenRequest, FormError> {
    TokenRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
}

fn pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

#[test]
fn values_are_decoded() {
    let rows: &[(&str, &str, Param, Option<&str>)] = &[
        (
            "a value is found",
            "grant_type=refresh_token&scope=a",
            Param::GrantType,
            Some("refresh_token"),
        ),
        (
            "the last one is found",
            "grant_type=refresh_token&scope=a",
            Param::Scope,
            Some("a"),
        ),
        (
            "an absent one is not found",
            "grant_type=refresh_token",
            Param::Scope,
            None,
        ),
        (
            "a name may be escaped",
            "client%5Fid=a",
            Param::ClientId,
            Some("a"),
        ),
        (
            "a value may be escaped",
            "client_secret=%C3%A4%26%3d",
            Param::ClientSecret,
            Some("\u{e4}&="),
        ),
        ("a plus is a space", "scope=a+b", Param::Scope, Some("a b")),
        (
            "an escaped plus is a plus",
            "scope=a%2Bb+c",
            Param::Scope,
            Some("a+b c"),
        ),
        (
            "a value may have an equals sign",
            "refresh_token=ab==",
            Param::RefreshToken,
            Some("ab=="),
        ),
        (
            "an empty value counts as absent",
            "refresh_token=&a=b",
            Param::RefreshToken,
            None,
        ),
        (
            "a name without a value counts as absent",
            "refresh_token&a=b",
            Param::RefreshToken,
            None,
        ),
        (
            "a longer name with the same beginning",
            "client_id_hint=a",
            Param::ClientId,
            None,
        ),
        (
            "a longer name is another one",
            "client_id2=a",
            Param::ClientId,
            None,
        ),
        (
            "empty pieces are skipped",
            "&&token=a&&",
            Param::Token,
            Some("a"),
        ),
        (
            "a value without a name is ignored",
            "=a&token=b&=c",
            Param::Token,
            Some("b"),
        ),
        (
            "unknown parameters may be repeated",
            "a=1&a=2&token=b&a=3",
            Param::Token,
            Some("b"),
        ),
        (
            "audience may be repeated",
            "audience=1&audience=1&token=b",
            Param::Token,
            Some("b"),
        ),
        ("an empty form has nothing", "", Param::GrantType, None),
        (
            "an assertion and its type are two parameters",
            "client_assertion_type=t",
            Param::ClientAssertion,
            None,
        ),
        (
            "the type is found",
            "client_assertion_type=t",
            Param::ClientAssertionType,
            Some("t"),
        ),
    ];
    for (sentence, body, param, expected) in rows {
        let form = parse(body).expect(sentence);
        assert_eq!(form.get(*param), *expected, "{sentence}");
    }
}

#[test]
fn malformed_forms_are_rejected() {
    let pieces = |count| "a&".repeat(count - 1);
    let (most, too_many) = (pieces(MAX_PIECES), pieces(MAX_PIECES + 1));
    let rows: &[(&str, &str, Option<FormError>)] = &[
        (
            "a client named twice",
            "client_id=a&client_id=b",
            Some(FormError::Repeated("client_id")),
        ),
        (
            "repeated with equal values",
            "token=a&token=a",
            Some(FormError::Repeated("token")),
        ),
        (
            "repeated with an empty value",
            "refresh_token=&refresh_token=a",
            Some(FormError::Repeated("refresh_token")),
        ),
        (
            "repeated without a value",
            "scope=a&scope",
            Some(FormError::Repeated("scope")),
        ),
        (
            "repeated with an escaped name",
            "client_id=a&client%5fid=a",
            Some(FormError::Repeated("client_id")),
        ),
        ("an incomplete escape", "a=%4", Some(FormError::Malformed)),
        (
            "a bare percent sign",
            "a=100%&b=41",
            Some(FormError::Malformed),
        ),
        (
            "an escape without hexadecimal digits",
            "a=%zz",
            Some(FormError::Malformed),
        ),
        (
            "an incomplete escape in a name",
            "a%4=b",
            Some(FormError::Malformed),
        ),
        ("not UTF-8", "a=%ff", Some(FormError::Malformed)),
        ("a surrogate", "a=%ED%A0%80", Some(FormError::Malformed)),
        ("an overlong slash", "a=%C0%AF", Some(FormError::Malformed)),
        ("an escaped NUL", "a=b%00", Some(FormError::Malformed)),
        (
            "an escaped NUL in a name",
            "%00=b",
            Some(FormError::Malformed),
        ),
        ("a raw NUL", "a=\0", Some(FormError::Malformed)),
        ("a raw newline", "a=b\n", Some(FormError::Malformed)),
        ("a raw DEL", "a=\x7f", Some(FormError::Malformed)),
        (
            "raw bytes beyond ASCII",
            "a=\u{e4}",
            Some(FormError::Malformed),
        ),
        ("too many parameters", &too_many, Some(FormError::Malformed)),
        ("as many parameters as allowed", &most, None),
        ("an escaped newline is accepted", "a=%0A", None),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(parse(body).err(), *expected, "{sentence}");
    }
}

#[test]
fn descriptions_need_no_escaping_in_json() {
    for error in [
        FormError::ContentType,
        FormError::Malformed,
        FormError::Repeated("?"),
        FormError::Lookalike,
        FormError::InQuery,
        FormError::Query,
    ] {
        let sentence = error.description();
        assert_eq!(
            serde_json::to_string(sentence).unwrap(),
            format!("\"{sentence}\"")
        );
        assert!(sentence.is_ascii());
    }
}

#[test]
fn resources_are_read_in_order() {
    let form = parse(
        "resource=https://b&scope=c&resource=&resource=https%3A%2F%2Fa&re%73ource=urn:x&resource",
    )
    .unwrap();
    assert_eq!(
        form.resources().collect::<Vec<_>>(),
        ["https://b", "https://a", "urn:x"]
    );
    let form = parse("resource=urn:x&resource=urn%3Ax&resource=urn:y&resource=urn:x").unwrap();
    assert_eq!(
        form.resources().collect::<Vec<_>>(),
        ["urn:x", "urn:y"],
        "repetitions"
    );
}

#[test]
fn only_the_value_of_the_parameter_is_replaced() {
    let rows = [
        (
            "only the value changes",
            "a=%41&refresh_token=old&b=c+d&",
            "a=%41&refresh_token=new%2F~&b=c+d&",
        ),
        (
            "the spelling of the name stays",
            "refresh%5Ftoken=old",
            "refresh%5Ftoken=new%2F~",
        ),
        (
            "an empty value is replaced",
            "refresh_token=&a=b",
            "refresh_token=new%2F~&a=b",
        ),
        (
            "a name without a value gets one",
            "a=b&refresh_token&c=d",
            "a=b&refresh_token=new%2F~&c=d",
        ),
        (
            "a value that ends like a name",
            "a=refresh_token&refresh_token==x",
            "a=refresh_token&refresh_token=new%2F~",
        ),
        (
            "an absent one is appended",
            "a=b",
            "a=b&refresh_token=new%2F~",
        ),
        (
            "a trailing ampersand is used",
            "a=b&",
            "a=b&refresh_token=new%2F~",
        ),
        ("it is added to an empty form", "", "refresh_token=new%2F~"),
    ];
    for (sentence, body, expected) in rows {
        let expected = expected.replace('~', "%7E");
        assert_eq!(
            parse(body).unwrap().replace(Param::RefreshToken, "new/~"),
            expected,
            "{sentence}"
        );
    }
}

#[test]
fn debug_output_contains_no_values() {
    let form = parse("refresh_token=hush&client_secret=%68ush&resource=hush&hush&x=hush").unwrap();
    assert_eq!(
        format!("{form:?}"),
        r#"{"refresh_token", "client_secret", "resource"}"#
    );
}

#[test]
fn values_without_escapes_are_not_copied() {
    let form = parse("token=plain&scope=a+b").unwrap();
    assert!(
        form.body
            .as_ptr_range()
            .contains(&form.get(Param::Token).unwrap().as_ptr())
    );
    assert!(
        !form
            .body
            .as_ptr_range()
            .contains(&form.get(Param::Scope).unwrap().as_ptr())
    );
}
