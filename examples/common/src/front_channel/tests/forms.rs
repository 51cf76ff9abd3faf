//! Authorization requests in the form of a POST.

use http::HeaderValue;

use super::*;
use crate::front_channel::form::{LONGEST, SHORT_NAME};

fn form_check(headers: &[(&'static str, &'static str)]) -> Result<bool, Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    BodyCheck::new(&map).map(|check| check.is_some())
}

#[test]
fn only_forms_are_checked() {
    for form in [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-URLEncoded; charset=UTF-8",
        "",
    ] {
        assert_eq!(form_check(&[("content-type", form)]), Ok(true), "{form}");
        assert_eq!(
            form_check(&[("content-type", form), ("content-encoding", "identity")]),
            Ok(true),
            "{form}"
        );
        for encoding in ["gzip", "x", "identity, br"] {
            let headers = [("content-type", form), ("content-encoding", encoding)];
            assert_eq!(form_check(&headers), Err(Refusal::Encoding), "{headers:?}");
        }
    }
    // Some servers read a body without a media type as a form, whatever its encoding.
    for untyped in ["", " ", ";", "; charset=utf-8", ",", "form", "/", "text/"] {
        let headers = [("content-type", untyped), ("content-encoding", "gzip")];
        assert_eq!(form_check(&headers[..1]), Ok(true), "{untyped:?}");
        assert_eq!(form_check(&headers), Err(Refusal::Encoding), "{untyped:?}");
    }
    assert_eq!(
        form_check(&[("content-encoding", "gzip")]),
        Err(Refusal::Encoding)
    );
    let two = [("content-type", "text/plain"), ("content-type", "")];
    assert_eq!(form_check(&two), Ok(true));
    for form in [
        "application/x-url-encoded",
        "x/urlencoded",
        "application/x_www_form_urlencoded",
    ] {
        assert_eq!(form_check(&[("content-type", form)]), Ok(true), "{form}");
    }
    for multipart in [
        "multipart/mixed",
        "multipart/related; boundary=x",
        "Multipart/X",
        "multipart",
    ] {
        assert!(
            matches!(check_of(multipart), Ok(Some(BodyCheck::Multipart(_)))),
            "{multipart}"
        );
    }
    let two = [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    assert_eq!(form_check(&two), Ok(true));
    assert_eq!(form_check(&[]), Ok(true));
    assert_eq!(
        form_check(&[("content-type", "multipart/form-data; boundary=x")]),
        Ok(true)
    );
    let both = [(
        "content-type",
        "multipart/form-data; boundary=x, application/x-www-form-urlencoded",
    )];
    assert_eq!(form_check(&both), Err(Refusal::Encoding));
    for other in ["application/json", "text/plain", "image/png"] {
        assert_eq!(
            form_check(&[("content-type", other), ("content-encoding", "gzip")]),
            Ok(false),
            "{other}"
        );
    }
}

fn check_of(content_type: &str) -> Result<Option<BodyCheck>, Refusal> {
    let value = HeaderValue::from_bytes(content_type.as_bytes()).unwrap();
    BodyCheck::new(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
}

#[test]
fn a_form_is_in_an_extension_of_ascii() {
    for media_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
    ] {
        for usual in [
            "charset=utf-8",
            "Charset = \"UTF-8\"",
            "boundary=x; charset=utf8;a=b",
            "charset=us-ascii",
            "charset=iso-8859-1",
            "charset=ISO-8859-15",
            "charset=latin1",
            "charset=windows-1252",
            "charset=",
            "charset",
        ] {
            let value = format!("{media_type}; {usual}");
            assert!(matches!(check_of(&value), Ok(Some(_))), "{value}");
        }
        for odd in [
            "Charset = utf-16",
            "charset=\"UTF-16LE\"",
            "charset=ibm037",
            "charset=utf-7",
            "charset=cp037",
            "charset=EBCDIC-US",
            // The value must match as a whole.
            "charset=utf-8''utf-7",
            "charset=utf-8-utf-7",
            "charset=utf-8 utf-7",
            "charset=utf-8\u{a0}",
            "charset=latin",
            "charset=iso-8859-",
            "charset=iso-8859-1x",
            "charset=windows-1252x",
            // Other spellings of the parameter.
            "charset*=utf-8''utf-7",
            "CHARSET*=utf-7",
            "charset*0=utf-7",
            "charset*0*=utf-8''utf-7",
            "charset *=utf-7",
            "charset0=utf-7",
            "charset:utf-7",
            "\"charset\"=utf-7",
            "x-charset=utf-7",
            "a=\";charset=utf-7",
            "charset=utf-8; charset=utf-7",
            "charset=utf-7, charset=utf-8",
        ] {
            let value = format!("{media_type}; {odd}");
            assert!(
                matches!(check_of(&value), Err(Refusal::Encoding)),
                "{value}"
            );
        }
    }
    assert!(matches!(
        check_of("application/json; charset*=utf-8''utf-7"),
        Ok(None)
    ));
}

#[test]
fn the_held_back_part_of_a_form_is_bounded() {
    let long = "x".repeat(LONGEST + 1);
    let (passed, verdict) = streamed([long.as_bytes(), b"=1&response_type=token"].into_iter());
    assert_eq!(
        (passed.len(), verdict),
        (long.len() + 3, Err(Refusal::ResponseType))
    );
    let (passed, _) = streamed([" ".repeat(LONGEST + 1).as_bytes()].into_iter());
    assert_eq!(passed.len(), LONGEST + 1);
    let (_, verdict) = streamed([b"response_type=", long.as_bytes()].into_iter());
    assert_eq!(verdict, Err(Refusal::TooLong));
    let (passed, verdict) = streamed([b"a=", long.as_bytes(), b"&b=", long.as_bytes()].into_iter());
    assert_eq!((passed.len(), verdict), (2 * long.len() + 5, Ok(())));
    let (_, verdict) = streamed([b"response_type%00", long.as_bytes(), b"=token"].into_iter());
    assert_eq!(verdict, Err(Refusal::TooLong));
}

#[test]
fn names_of_other_parameters_are_not_held_back() {
    for piece in [
        "one",
        "{\"a\":",
        "\u{0}\u{1}a",
        "res\u{0}x",
        "client_id",
        "requests",
        "responsive",
        "r%65d",
        "%2572x",
    ] {
        let mut check = FormCheck::default();
        assert_eq!(check.feed(piece.as_bytes()).unwrap(), piece);
    }
    let padded = [
        " ".repeat(SHORT_NAME).as_bytes(),
        b"%2",
        b"572espon",
        b"se_typ",
        b"e=tok",
        b"en",
    ]
    .map(<[u8]>::to_vec);
    let (passed, verdict) = streamed(padded.iter().map(Vec::as_slice));
    assert_eq!((passed.len(), verdict), (0, Err(Refusal::ResponseType)));
}
