//! Errors of the inner service reach the client unchanged. A success that cannot be read is
//! withheld.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use test_support::requests::{Whole, send};
use test_support::{Act, App, post, settle};
use tokio::sync::Notify;
use tokio::time::sleep;
use tower::{Layer as _, service_fn};
use tower_oauth_refresh::{EventKind, RequestBody};

fn log_in() -> Request<Full<Bytes>> {
    post(
        "/token",
        &[
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ],
    )
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_inner_service_are_passed_on_unchanged() {
    let rows = [
        (
            400,
            "application/json",
            r#"{"error":"invalid_grant","error_description":"the code is spent","x":1}"#,
        ),
        (
            400,
            "application/json",
            r#"{ "error" : "authorization_pending" }"#,
        ),
        (401, "application/json", r#"{"error":"invalid_client"}"#),
        (400, "text/html", "<html>no</html>"),
        (400, "application/json", ""),
        (
            200,
            "application/json",
            r#"{"error":"bad_verification_code","error_uri":"https://example.com"}"#,
        ),
        (403, "application/json", r#"{"refresh_token_expires_in":0}"#),
        (429, "text/plain", "slow down"),
        (500, "text/plain", "oops"),
        (503, "text/plain", ""),
        (302, "text/plain", "elsewhere"),
    ];
    for (status, content_type, body) in rows {
        let app = App::new();
        app.upstream.then(Act::Answer(status, content_type, body));
        let answer = send(&app, log_in()).await;
        assert_eq!(
            (answer.head.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes())
        );
        assert_eq!(
            answer.headers()["content-type"],
            content_type,
            "{status} {body}"
        );
        assert_eq!(answer.headers()["x-upstream"], "yes", "{status} {body}");
        assert_eq!(app.events(), [], "{status} {body}");
        assert!(app.store.calls().is_empty(), "{status} {body}");
    }
    let app = App::new();
    app.upstream.then(Act::Break);
    assert_eq!(
        app.send(log_in()).await.unwrap_err().to_string(),
        "the connection broke"
    );
}

/// Sends a log-in to which the inner service replies with `response`.
async fn answered(app: &App, response: fn() -> Response<Full<Bytes>>) -> Whole {
    use tower::ServiceExt as _;
    let inner = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| async move {
        Ok::<_, Infallible>(response())
    });
    let (head, body) = app
        .layer
        .layer(inner)
        .oneshot(log_in())
        .await
        .unwrap()
        .into_parts();
    Whole {
        head,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

fn json(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .header("content-type", "application/json")
        .body(Full::from(body.into()))
        .unwrap()
}

fn coded(coding: &'static str) -> Response<Full<Bytes>> {
    let mut response = json(r#"{"access_token":"a","refresh_token":"up"}"#);
    response
        .headers_mut()
        .insert("content-encoding", coding.parse().unwrap());
    response
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_success_is_withheld() {
    let rows: [(&str, fn() -> Response<Full<Bytes>>); 18] = [
        ("compressed", || coded("gzip")),
        ("compressed in capitals", || coded("GZIP")),
        ("compressed twice", || coded("identity, br")),
        ("compressed in a header of its own", || {
            let mut response = coded("identity");
            response
                .headers_mut()
                .append("content-encoding", "deflate".parse().unwrap());
            response
        }),
        ("nothing", || json("")),
        ("a page", || json("<html>refresh_token</html>")),
        ("a form", || json("access_token=a&refresh_token=up")),
        ("an array", || json(r#"[{"refresh_token":"up"}]"#)),
        ("a string", || json(r#""up""#)),
        ("cut off", || {
            json(r#"{"access_token":"a","refresh_token":"up""#)
        }),
        ("trailing data", || {
            json(r#"{"access_token":"a"}{"refresh_token":"up"}"#)
        }),
        ("a byte order mark", || {
            json("\u{feff}{\"refresh_token\":\"up\"}")
        }),
        ("no UTF-8", || {
            json(&b"{\"access_token\":\"\xff\",\"refresh_token\":\"up\"}"[..])
        }),
        ("two refresh tokens", || {
            json(r#"{"refresh_token":"up","refresh_token":"upper"}"#)
        }),
        ("two refresh tokens, one escaped", || {
            json(r#"{"refresh_token":"up","refresh\u005Ftoken":"upper"}"#)
        }),
        ("a number for a refresh token", || {
            json(r#"{"access_token":"a","refresh_token":1}"#)
        }),
        ("an object for a refresh token", || {
            json(r#"{"access_token":"a","refresh_token":{"token":"up"}}"#)
        }),
        ("too large", || {
            json(format!(
                r#"{{"refresh_token":"up","x":"{}"}}"#,
                "a".repeat(256 << 10)
            ))
        }),
    ];
    for (name, response) in rows {
        let app = App::new();
        let answer = answered(&app, response).await;
        answer.assert_refused(name, 502, "server_error", false);
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable], "{name}");
        assert!(app.store.calls().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_describe_the_original_body_are_removed() {
    let app = App::new();
    let answer = answered(&app, || {
        let mut response = json(r#"{"access_token":"a","refresh_token":"up"}"#);
        for (name, value) in [
            ("content-encoding", "identity"),
            ("transfer-encoding", "chunked"),
            ("trailer", "digest"),
            ("etag", "\"1\""),
            ("content-digest", "sha-256=:x:"),
            ("content-md5", "x"),
            ("cache-control", "public, max-age=60"),
            ("set-cookie", "a=1"),
        ] {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
            .headers_mut()
            .append("set-cookie", "b=2".parse().unwrap());
        response
    })
    .await;
    answer.token("identity is no coding");
    let names: Vec<_> = answer
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    for gone in [
        "content-encoding",
        "transfer-encoding",
        "trailer",
        "etag",
        "content-digest",
        "content-md5",
    ] {
        assert!(!names.contains(&gone), "{names:?}");
    }
    assert_eq!(
        answer
            .headers()
            .get_all("cache-control")
            .iter()
            .collect::<Vec<_>>(),
        ["no-store"]
    );
    assert_eq!(
        answer
            .headers()
            .get_all("set-cookie")
            .iter()
            .collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_configured_response_limit_applies() {
    for (limit, served) in [(41, true), (40, false)] {
        let app = App::with(|builder| builder.max_response_body(limit));
        app.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"a","refresh_token":"up"}"#,
        ));
        assert_eq!(
            send(&app, log_in()).await.head.status == 200,
            served,
            "{limit} bytes"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_configured_log_in_timeout_applies() {
    for (name, grant_type) in [
        ("a code", "authorization_code"),
        ("a backchannel", "urn:openid:params:grant-type:ciba"),
    ] {
        let app = App::with(|builder| {
            builder
                .rotation_timeout(Duration::from_millis(100))
                .issue_timeout(Duration::from_secs(901))
        });
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        let opened = tokio::spawn(async move {
            sleep(Duration::from_secs(900)).await;
            gate.notify_one();
        });
        let token = send(
            &app,
            post(
                "/token",
                &[("grant_type", grant_type), ("client_id", "app")],
            ),
        )
        .await
        .token(name);
        opened.await.unwrap();
        app.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_in_is_cancelled_when_its_client_hangs_up() {
    let app = App::new();
    app.upstream.then(Act::Wait(Arc::new(Notify::new())));
    let waiting = app.clone();
    let client = tokio::spawn(async move { waiting.send(log_in()).await });
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    settle().await;
    app.layer.drain().await;
    assert_eq!(
        app.upstream.alive(),
        0,
        "no client waits for the response any more"
    );
}
