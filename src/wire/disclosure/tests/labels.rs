//! Tokens whose name is incomplete, or in another member of the same object.

use super::*;

#[test]
fn a_token_under_the_first_word_of_its_name_is_removed() {
    for (withheld, body, expected) in [
        (
            REFRESH,
            r#"{"access":"fedcba9876543210","refresh":"0123456789abcdef","a":1}"#,
            r#"{"access":"fedcba9876543210","a":1}"#,
        ),
        (
            ALL,
            r#"{"a":1,"Access":"fedcba9876543210","re\u0066resh":"0123456789abcdef"}"#,
            r#"{"a":1}"#,
        ),
        (
            REFRESH,
            r#"{"x":[{"refresh":{"token":"0123456789abcdef","b":1}}],"y":"0123456789abcdef"}"#,
            r#"{"x":[{"refresh":{"b":1}}]}"#,
        ),
        (
            ALL,
            r#"{"access":{"z":[{"value":"0123456789abcdef"}]}}"#,
            r#"{"access":{"z":[{}]}}"#,
        ),
    ] {
        assert_eq!(
            answer(withheld, body, &[]).as_deref(),
            Ok(expected),
            "{body}"
        );
    }
    for body in [
        r#"{"access":"offline","refresh":3600,"a":1}"#,
        r#"{"access":"read and write all","refresh":true}"#,
        r#"{"access":["0123456789abcdef"],"refresh":{"url":"https://as.example/r"}}"#,
        r#"{"refresh_policy":"0123456789abcdef","accessible":"0123456789abcdef"}"#,
    ] {
        assert_eq!(answer(ALL, body, &[]).as_deref(), Ok(body));
    }
    let error = br#"{"error":"x","refresh":"0123456789abcdef"}"#;
    assert!(REFRESH.discloses(&HeaderMap::new(), error, &[]));
}

#[test]
fn a_member_that_another_one_labels_is_removed() {
    let rows = [
        (
            "a type and a value",
            REFRESH,
            r#"{"x":{"type":"refresh_token","value":"0123456789abcdef"}}"#,
            r#"{"x":{"type":"refresh_token"}}"#,
        ),
        (
            "in any order, case and depth",
            REFRESH,
            r#"{"x":[{"y":{"Value":"0123456789abcdef","Name":"refreshToken","z":1}}]}"#,
            r#"{"x":[{"y":{"Name":"refreshToken","z":1}}]}"#,
        ),
        (
            "the type of a token",
            REFRESH,
            r#"{"x":[{"token_type":"refresh_token","token":"0123456789abcdef"},{"token_type":"access_token","token":"fedcba9876543210"}]}"#,
            r#"{"x":[{"token_type":"refresh_token"},{"token_type":"access_token","token":"fedcba9876543210"}]}"#,
        ),
        (
            "at the top",
            ALL,
            r#"{"key":"access_token","value":"0123456789abcdef","a":1}"#,
            r#"{"key":"access_token","a":1}"#,
        ),
        (
            "escaped",
            ALL,
            r#"{"x":{"\u0074ype":"\u006awt","valu\u0065":"0123456789abcd\u0065f"}}"#,
            r#"{"x":{"\u0074ype":"\u006awt"}}"#,
        ),
        (
            "known by then",
            ALL,
            r#"{"x":{"id":"id_token","secret":"0123456789abcdef"},"y":"0123456789abcdef"}"#,
            r#"{"x":{"id":"id_token"}}"#,
        ),
    ];
    for (sentence, withheld, body, expected) in rows {
        assert_eq!(
            answer(withheld, body, &[]).as_deref(),
            Ok(expected),
            "{sentence}"
        );
    }
    for body in [
        // Other kinds of tokens, and texts about them.
        r#"{"x":{"type":"access_token_type","value":"0123456789abcdef"}}"#,
        r#"{"x":{"type":"invalid_token","value":"0123456789abcdef"}}"#,
        r#"{"x":{"type":"expired_refresh_token","value":"0123456789abcdef"}}"#,
        r#"{"x":{"type":"csrf_token","value":"0123456789abcdef"}}"#,
        r#"{"x":{"type":"refresh_token","value":"sent with the log-in"}}"#,
        r#"{"x":{"type":"refresh_token","value":"enabled"}}"#,
        r#"{"x":{"type":"refresh_token","value":3600}}"#,
        // Members that tell how a response came about.
        r#"{"token_type":"Bearer","user":"0123456789abcdef","secret_id":"0123456789abcdef"}"#,
        r#"{"grant_type":"refresh_token","value":"0123456789abcdef"}"#,
        r#"{"type":"refresh_token","user_id":"0123456789abcdef"}"#,
        r#"{"x":{"grant_types":["refresh_token","authorization_code"]}}"#,
        // Members of other objects.
        r#"{"type":"access_token","x":{"value":"0123456789abcdef"}}"#,
        r#"{"x":{"type":"access_token"},"value":"0123456789abcdef"}"#,
        r#"{"x":[{"type":"access_token"},{"value":"0123456789abcdef"}]}"#,
    ] {
        assert_eq!(answer(ALL, body, &[]).as_deref(), Ok(body));
        assert!(!ALL.discloses(&HeaderMap::new(), body.as_bytes(), &[]));
    }
    let error = br#"{"error":"x","data":{"name":"refresh_token","value":"0123456789abcdef"}}"#;
    assert!(REFRESH.discloses(&HeaderMap::new(), error, &[]));
}
