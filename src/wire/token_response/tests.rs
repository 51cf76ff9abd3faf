use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AnswerError, TokenResponse, is_refresh_token_type};
use crate::clock::CENTURY;
use crate::wire::disclosure::Withheld;

const LIFETIME: Duration = Duration::from_millis(77_900);

fn parse(body: &str) -> Result<TokenResponse, AnswerError> {
    TokenResponse::parse(Bytes::copy_from_slice(body.as_bytes()))
}

fn answer(body: &str) -> TokenResponse {
    parse(body).unwrap_or_else(|error| panic!("{error:?}: {body}"))
}

#[test]
fn malformed_answers_are_rejected() {
    let rows: &[(&str, &str, Option<AnswerError>)] = &[
        ("nothing", "", Some(AnswerError::NotJson)),
        ("a page", "<html>", Some(AnswerError::NotJson)),
        ("a form", "access_token=a", Some(AnswerError::NotJson)),
        (
            "an incomplete object",
            r#"{"a":1"#,
            Some(AnswerError::NotJson),
        ),
        (
            "a trailing comma",
            r#"{"a":1,}"#,
            Some(AnswerError::NotJson),
        ),
        ("text after the object", "{} {}", Some(AnswerError::NotJson)),
        (
            "a byte order mark",
            "\u{feff}{}",
            Some(AnswerError::NotJson),
        ),
        (
            "a raw newline in a string",
            "{\"a\":\"\n\"}",
            Some(AnswerError::NotJson),
        ),
        (
            "a name that is not a string",
            "{1:2}",
            Some(AnswerError::NotJson),
        ),
        ("an array", "[1]", Some(AnswerError::NotObject)),
        ("a string", r#""a""#, Some(AnswerError::NotObject)),
        ("null", "null", Some(AnswerError::NotObject)),
        (
            "two refresh tokens",
            r#"{"refresh_token":"a","refresh_token":"a"}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "a second one with an escaped name",
            r#"{"refresh_token":"a","refresh\u005ftoken":"b"}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "a second one that is null",
            r#"{"refresh_token":"a","refresh_token":null}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two access tokens",
            r#"{"access_token":1,"access_token":2}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two errors",
            r#"{"error":"a","error":"a"}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two scopes",
            r#"{"scope":"a","scope":"a"}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two lifetimes of the access token",
            r#"{"expires_in":1,"expires_in":1}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two lifetimes of the refresh token",
            r#"{"refresh_expires_in":1,"refresh_expires_in":1}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two timeouts of the refresh token",
            r#"{"refresh_token_timeout":1,"refresh\u005ftoken_timeout":1}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "two lifetimes of the authorization",
            r#"{"authorization_expires_in":1,"authorization_expires_in":null}"#,
            Some(AnswerError::Repeated),
        ),
        (
            "a number as the token",
            r#"{"refresh_token":1}"#,
            Some(AnswerError::WrongType),
        ),
        (
            "a boolean as the token",
            r#"{"refresh_token":false}"#,
            Some(AnswerError::WrongType),
        ),
        (
            "an object as the token",
            r#"{"refresh_token":{}}"#,
            Some(AnswerError::WrongType),
        ),
        (
            "an array as the token",
            r#"{"refresh_token":["a"]}"#,
            Some(AnswerError::WrongType),
        ),
        (
            "a lone surrogate as the token",
            r#"{"refresh_token":"\ud800"}"#,
            Some(AnswerError::WrongType),
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
        Some(AnswerError::NotJson)
    );
}

#[test]
fn deep_nesting_is_parsed_or_rejected() {
    let bomb = format!(r#"{{"a":{}"#, "[".repeat(60_000));
    assert_eq!(parse(&bomb).err(), Some(AnswerError::NotJson));
}

#[test]
fn members_are_read() {
    let found = answer(r#"{"access_token":"a","refresh_token":"r/","scope":"x y","error":"e"}"#);
    assert!(found.has_access_token());
    assert_eq!(
        (found.refresh_token(), found.scope(), found.error()),
        (Some("r/"), Some("x y"), Some("e"))
    );

    let escaped =
        answer(r#"{"refresh\u005ftoken":"r\/\u0041","scope":"\"","err\u006fr":"\u0065"}"#);
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
        let found = answer(body);
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
    let found = answer(r#"{"refresh_token":"plain"}"#);
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
            answer(body).refresh_lifetime(),
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
        let found = answer(&format!(
            r#"{{"authorization_expires_in":{value},"refresh_token_timeout":5}}"#
        ));
        assert_eq!(
            found.authorization_lifetime(),
            expected.map(Duration::from_secs),
            "{value}"
        );
    }
    assert_eq!(answer("{}").authorization_lifetime(), None);
}

#[test]
fn only_the_refresh_token_and_its_lifetimes_are_replaced() {
    let rows = [
        (
            "nothing else changes",
            "{ \"access_token\" :\"a\\/\",\"refresh_token\": \"old\" ,\n\"n\":1.0e2,\"n\":0 }\n",
            "{ \"access_token\" :\"a\\/\",\"refresh_token\": \"rt_new\" ,\n\"n\":1.0e2,\"n\":0,\"refresh_token_timeout\":77 }\n",
        ),
        (
            "an escaped name stays",
            r#"{"refresh\u005ftoken":"\u0041","refresh\u005ftoken_timeout":1}"#,
            r#"{"refresh\u005ftoken":"rt_new","refresh\u005ftoken_timeout":77}"#,
        ),
        (
            "null is replaced",
            r#"{"refresh_token":null,"refresh_token_timeout":null}"#,
            r#"{"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "an empty string is replaced",
            r#"{"refresh_token":"","refresh_token_timeout":""}"#,
            r#"{"refresh_token":"rt_new","refresh_token_timeout":"77"}"#,
        ),
        (
            "absent ones are added",
            "{\"a\":1 }\n",
            "{\"a\":1,\"refresh_token\":\"rt_new\",\"refresh_token_timeout\":77 }\n",
        ),
        (
            "they are added to an empty object",
            " { } ",
            " { \"refresh_token\":\"rt_new\",\"refresh_token_timeout\":77} ",
        ),
        (
            "nested braces are skipped",
            r#"{"a":{"b":"}"}}"#,
            r#"{"a":{"b":"}"},"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "lifetimes are replaced before the token",
            r#"{"refresh_token_timeout":2,"refresh_expires_in":1,"refresh_token":"old"}"#,
            r#"{"refresh_token_timeout":77,"refresh_expires_in":77,"refresh_token":"rt_new"}"#,
        ),
        (
            "lifetimes after the token are replaced, and stay strings",
            r#"{"refresh_token":"old","refresh_token_expires_in":"1000000","refresh_token_timeout":"soon"}"#,
            r#"{"refresh_token":"rt_new","refresh_token_expires_in":"77","refresh_token_timeout":"77"}"#,
        ),
        (
            "zero, null and other values are replaced",
            r#"{"refresh_expires_in":0,"refresh_token_expires_in":null,"refresh_token":"old","refresh_token_timeout":[-1.5]}"#,
            r#"{"refresh_expires_in":77,"refresh_token_expires_in":77,"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "the lifetime of the access token stays",
            r#"{"expires_in":5,"refresh_token":"old"}"#,
            r#"{"expires_in":5,"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "a lifetime of an authorization without an end is removed",
            r#"{"a":1, "authorization_expires_in":0 ,"refresh_token":"old"}"#,
            r#"{"a":1 ,"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "at the beginning, too",
            r#"{"authorization_expires_in":0, "refresh_token":"old"}"#,
            r#"{"refresh_token":"rt_new","refresh_token_timeout":77}"#,
        ),
        (
            "at the end, too",
            r#"{"refresh_token":"old", "authorization_expires_in":9 }"#,
            r#"{"refresh_token":"rt_new","refresh_token_timeout":77 }"#,
        ),
        (
            "as the only member, too",
            r#"{ "authorization_expires_in":9 }"#,
            r#"{ "refresh_token":"rt_new","refresh_token_timeout":77 }"#,
        ),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(
            answer(body).with_refresh_token("rt_new", LIFETIME, None),
            expected,
            "{sentence}"
        );
    }
    let rows = [
        (
            "the lifetime of the authorization is added",
            "{}",
            r#"{"refresh_token":"rt_new","refresh_token_timeout":77,"authorization_expires_in":99}"#,
        ),
        (
            "it is replaced, and stays a string",
            r#"{"authorization_expires_in":"-1","refresh_token":"old","x":1}"#,
            r#"{"authorization_expires_in":"99","refresh_token":"rt_new","x":1,"refresh_token_timeout":77}"#,
        ),
    ];
    for (sentence, body, expected) in rows {
        let left = Some(Duration::from_millis(99_999));
        assert_eq!(
            answer(body).with_refresh_token("rt_new", LIFETIME, left),
            expected,
            "{sentence}"
        );
    }
}

#[test]
fn only_the_refresh_token_and_its_lifetime_are_removed() {
    let rows = [
        (
            "in the middle",
            r#"{"a":1 , "refresh_token":"r" ,"b":2}"#,
            r#"{"a":1 ,"b":2}"#,
        ),
        (
            "at the beginning",
            r#"{ "refresh_token":"r" , "b":2}"#,
            r#"{ "b":2}"#,
        ),
        (
            "at the end",
            r#"{"a":1 , "refresh_token":"r" }"#,
            r#"{"a":1 }"#,
        ),
        ("the only member", r#"{ "refresh_token":"r" }"#, "{  }"),
        (
            "null is removed",
            r#"{"a":1,"refresh_token":null}"#,
            r#"{"a":1}"#,
        ),
        (
            "with its lifetimes",
            r#"{"refresh_expires_in":1,"refresh_token":"r","refresh_token_expires_in":"1","refresh_token_timeout":1,"authorization_expires_in":0}"#,
            "{}",
        ),
        (
            "lifetimes before and after it",
            r#"{"refresh_expires_in":1,"refresh_token":"r","a":1,"refresh_token_expires_in":1}"#,
            r#"{"a":1}"#,
        ),
        (
            "two at the end",
            r#"{"a":1,"refresh_token":"r","refresh_expires_in":1}"#,
            r#"{"a":1}"#,
        ),
        (
            "nothing to remove",
            r#"{"a":1,"expires_in":2}"#,
            r#"{"a":1,"expires_in":2}"#,
        ),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(answer(body).without_refresh_token(), expected, "{sentence}");
    }
}

#[test]
fn the_access_token_is_replaced_and_members_that_disclose_it_are_removed() {
    let rows = [
        ("as it is", r#""x":"is a=/b+""#, true),
        ("nested", r#""x":[["a=/b+"]]"#, true),
        ("escaped", r#""x":"a\u003d\/b\u002B""#, true),
        (
            "in a link",
            r#""x":"https:\/\/a.example\/?t=a%3D%2fb%2B""#,
            true,
        ),
        ("a text that only resembles it", r#""x":"a=\/b""#, false),
        (
            "a short token in a standard member",
            r#""token_type":"a=/b+""#,
            false,
        ),
    ];
    for (sentence, member, goes) in rows {
        let body = |token: &str, member: &str| format!(r#"{{"access_token":"{token}"{member}}}"#);
        let member = format!(",{member}");
        let (disclosed, secrets) = answer(&body("a=/b+", &member))
            .disclosed(Withheld::ALL, Some("used"))
            .unwrap();
        let written = disclosed.with_access_token("at_new", None).unwrap();
        assert_eq!(
            written.body(),
            &body("at_new", if goes { "" } else { &member }),
            "{sentence}"
        );
        let secrets: Vec<_> = secrets.iter().map(|secret| secret.as_str()).collect();
        assert_eq!(secrets, ["a=/b+", "used"], "{sentence}");
    }
    let both = r#"{"access_token":"same","refresh_token":"same"}"#;
    assert_eq!(
        answer(both).disclosed(Withheld::RefreshTokens, None).err(),
        Some(AnswerError::Undisclosable)
    );
    assert!(
        answer(both).disclosed(Withheld::ALL, None).is_ok(),
        "both are replaced"
    );
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
        let issued = answer(&json!({"access_token": "a", "issued_token_type": uri}).to_string());
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
            answer(body).is_refresh_token_in_disguise(requested),
            expected,
            "{body} {requested}"
        );
    }
}

#[test]
fn lifetimes_are_reduced_by_the_age() {
    let rows = [
        (
            "a number",
            r#"{"expires_in": 60 }"#,
            r#"{"expires_in": 50 }"#,
        ),
        (
            "a string",
            r#"{"expires_in":"60"}"#,
            r#"{"expires_in":"50"}"#,
        ),
        (
            "a fraction",
            r#"{"expires_in":60.9}"#,
            r#"{"expires_in":50}"#,
        ),
        (
            "not below zero",
            r#"{"expires_in":5}"#,
            r#"{"expires_in":0}"#,
        ),
        (
            "zero stays",
            r#"{"expires_in":0.0}"#,
            r#"{"expires_in":0.0}"#,
        ),
        (
            "a negative number stays",
            r#"{"expires_in":-1}"#,
            r#"{"expires_in":-1}"#,
        ),
        (
            "words stay",
            r#"{"expires_in":"soon"}"#,
            r#"{"expires_in":"soon"}"#,
        ),
        (
            "null stays",
            r#"{"expires_in":null}"#,
            r#"{"expires_in":null}"#,
        ),
        (
            "an object stays",
            r#"{"expires_in":{"expires_in":60}}"#,
            r#"{"expires_in":{"expires_in":60}}"#,
        ),
        (
            "all of them",
            r#"{"refresh_expires_in":60,"expires_in":61,"refresh_token_expires_in":"62","x":63,"refresh_token_timeout":64,"authorization_expires_in":"65"}"#,
            r#"{"refresh_expires_in":50,"expires_in":51,"refresh_token_expires_in":"52","x":63,"refresh_token_timeout":54,"authorization_expires_in":"55"}"#,
        ),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(
            answer(body).aged(Duration::from_millis(10_999)),
            expected,
            "{sentence}"
        );
        assert_eq!(
            answer(body).aged(Duration::from_millis(999)),
            body,
            "{sentence}: less than a second"
        );
    }
}

#[test]
fn debug_output_contains_no_values() {
    let found = answer(r#"{"refresh_token":"hush","hush":"hush","scope":"hu\u0073h"}"#);
    assert_eq!(format!("{found:?}"), r#"{"refresh_token", "scope"}"#);
}

/// The text of a member: white space, name, white space, value, white space.
type Piece = [String; 5];

fn write<'a>(pieces: impl IntoIterator<Item = &'a Piece>, tail: &str) -> String {
    let members: Vec<String> = pieces
        .into_iter()
        .map(|[before, name, between, value, after]| {
            format!("{before}{name}{between}:{value}{after}")
        })
        .collect();
    format!("{{{}}}{tail}", members.join(","))
}

fn name_of(piece: &Piece) -> String {
    serde_json::from_str(&piece[1]).expect("a name")
}

fn is_lifetime(name: &str) -> bool {
    matches!(
        name,
        "refresh_expires_in"
            | "refresh_token_expires_in"
            | "refresh_token_timeout"
            | "authorization_expires_in"
    )
}

fn any_space() -> impl Strategy<Value = String> {
    "[ \n\t]{0,2}"
}

/// Objects with members that the layer reads, each at most once and some with escaped names, and
/// with other members.
fn any_pieces() -> impl Strategy<Value = Vec<Piece>> {
    let strings =
        prop_oneof!["[a-z0-9]{0,4}", "\\PC{0,4}"].prop_map(|text| Value::from(text).to_string());
    let seconds = prop_oneof![
        (0_u64..100).prop_map(|number| number.to_string()),
        (0_u64..100).prop_map(|number| format!("\"{number}\"")),
        Just("null".to_owned()),
        Just("1.5e1".to_owned()),
    ];
    let others = prop_oneof![
        Just(r#"{"refresh_token":[1.50,{}]}"#.to_owned()),
        Just("-0.10".to_owned())
    ];
    let named = |name: &'static str| {
        prop_oneof![
            Just(format!("\"{name}\"")),
            Just(format!("\"{}\"", name.replace('_', "\\u005F")))
        ]
    };
    let spaced = |name: BoxedStrategy<String>, value: BoxedStrategy<String>| {
        (any_space(), name, any_space(), value, any_space())
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
    };
    let token = prop_oneof![strings.clone(), Just("null".to_owned())].boxed();
    let any_value = prop_oneof![strings.clone(), others].boxed();
    let known = vec![
        spaced(named("access_token").boxed(), any_value.clone()).boxed(),
        spaced(named("refresh_token").boxed(), token).boxed(),
        spaced(named("scope").boxed(), any_value.clone()).boxed(),
        spaced(named("expires_in").boxed(), seconds.clone().boxed()).boxed(),
        spaced(named("refresh_expires_in").boxed(), seconds.clone().boxed()).boxed(),
        spaced(
            named("refresh_token_expires_in").boxed(),
            seconds.clone().boxed(),
        )
        .boxed(),
        spaced(
            named("refresh_token_timeout").boxed(),
            seconds.clone().boxed(),
        )
        .boxed(),
        spaced(named("authorization_expires_in").boxed(), seconds.boxed()).boxed(),
        spaced(Just("\"x\"".to_owned()).boxed(), any_value.clone()).boxed(),
        spaced(Just("\"token_type\"".to_owned()).boxed(), any_value).boxed(),
    ];
    (known, 0_usize..=10).prop_flat_map(|(pieces, count)| {
        proptest::sample::subsequence(pieces, count).prop_shuffle()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = TokenResponse::parse(body.into());
    }

    #[test]
    fn malformed_json_is_parsed_or_rejected(body in r#"\{(["{}\[\],:0-9a-z\\u ]|"refresh_token":){0,30}\}?"#) {
        if let Ok(answer) = parse(&body) {
            let _ = serde_json::from_slice::<Value>(&answer.with_refresh_token("t", LIFETIME, None)).expect("JSON");
            let _ = serde_json::from_slice::<Value>(&answer.without_refresh_token()).expect("JSON");
            let _ = serde_json::from_slice::<Value>(&answer.aged(LIFETIME)).expect("JSON");
        }
    }

    #[test]
    fn replacing_the_token_changes_nothing_else(pieces in any_pieces(), tail in any_space(), token in "[A-Za-z0-9._~-]{1,9}") {
        let body = write(&pieces, &tail);
        let left = Some(Duration::from_secs(99));
        let rewritten = answer(&body).with_refresh_token(&token, LIFETIME, left);

        let mut expected = pieces.clone();
        for piece in &mut expected {
            let seconds = match &*name_of(piece) {
                "refresh_token" => {
                    piece[3] = format!("\"{token}\"");
                    continue;
                }
                "authorization_expires_in" => 99,
                name if is_lifetime(name) => 77,
                _ => continue,
            };
            piece[3] = if piece[3].starts_with('"') { format!("\"{seconds}\"") } else { seconds.to_string() };
        }
        let is_missing = |name: &str| !pieces.iter().any(|piece| name_of(piece) == name);
        let added: Vec<_> = [
            ("refresh_token", format!("\"{token}\"")),
            ("refresh_token_timeout", "77".to_owned()),
            ("authorization_expires_in", "99".to_owned()),
        ]
        .into_iter()
        .filter(|(name, _)| is_missing(name))
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
        let added = added.join(",");
        let comma = if pieces.is_empty() || added.is_empty() { "" } else { "," };
        let text = std::str::from_utf8(&rewritten).unwrap();
        prop_assert_eq!(text.replacen(&format!("{comma}{added}"), "", 1), write(&expected, &tail));
        let again = TokenResponse::parse(rewritten).unwrap();
        prop_assert_eq!(again.refresh_token(), Some(token.as_str()));
    }

    #[test]
    fn an_authorization_without_an_end_has_no_lifetime(pieces in any_pieces(), tail in any_space()) {
        let body = write(&pieces, &tail);
        let rewritten = answer(&body).with_refresh_token("t", LIFETIME, None);
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        let members = expected.as_object_mut().unwrap();
        members.remove("authorization_expires_in");
        for (name, value) in members.iter_mut() {
            if is_lifetime(name) {
                *value = if value.is_string() { json!("77") } else { json!(77) };
            }
        }
        expected["refresh_token"] = json!("t");
        if expected["refresh_token_timeout"].is_null() {
            expected["refresh_token_timeout"] = json!(77);
        }
        prop_assert_eq!(serde_json::from_slice::<Value>(&rewritten).unwrap(), expected);
        let again = answer(std::str::from_utf8(&rewritten).unwrap());
        prop_assert_eq!(again.with_refresh_token("t", LIFETIME, None), rewritten);
    }

    #[test]
    fn removing_the_token_changes_nothing_else(pieces in any_pieces(), tail in any_space()) {
        let body = write(&pieces, &tail);
        let rest = answer(&body).without_refresh_token();

        let mut expected: Value = serde_json::from_str(&body).unwrap();
        expected.as_object_mut().unwrap().retain(|name, _| name != "refresh_token" && !is_lifetime(name));
        prop_assert_eq!(serde_json::from_slice::<Value>(&rest).unwrap(), expected);

        let mut text = std::str::from_utf8(&rest).unwrap();
        for piece in pieces.iter().filter(|piece| name_of(piece) != "refresh_token" && !is_lifetime(&name_of(piece))) {
            let [_, name, between, value, _] = piece;
            let (_, after) = text.split_once(&format!("{name}{between}:{value}")).expect("members are kept as they are");
            text = after;
        }
        prop_assert!(TokenResponse::parse(rest).unwrap().refresh_token().is_none());
    }

    #[test]
    fn reducing_lifetimes_changes_nothing_else(pieces in any_pieces(), tail in any_space(), age in 0_u64..120) {
        let aged = answer(&write(&pieces, &tail)).aged(Duration::from_secs(age));
        let mut expected = pieces;
        for piece in &mut expected {
            let name = name_of(piece);
            if age > 0 && (name == "expires_in" || is_lifetime(&name)) {
                match serde_json::from_str(&piece[3]).unwrap() {
                    Value::String(digits) if digits != "0" => {
                        piece[3] = format!("\"{}\"", digits.parse::<u64>().unwrap().saturating_sub(age));
                    }
                    Value::Number(number) if number.as_f64() > Some(0.0) => {
                        piece[3] = (number.as_f64().unwrap() as u64).saturating_sub(age).to_string();
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!(aged, write(&expected, &tail));
    }

    #[test]
    fn members_are_those_that_serde_json_reads(pieces in any_pieces()) {
        let body = write(&pieces, "");
        let value: Value = serde_json::from_str(&body).unwrap();
        let found = answer(&body);
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        prop_assert_eq!(found.refresh_token(), text("refresh_token").filter(|token| !token.is_empty()));
        prop_assert_eq!(found.scope(), text("scope").filter(|scope| !scope.is_empty()));
        prop_assert_eq!(found.has_access_token(), text("access_token").is_some_and(|token| !token.is_empty()));
    }
}
