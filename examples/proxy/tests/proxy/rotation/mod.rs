//! The example proxy rotates tokens of real clients over real sockets.

mod policy;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use test_support::PATIENCE;
use test_support::http::{Answer, Recorder, post, send, serve_upstream, serve_upstream_at};
use test_support::process::Example;
use test_support::{Act, Upstream, refresh_form};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::proxy::{self, form, form_request};

/// A proxy in front of the strict upstream.
struct Setup {
    upstream: Upstream,
    proxy: Example,
}

impl Setup {
    async fn start(flags: &[&str]) -> Self {
        Self::over(Upstream::new(), flags).await
    }

    async fn over(upstream: Upstream, flags: &[&str]) -> Self {
        let addr = serve_upstream(upstream.clone()).await;
        let flags: Vec<_> = ["--log-level", "debug"]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        let proxy = proxy::start(&format!("http://{addr}"), &flags).await;
        Self { upstream, proxy }
    }

    async fn log_in(&self) -> String {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        post(&self.proxy.url("/token"), &form)
            .await
            .string("refresh_token")
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.refresh_as("app", token).await
    }

    async fn refresh_as(&self, client: &str, token: &str) -> Answer {
        post(&self.proxy.url("/token"), &refresh_form(client, token)).await
    }

    /// Sends a refresh and waits until it has reached the upstream. Returns the open connection.
    async fn refresh_and_stay(&self, token: &str) -> TcpStream {
        let count = self.upstream.seen().len();
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
        let mut stream = TcpStream::connect(self.proxy.addr()).await.unwrap();
        let request = form_request("POST", "/token", &form);
        stream.write_all(request.as_bytes()).await.unwrap();
        while self.upstream.seen().len() == count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream
    }
}

fn refused(answer: &Answer) {
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::BAD_REQUEST, "invalid_grant"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn clients_and_upstream_never_receive_each_others_tokens() {
    let setup = Setup::start(&[]).await;
    let mut token = setup.log_in().await;
    for _ in 0..3 {
        assert!(token.starts_with("rt_"), "{token}");
        let answer = setup.refresh(&token).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text().contains("upstream-"), "{answer:?}");
        let next = answer.string("refresh_token");
        assert_ne!(next, token);
        token = next;
    }
    let seen = setup.upstream.seen();
    assert!(
        seen.iter()
            .all(|seen| !String::from_utf8_lossy(&seen.raw).contains("rt_")),
        "{seen:?}"
    );
    assert_eq!(
        (setup.upstream.refreshes(), setup.upstream.reuses()),
        (3, 0)
    );
}

#[tokio::test]
async fn concurrent_refreshes_get_the_same_response() {
    let setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    let form = refresh_form("app", &token);
    let url = setup.proxy.url("/token");
    let (a, b, c, d) = tokio::join!(
        post(&url, &form),
        post(&url, &form),
        post(&url, &form),
        post(&url, &form)
    );
    let next = a.string("refresh_token");
    for answer in [b, c, d] {
        assert_eq!(answer.string("refresh_token"), next);
    }
    assert_eq!(setup.upstream.refreshes(), 1);
}

#[tokio::test]
async fn a_client_that_disconnected_gets_its_response_on_retry() {
    let setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    let gate = Arc::new(Notify::new());
    setup.upstream.then(Act::Wait(Arc::clone(&gate)));
    drop(setup.refresh_and_stay(&token).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.notify_one();
    setup.proxy.written("rotated").await;
    let answer = setup.refresh(&token).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        setup.refresh(&answer.string("refresh_token")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        (setup.upstream.refreshes(), setup.upstream.reuses()),
        (2, 0)
    );
}

#[tokio::test]
async fn a_log_in_gets_504_if_the_upstream_does_not_respond() {
    let setup = Setup::start(&["--issue-timeout", "0.3"]).await;
    setup.upstream.then(Act::Hang);
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    let answer = post(&setup.proxy.url("/token"), &form).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::GATEWAY_TIMEOUT, "temporarily_unavailable")
    );
    setup.proxy.written("upstream_timeout").await;
}

#[tokio::test]
async fn a_slow_refresh_gets_503_and_the_retry_gets_its_response() {
    let setup = Setup::start(&["--rotation-timeout", "10"]).await;
    let token = setup.log_in().await;
    let gate = Arc::new(Notify::new());
    setup.upstream.then(Act::Wait(Arc::clone(&gate)));
    let answer = setup.refresh(&token).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    assert!(answer.headers.contains_key("retry-after"));
    gate.notify_one();
    setup.proxy.written("rotated").await;
    assert_eq!(setup.refresh(&token).await.status, StatusCode::OK);
    assert_eq!(setup.upstream.refreshes(), 1);
}

#[tokio::test]
async fn a_token_stays_valid_if_the_upstream_is_down() {
    let setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    setup.upstream.then(Act::Break);
    let answer = setup.refresh(&token).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::BAD_GATEWAY, "server_error")
    );
    let answer = setup.refresh(&token).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "the same token is still accepted: {answer:?}"
    );

    // An upstream that is not reachable at first.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let upstream = Upstream::new();
    let adopt = ["--adopt-until", "4102444800"];
    let setup = Setup {
        proxy: proxy::start(&format!("http://{addr}"), &adopt).await,
        upstream: upstream.clone(),
    };
    assert_eq!(
        setup.refresh("upstream-0-0").await.status,
        StatusCode::BAD_GATEWAY
    );
    serve_upstream_at(TcpListener::bind(addr).await.unwrap(), upstream);
    let token = setup.log_in().await;
    assert_eq!(setup.refresh(&token).await.status, StatusCode::OK);
    assert_eq!(setup.upstream.reuses(), 0);
}

#[tokio::test]
async fn sessions_are_handed_back_to_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", folder.path().join("grants.redb").display());
    let mut setup = Setup::start(&["--store", &store]).await;
    let token = setup.log_in().await;
    assert!(token.starts_with("rt_"), "{token}");
    setup.proxy.terminate();
    assert_eq!(setup.proxy.ended(PATIENCE).await.code(), Some(0));
    let leaving = Setup::over(setup.upstream, &["--store", &store, "--hand-back"]).await;
    let answer = leaving.refresh(&token).await;
    assert_eq!(answer.string("refresh_token"), "upstream-0-1");
    let answer = leaving.refresh("upstream-0-1").await;
    assert_eq!(answer.string("refresh_token"), "upstream-0-2");
    assert_eq!(leaving.log_in().await, "upstream-1-0");
    assert_eq!(leaving.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_revoked_token_is_revoked_at_the_upstream_too() {
    let setup = Setup::start(&["--revocation-path", "/revoke"]).await;
    let token = setup.log_in().await;
    let answer = post(
        &setup.proxy.url("/revoke"),
        &[("token", &token), ("client_id", "app")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(setup.upstream.alive(), 0);
    refused(&setup.refresh(&token).await);
}

#[tokio::test]
async fn refresh_tokens_of_the_upstream_are_adopted_until_the_deadline() {
    let setup = Setup::start(&["--adopt-until", "4102444800"]).await;
    setup.log_in().await;
    let answer = setup.refresh("upstream-0-0").await;
    assert!(
        answer.string("refresh_token").starts_with("rt_"),
        "{answer:?}"
    );
    let late = Setup::start(&["--adopt-until", "1000000000"]).await;
    late.log_in().await;
    refused(&late.refresh("upstream-0-0").await);
}

#[tokio::test]
async fn http2_clients_can_refresh() {
    let setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    let body = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
    let client: hyper_util::client::legacy::Client<_, http_body_util::Full<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(true)
            .build_http();
    let request = hyper::Request::post(setup.proxy.url("/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(
        (response.status(), setup.upstream.refreshes()),
        (StatusCode::OK, 1)
    );
}

#[tokio::test]
async fn every_spelling_of_the_endpoint_paths_is_guarded() {
    let spellings = [
        "/token",
        "/token/",
        "//token",
        "/%74oken",
        "/TOKEN",
        "/token.json",
        "/token;a=b",
        "/;a/token",
        "/token%20",
        "/token%3fx",
        "/token/x",
        "/token?tenant=a%2f..",
        "http://a/Token",
    ];
    // An upstream that treats all of them as its token endpoint.
    let upstream = Recorder::start(|_| {
        let body = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"upstream-token"}"#;
        ([("content-type", "application/json")], body)
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    for path in spellings {
        let answer = form(
            &proxy,
            path,
            "grant_type=authorization_code&client_id=app&code=c",
        )
        .await;
        let (_, token) = answer
            .split_once(r#""refresh_token":""#)
            .unwrap_or_else(|| panic!("{path}: {answer}"));
        let (token, _) = token.split_once('"').unwrap();
        assert!(
            token.starts_with("rt_"),
            "{path} bypasses the layer: {answer}"
        );
        form(
            &proxy,
            path,
            &format!("grant_type=refresh_token&client_id=app&refresh_token={token}"),
        )
        .await;
        let seen = upstream.last("/token");
        let query = path
            .split_once('?')
            .map_or(String::new(), |(_, query)| format!("?{query}"));
        assert_eq!(seen.target, format!("/token{query}"), "{path}");
        assert_eq!(
            seen.form("refresh_token").as_deref(),
            Some("upstream-token"),
            "{path}"
        );
    }
    for path in ["/revoke/", "//revoke", "/%72evoke", "/revoke/x"] {
        let answer = form(&proxy, path, "token=rt_AAAA&client_id=app").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    for path in ["/tokens", "/x/token", "/a%20b/token.x"] {
        let answer = form(&proxy, path, "grant_type=authorization_code&client_id=app").await;
        assert!(
            answer.contains("upstream-token"),
            "{path} is not guarded: {answer}"
        );
    }
    let get = send("GET", &proxy.url("/token"), &[], "").await;
    assert!(
        get.text().contains("upstream-token"),
        "only POST is guarded"
    );
}
