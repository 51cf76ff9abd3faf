//! The changes of the layer in a response. It changes nothing else.

use super::*;

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
            response(body).with_refresh_token("rt_new", LIFETIME, None),
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
            response(body).with_refresh_token("rt_new", LIFETIME, left),
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
        assert_eq!(
            response(body).without_refresh_token(),
            expected,
            "{sentence}"
        );
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
        let (disclosed, secrets) = response(&body("a=/b+", &member))
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
        response(both)
            .disclosed(Withheld::RefreshTokens, None)
            .err(),
        Some(TokenResponseError::Undisclosable)
    );
    assert!(
        response(both).disclosed(Withheld::ALL, None).is_ok(),
        "both are replaced"
    );
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
            response(body).aged(Duration::from_millis(10_999)),
            expected,
            "{sentence}"
        );
        assert_eq!(
            response(body).aged(Duration::from_millis(999)),
            body,
            "{sentence}: less than a second"
        );
    }
}
