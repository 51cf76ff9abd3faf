use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use proptest::prelude::*;

use super::{Client, ClientError, ClientId, Credential, InvalidClientId, identify};
use crate::wire::token_request::TokenRequest;

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn jwt(payload: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

fn assertion(payload: &str) -> String {
    format!("client_assertion={}", jwt(payload))
}

fn headers(authorization: &[&str]) -> HeaderMap {
    authorization
        .iter()
        .map(|value| (AUTHORIZATION, value.parse().unwrap()))
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn form(body: &str) -> TokenRequest {
    TokenRequest::parse(Bytes::copy_from_slice(body.as_bytes())).expect("a form")
}

/// Returns the client and a summary of its credential: `-` if there is none, `assertion`, or the
/// secret after a colon.
fn summary(client: &Client<'_>) -> (Option<String>, String) {
    let credential = match &client.credential {
        Credential::None => "-".to_owned(),
        Credential::Secret(secret) => format!(":{}", &**secret),
        Credential::Assertion => "assertion".to_owned(),
        Credential::Outside(header) => {
            format!(
                "outside {}",
                header
                    .as_ref()
                    .map_or("", |header| header.to_str().unwrap())
            )
        }
    };
    (
        client.id.as_ref().map(|id| id.as_str().to_owned()),
        credential,
    )
}

struct Row {
    sentence: &'static str,
    extension: Option<&'static str>,
    authorization: Vec<String>,
    body: String,
    expected: Result<(Option<&'static str>, &'static str), ClientError>,
}

fn row(
    sentence: &'static str,
    authorization: impl AsRef<str>,
    body: impl AsRef<str>,
    expected: Result<(Option<&'static str>, &'static str), ClientError>,
) -> Row {
    let authorization = Some(authorization.as_ref().to_owned()).filter(|value| !value.is_empty());
    Row {
        sentence,
        extension: None,
        authorization: authorization.into_iter().collect(),
        body: body.as_ref().to_owned(),
        expected,
    }
}

impl Row {
    fn extension(mut self, id: &'static str) -> Self {
        self.extension = Some(id);
        self
    }

    fn check(self) {
        let Self {
            sentence,
            extension,
            authorization,
            body,
            expected,
        } = self;
        let extension = extension.map(|id| ClientId::try_from(id).unwrap());
        let authorization: Vec<_> = authorization.iter().map(String::as_str).collect();
        let form = form(&body);
        let found = identify(extension.as_ref(), &headers(&authorization), &form);
        let expected =
            expected.map(|(id, credential)| (id.map(str::to_owned), credential.to_owned()));
        assert_eq!(found.map(|client| summary(&client)), expected, "{sentence}");
    }
}

#[test]
fn clients_are_identified() {
    let rows = [
        row(
            "no client is named",
            "",
            "grant_type=refresh_token",
            Ok((None, "-")),
        ),
        row(
            "the form names a public client",
            "",
            "client_id=a",
            Ok((Some("a"), "-")),
        ),
        row(
            "the form names a client with a secret",
            "",
            "client_id=a&client_secret=s%20s",
            Ok((Some("a"), ":s s")),
        ),
        row(
            "a secret without a client",
            "",
            "client_secret=s",
            Ok((None, ":s")),
        ),
        row(
            "the extension names the client",
            "",
            "",
            Ok((Some("a"), "outside ")),
        )
        .extension("a"),
        row(
            "the extension and the form agree",
            "",
            "client_id=a",
            Ok((Some("a"), "outside ")),
        )
        .extension("a"),
        row(
            "the extension and the form disagree",
            "",
            "client_id=b",
            Err(ClientError::Disagree),
        )
        .extension("a"),
        row(
            "an identifier with control characters",
            "",
            "client_id=a%0A",
            Err(ClientError::Malformed),
        ),
        row(
            "a credential beside the extension",
            "",
            "client_id=a%0A",
            Err(ClientError::Disagree),
        )
        .extension("a"),
    ];
    rows.into_iter().for_each(Row::check);
}

#[test]
fn basic_credentials_are_read() {
    let unpadded = format!("bASIC  {}", STANDARD_NO_PAD.encode("a:s"));
    let binary = format!("Basic {}", STANDARD.encode(b"a:\xff"));
    let rows = [
        row(
            "Basic names the client",
            basic("a:s"),
            "",
            Ok((Some("a"), ":s")),
        ),
        row(
            "case and padding are ignored",
            unpadded,
            "",
            Ok((Some("a"), ":s")),
        ),
        row(
            "it splits at the first colon",
            basic("a:s:t"),
            "",
            Ok((Some("a"), ":s:t")),
        ),
        row(
            "both parts are form-encoded",
            basic("a%3Ab+c:%2B%C3%A4"),
            "",
            Ok((Some("a:b c"), ":+\u{e4}")),
        ),
        row(
            "raw UTF-8 is accepted",
            basic("\u{e4}:\u{e4}"),
            "",
            Ok((Some("\u{e4}"), ":\u{e4}")),
        ),
        row(
            "an empty password is no secret",
            basic("a:"),
            "",
            Ok((Some("a"), "-")),
        ),
        row(
            "the secret may be in the form",
            basic("a:"),
            "client_secret=s",
            Ok((Some("a"), ":s")),
        ),
        row(
            "the same one twice",
            basic("a:s"),
            "client_id=a&client_secret=s",
            Ok((Some("a"), ":s")),
        ),
        row(
            "two clients",
            basic("a:s"),
            "client_id=b",
            Err(ClientError::Disagree),
        ),
        row(
            "two secrets",
            basic("a:s"),
            "client_secret=t",
            Err(ClientError::Disagree),
        ),
        row(
            "another client than in the extension",
            basic("b:s"),
            "",
            Err(ClientError::Disagree),
        )
        .extension("a"),
        row("no user", basic(":s"), "", Err(ClientError::Basic)),
        row("no colon", basic("a"), "", Err(ClientError::Basic)),
        row("nothing", "Basic", "", Err(ClientError::Basic)),
        row("not base64", "Basic ?", "", Err(ClientError::Basic)),
        row("not UTF-8", binary, "", Err(ClientError::Basic)),
        row(
            "an incomplete escape in the user",
            basic("a%4:s"),
            "",
            Err(ClientError::Basic),
        ),
        row(
            "an invalid escape in the user",
            basic("a%b:s"),
            "",
            Err(ClientError::Basic),
        ),
        row(
            "an escape in the user that is not UTF-8",
            basic("a%ff:s"),
            "",
            Err(ClientError::Basic),
        ),
        row(
            "an escaped NUL in the user",
            basic("a%00:s"),
            "",
            Err(ClientError::Basic),
        ),
        row(
            "a plus is a space",
            basic("my+app:s"),
            "client_id=my+app",
            Ok((Some("my app"), ":s")),
        ),
        row(
            "an escaped plus is a plus",
            basic("my%2Bapp:s"),
            "client_id=my%2bapp",
            Ok((Some("my+app"), ":s")),
        ),
        row(
            "an escaped plus is not a space",
            basic("my%2Bapp:s"),
            "client_id=my+app",
            Err(ClientError::Disagree),
        ),
        row(
            "a raw plus is not a plus",
            basic("my+app:s"),
            "client_id=my%2Bapp",
            Err(ClientError::Disagree),
        ),
        row(
            "a space is a space",
            basic("my app:s"),
            "client_id=my%20app",
            Ok((Some("my app"), ":s")),
        ),
        row(
            "encoded once, not twice",
            basic("my%252Bapp:s"),
            "",
            Ok((Some("my%2Bapp"), ":s")),
        ),
        row(
            "an incomplete escape in the password is kept",
            basic("a:s%+"),
            "",
            Ok((Some("a"), ":s%+")),
        ),
        row(
            "an escaped NUL in the password is kept",
            basic("a:%00"),
            "",
            Ok((Some("a"), ":%00")),
        ),
        row(
            "a user with control characters",
            basic("a%0A:s"),
            "",
            Err(ClientError::Basic),
        ),
        row(
            "malformed Basic with a client in the form",
            "Basic ?",
            "client_id=a",
            Err(ClientError::Basic),
        ),
        row(
            "another scheme does not name a client",
            "Bearer YTpz",
            "client_id=a",
            Ok((Some("a"), "outside Bearer YTpz")),
        ),
        row(
            "a longer scheme is another one",
            "Basically YTpz",
            "",
            Ok((None, "outside Basically YTpz")),
        ),
    ];
    rows.into_iter().for_each(Row::check);
}

#[test]
fn two_authorization_headers_are_rejected() {
    let mut row = row(
        "although they are equal",
        basic("a:s"),
        "",
        Err(ClientError::Disagree),
    );
    row.authorization.push(basic("a:s"));
    row.check();
}

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
            assertion(r#"{"iss":"x","sub":"a","exp":1e9}"#),
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
fn every_conversion_into_a_client_id_applies_the_same_rule() {
    let longest = "a".repeat(512);
    for (text, good) in [
        ("app", true),
        ("https://app.example/client.json", true),
        (" ä", true),
        (&*longest, true),
        ("", false),
        ("a\nb", false),
        (&*format!("{longest}a"), false),
    ] {
        let id = ClientId::try_from(text);
        assert_eq!(
            id.as_ref().map(AsRef::as_ref),
            if good {
                Ok(text)
            } else {
                Err(&InvalidClientId)
            },
            "{text:?}"
        );
        assert_eq!(ClientId::try_from(text.to_owned()), id, "{text:?}");
        assert_eq!(text.parse::<ClientId>(), id, "{text:?}");
    }
}

#[test]
fn debug_output_contains_no_secret() {
    let form = form("client_id=a&client_secret=hush");
    let client = identify(None, &HeaderMap::new(), &form).unwrap();
    assert_eq!(
        format!("{client:?}"),
        r#"Client { id: Some("a"), credential: Secret([redacted]) }"#
    );
    let (headers, form) = (headers(&["Bearer hush"]), self::form("client_id=a"));
    let client = identify(None, &headers, &form).unwrap();
    assert_eq!(
        format!("{:?}", client.credential),
        "Outside(Some(Sensitive))"
    );
}

#[test]
fn descriptions_need_no_escaping_in_json() {
    for error in [
        ClientError::Disagree,
        ClientError::Basic,
        ClientError::Malformed,
        ClientError::Assertion,
    ] {
        let sentence = error.description();
        assert_eq!(
            serde_json::to_string(sentence).unwrap(),
            format!("\"{sentence}\"")
        );
    }
}

proptest! {
    #[test]
    fn any_client_is_identified_by_basic(user in "[^\\pC]{1,20}", password in "[^\\pC]{0,20}") {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let authorization = basic(&format!("{}:{}", encode(&user), encode(&password)));
        let form = form("");
        let client = identify(None, &headers(&[&authorization]), &form).unwrap();
        let credential = if password.is_empty() { "-".to_owned() } else { format!(":{password}") };
        prop_assert_eq!(summary(&client), (Some(user), credential));
    }

    #[test]
    fn arbitrary_headers_and_assertions_are_parsed_or_rejected(header in "(Basic )?[ -~]{0,40}", payload in ".{0,40}") {
        let form = form(&assertion(&payload));
        let _ = identify(None, &headers(&[&header]), &form);
    }
}
