//! Malformed requests are rejected as RFC 6749 §5.2 requires, on both endpoints, and end no
//! session.

mod client;
mod form;

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
