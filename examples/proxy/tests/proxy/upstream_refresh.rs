//! Clients that never refresh: the proxy refreshes at the upstream for them.

use std::time::Duration;

use test_support::http::{post, send, serve_upstream};
use test_support::oauth::basic;
use test_support::process::Example;
use test_support::{Act, Upstream};
use tokio::time::{sleep, timeout};

use crate::proxy;

const SECRET: &str = "secret of confidential";
const FLAGS: [&str; 4] = [
    "--reference-access-tokens",
    "--resource-prefix=/api",
    "--access-token-lifetime=3600",
    "--upstream-refresh",
];

async fn start(upstream: &Upstream, more: &[&str]) -> Example {
    let url = format!("http://{}", serve_upstream(upstream.clone()).await);
    let secret = ("PROXY_UPSTREAM_CLIENT_SECRET", SECRET);
    let environment: &[_] = if more.is_empty() { &[] } else { &[secret] };
    proxy::start_with(&url, &[&FLAGS, more].concat(), environment).await
}

/// Logs in with an upstream access token that lives for a second.
async fn log_in(upstream: &Upstream, proxy: &Example, client: &str) -> (String, String) {
    upstream.then(Act::With(r#"{"expires_in":1}"#));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", client),
        ("client_secret", SECRET),
    ];
    let form = match client {
        "confidential" => &form[..],
        _ => &form[..3],
    };
    let answer = post(&proxy.url("/token"), form).await;
    (
        answer.string("refresh_token"),
        answer.string("access_token"),
    )
}

/// Uses an access token until the upstream has got a refresh.
async fn use_until_refreshed(upstream: &Upstream, proxy: &Example, access: &str) {
    let bearer = format!("Bearer {access}");
    let url = proxy.url("/api/orders");
    let used = async {
        while upstream.refreshes() == 0 {
            let answer = send("GET", &url, &[("authorization", &bearer)], "").await;
            // That of the upstream, which has no such resource.
            assert_eq!(answer.status, 400, "{}", answer.text());
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(test_support::PATIENCE, used).await.unwrap();
    let answer = send("GET", &url, &[("authorization", &bearer)], "").await;
    assert_eq!(answer.status, 400);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer at-0-1");
}

#[tokio::test]
async fn a_public_client_that_never_refreshes_stays_logged_in() {
    let upstream = Upstream::new();
    let proxy = start(&upstream, &[]).await;
    let (refresh, access) = log_in(&upstream, &proxy, "app").await;
    use_until_refreshed(&upstream, &proxy, &access).await;
    let form = test_support::refresh_form("app", &refresh);
    assert_eq!(post(&proxy.url("/token"), &form).await.status, 200);
    assert_eq!((upstream.refreshes(), upstream.reuses()), (2, 0));
}

#[tokio::test]
async fn a_confidential_client_needs_the_credentials_of_the_flags() {
    let upstream = Upstream::new();
    let proxy = start(&upstream, &["--upstream-client-id=confidential"]).await;
    let (_, access) = log_in(&upstream, &proxy, "confidential").await;
    use_until_refreshed(&upstream, &proxy, &access).await;
    let seen = upstream.seen();
    let refresh = seen
        .iter()
        .find(|seen| seen.param("grant_type") == Some("refresh_token"));
    let sent = &refresh.unwrap().headers["authorization"];
    assert_eq!(sent, &basic("confidential", SECRET));

    let upstream = Upstream::new();
    let proxy = start(&upstream, &[]).await;
    let (_, access) = log_in(&upstream, &proxy, "confidential").await;
    let bearer = format!("Bearer {access}");
    let ends = async {
        let url = proxy.url("/api/orders");
        while send("GET", &url, &[("authorization", &bearer)], "")
            .await
            .status
            != 401
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(test_support::PATIENCE, ends).await.unwrap();
    assert_eq!(upstream.refreshes(), 0);
}
