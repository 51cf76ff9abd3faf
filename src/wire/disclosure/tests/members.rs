//! Tokens in the members of a JSON body.

use super::*;

#[test]
fn names_of_tokens_are_recognized() {
    let tokens = [
        "access_token",
        "accessToken",
        "AccessToken",
        "access-token",
        "ACCESS_TOKEN",
        "access.token",
        "access token",
        "to\u{212a}en",
        "access_token_v2",
        "access_token1",
        "accessTokenValue",
        "access_token_encrypted",
        "id_token",
        "id_token_jwt",
        "refresh_token",
        "token",
        "tokens",
        "jwt",
        "authorization",
        "bot_access_token",
        "user_token",
        "oauth_token",
        "oauth_token_secret",
        "session-token",
        "bearer_token",
        "bearer",
        "client_assertion",
        "x-auth-token",
        "token_refresh",
        "refresh_jwt",
        "csrf_access_token",
        "refresh-token-xsrf",
    ];
    for name in tokens {
        assert!(ALL.names(name), "{name}");
    }
    let others = [
        "token_type",
        "issued_token_type",
        "expires_in",
        "refresh_token_expires_in",
        "refresh_token_timeout",
        "authorization_expires_in",
        "access_token_expires_at",
        "refreshTokenExpiration",
        "id_token_signing_alg",
        "access_token_hash",
        "at_hash",
        "authorization_details",
        "csrf_token",
        "XSRF-TOKEN",
        "__RequestVerificationToken",
        "tokenizer",
        "scope",
        "session_state",
        "user",
        "",
    ];
    for name in others {
        assert!(!ALL.names(name), "{name}");
    }
    for (name, expected) in [
        ("refreshToken", true),
        ("REFRESH-TOKEN", true),
        ("user_refresh_token", true),
        ("refresh_tokens", true),
        ("refresh_jwt", true),
        ("offline_token", true),
        ("token_refresh", true),
        ("renewalToken", true),
        ("csrf_refresh_token", true),
        ("refresh_csrf_token", false),
        ("refresh_expires_in", false),
        ("offline_access_token", false),
        ("refresh", false),
        ("refresh_token_expires_in", false),
        ("access_token", false),
        ("id_token", false),
        ("token", false),
    ] {
        assert_eq!(REFRESH.names(name), expected, "{name}");
    }
}

#[test]
fn members_are_removed_at_any_depth_and_every_other_byte_is_kept() {
    let rows = [
        (
            "nested",
            ALL,
            r#"{"a":1,"u":{"id":"x" , "access_token":"t"} }"#,
            r#"{"a":1,"u":{"id":"x"} }"#,
        ),
        (
            "first of its object",
            ALL,
            r#"{"u":{ "accessToken" : "t" , "id":1.50e1}}"#,
            r#"{"u":{ "id":1.50e1}}"#,
        ),
        (
            "the only member",
            ALL,
            r#"{"u":{ "token":"t" }}"#,
            r#"{"u":{  }}"#,
        ),
        (
            "in arrays",
            ALL,
            r#"{"u":[[{"jwt":"t"},2],{"x":1}]}"#,
            r#"{"u":[[{},2],{"x":1}]}"#,
        ),
        (
            "two in a row",
            ALL,
            r#"{"u":{"a":1,"jwt":"t","token":"t"},"b":2}"#,
            r#"{"u":{"a":1},"b":2}"#,
        ),
        (
            "two and one stays",
            ALL,
            r#"{"jwt":"t","token":"t","b":2}"#,
            r#"{"b":2}"#,
        ),
        (
            "an object that is a token",
            ALL,
            r#"{"token":{"value":["t"],"id_token":"x"},"b":2}"#,
            r#"{"b":2}"#,
        ),
        (
            "inside a removed member",
            ALL,
            r#"{"b":2,"tokens":[{"x":1},{"y":2}],"c":{"jwt":"t"}}"#,
            r#"{"b":2,"c":{}}"#,
        ),
        (
            "an escaped name",
            ALL,
            r#"{"u":{"\u0061ccess\u005ftoken":"t","a":1}}"#,
            r#"{"u":{"a":1}}"#,
        ),
        (
            "a name with a lone surrogate",
            ALL,
            r#"{"\ud800access_token":"t"}"#,
            "{}",
        ),
        (
            "an ID token",
            ALL,
            r#"{"id_token":"t","a":1}"#,
            r#"{"a":1}"#,
        ),
        (
            "a kept ID token",
            KEEP,
            r#"{"id_token":"t","a":1}"#,
            r#"{"id_token":"t","a":1}"#,
        ),
        (
            "only the top-level one is kept",
            KEEP,
            r#"{"u":{"id_token":"t"}}"#,
            r#"{"u":{}}"#,
        ),
        (
            "only that spelling is kept",
            KEEP,
            r#"{"idToken":"t"}"#,
            "{}",
        ),
        (
            "members that the layer replaces",
            ALL,
            r#"{"access_token":"t","refresh_token":"r"}"#,
            r#"{"access_token":"t","refresh_token":"r"}"#,
        ),
        (
            "empty values",
            ALL,
            r#"{"token":null,"jwt":"","bearer":false}"#,
            r#"{"token":null,"jwt":"","bearer":false}"#,
        ),
        (
            "a JSON text",
            ALL,
            r#"{"a":"{\"access_token\":\"t\"}","b":1}"#,
            r#"{"b":1}"#,
        ),
        (
            "escaped twice",
            ALL,
            r#"{"a":"{\\\"access_token\\\": \\\"t\\\"}"}"#,
            "{}",
        ),
        (
            "a JSON text with escapes",
            ALL,
            r#"{"a":"{\"\\u0061ccessToken\":\"t\"}"}"#,
            "{}",
        ),
        (
            "a JSON text in an array",
            ALL,
            r#"{"a":[1,"{\"jwt\":\"t\"}"],"b":1}"#,
            r#"{"b":1}"#,
        ),
        (
            "a form",
            ALL,
            r#"{"a":"x=1&access_token=t","b":1}"#,
            r#"{"b":1}"#,
        ),
        (
            "a link",
            ALL,
            r#"{"a":"https:\/\/app.example\/#id%5Ftoken=t"}"#,
            "{}",
        ),
        (
            "a JWT",
            ALL,
            r#"{"a":"see eyJh.eyJi.c","b":1}"#,
            r#"{"b":1}"#,
        ),
        (
            "a JWT in a kept member",
            KEEP,
            r#"{"id_token":"eyJh.eyJi.c"}"#,
            r#"{"id_token":"eyJh.eyJi.c"}"#,
        ),
        (
            "prose",
            ALL,
            r#"{"a":"the token: expired"}"#,
            r#"{"a":"the token: expired"}"#,
        ),
        (
            "only refresh tokens",
            REFRESH,
            r#"{"u":{"accessToken":"t","refreshToken":"r"}}"#,
            r#"{"u":{"accessToken":"t"}}"#,
        ),
        (
            "a link with a refresh token",
            REFRESH,
            r#"{"a":"?access_token=t","b":"?refresh_token=r"}"#,
            r#"{"a":"?access_token=t"}"#,
        ),
        (
            "an ID token is not a refresh token",
            REFRESH,
            r#"{"id_token":"eyJh.eyJi.c"}"#,
            r#"{"id_token":"eyJh.eyJi.c"}"#,
        ),
        (
            "a JWT whose header has a blank",
            ALL,
            r#"{"a":"eyAiYWxnIjoiRVMyNTYifQ.e30.c","b":1}"#,
            r#"{"b":1}"#,
        ),
        (
            "a JWT whose header has line breaks",
            ALL,
            r#"{"a":"x ewogICJhbGciOiAiRVMyNTYiCn0.e30.c","b":"CnsiYSI6MX0.e30.c"}"#,
            "{}",
        ),
        (
            "words with dots",
            ALL,
            r#"{"a":"eyes.example.com","b":"ewen.x.y","c":"Info.plist.in","d":"1.2.3"}"#,
            r#"{"a":"eyes.example.com","b":"ewen.x.y","c":"Info.plist.in","d":"1.2.3"}"#,
        ),
        (
            "a value of a removed member",
            ALL,
            r#"{"u":{"token":"abcd"},"n":"an abcd","o":1}"#,
            r#"{"u":{},"o":1}"#,
        ),
    ];
    for (sentence, withheld, body, expected) in rows {
        assert_eq!(
            answer(withheld, body, &[]).as_deref(),
            Ok(expected),
            "{sentence}"
        );
    }
}
