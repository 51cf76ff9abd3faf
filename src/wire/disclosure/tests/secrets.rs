//! Tokens that are known from elsewhere, and content that cannot be searched for them.

use super::*;

#[test]
fn a_known_token_is_found_everywhere() {
    let secret = "s3cret/long+enough";
    let rows = [
        (
            "in a text",
            r#"{"a":"is s3cret\/long+enough","b":1}"#,
            Ok(r#"{"b":1}"#),
        ),
        (
            "in a name",
            r#"{"u":{"s3cret/long+enough":1},"b":1}"#,
            Ok(r#"{"u":{},"b":1}"#),
        ),
        (
            "in a link in a text in JSON",
            r#"{"a":"{\"l\":\"\\u0073%33cret%252Flong%2Benough\"}"}"#,
            Ok("{}"),
        ),
        (
            "in a standard member",
            r#"{"scope":"s3cret/long+enough"}"#,
            Err(Undisclosable),
        ),
        (
            "as the error",
            r#"{"error":"s3cret/long+enough"}"#,
            Err(Undisclosable),
        ),
        (
            "as the access token",
            r#"{"access_token":"s3cret/long+enough"}"#,
            Err(Undisclosable),
        ),
        (
            "in a member that the layer replaces",
            r#"{"refresh_token":"s3cret/long+enough"}"#,
            Ok(r#"{"refresh_token":"s3cret/long+enough"}"#),
        ),
        (
            "a part of it",
            r#"{"a":"s3cret/long"}"#,
            Ok(r#"{"a":"s3cret/long"}"#),
        ),
    ];
    for (sentence, body, expected) in rows {
        assert_eq!(
            answer(REFRESH, body, &[secret]).as_deref(),
            expected.as_deref(),
            "{sentence}"
        );
    }
    let nested = r#"{"scope":{"x":{"access_token":"t"}},"error":"{\"access_token\":\"t\"}"}"#;
    assert_eq!(
        answer(ALL, nested, &[]),
        Err(Undisclosable),
        "JSON in a standard member"
    );
    assert_eq!(
        answer(ALL, r#"{"scope":"token:read access_token:write"}"#, &[])
            .as_deref()
            .map(str::len),
        Ok(41)
    );
}

#[test]
fn content_that_cannot_be_inspected_is_withheld() {
    let deep = |depth| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(answer(ALL, &deep(60), &[]).is_ok());
    for depth in [64, 100, 50_000] {
        assert_eq!(
            answer(ALL, &deep(depth), &[]),
            Err(Undisclosable),
            "{depth}"
        );
    }
    let many: Vec<_> = (0..65)
        .map(|number| format!(r#""{number}":{{"token":"secret-{number}"}}"#))
        .collect();
    assert_eq!(
        answer(ALL, &format!("{{{}}}", many.join(",")), &[]),
        Err(Undisclosable),
        "too many tokens"
    );
    let percent = format!(r#"{{"a":"%{}41"}}"#, "25".repeat(1_000));
    assert_eq!(
        answer(ALL, &percent, &[]).as_deref(),
        Ok("{}"),
        "encoded a thousand times"
    );
}

/// The number of comparisons for each of them is bounded by the limit.
#[test]
fn no_more_secrets_than_the_limit_are_collected() {
    let mut secrets = Vec::new();
    for number in 0..2 * MOST_SECRETS {
        let added = add_secret(&mut secrets, Zeroizing::new(number.to_string()));
        assert_eq!(added.is_ok(), number < MOST_SECRETS, "{number}");
        assert_eq!(secrets.len(), MOST_SECRETS.min(number + 1), "{number}");
    }
    assert!(add_secret(&mut secrets, Zeroizing::new("1".to_owned())).is_ok());
    assert_eq!(secrets.len(), MOST_SECRETS, "a repeated one");
}
