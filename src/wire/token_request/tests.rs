use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{FormError, MAX_PIECES, Param, TokenRequest, check_headers, names_a_param};

fn parse(body: &str) -> Result<TokenRequest, FormError> {
    TokenRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
}

fn pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

#[test]
fn the_headers_must_declare_a_plain_form() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let rows: &[(&str, &[(&str, &str)], bool)] = &[
        ("a form is accepted", &[FORM], true),
        (
            "case is ignored",
            &[("content-type", "Application/X-WWW-Form-URLEncoded")],
            true,
        ),
        (
            "utf-8 may be declared",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=UTF-8",
            )],
            true,
        ),
        (
            "it may be quoted",
            &[(
                "content-type",
                "application/x-www-form-urlencoded ;charset=\"utf-8\"",
            )],
            true,
        ),
        (
            "an empty parameter is ignored",
            &[("content-type", "application/x-www-form-urlencoded;")],
            true,
        ),
        (
            "other parameters are ignored",
            &[("content-type", "application/x-www-form-urlencoded; a=b")],
            true,
        ),
        (
            "another charset is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; Charset=utf-16",
            )],
            false,
        ),
        (
            "both of two charsets are checked",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8; charset=utf-7",
            )],
            false,
        ),
        (
            "a longer name is another type",
            &[("content-type", "application/x-www-form-urlencoded2")],
            false,
        ),
        (
            "JSON is rejected",
            &[("content-type", "application/json")],
            false,
        ),
        ("a missing type is rejected", &[], false),
        ("two types are rejected", &[FORM, FORM], false),
        (
            "identity is not a coding",
            &[FORM, ("content-encoding", "Identity")],
            true,
        ),
        (
            "a coding is rejected",
            &[FORM, ("content-encoding", "gzip")],
            false,
        ),
        (
            "a coding in a list is rejected",
            &[FORM, ("content-encoding", "identity, gzip")],
            false,
        ),
        (
            "a coding in a second header is rejected",
            &[
                FORM,
                ("content-encoding", "identity"),
                ("content-encoding", "br"),
            ],
            false,
        ),
        (
            "a type that is not ASCII is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; a=\u{fc}",
            )],
            false,
        ),
    ];
    for (sentence, headers, fine) in rows {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        let expected = if *fine {
            Ok(())
        } else {
            Err(FormError::ContentType)
        };
        assert_eq!(check_headers(&map), expected, "{sentence}");
    }
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
fn the_error_names_the_repeated_parameter() {
    for param in Param::ALL {
        let error = parse(&format!("{0}=a&{0}=a", param.name())).expect_err("it is repeated");
        assert_eq!(error, FormError::Repeated(param.name()));
        assert_eq!(
            error.description(),
            format!("the parameter {} is repeated", param.name())
        );
    }
}

#[test]
fn descriptions_need_no_escaping_in_json() {
    for error in [
        FormError::ContentType,
        FormError::Malformed,
        FormError::Repeated("?"),
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

/// Forms with parameters that the layer reads, and with similar ones.
fn any_body() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        proptest::sample::select(Param::ALL.to_vec()).prop_map(|param| param.name().to_owned()),
        Just("refresh%5Ftoken".to_owned()),
        Just("resource".to_owned()),
        "[a-z+]{0,3}",
    ];
    let value = "([a-zA-Z0-9+/:=~ -]|%[2-7][0-9A-Fa-f]|%C3%A4){0,8}";
    let piece = (name, proptest::option::of(value)).prop_map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name,
    });
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.join("&"))
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = TokenRequest::parse(body.into());
    }

    #[test]
    fn values_are_those_that_form_urlencoded_reads(body in any_body()) {
        let Ok(form) = parse(&body) else { return Ok(()) };
        let pairs = pairs(body.as_bytes());
        for param in Param::ALL {
            let expected = pairs.iter().find(|(name, value)| name == param.name() && !value.is_empty());
            prop_assert_eq!(form.get(param), expected.map(|(_, value)| value.as_str()));
        }
        let expected: Vec<_> =
            pairs.iter().filter(|(name, value)| name == "resource" && !value.is_empty()).map(|(_, value)| value).collect();
        let expected: Vec<_> =
            expected.iter().enumerate().filter(|(at, value)| !expected[..*at].contains(value)).map(|(_, value)| *value).collect();
        prop_assert_eq!(form.resources().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn replacing_a_value_keeps_everything_else(body in any_body(), token in "\\PC{0,20}") {
        let Ok(form) = parse(&body) else { return Ok(()) };
        let rewritten = form.replace(Param::RefreshToken, &token);

        let mut expected = pairs(body.as_bytes());
        match expected.iter_mut().find(|(name, _)| name == "refresh_token") {
            Some((_, value)) => value.clone_from(&token),
            None => expected.push(("refresh_token".to_owned(), token.clone())),
        }
        prop_assert_eq!(pairs(&rewritten), expected);

        let again = TokenRequest::parse(rewritten).expect("the rewritten form is a form");
        prop_assert_eq!(again.get(Param::RefreshToken), Some(token.as_str()).filter(|token| !token.is_empty()));
        prop_assert_eq!(again.replace(Param::RefreshToken, "x"), form.replace(Param::RefreshToken, "x"));
    }
}

#[test]
fn names_that_servers_read_in_different_ways_are_rejected() {
    let rows = [
        ("a dot", "client.id=a", true),
        ("a space", "client+id=a", true),
        ("a bracket", "client[id=a", true),
        ("an array", "client_id[]=a", true),
        ("a space before", "+client_id=a", true),
        ("a semicolon", "x=1;client_id=a", true),
        (
            "a semicolon before a name without a value",
            "x=1;scope",
            true,
        ),
        (
            "a semicolon before an escaped name",
            "x=1;client%5Fid=a",
            true,
        ),
        (
            "a semicolon after a name without a value",
            "client_id;x=1",
            true,
        ),
        (
            "a semicolon in a value that the layer reads",
            "scope=a;client_id=b",
            true,
        ),
        (
            "two semicolons in a value that the layer reads",
            "refresh_token=a;refresh_token=b",
            true,
        ),
        ("another case", "GRANT_TYPE=refresh_token", true),
        ("another case, in an array", "Resource[]=a", true),
        (
            "another case, behind a semicolon",
            "x=1;Client%5fID=a",
            true,
        ),
        ("another name", "client.ids=a", false),
        ("another name in another case", "Client-IDs=a", false),
        ("another array", "authorization_details[]=a", false),
        ("a semicolon before another name", "x=1;y=2", false),
        ("such a name in a value", "x=client.id", false),
    ];
    for (sentence, body, refused) in rows {
        assert_eq!(
            parse(body).err(),
            refused.then_some(FormError::Lookalike),
            "{sentence}"
        );
        assert_eq!(names_a_param(body), refused, "{sentence}, in a query");
    }
    assert!(
        parse("client_secret=a;b;c=d").is_ok(),
        "a secret may have a semicolon in it"
    );
    assert!(names_a_param("a=b&client%5Fid"));
    assert!(!names_a_param("%zz=1&state=x"));
}

#[test]
fn parameters_that_are_not_read_are_kept_unchanged() {
    let form = parse("grant_type=a&x=%41+b&resource=r&&client_id=c&y").unwrap();
    let others: Vec<_> = form.others().collect();
    assert_eq!(others, [&b"x=%41+b"[..], b"resource=r", b"y"]);
}
