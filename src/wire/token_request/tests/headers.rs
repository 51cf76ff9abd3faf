//! The headers of a form.

use super::*;

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
            "a charset that is not UTF-8 by RFC 2231 is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset*=utf-8''utf-7",
            )],
            false,
        ),
        (
            "a part of a charset is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; CharSet*0=utf-; charset*1*=7",
            )],
            false,
        ),
        (
            "a charset without a value is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset utf-7",
            )],
            false,
        ),
        (
            "an additional charset after a known one is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8''utf-7",
            )],
            false,
        ),
        (
            "two known charsets are rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8; charset=iso-8859-1",
            )],
            false,
        ),
        (
            "the same charset twice is accepted",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8; charset=\"UTF-8\"",
            )],
            true,
        ),
        (
            "half a quote is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=\"utf-8",
            )],
            false,
        ),
        (
            "a charset in another parameter is rejected",
            &[(
                "content-type",
                "application/x-www-form-urlencoded; v=\"1, charset=utf-7\"",
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
        let mut map: HeaderMap = headers
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
        assert_eq!(normalize_headers(&mut map), expected, "{sentence}");
    }
}

#[test]
fn only_the_type_and_its_charset_are_kept() {
    for (declared, kept) in [
        (
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded",
        ),
        (
            "Application/X-WWW-Form-URLEncoded;",
            "application/x-www-form-urlencoded",
        ),
        (
            "application/x-www-form-urlencoded; v=1; boundary=x",
            "application/x-www-form-urlencoded",
        ),
        (
            "application/x-www-form-urlencoded;Charset = \"UTF-8\"; v=1",
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
        (
            "application/x-www-form-urlencoded; charset=ISO-8859-1",
            "application/x-www-form-urlencoded; charset=iso-8859-1",
        ),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(declared));
        assert_eq!(normalize_headers(&mut headers), Ok(()), "{declared}");
        assert_eq!(headers["content-type"], kept, "{declared}");
        assert_eq!(headers.len(), 1);
    }
}
