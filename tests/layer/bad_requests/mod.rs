//! Malformed requests are rejected as RFC 6749 §5.2 requires, on both endpoints, and end no
//! session.

mod client;

use std::io;

use bytes::Bytes;
use http::Request;
use test_support::App;
use test_support::requests::{
    AnyBody, FORM, assert_untouched, assertion, bare, basic, form, full, pieces, send,
};
use tower_oauth_refresh::{ClientId, RefreshError};

/// A valid request to one endpoint, which a test then makes invalid.
struct Good<'a> {
    path: &'a str,
    /// The parameter with the token.
    token: String,
}

impl Good<'_> {
    fn with(&self, rest: impl AsRef<[u8]>) -> Request<AnyBody> {
        form(self.path).body(full(self.bytes(rest))).unwrap()
    }

    fn bytes(&self, rest: impl AsRef<[u8]>) -> Vec<u8> {
        [self.token.as_bytes(), rest.as_ref()].concat()
    }

    /// Returns the whole form with these headers.
    fn under(&self, headers: &[(&str, &[u8])]) -> Request<AnyBody> {
        let builder = headers
            .iter()
            .fold(bare(self.path), |builder, (name, value)| {
                builder.header(*name, *value)
            });
        builder.body(full(self.bytes("&client_id=app"))).unwrap()
    }

    fn typed(&self, content_type: &[u8]) -> Request<AnyBody> {
        self.under(&[("content-type", content_type)])
    }

    fn coded(&self, coding: &str) -> Request<AnyBody> {
        self.under(&[
            ("content-type", FORM.as_bytes()),
            ("content-encoding", coding.as_bytes()),
        ])
    }

    fn authorized(&self, value: impl AsRef<str>, rest: &str) -> Request<AnyBody> {
        form(self.path)
            .header("authorization", value.as_ref())
            .body(full(self.bytes(rest)))
            .unwrap()
    }

    fn asserted(&self, claims: &str, rest: &str) -> Request<AnyBody> {
        self.with(format!("&client_assertion={}{rest}", assertion(claims)))
    }
}

fn extended(mut request: Request<AnyBody>, id: &str) -> Request<AnyBody> {
    request
        .extensions_mut()
        .insert(ClientId::try_from(id).unwrap());
    request
}

type Row = (&'static str, fn(&Good<'_>) -> Request<AnyBody>);

async fn refuse_all(rows: &[Row], status: u16, error: &str, challenge: bool) {
    for (name, spoil) in rows {
        for path in ["/token", "/revoke"] {
            let app = App::new();
            let token = app.log_in("app").await;
            let parameter = match path {
                "/token" => format!("grant_type=refresh_token&refresh_token={token}"),
                _ => format!("token={token}"),
            };
            let name = format!("{path}: {name}");
            let answer = send(
                &app,
                spoil(&Good {
                    path,
                    token: parameter,
                }),
            )
            .await;
            answer.assert_refused(&name, status, error, challenge);
            assert_untouched(&name, &app, 1);
            assert_eq!(
                app.upstream.seen().len(),
                1,
                "{name}: the inner service saw only the log-in"
            );
            app.refresh(&token).await.token();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_a_plain_form_is_rejected() {
    let rows: [Row; 16] = [
        ("a charset by RFC 2231", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset*=utf-8''utf-7")
        }),
        ("a charset after another", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset=\"utf-8''utf-7\"")
        }),
        ("no content type", |good| good.under(&[])),
        ("JSON", |good| good.typed(b"application/json")),
        ("parts", |good| {
            good.typed(b"multipart/form-data; boundary=x")
        }),
        ("text", |good| good.typed(b"text/plain")),
        ("a longer type", |good| {
            good.typed(b"application/x-www-form-urlencoded2")
        }),
        ("no type but a charset", |good| {
            good.typed(b"; charset=utf-8")
        }),
        ("a content type that is no text", |good| {
            good.typed(b"application/x-www-form-urlencoded\xff")
        }),
        ("a charset that is not ASCII", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset=ibm037")
        }),
        ("a charset in quotes", |good| {
            good.typed(b"application/x-www-form-urlencoded;a=b; Charset = \"utf-16\"")
        }),
        ("two content types", |good| {
            good.under(&[
                ("content-type", FORM.as_bytes()),
                ("content-type", FORM.as_bytes()),
            ])
        }),
        ("compressed", |good| good.coded("gzip")),
        ("compressed after a harmless coding", |good| {
            good.coded("identity, br")
        }),
        ("compressed in capitals", |good| good.coded("GZIP")),
        ("compressed in a header of its own", |good| {
            let form = ("content-type", FORM.as_bytes());
            good.under(&[
                form,
                ("content-encoding", b"identity"),
                ("content-encoding", b"deflate"),
            ])
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_form_is_rejected() {
    let rows: [Row; 17] = [
        ("a percent sign at the end", |good| {
            good.with("&client_id=app&x=%")
        }),
        ("half an escape", |good| good.with("&client_id=app&x=%4")),
        ("an escape across a separator", |good| {
            good.with("&client_id=app&x=%4&y=1")
        }),
        ("an escape that is not hexadecimal", |good| {
            good.with("&client_id=app&x=%zz")
        }),
        ("half an escape in a name", |good| {
            good.with("&client_id=app&%4=x")
        }),
        ("an escape that is not UTF-8", |good| {
            good.with("&client_id=app&x=%ff")
        }),
        ("an overlong escape", |good| {
            good.with("&client_id=app&x=%c0%af")
        }),
        ("half a surrogate pair", |good| {
            good.with("&client_id=app&x=%ed%a0%80")
        }),
        ("a name that is not UTF-8", |good| {
            good.with("&client_id=app&%e4=x")
        }),
        ("an escaped NUL", |good| good.with("&client_id=app&x=%00")),
        ("an escaped NUL in a name", |good| {
            good.with("&client_id=app&client_id%00=x")
        }),
        ("a NUL", |good| good.with("&client_id=app&x=\0")),
        ("a line feed", |good| good.with("&client_id=app\n")),
        ("a tab", |good| good.with("&client_id=app&x=\t")),
        ("a letter that is not ASCII", |good| {
            good.with("&client_id=app&x=\u{e4}")
        }),
        ("a byte that is not UTF-8", |good| {
            good.with(b"&client_id=app&x=\xff")
        }),
        ("hundreds of parameters", |good| {
            good.with(format!("&client_id=app{}", "&".repeat(300)))
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

/// Another server may read these names as those of parameters, and then sees another client or
/// another scope.
#[tokio::test(start_paused = true)]
async fn a_parameter_that_some_server_reads_under_another_name_is_rejected() {
    let rows: [Row; 10] = [
        ("a bracket after", |good| {
            good.with("&client_id=app&client_id]=other")
        }),
        ("brackets around", |good| {
            good.with("&client_id=app&%5Bclient_id%5D=other")
        }),
        ("two brackets around a scope", |good| {
            good.with("&client_id=app&[[scope]]=admin")
        }),
        ("a long s", |good| {
            good.with("&client_id=app&%C5%BFcope=admin")
        }),
        ("two levels of encoding", |good| {
            good.with("&client_id=app&client%255Fid=other")
        }),
        ("brackets in the query", |good| {
            let path = format!("{}?[client_id]=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("a NUL in the query", |good| {
            let path = format!("{}?client_id%00=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("an escape of a code point in the query", |good| {
            let path = format!("{}?%u0063lient_id=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("a blank that is not ASCII after Basic", |good| {
            let value = [b"Basic\xa0", &basic("other:s").as_bytes()["Basic ".len()..]].concat();
            form(good.path)
                .header("authorization", value)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("another subject in capitals", |good| {
            good.asserted(
                r#"{"iss":"app","sub":"app","SUB":"other"}"#,
                "&client_id=app",
            )
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn repeated_parameters_that_the_layer_reads_are_rejected() {
    let rows: [Row; 12] = [
        ("grant_type", |good| {
            good.with("&client_id=app&grant_type=refresh_token&grant_type=password")
        }),
        ("refresh_token", |good| {
            good.with("&client_id=app&refresh_token=a&refresh_token=b")
        }),
        ("token", |good| good.with("&client_id=app&token=a&token=b")),
        ("client_id", |good| {
            good.with("&client_id=app&client_id=other")
        }),
        ("client_id, twice the same", |good| {
            good.with("&client_id=app&client_id=app")
        }),
        ("client_id, once empty", |good| {
            good.with("&client_id=app&client_id=")
        }),
        ("client_id, once escaped", |good| {
            good.with("&client_id=app&client%5Fid=app")
        }),
        ("client_id, once without a value", |good| {
            good.with("&client_id&client_id=app")
        }),
        ("client_secret", |good| {
            good.with("&client_id=app&client_secret=a&client_secret=a")
        }),
        ("client_assertion", |good| {
            good.with("&client_id=app&client_assertion=a&client_assertion=a")
        }),
        ("client_assertion_type", |good| {
            good.with("&client_id=app&client_assertion_type=a&client_assertion_type=a")
        }),
        ("scope", |good| {
            good.with("&client_id=app&scope=read&scope=read")
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_rejected_with_and_without_content_length() {
    let rows: [Row; 3] = [
        ("one byte too many", |good| {
            let fill = (64 << 10) + 1 - good.bytes("&client_id=app&x=").len();
            good.with(format!("&client_id=app&x={}", "a".repeat(fill)))
        }),
        ("a megabyte with its length", |good| {
            let body = good.bytes(format!("&client_id=app&x={}", "a".repeat(1 << 20)));
            form(good.path)
                .header("content-length", body.len())
                .body(full(body))
                .unwrap()
        }),
        ("pieces without a length", |good| {
            let first = good.bytes("&client_id=app&x=").into();
            let more = || Ok(Bytes::from("a".repeat(30 << 10)));
            form(good.path)
                .body(pieces([Ok(first), more(), more(), more()]))
                .unwrap()
        }),
    ];
    refuse_all(&rows, 413, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_truncated_body_is_rejected() {
    let rows: [Row; 2] = [
        ("at once", |good| {
            form(good.path)
                .body(pieces([Err(io::ErrorKind::ConnectionReset.into())]))
                .unwrap()
        }),
        ("after a whole form", |good| {
            let whole = Bytes::from(good.bytes("&client_id=app"));
            form(good.path)
                .body(pieces([
                    Ok(whole),
                    Err(io::ErrorKind::UnexpectedEof.into()),
                ]))
                .unwrap()
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_token_is_rejected() {
    let rows: [Row; 5] = [
        ("no token", |good| {
            form(good.path)
                .body(full("grant_type=refresh_token&client_id=app"))
                .unwrap()
        }),
        ("an empty token", |good| {
            form(good.path)
                .body(full(
                    "grant_type=refresh_token&refresh_token=&token=&client_id=app",
                ))
                .unwrap()
        }),
        ("a token without a value", |good| {
            form(good.path)
                .body(full(
                    "grant_type=refresh_token&refresh_token&token&client_id=app",
                ))
                .unwrap()
        }),
        ("the token in the query", |good| {
            let path = format!("{}?{}", good.path, good.token);
            form(&path)
                .body(full("grant_type=refresh_token&client_id=app"))
                .unwrap()
        }),
        ("the token under a name in capitals", |good| {
            let upper = good
                .token
                .replace("refresh_token=rt", "REFRESH_TOKEN=rt")
                .replace("token=rt", "TOKEN=rt");
            form(good.path)
                .body(full(format!("{upper}&client_id=app")))
                .unwrap()
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn the_configured_body_limit_applies() {
    let app = App::with(|builder| builder.max_request_body(200));
    let token = app.log_in("app").await;
    let at_limit = |length: usize| {
        let body = format!("grant_type=refresh_token&client_id=app&refresh_token={token}&x=");
        format!("{body}{}", "a".repeat(length - body.len()))
    };
    let answer = send(&app, form("/token").body(full(at_limit(201))).unwrap()).await;
    answer.assert_refused("201 bytes", 413, "invalid_request", false);
    assert!(matches!(
        answer.head.extensions.get(),
        Some(RefreshError::BodyTooLarge)
    ));
    let answer = send(&app, form("/token").body(full(at_limit(200))).unwrap()).await;
    answer.token("200 bytes");
}
