//! With reference access tokens the example proxy refuses authorization requests that return tokens
//! to the browser.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use test_support::http::{send, serve};
use test_support::process::Example;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::proxy;

const FORM: &str = "application/x-www-form-urlencoded";

/// A proxy in front of a server that records the target and the body of every request that it
/// received in full.
struct Setup {
    proxy: Example,
    complete: Arc<Mutex<Vec<(String, String)>>>,
}

impl Setup {
    async fn start(flags: &[&str]) -> Self {
        let complete = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&complete);
        let router = Router::new().fallback(async move |request: Request| {
            let target = request.uri().to_string();
            if let Ok(body) = request.into_body().collect().await {
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                record.lock().unwrap().push((target, body));
            }
            "reached"
        });
        Self {
            proxy: proxy::start(&format!("http://{}", serve(router).await), flags).await,
            complete,
        }
    }

    fn reached(&self, target: &str) -> Option<String> {
        let complete = self.complete.lock().unwrap();
        complete
            .iter()
            .find(|(seen, _)| seen == target)
            .map(|(_, body)| body.clone())
    }
}

fn request_object(claims: &str) -> String {
    let [header, claims] = [r#"{"alg":"none"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.")
}

/// Returns queries and forms that must not reach an upstream, each with its error code.
fn refused() -> Vec<(String, &'static str)> {
    let rows = [
        (
            "client_id=a&response_type=token",
            "unsupported_response_type",
        ),
        (
            "response_type=code+id_token&client_id=a",
            "unsupported_response_type",
        ),
        (
            "%72esponse_type=co%64e%09tok%65n",
            "unsupported_response_type",
        ),
        (
            "response_type=code&Response_Type=ID_TOKEN",
            "unsupported_response_type",
        ),
        (
            "client_id=a;response_type=token",
            "unsupported_response_type",
        ),
        (
            "client_id=a&response_type%00x=token",
            "unsupported_response_type",
        ),
        ("re%C5%BFponse_type=token", "unsupported_response_type"),
        (
            "client_id=a&response_type=to%E2%84%AAen",
            "unsupported_response_type",
        ),
        (
            "response_mode=form_post&response_type%5B%5D=token",
            "unsupported_response_type",
        ),
        (
            "client_id=a&request_uri=https%3A%2F%2Fapp.example.com%2Fr.jwt",
            "request_uri_not_supported",
        ),
        (
            "request=eyJlbmMiOiJBMTI4R0NNIn0.a.b.c.d",
            "invalid_request_object",
        ),
    ];
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(text, code)| (text.to_owned(), code))
        .collect();
    let object = request_object(r#"{"response_type":"code token"}"#);
    rows.push((
        format!("client_id=a&request={object}"),
        "unsupported_response_type",
    ));
    rows.push((
        format!("request={}!{}", &object[..1], &object[1..]),
        "unsupported_response_type",
    ));
    let marked = URL_SAFE_NO_PAD.encode("\u{feff}{\"alg\":\"none\"}");
    let (_, claims) = object.split_once('.').unwrap();
    rows.push((
        format!("request={marked}.{claims}"),
        "unsupported_response_type",
    ));
    rows
}

#[tokio::test]
async fn authorization_requests_for_tokens_are_refused_on_every_path() {
    let setup = Setup::start(&["--reference-access-tokens"]).await;
    for (number, (text, code)) in refused().iter().enumerate() {
        for path in [
            "/authorize",
            "/oauth2/v2.0/authorize",
            "/par",
            "//AUTHORIZE/",
            "/x",
        ] {
            for method in ["GET", "HEAD", "POST"] {
                let target = format!("{path}?n={number}&{text}");
                let answer = send(method, &setup.proxy.url(&target), &[], "").await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{method} {target}");
                assert_eq!(answer.headers["cache-control"], "no-store");
                assert!(
                    answer.headers.get("location").is_none(),
                    "the proxy does not redirect, because it cannot verify the redirect URI"
                );
                if method != "HEAD" {
                    assert_eq!(answer.string("error"), *code, "{method} {target}");
                }
                assert_eq!(setup.reached(&target), None, "{method} {target}");
            }
            for method in ["POST", "GET", "PUT"] {
                let target = format!("{path}?form={number}");
                for headers in [
                    &[("content-type", FORM)][..],
                    &[(
                        "content-type",
                        "Application/X-WWW-FORM-urlencoded; charset=utf-8",
                    )],
                    &[],
                ] {
                    let answer =
                        send(method, &setup.proxy.url(&target), headers, text.clone()).await;
                    assert_eq!(
                        answer.status,
                        StatusCode::BAD_REQUEST,
                        "{method} {target} {headers:?}: {text}"
                    );
                    assert_eq!(answer.string("error"), *code, "{method} {target}: {text}");
                    assert_eq!(setup.reached(&target), None, "{method} {target}: {text}");
                }
            }
        }
    }
    for headers in [
        [("content-type", FORM), ("content-encoding", "gzip")],
        [
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-16",
            ),
            ("x", "y"),
        ],
        [
            (
                "content-type",
                "application/x-www-form-urlencoded; charset*=utf-8''utf-7",
            ),
            ("x", "y"),
        ],
        // Some servers read a body without a type as a form, and ignore its encoding.
        [("x", "y"), ("content-encoding", "gzip")],
        [("content-type", ""), ("content-encoding", "x")],
    ] {
        for body in ["unreadable", "client_id=a&response_type=token"] {
            let answer = send("POST", &setup.proxy.url("/encoded"), &headers, body).await;
            assert_eq!(
                (answer.status, &*answer.string("error")),
                (StatusCode::BAD_REQUEST, "invalid_request"),
                "{headers:?}"
            );
            assert_eq!(setup.reached("/encoded"), None, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn multipart_parts_named_like_parameters_are_refused() {
    let setup = Setup::start(&["--reference-access-tokens"]).await;
    let kinds = ["form-data", "mixed", "related", "x-mixed-replace"];
    for (number, (name, code)) in [
        ("\"response_type\"", Some("unsupported_response_type")),
        ("Response_Type", Some("unsupported_response_type")),
        ("\"request_uri\"", Some("request_uri_not_supported")),
        ("\"response_type\0x\"", Some("unsupported_response_type")),
        (&"name=".repeat(1000), Some("invalid_request")),
        ("\"file\"; filename=\"response_type\"", None),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in kinds {
            let headers = [("content-type", &*format!("multipart/{kind}; boundary=x"))];
            let body = format!(
                "--x\r\ncontent-disposition: form-data; name={name}\r\n\r\ntoken\r\n--x--\r\n"
            );
            let target = format!("/authorize?{kind}{number}");
            let answer = send("POST", &setup.proxy.url(&target), &headers, body.clone()).await;
            match code {
                Some(code) => {
                    assert_eq!(
                        (answer.status, &*answer.string("error")),
                        (StatusCode::BAD_REQUEST, code),
                        "{kind}: {name}"
                    );
                    assert_eq!(setup.reached(&target), None, "{kind}: {name}");
                }
                None => assert_eq!(setup.reached(&target), Some(body), "{kind}: {name}"),
            }
        }
    }
}

#[tokio::test]
async fn a_query_after_an_encoded_question_mark_is_checked() {
    let setup = Setup::start(&["--reference-access-tokens"]).await;
    for path in [
        "/authorize%3Fclient_id=a&response_type=token",
        "/authorize%253fresponse_type=id_token",
    ] {
        let answer = send("GET", &setup.proxy.url(path), &[], "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(
            answer.string("error"),
            "unsupported_response_type",
            "{path}"
        );
        assert_eq!(setup.reached(path), None, "{path}");
    }
    let path = "/authorize%3Fresponse_type=code";
    assert_eq!(
        send("GET", &setup.proxy.url(path), &[], "").await.text(),
        "reached"
    );
}

#[tokio::test]
async fn a_streamed_form_is_refused_before_the_upstream_receives_it_in_full() {
    let setup = Setup::start(&["--reference-access-tokens"]).await;
    for (number, (text, code)) in refused().iter().enumerate() {
        let target = format!("/par?{number}");
        for (chunked, padding) in [(true, 0), (false, 0), (true, 100_000), (false, 100_000)] {
            let body = format!("pad={}&{text}", "x".repeat(padding));
            let length = if chunked {
                "Transfer-Encoding: chunked".into()
            } else {
                format!("Content-Length: {}", body.len())
            };
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nConnection: close\r\n{length}\r\n\r\n"
            );
            let mut stream = TcpStream::connect(setup.proxy.addr()).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let (pad, rest) = body.split_at(padding);
            let pieces = std::iter::once(pad)
                .filter(|pad| !pad.is_empty())
                .map(str::to_owned)
                .chain(rest.chars().map(String::from));
            for piece in pieces {
                let piece = if chunked {
                    format!("{:x}\r\n{piece}\r\n", piece.len())
                } else {
                    piece
                };
                // The proxy may have responded and closed the connection already.
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if chunked {
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.contains(code),
                "{text}: {answer}"
            );
            assert_eq!(setup.reached(&target), None, "{text}");
        }
    }
}

#[tokio::test]
async fn other_requests_are_forwarded_unchanged() {
    let setup = Setup::start(&["--reference-access-tokens"]).await;
    let code = request_object(r#"{"response_type":"code","client_id":"a"}"#);
    let long = format!("SAMLResponse={}&RelayState=token", "A".repeat(3 << 20));
    let text = "see /authorize?a=b&response_type=token";
    for (number, (kind, body)) in [
        (
            FORM,
            "client_id=a&response_type=code&scope=token&state=response_type",
        ),
        (FORM, "response_type=code"),
        (
            FORM,
            "request_uri=urn:ietf:params:oauth:request_uri:1&client_id=a",
        ),
        (FORM, &format!("client_id=a&request={code}")),
        (FORM, &long),
        (FORM, "&&;=;x"),
        ("application/json", text),
        ("text/plain", text),
        ("multipart/form-data; boundary=x", text),
        ("multipart/related; boundary=x", text),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/form?{number}");
        let answer = send(
            "POST",
            &setup.proxy.url(&target),
            &[("content-type", kind)],
            body.to_owned(),
        )
        .await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, "reached"),
            "{number}"
        );
        assert!(
            setup.reached(&target).unwrap() == body,
            "{number}: the form was changed"
        );
        if body.len() < 1000 && kind == FORM {
            let target = format!("/authorize?{body}");
            assert_eq!(
                send("GET", &setup.proxy.url(&target), &[], "").await.text(),
                "reached",
                "{target}"
            );
        }
    }
}

#[tokio::test]
async fn without_reference_access_tokens_no_authorization_request_is_refused() {
    let setup = Setup::start(&[]).await;
    for (text, _) in refused() {
        let answer = send(
            "GET",
            &setup.proxy.url(&format!("/authorize?{text}")),
            &[],
            "",
        )
        .await;
        assert_eq!(answer.text(), "reached", "{text}");
        let answer = send(
            "POST",
            &setup.proxy.url("/par"),
            &[("content-type", FORM)],
            text.clone(),
        )
        .await;
        assert_eq!(answer.text(), "reached", "{text}");
    }
}
