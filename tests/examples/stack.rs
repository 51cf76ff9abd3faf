//! The example `stack`, run as a process: the layer works together with the layers of tower-http.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use test_support::http::send;
use test_support::oauth::{basic, error, post_form, refresh_token};
use test_support::process::{Example, example};
use tower::{Service as _, ServiceExt as _};
use tower_http::decompression::Decompression;

const ORIGIN: &str = "https://app.example";

type Answer = (StatusCode, HeaderMap, Value);

fn start(flags: &[&str]) -> Example {
    Example::start(
        example("stack"),
        &[&["127.0.0.1:0"], flags].concat(),
        &[] as &[(&str, &str)],
    )
}

async fn log_in(server: &Example) -> String {
    let form = [
        ("grant_type", "password"),
        ("client_id", "app"),
        ("username", "demo"),
        ("password", "demo"),
    ];
    refresh_token(&post_form(&server.url("/token"), &form, &[]).await)
}

async fn refresh(server: &Example, token: &str, headers: &[(&str, &str)]) -> Answer {
    refresh_slowly(server, token, "0", headers).await
}

async fn refresh_slowly(
    server: &Example,
    token: &str,
    seconds: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", token),
        ("pause", seconds),
    ];
    post_form(&server.url("/token"), &form, headers).await
}

/// Asserts that a response is a time-out in the format of an OAuth error.
#[track_caller]
fn assert_timed_out(answer: &Answer) {
    assert_eq!(
        error(answer),
        (503, "temporarily_unavailable"),
        "{answer:?}"
    );
    assert_eq!(answer.1["content-type"], "application/json");
    assert_eq!(answer.1["cache-control"], "no-store");
    assert_eq!(answer.1["retry-after"], "1");
    assert_eq!(answer.1["access-control-allow-origin"], ORIGIN);
    assert!(answer.1.contains_key("x-request-id"));
}

#[tokio::test]
async fn every_token_response_has_the_id_of_its_request() {
    let server = start(&[]);
    let token = log_in(&server).await;
    let rotated = refresh(&server, &token, &[("x-request-id", "from-the-client")]).await;
    refresh_token(&rotated);
    assert_eq!(rotated.1["x-request-id"], "from-the-client");
    // Responses of the layer itself have an ID, too.
    let replayed = refresh(&server, &token, &[]).await;
    let refused = refresh(&server, "rt_unknown", &[]).await;
    assert_eq!(error(&refused), (400, "invalid_grant"));
    assert_ne!(replayed.1["x-request-id"], refused.1["x-request-id"]);
    // The log line of the rotation has the request ID.
    server.wait_for("rotated");
    let log = server.stderr();
    let line = log
        .lines()
        .find(|line| line.contains("rotated"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("from-the-client"), "{line}");
}

#[tokio::test]
async fn the_log_of_the_whole_stack_contains_no_secret() {
    let server = start(&[]);
    let token = log_in(&server).await;
    let secret = basic("app", "the secret of app");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.as_str()),
    ];
    let rotated = post_form(
        &server.url("/token?also=in-the-query"),
        &form,
        &[("authorization", &secret)],
    )
    .await;
    let next = refresh_token(&rotated);
    let access_token = rotated.2["access_token"].as_str().unwrap();
    server.wait_for("rotated");
    let log = server.stderr();
    let credentials = secret.strip_prefix("Basic ").unwrap();
    for secret in [&token, &next, access_token, credentials, "in-the-query"] {
        assert!(!log.contains(secret), "{secret:?} in {log}");
    }
}

#[tokio::test]
async fn a_browser_app_can_read_every_response() {
    let server = start(&[]);
    let preflight = [
        ("origin", ORIGIN),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let answer = send("OPTIONS", &server.url("/token"), &preflight, "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(answer.headers["access-control-allow-methods"], "POST");
    let allowed = answer.headers["access-control-allow-headers"]
        .to_str()
        .unwrap();
    assert!(
        allowed.contains("authorization") && allowed.contains("content-type"),
        "{allowed}"
    );

    let token = log_in(&server).await;
    let browser = [("origin", ORIGIN)];
    for (name, answer) in [
        ("a rotation", refresh(&server, &token, &browser).await),
        ("a replay", refresh(&server, &token, &browser).await),
        (
            "an error of the layer",
            refresh(&server, "rt_unknown", &browser).await,
        ),
        (
            "an error of the app",
            post_form(&server.url("/token"), &[("grant_type", "magic")], &browser).await,
        ),
    ] {
        assert_eq!(answer.1["access-control-allow-origin"], ORIGIN, "{name}");
        let exposed = answer.1["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("x-request-id"), "{name}");
    }
}

#[tokio::test]
async fn responses_are_compressed_only_outside_of_the_layer() {
    let server = start(&[]);
    let token = log_in(&server).await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut tokens = vec![token.clone()];
    // The first request is a rotation, the others are replays.
    for _ in 0..2 {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
        let request = http::Request::post(server.url("/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept-encoding", "gzip");
        let request = request.body(Full::from(form)).unwrap();
        let raw = client.clone().oneshot(request.clone()).await.unwrap();
        assert_eq!(raw.headers()["content-encoding"], "gzip");
        assert!(
            !raw.into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .starts_with(b"{")
        );

        let mut unpacking = Decompression::new(client.clone());
        let answer = unpacking
            .ready()
            .await
            .unwrap()
            .call(request)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        tokens.push(answer["refresh_token"].as_str().unwrap().to_owned());
    }
    assert_ne!(tokens[1], tokens[0]);
    assert_eq!(tokens[2], tokens[1]);
    refresh_token(&refresh(&server, &tokens[1], &[]).await);
}

#[tokio::test]
async fn after_an_inner_time_out_the_client_gets_503_and_the_token_stays_valid() {
    let server = start(&["--timeout-inside", "0.3"]);
    let token = log_in(&server).await;
    for _ in 0..2 {
        assert_timed_out(&refresh_slowly(&server, &token, "60", &[("origin", ORIGIN)]).await);
    }
    let next = refresh_token(&refresh(&server, &token, &[]).await);
    refresh_token(&refresh(&server, &next, &[]).await);
}

#[tokio::test]
async fn after_an_outer_time_out_the_rotation_completes_and_a_retry_gets_its_response() {
    let server = start(&["--timeout-outside", "0.5", "--timeout-inside", "60"]);
    let token = log_in(&server).await;
    let mut answer = refresh_slowly(&server, &token, "2", &[("origin", ORIGIN)]).await;
    assert_timed_out(&answer);
    // A client that obeys `Retry-After` needs fewer requests.
    for _ in 0..100 {
        answer = refresh_slowly(&server, &token, "2", &[("origin", ORIGIN)]).await;
        if answer.0 == StatusCode::OK {
            break;
        }
        assert_timed_out(&answer);
    }
    let next = refresh_token(&answer);
    server.wait_for("replayed");
    let log = server.stderr();
    assert_eq!(log.matches("rotated").count(), 1, "{log}");
    refresh_token(&refresh(&server, &next, &[]).await);
}
