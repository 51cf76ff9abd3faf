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
