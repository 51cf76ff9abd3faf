//! The responses that are read, and the members that are read of them.

use super::*;

#[test]
fn malformed_responses_are_rejected() {
    let rows: &[(&str, &str, Option<TokenResponseError>)] = &[
        ("nothing", "", Some(TokenResponseError::NotJson)),
        ("a page", "<html>", Some(TokenResponseError::NotJson)),
        (
            "a form",
            "access_token=a",
            Some(TokenResponseError::NotJson),
        ),
        (
            "an incomplete object",
            r#"{"a":1"#,
            Some(TokenResponseError::NotJson),
        ),
        (
            "a trailing comma",
            r#"{"a":1,}"#,
            Some(TokenResponseError::NotJson),
        ),
        (
            "text after the object",
            "{} {}",
            Some(TokenResponseError::NotJson),
        ),
        (
            "a byte order mark",
            "\u{feff}{}",
            Some(TokenResponseError::NotJson),
        ),
        (
            "a raw newline in a string",
            "{\"a\":\"\n\"}",
            Some(TokenResponseError::NotJson),
        ),
        (
            "a name that is not a string",
            "{1:2}",
            Some(TokenResponseError::NotJson),
        ),
        ("an array", "[1]", Some(TokenResponseError::NotObject)),
        ("a string", r#""a""#, Some(TokenResponseError::NotObject)),
        ("null", "null", Some(TokenResponseError::NotObject)),
        (
            "two refresh tokens",
            r#"{"refresh_token":"a","refresh_token":"a"}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "a second one with an escaped name",
            r#"{"refresh_token":"a","refresh\u005ftoken":"b"}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "a second one that is null",
            r#"{"refresh_token":"a","refresh_token":null}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two access tokens",
            r#"{"access_token":1,"access_token":2}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two errors",
            r#"{"error":"a","error":"a"}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two scopes",
            r#"{"scope":"a","scope":"a"}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two lifetimes of the access token",
            r#"{"expires_in":1,"expires_in":1}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two lifetimes of the refresh token",
            r#"{"refresh_expires_in":1,"refresh_expires_in":1}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two timeouts of the refresh token",
            r#"{"refresh_token_timeout":1,"refresh\u005ftoken_timeout":1}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "two lifetimes of the authorization",
            r#"{"authorization_expires_in":1,"authorization_expires_in":null}"#,
            Some(TokenResponseError::Repeated),
        ),
        (
            "a number as the token",
            r#"{"refresh_token":1}"#,
            Some(TokenResponseError::WrongType),
        ),
        (
            "a boolean as the token",
            r#"{"refresh_token":false}"#,
            Some(TokenResponseError::WrongType),
        ),
        (
            "an object as the token",
            r#"{"refresh_token":{}}"#,
            Some(TokenResponseError::WrongType),
        ),
        (
            "an array as the token",
            r#"{"refresh_token":["a"]}"#,
            Some(TokenResponseError::WrongType),
        ),
        (
            "a lone surrogate as the token",
            r#"{"refresh_token":"\ud800"}"#,
            Some(TokenResponseError::WrongType),
        ),
        (
            "other members may be repeated",
            r#"{"a":1,"a":2,"\ud800":3}"#,
            None,
        ),
        (
            "every name of the lifetime may occur",
            r#"{"refresh_expires_in":1,"refresh_token_expires_in":1,"refresh_token_timeout":1}"#,
            None,
        ),
        (
            "nested members may be repeated",
            r#"{"a":{"refresh_token":1,"refresh_token":2}}"#,
            None,
        ),
        ("white space around it is allowed", " \r\n\t{ } ", None),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(parse(body).err(), *expected, "{sentence}");
    }
    assert_eq!(
        TokenResponse::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).err(),
        Some(TokenResponseError::NotJson)
    );
}

#[test]
fn deep_nesting_is_parsed_or_rejected() {
    let bomb = format!(r#"{{"a":{}"#, "[".repeat(60_000));
    assert_eq!(parse(&bomb).err(), Some(TokenResponseError::NotJson));
}

#[test]
fn members_are_read() {
    let found = response(r#"{"access_token":"a","refresh_token":"r/","scope":"x y","error":"e"}"#);
    assert!(found.has_access_token());
    assert_eq!(
        (found.refresh_token(), found.scope(), found.error()),
        (Some("r/"), Some("x y"), Some("e"))
    );

    let escaped =
        response(r#"{"refresh\u005ftoken":"r\/\u0041","scope":"\"","err\u006fr":"\u0065"}"#);
    assert_eq!(
        (escaped.refresh_token(), escaped.scope(), escaped.error()),
        (Some("r/A"), Some("\""), Some("e"))
    );

    for body in [
        "{}",
        r#"{"access_token":"","refresh_token":"","Scope":"a"}"#,
        r#"{"access_token":null,"refresh_token":null,"scope":null,"error":null}"#,
        r#"{"access_token":1,"scope":["a"],"error":{"code":400}}"#,
        r#"{"a":{"access_token":"a","refresh_token":"a","scope":"a","error":"a"}}"#,
    ] {
        let found = response(body);
        assert!(!found.has_access_token(), "{body}");
        assert_eq!(
            (found.refresh_token(), found.scope(), found.error()),
            (None, None, None),
            "{body}"
        );
    }
}

#[test]
fn plain_strings_are_not_copied() {
    let found = response(r#"{"refresh_token":"plain"}"#);
    assert!(
        found
            .body
            .as_ptr_range()
            .contains(&found.refresh_token().unwrap().as_ptr())
    );
}

#[test]
fn refresh_token_lifetimes_are_read() {
    let rows: &[(&str, &str, Option<u64>)] = &[
        ("a number", r#"{"refresh_expires_in":60}"#, Some(60)),
        (
            "the other name",
            r#"{"refresh_token_expires_in":60}"#,
            Some(60),
        ),
        (
            "the name of the draft",
            r#"{"refresh_token_timeout":60}"#,
            Some(60),
        ),
        (
            "the shorter of two",
            r#"{"refresh_expires_in":60,"refresh_token_expires_in":50}"#,
            Some(50),
        ),
        (
            "the shortest of three",
            r#"{"refresh_expires_in":60,"refresh_token_timeout":40,"refresh_token_expires_in":50}"#,
            Some(40),
        ),
        (
            "zero beside a lifetime",
            r#"{"refresh_expires_in":0,"refresh_token_expires_in":50}"#,
            Some(50),
        ),
        (
            "a string of digits",
            r#"{"refresh_expires_in":"60"}"#,
            Some(60),
        ),
        (
            "a fraction is rounded down",
            r#"{"refresh_expires_in":60.9}"#,
            Some(60),
        ),
        ("an exponent", r#"{"refresh_expires_in":6e1}"#, Some(60)),
        (
            "a huge one saturates",
            r#"{"refresh_expires_in":99999999999999999999}"#,
            Some(u64::MAX),
        ),
        (
            "a number beyond u64 saturates",
            r#"{"refresh_expires_in":1e999}"#,
            Some(u64::MAX),
        ),
        (
            "a huge string saturates",
            r#"{"refresh_expires_in":"99999999999999999999"}"#,
            Some(u64::MAX),
        ),
        ("zero counts as absent", r#"{"refresh_expires_in":0}"#, None),
        (
            "zero in a string counts as absent",
            r#"{"refresh_expires_in":"0"}"#,
            None,
        ),
        (
            "less than a second counts as absent",
            r#"{"refresh_expires_in":0.9}"#,
            None,
        ),
        (
            "a negative number counts as absent",
            r#"{"refresh_expires_in":-1}"#,
            None,
        ),
        (
            "null counts as absent",
            r#"{"refresh_expires_in":null}"#,
            None,
        ),
        (
            "an empty string counts as absent",
            r#"{"refresh_expires_in":""}"#,
            None,
        ),
        (
            "words count as absent",
            r#"{"refresh_expires_in":"inf"}"#,
            None,
        ),
        (
            "a fraction in a string counts as absent",
            r#"{"refresh_expires_in":"60.5"}"#,
            None,
        ),
        (
            "a sign in a string counts as absent",
            r#"{"refresh_expires_in":"+60"}"#,
            None,
        ),
        (
            "an object counts as absent",
            r#"{"refresh_expires_in":{}}"#,
            None,
        ),
        (
            "the lifetimes of the access token and of the authorization are ignored",
            r#"{"expires_in":60,"authorization_expires_in":60}"#,
            None,
        ),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(
            response(body).refresh_lifetime(),
            expected.map(Duration::from_secs),
            "{sentence}"
        );
    }
}

#[test]
fn the_lifetime_of_the_authorization_is_read() {
    let rows = [
        ("60", Some(60)),
        ("\"60\"", Some(60)),
        ("60.9", Some(60)),
        ("99999999999999999999", Some(CENTURY.as_secs())),
        ("1e999", Some(CENTURY.as_secs())),
        ("0", None),
        ("0.9", None),
        ("-60", None),
        ("\"-60\"", None),
        ("\"soon\"", None),
        ("null", None),
        ("true", None),
        ("[60]", None),
    ];
    for (value, expected) in rows {
        let found = response(&format!(
            r#"{{"authorization_expires_in":{value},"refresh_token_timeout":5}}"#
        ));
        assert_eq!(
            found.authorization_lifetime(),
            expected.map(Duration::from_secs),
            "{value}"
        );
    }
    assert_eq!(response("{}").authorization_lifetime(), None);
}

#[test]
fn every_spelling_of_the_refresh_token_type_is_recognized() {
    let rows = [
        ("urn:ietf:params:oauth:token-type:refresh_token", true),
        ("URN:IETF:params:oauth:token-type:refresh_token", true),
        ("urn:ietf:params:oauth:token-type:REFRESH_TOKEN", true),
        ("urn:ietf:params:oauth:token-type:refresh%5ftoken", true),
        ("urn:ietf:params:oauth:token-type:refresh%255Ftoken", true),
        ("urn:ietf:params:oauth:token-type:refresh_token?+x", true),
        ("urn:ietf:params:oauth:token-type:refresh_token?=x#y", true),
        (" urn:ietf:params:oauth:token-type:refresh_token\t", true),
        ("urn:ietf:params:oauth:token-type:access_token", false),
        ("urn:ietf:params:oauth:token-type:refresh_tokens", false),
        ("urn:ietf:params:oauth:token-type:jwt", false),
        ("", false),
    ];
    for (uri, expected) in rows {
        assert_eq!(is_refresh_token_type(uri), expected, "{uri:?}");
        let issued = response(&json!({"access_token": "a", "issued_token_type": uri}).to_string());
        assert_eq!(
            issued.is_refresh_token_in_disguise(false),
            expected,
            "{uri:?}"
        );
        assert_eq!(
            issued.is_refresh_token_in_disguise(true),
            expected,
            "{uri:?}: the issued type decides"
        );
    }
    for (body, requested, expected) in [
        (
            r#"{"issued_token_type":["urn:ietf:params:oauth:token-type:refresh_token"]}"#,
            false,
            true,
        ),
        (r#"{"issued_token_type":1}"#, false, true),
        (r#"{"issued_token_type":null}"#, false, false),
        (r#"{"issued_token_type":null}"#, true, true),
        ("{}", false, false),
        ("{}", true, true),
    ] {
        assert_eq!(
            response(body).is_refresh_token_in_disguise(requested),
            expected,
            "{body} {requested}"
        );
    }
}

#[test]
fn debug_output_contains_no_values() {
    let found = response(r#"{"refresh_token":"hush","hush":"hush","scope":"hu\u0073h"}"#);
    assert_eq!(format!("{found:?}"), r#"{"refresh_token", "scope"}"#);
}
