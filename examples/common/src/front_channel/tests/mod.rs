mod forms;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

fn jwt(header: &str, payload: &str) -> String {
    format!(
        "{}.{}.c2ln",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    )
}

#[test]
fn response_types_with_a_token_are_refused_in_every_spelling() {
    for query in [
        "response_type=token",
        "response_type=id_token",
        "a=b&response_type=code%20token",
        "response_type=code+id_token+token",
        "response_type=token%09code",
        "response_type=code%0atoken",
        "response_type=code,token",
        "response_type=TOKEN",
        "response_type=%74%6Fken",
        "response_type=%2574oken",
        "response_type=%u0074oken",
        "%72esponse%5Ftype=token",
        "%2572esponse_type=token",
        "response%u005ftype=token",
        "Response_Type=Id_Token",
        "responseType=token",
        "response.type=token",
        "response+type=token",
        "response_type[]=token",
        "response_type%5B0%5D=token",
        "response_type[0][x]=token",
        "response_type:string=token",
        "[response_type][x]=token",
        "response_type]x=token",
        "response_type%3dx=token",
        "response_type%00=token",
        "client_id=a&response_type%00x=token",
        "response_type%2500x=token",
        "response_type%u0000x=token",
        "response%5Ftype\0x%00y=token",
        "responseType[]%00x=token",
        "res%00ponse_type=token",
        "%00response_type=token",
        "+response_type=token",
        "response_type=code&response_type=token",
        "response_type=token&response_type=code",
        "a=b;response_type=token",
        "response_type=%00token",
        "&&;&response_type==token",
        // Case folding of characters that are not ASCII.
        "re%C5%BFponse_type=token",
        "re\u{17f}pon\u{17f}e_type=token",
        "re%25C5%25BFponse_type=token",
        "re%u017fponse_type=token",
        "response_type=to\u{212a}en",
        "response_type=code%20to%E2%84%AAen",
        "re%EF%BD%93ponse_type=token",
    ] {
        assert_eq!(check_query(query), Err(Refusal::ResponseType), "{query}");
    }
}

#[test]
fn requests_without_a_token_response_type_are_accepted() {
    for query in [
        "",
        "response_type",
        "response_type=",
        "response_type=code",
        "response_type=none&prompt=none",
        "client_id=token&state=id_token&scope=token&token=response_type",
        "redirect_uri=https%3A%2F%2Fa%2F%3Fresponse_type%3Dtoken",
        "token_response_type=token",
        "response_types=token",
        "x%00response_type=token",
        "response_mode=fragment&response_type=code",
        "request=x&request=www.example.com",
        "request_uri=&request_uri=/next",
        "request_uri=urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c",
        "request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A1",
        "%=%&%u=%u00&%7",
    ] {
        assert_eq!(check_query(query), Ok(()), "{query}");
    }
    let claims =
        r#"{"iss":"c","response_type":"code","claims":{"id_token":{"response_type":"token"}}}"#;
    assert_eq!(
        check_query(&format!("request={}", jwt(r#"{"alg":"none"}"#, claims))),
        Ok(())
    );
}

#[test]
fn a_request_object_is_refused_for_its_claims_or_if_it_is_unreadable() {
    let header = r#"{"alg":"RS256"}"#;
    for (claims, refusal) in [
        (r#"{"response_type":"code token"}"#, Refusal::ResponseType),
        (
            r#"{"response_type":["code","id_token"]}"#,
            Refusal::ResponseType,
        ),
        (
            r#"{"response_type":"code","response_type":"token"}"#,
            Refusal::ResponseType,
        ),
        (
            r#"{"response_type":"token","response_type":"code"}"#,
            Refusal::ResponseType,
        ),
        (
            r#"{"r\u0065sponse_type":"t\u006fken"}"#,
            Refusal::ResponseType,
        ),
        (r#"{"Response_Type":"TOKEN"}"#, Refusal::ResponseType),
        (r#"{"re\u017fponse_type":"token"}"#, Refusal::ResponseType),
        ("{\"re\u{17f}ponse_type\":\"token\"}", Refusal::ResponseType),
        (r#"{"response_type":"to\u212aen"}"#, Refusal::ResponseType),
        (
            r#"{"reque\u017ft_uri":"https://a"}"#,
            Refusal::RequestObject,
        ),
        (
            r#"{"requ\u0065st_ur\u0131":"https://a"}"#,
            Refusal::RequestObject,
        ),
        (r#"{"response_type\u0000x":"token"}"#, Refusal::ResponseType),
        (r#"{"request_uri":"https://a"}"#, Refusal::RequestObject),
        (r#"{"response_type":"code","#, Refusal::RequestObject),
        ("[]", Refusal::RequestObject),
        ("\u{feff}{}", Refusal::RequestObject),
        ("", Refusal::RequestObject),
    ] {
        let jwt = jwt(header, claims);
        for name in ["request", "Request", "%72equest", "request[]"] {
            assert_eq!(
                check_query(&format!("{name}={jwt}")),
                Err(refusal),
                "{name}: {claims}"
            );
        }
        let spaced: String = jwt.chars().flat_map(|character| ['+', character]).collect();
        assert_eq!(
            check_query(&format!("request={spaced}")),
            Err(refusal),
            "{claims}"
        );
    }
    let header = URL_SAFE_NO_PAD.encode(r#" {"alg":"RSA-OAEP","enc":"A128GCM"}"#);
    for encrypted in [
        format!("{header}.a.b.c.d"),
        format!("{header}.e30.b.c.d"),
        format!("{header}."),
        header,
    ] {
        assert_eq!(
            check_query(&format!("request={encrypted}")),
            Err(Refusal::RequestObject),
            "{encrypted}"
        );
    }
}

#[test]
fn a_request_object_is_decoded_as_leniently_as_servers_do() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"response_type":"token"}"#);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for stray in [
        "!", "=", "==", "%3D", "%00", "%0A", "%22", "%C3%A9", "~", ",", "*", "%25",
    ] {
        for at in 0..=header.len() {
            let (start, end) = header.split_at(at);
            let request = format!("request={start}{stray}{end}.{payload}.");
            assert_eq!(
                check_query(&request),
                Err(Refusal::ResponseType),
                "{request}"
            );
        }
        let (start, end) = payload.split_at(5);
        let request = format!("request={header}.{start}{stray}{end}{stray}.");
        assert_eq!(
            check_query(&request),
            Err(Refusal::ResponseType),
            "{request}"
        );
    }
    // Lenient decoders ignore the last of five digits.
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none" }"#);
    assert_eq!(header.len() % 4, 0);
    let request = format!("request={header}A.{payload}.");
    assert_eq!(
        check_query(&request),
        Err(Refusal::ResponseType),
        "{request}"
    );

    let utf16 = r#"{"alg":"none"}"#.encode_utf16();
    let marked = || std::iter::once(0xfeff).chain(utf16.clone());
    for header in [
        "\u{feff}{\"alg\":\"none\"}".into(),
        " \u{feff} {\"alg\":\"none\"}".into(),
        utf16
            .clone()
            .flat_map(u16::to_be_bytes)
            .collect::<Vec<u8>>(),
        marked().flat_map(u16::to_be_bytes).collect(),
        marked().flat_map(u16::to_le_bytes).collect(),
    ] {
        let request = format!("request={}.{payload}.", URL_SAFE_NO_PAD.encode(&header));
        assert_eq!(
            check_query(&request),
            Err(Refusal::ResponseType),
            "{request}"
        );
    }

    let twice = format!("request=%2565{}.{payload}.", &header[1..]);
    assert_eq!(check_query(&twice), Err(Refusal::ResponseType), "{twice}");
    let other = URL_SAFE_NO_PAD.encode("[1]");
    assert_eq!(check_query(&format!("request=!{other}.{payload}.")), Ok(()));
}

#[test]
fn an_encoded_question_mark_begins_a_query() {
    for (path, verdict) in [
        (
            "/authorize%3fresponse_type=token&client_id=a",
            Err(Refusal::ResponseType),
        ),
        (
            "/authorize%3Fclient_id=a&response_type=code%20token",
            Err(Refusal::ResponseType),
        ),
        (
            "/authorize%253fresponse_type=token",
            Err(Refusal::ResponseType),
        ),
        (
            "/authorize%u003fresponse_type=token",
            Err(Refusal::ResponseType),
        ),
        (
            "/a%3Fb%3Fc;response%5Ftype%00x=token",
            Err(Refusal::ResponseType),
        ),
        (
            "/%61uthorize%3f%72esponse_type%3dtoken",
            Err(Refusal::ResponseType),
        ),
        (
            "/authorize%3frequest_uri=https://a",
            Err(Refusal::RequestUri),
        ),
        ("/authorize%3fresponse_type=code&client_id=a", Ok(())),
        ("/response_type=token", Ok(())),
        ("/a%20b/response_type=token", Ok(())),
        ("/why%3F", Ok(())),
        ("*", Ok(())),
        ("", Ok(())),
    ] {
        assert_eq!(check_path(path), verdict, "{path}");
    }
}

#[test]
fn a_request_uri_that_was_not_pushed_is_refused() {
    for uri in [
        "https%253A%252F%252Fa",
        "https://app.example.com/r.jwt",
        "HTTP://a",
        "%20https%3A%2F%2Fa",
        "urn:other:1",
        "data:,e30.e30.e30",
    ] {
        for name in [
            "request_uri",
            "request_uri%00x",
            "Request_URI",
            "request%5Furi",
            "requestUri",
        ] {
            assert_eq!(
                check_query(&format!("a=b&{name}={uri}")),
                Err(Refusal::RequestUri),
                "{name}={uri}"
            );
        }
    }
}

/// Returns the bytes that the upstream receives of a form that arrives in these chunks, and the
/// verdict.
fn streamed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<(), Refusal>) {
    checked(BodyCheck::Form(FormCheck::default()), pieces)
}

pub(super) fn checked<'a>(
    mut check: BodyCheck,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<(), Refusal>) {
    let mut passed = Vec::new();
    for piece in pieces {
        match check.feed(piece) {
            Ok(data) => passed.extend_from_slice(&data),
            Err(refusal) => return (passed, Err(refusal)),
        }
    }
    let rest = check.finish();
    passed.extend_from_slice(rest.as_deref().unwrap_or_default());
    (passed, rest.map(drop))
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_chunk_size(
        form in proptest::collection::vec(
            "(response_type|response_type%00x|re%C5%BFponse_type|re\u{17f}ponse_type|request%2500x|request|%2572equest_uri|res%u0070onse[+%]type%00|x|re)?[=&;]?(token|code|https://a)?",
            0..8,
        ),
        size in 1..9_usize,
    ) {
        let form = form.concat();
        let (passed, verdict) = streamed(form.as_bytes().chunks(size));
        prop_assert_eq!(verdict, check_query(&form));
        prop_assert!(form.as_bytes().starts_with(&passed));
        prop_assert_eq!(verdict.is_ok(), passed.len() == form.len(), "the upstream receives a refused form only in part");
    }
}
