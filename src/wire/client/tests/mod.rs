//! The client that a request identifies.

mod assertion;
mod basic;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
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
