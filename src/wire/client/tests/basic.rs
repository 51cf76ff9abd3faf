//! Clients that authenticate with HTTP Basic.

use super::*;

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
            "a longer scheme names no client",
            "Basically YTpz",
            "",
            Ok((None, "outside Basically YTpz")),
        ),
        row(
            "a shorter scheme is another one",
            "Basi YTpz",
            "client_id=a",
            Ok((Some("a"), "outside Basi YTpz")),
        ),
        row(
            "another scheme with such credentials is another one",
            "Bearer Basic",
            "client_id=a",
            Ok((Some("a"), "outside Bearer Basic")),
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
fn headers_that_some_servers_read_as_basic_are_rejected() {
    let credentials = STANDARD.encode("b:s");
    for blank in [
        "\t", "\u{a0}", "\u{3000}", "\u{feff}", "\u{e9}", ":", ",", "=", "x", "-", "\"",
    ] {
        let header = format!("Basic{blank}{credentials}");
        for value in [header.as_bytes(), &latin1(&header)] {
            let value = HeaderValue::from_bytes(value).unwrap();
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            let form = form("client_id=a");
            let found = identify(None, &headers, &form);
            assert_eq!(found.err(), Some(ClientError::Authorization), "{blank:?}");
        }
    }
    for value in ["\u{a0}Basic Yjpz", "Bearer \u{e9}", "Bearer\tx"] {
        let headers = HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )]);
        let form = form("client_id=a");
        let found = identify(None, &headers, &form);
        assert_eq!(found.err(), Some(ClientError::Authorization), "{value:?}");
    }
}

/// Returns the lowest byte of each character.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|char| u8::try_from(u32::from(char)).unwrap_or(0xa0))
        .collect()
}
