//! Clients that authenticate with an assertion.

use super::*;

#[test]
fn assertions_identify_the_client() {
    let padded = format!(
        "client_assertion=e30.{}.c2ln",
        URL_SAFE.encode(r#"{"sub":"ab"}"#).replace('=', "%3D")
    );
    let ok = |id: Option<&'static str>| Ok((id, "assertion"));
    let rows = [
        row(
            "its subject is the client",
            "",
            assertion(r#"{"iss":"a","sub":"a","aud":"SUB","exp":1e9}"#),
            ok(Some("a")),
        ),
        row(
            "its issuer may be missing",
            "",
            assertion(r#"{"sub":"a","sub_id":{"sub":"b"},"issuer":"b"}"#),
            ok(Some("a")),
        ),
        row(
            "JSON escapes are decoded",
            "",
            assertion(r#"{"s\u0075b":"\u0061"}"#),
            ok(Some("a")),
        ),
        row("padding is accepted", "", padded, ok(Some("ab"))),
        row(
            "the form names the same client",
            "",
            assertion(r#"{"sub":"a"}"#) + "&client_id=a",
            ok(Some("a")),
        ),
        row(
            "it takes precedence over a secret",
            "",
            assertion(r#"{"sub":"a"}"#) + "&client_secret=s",
            ok(Some("a")),
        ),
        row(
            "another client than in the form",
            "",
            assertion(r#"{"sub":"a"}"#) + "&client_id=b",
            Err(ClientError::Disagree),
        ),
        row(
            "another client than in Basic",
            basic("b:s"),
            assertion(r#"{"sub":"a"}"#),
            Err(ClientError::Disagree),
        ),
        row(
            "another client than in the extension",
            "",
            assertion(r#"{"sub":"a"}"#),
            Err(ClientError::Disagree),
        )
        .extension("b"),
        row(
            "an empty subject",
            "",
            assertion(r#"{"sub":""}"#),
            Err(ClientError::Malformed),
        ),
        row(
            "an empty assertion counts as absent",
            "",
            "client_assertion=&client_id=a",
            Ok((Some("a"), "-")),
        ),
    ];
    rows.into_iter().for_each(Row::check);
}

#[test]
fn an_unreadable_assertion_identifies_no_client_and_conflicts_with_any() {
    let encoded = |payload: &[u8]| {
        format!(
            "client_assertion=e30.{}.c2ln",
            URL_SAFE_NO_PAD.encode(payload)
        )
    };
    let rows = [
        ("a subject that is a number", assertion(r#"{"sub":1}"#)),
        ("a subject that is null", assertion(r#"{"sub":null}"#)),
        ("a subject in an array", assertion(r#"{"sub":["a"]}"#)),
        ("a lone surrogate", assertion(r#"{"sub":"\ud800"}"#)),
        ("no subject", assertion(r#"{"iss":"a"}"#)),
        ("another case", assertion(r#"{"Sub":"a"}"#)),
        ("two subjects", assertion(r#"{"sub":"a","sub":"b"}"#)),
        (
            "two subjects, one in capitals",
            assertion(r#"{"iss":"a","sub":"a","SUB":"b"}"#),
        ),
        (
            "two subjects, one with a long s",
            assertion("{\"sub\":\"a\",\"\u{17f}ub\":\"b\"}"),
        ),
        (
            "two subjects, one with an escaped long s",
            assertion(r#"{"\u017fub":"b","sub":"a"}"#),
        ),
        (
            "two subjects, one with a NUL",
            assertion(r#"{"sub":"a","sub\u0000":"b"}"#),
        ),
        (
            "a claim whose name has half a surrogate pair",
            assertion(r#"{"sub":"a","sub\ud800":"b"}"#),
        ),
        (
            "two issuers",
            assertion(r#"{"iss":"a","iss":"a","sub":"a"}"#),
        ),
        (
            "two issuers, one in another case",
            assertion(r#"{"iss":"a","sub":"a","Iss":"b"}"#),
        ),
        (
            "two issuers, one with a dotless i",
            assertion("{\"iss\":\"a\",\"sub\":\"a\",\"\u{131}ss\":\"b\"}"),
        ),
        (
            "an issuer that is null",
            assertion(r#"{"iss":null,"sub":"a"}"#),
        ),
        (
            "an issuer in an array",
            assertion(r#"{"iss":["a"],"sub":"a"}"#),
        ),
        (
            "the same one twice",
            assertion(r#"{"sub":"a","s\u0075b":"a"}"#),
        ),
        ("a nested subject", assertion(r#"{"x":{"sub":"a"}}"#)),
        (
            "a payload that is not an object",
            assertion(r#"["sub","a"]"#),
        ),
        ("a payload that is not JSON", assertion(r#"{"sub":"a""#)),
        ("text after the JSON", assertion(r#"{"sub":"a"} {}"#)),
        ("a byte order mark", assertion("\u{feff}{\"sub\":\"a\"}")),
        ("UTF-16", encoded(b"{\0\"\0s\0u\0b\0\"\0:\0\"\0a\0\"\0}\0")),
        ("not UTF-8", encoded(b"{\"sub\":\"a\",\"x\":\"\xff\"}")),
        ("an empty payload", "client_assertion=e30..c2ln".to_owned()),
        ("only dots", "client_assertion=..".to_owned()),
        ("not base64", "client_assertion=a.?.c".to_owned()),
        (
            "the other alphabet",
            format!(
                "client_assertion=e30.{}.c",
                STANDARD.encode(r#"{"sub":"aa>>"}"#).replace('+', "%2B")
            ),
        ),
        (
            "white space",
            format!(
                "client_assertion=e30.{}%0A.c",
                URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#)
            ),
        ),
        (
            "two parts",
            format!(
                "client_assertion=e30.{}",
                URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#)
            ),
        ),
        ("four parts", assertion(r#"{"sub":"a"}"#) + ".x"),
        ("an encrypted one", "client_assertion=a.b.c.d.e".to_owned()),
        (
            "SAML",
            format!(
                "client_assertion={}",
                URL_SAFE_NO_PAD.encode("<saml:Assertion/>")
            ),
        ),
        ("one character", "client_assertion=x".to_owned()),
    ];
    for (sentence, body) in rows {
        row(sentence, "", &body, Ok((None, "assertion"))).check();
        row(
            sentence,
            "",
            format!("{body}&client_secret=s"),
            Ok((None, "assertion")),
        )
        .check();
        row(
            sentence,
            "",
            format!("{body}&client_id=a"),
            Err(ClientError::Assertion),
        )
        .check();
        row(sentence, basic("a:s"), &body, Err(ClientError::Assertion)).check();
        row(sentence, "", &body, Err(ClientError::Assertion))
            .extension("a")
            .check();
    }
}

#[test]
fn an_assertion_of_another_issuer_identifies_no_client_and_conflicts_with_any() {
    for claims in [
        r#"{"iss":"b","sub":"a"}"#,
        r#"{"sub":"a","iss":""}"#,
        r#"{"iss":"A","sub":"a"}"#,
    ] {
        let body = assertion(claims);
        row(claims, "", &body, Ok((None, "assertion"))).check();
        let named = format!("{body}&client_id=a");
        row(claims, "", named, Err(ClientError::Issuer)).check();
        row(claims, basic("a:s"), &body, Err(ClientError::Issuer)).check();
        row(claims, "", &body, Err(ClientError::Issuer))
            .extension("a")
            .check();
    }
}
