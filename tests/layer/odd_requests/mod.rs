//! Unusual but valid requests are accepted, and reach the inner service with only one value
//! changed.

mod client;

use bytes::Bytes;
use http::{Request, header};
use test_support::App;
use test_support::requests::{AnyBody, FORM, bare, form, full, pieces, send};
use tower_oauth_refresh::ClientId;

const API: &str = "https://api.example.com/v1";

type Row = (&'static str, fn(&str) -> Request<AnyBody>);

fn refresh(token: &str, rest: &str) -> Request<AnyBody> {
    form("/token").body(full(body(token, rest))).unwrap()
}

fn body(token: &str, rest: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}{rest}")
}

fn typed(token: &str, content_type: &str) -> Request<AnyBody> {
    coded(token, content_type, "")
}

fn coded(token: &str, content_type: &str, coding: &str) -> Request<AnyBody> {
    let builder = bare("/token").header("content-type", content_type);
    let builder = if coding.is_empty() {
        builder
    } else {
        builder.header("content-encoding", coding)
    };
    builder.body(full(body(token, "&client_id=app"))).unwrap()
}

fn authorized(token: &str, value: &str, rest: &str) -> Request<AnyBody> {
    form("/token")
        .header("authorization", value)
        .body(full(body(token, rest)))
        .unwrap()
}

/// For each row, logs in with a form that ends in `client`, sends the row's request and expects the
/// next token.
async fn serve_all(rows: &[Row], client: &str) {
    for (name, request) in rows {
        let app = App::new();
        let log_in = format!("grant_type=authorization_code&code=c&resource={API}&{client}");
        let token = send(&app, form("/token").body(full(log_in)).unwrap())
            .await
            .token(name);
        let (sent, again) = (collected(request(&token)).await, request(&token));
        let next = send(&app, again).await.token(name);
        assert_ne!(next, token, "{name}");

        let seen = app.upstream.seen().pop().unwrap();
        let values = |form: &[(String, String)], name: &str| {
            form.iter()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            values(&seen.form, "refresh_token"),
            ["upstream-0-0"],
            "{name}: {seen:?}"
        );
        let mut expected: Vec<_> = form_urlencoded::parse(&sent).into_owned().collect();
        for (key, value) in &mut expected {
            if key == "refresh_token" {
                *value = "upstream-0-0".into();
            }
        }
        assert_eq!(seen.form, expected, "{name}: only the token changes");
        let length = seen
            .headers
            .get(header::CONTENT_LENGTH)
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(length, Some(seen.raw.len().to_string()), "{name}");
        assert_eq!(
            seen.headers
                .get_all(header::ACCEPT)
                .iter()
                .collect::<Vec<_>>(),
            ["application/json"],
            "{name}"
        );
        let gone = [
            header::ACCEPT_ENCODING,
            header::TRANSFER_ENCODING,
            header::EXPECT,
            header::TRAILER,
        ];
        assert!(
            gone.iter().all(|gone| !seen.headers.contains_key(gone)),
            "{name}: {:?}",
            seen.headers
        );
    }
}

async fn collected(request: Request<AnyBody>) -> Bytes {
    use http_body_util::BodyExt as _;
    request.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn unusual_but_valid_forms_are_accepted() {
    let rows: [Row; 27] = [
        ("nothing odd", |t| refresh(t, "&client_id=app")),
        ("a trailing ampersand", |t| refresh(t, "&client_id=app&")),
        ("many ampersands", |t| refresh(t, "&&&client_id=app&&")),
        ("a parameter without a name", |t| {
            refresh(t, "&client_id=app&=x")
        }),
        ("a parameter without a value", |t| {
            refresh(t, "&client_id=app&x")
        }),
        ("an empty scope", |t| refresh(t, "&client_id=app&scope=")),
        ("an empty secret", |t| {
            refresh(t, "&client_id=app&client_secret=")
        }),
        ("an empty resource", |t| {
            refresh(t, "&client_id=app&resource=&resource")
        }),
        ("less scope", |t| refresh(t, "&client_id=app&scope=write")),
        ("the scope in another order", |t| {
            refresh(t, "&client_id=app&scope=write%20read+write")
        }),
        ("the resource twice", |t| {
            refresh(t, &format!("&client_id=app&resource={API}&resource={API}"))
        }),
        ("the resource escaped", |t| {
            refresh(
                t,
                "&client_id=app&resource=https%3A%2F%2Fapi.example.com%2fv1",
            )
        }),
        ("audiences", |t| {
            refresh(t, "&audience=a&audience=b&client_id=app&audience=a")
        }),
        ("unknown parameters repeated", |t| {
            refresh(t, "&x=1&x=1&x=2&client_id=app")
        }),
        ("unknown parameters in capitals", |t| {
            refresh(t, "&client_id=app&Vendor-ID=other&X=admin")
        }),
        ("arrays and objects of other names", |t| {
            refresh(
                t,
                "&client_id=app&audience[]=a&audience[]=b&client[id]=other&x%5Bclient_id%5D=other",
            )
        }),
        ("names with the same beginning", |t| {
            refresh(
                t,
                "&client_id=app&client_info=1&scope_hint=x&x-client-SKU=y&_token=z",
            )
        }),
        ("a query with arrays", |t| {
            form("/token?x[]=1&audience=a&tenant[id]=%7E")
                .body(full(body(t, "&client_id=app")))
                .unwrap()
        }),
        ("an escaped name", |t| refresh(t, "&client%5Fid=app")),
        ("an escaped name in small letters", |t| {
            refresh(t, "&client%5fid=%61pp")
        }),
        ("an escaped token", |t| {
            refresh(&format!("%72{}", &t[1..]), "&client_id=app")
        }),
        ("the token under an escaped name", |t| {
            form("/token")
                .body(full(format!(
                    "client_id=app&refresh%5Ftoken={t}&grant_type=refresh%5Ftoken"
                )))
                .unwrap()
        }),
        ("the token first", |t| {
            form("/token")
                .body(full(format!(
                    "refresh_token={t}&client_id=app&grant_type=refresh_token"
                )))
                .unwrap()
        }),
        ("equals signs in a value", |t| {
            refresh(t, "&client_id=app&x=a=b==")
        }),
        ("letters that are not ASCII, escaped", |t| {
            refresh(t, "&client_id=app&x=%C3%A4%E2%82%AC")
        }),
        ("a query", |t| {
            form("/token?x=1&tenant=other")
                .body(full(body(t, "&client_id=app")))
                .unwrap()
        }),
        ("an additional parameter `token`", |t| {
            refresh(t, "&client_id=app&token=x&token_type_hint=y")
        }),
    ];
    serve_all(&rows, "client_id=app").await;
}

#[tokio::test(start_paused = true)]
async fn unusual_but_valid_bodies_and_headers_are_accepted() {
    let rows: [Row; 15] = [
        ("charset=iso-8859-1", |t| {
            typed(t, "application/x-www-form-urlencoded; charset=ISO-8859-1")
        }),
        ("charset=utf-8", |t| {
            typed(t, "application/x-www-form-urlencoded; charset=utf-8")
        }),
        ("charset in quotes and capitals", |t| {
            typed(t, "application/x-www-form-urlencoded;CHARSET=\"UTF-8\"")
        }),
        ("another parameter of the type", |t| {
            typed(t, "application/x-www-form-urlencoded; v=1;")
        }),
        ("a type in capitals", |t| {
            typed(t, "Application/X-WWW-Form-URLEncoded")
        }),
        ("spaces around the type", |t| {
            typed(t, " application/x-www-form-urlencoded ;charset=utf-8")
        }),
        ("not compressed, and said so", |t| {
            coded(t, FORM, "Identity")
        }),
        ("in pieces", |t| {
            let body = Bytes::from(body(t, "&client_id=app"));
            let (a, b, c) = (body.slice(..1), body.slice(1..40), body.slice(40..));
            form("/token")
                .header("transfer-encoding", "chunked")
                .body(pieces([Ok(a), Ok(b), Ok(c)]))
                .unwrap()
        }),
        ("at the limit", |t| {
            let fill = (64 << 10) - body(t, "&client_id=app&x=").len();
            refresh(t, &format!("&client_id=app&x={}", "a".repeat(fill)))
        }),
        ("at the limit in pieces", |t| {
            let first = body(t, "&client_id=app&x=");
            let fill = "a".repeat((64 << 10) - first.len());
            form("/token")
                .body(pieces([
                    Ok(first.into()),
                    Ok(Bytes::new()),
                    Ok(fill.into()),
                ]))
                .unwrap()
        }),
        ("what the response should look like", |t| {
            let builder = form("/token")
                .header("accept", "text/html")
                .header("accept", "*/*");
            builder
                .header("accept-encoding", "gzip, br")
                .body(full(body(t, "&client_id=app")))
                .unwrap()
        }),
        ("an expectation", |t| {
            form("/token")
                .header("expect", "100-continue")
                .body(full(body(t, "&client_id=app")))
                .unwrap()
        }),
        ("a length that is wrong", |t| {
            form("/token")
                .header("content-length", 7)
                .body(full(body(t, "&client_id=app")))
                .unwrap()
        }),
        ("an authorization of another scheme", |t| {
            authorized(t, "Bearer x", "&client_id=app")
        }),
        ("the client only in the extensions", |t| {
            let mut request = refresh(t, "");
            request
                .extensions_mut()
                .insert(ClientId::try_from("app").unwrap());
            request
        }),
    ];
    serve_all(&rows, "client_id=app").await;
}

#[tokio::test(start_paused = true)]
async fn other_requests_pass_through_unchanged() {
    let app = App::new();
    let rows: [(&str, http::request::Builder, &'static [u8]); 6] = [
        ("a GET", Request::get("/token?tenant=other&x[]=%7e"), b""),
        (
            "a PUT",
            Request::put("/revoke/x").header("content-type", "text/plain"),
            b"\0",
        ),
        ("a path below", form("/token/x"), b"a=%"),
        (
            "a path with a slash",
            form("/token/"),
            b"client_id=a&client_id=b",
        ),
        ("a path in capitals", form("/TOKEN"), b"refresh_token=%00"),
        ("a large body", bare("/upload"), &[b'a'; 1 << 20]),
    ];
    for (count, (name, builder, body)) in rows.into_iter().enumerate() {
        let request = builder
            .header("accept-encoding", "gzip")
            .body(full(body))
            .unwrap();
        let sent = (
            request.method().clone(),
            request.uri().path().to_owned(),
            request.headers().clone(),
        );
        send(&app, request).await;
        let mut seen = app.upstream.seen();
        assert_eq!(seen.len(), count + 1, "{name}");
        let seen = seen.pop().unwrap();
        assert!(seen.raw == body, "{name}: the body has changed");
        assert_eq!((seen.method, seen.path, seen.headers), sent, "{name}");
    }
    assert!(app.store.calls().is_empty());
}
