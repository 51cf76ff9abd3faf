//! The proxy revokes the upstream token of a session that it ends by itself.

use std::time::Duration;

use test_support::http::{post, send, serve_upstream};
use test_support::oauth::basic;
use test_support::process::Example;
use test_support::upstream::Seen;
use test_support::users::id_token;
use test_support::{Act, Upstream, refresh_form};
use tokio::time::{sleep, timeout};

use crate::proxy;

const TOKEN: &str = "the-token-of-the-operators-0123456789";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECRET: &str = "secret of confidential";

async fn start(
    upstream: &Upstream,
    key: &str,
    more: &[&str],
) -> (Example, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let url = format!("http://{}", serve_upstream(upstream.clone()).await);
    let flags = [
        "--admin=127.0.0.1:0",
        "--admin-token",
        TOKEN,
        "--log-level=trace",
        "--upstream-revocation",
        "--revocation-key-file",
        path,
        "--upstream-client-id=confidential",
    ];
    let flags = [&flags[..], more].concat();
    let secret = ("PROXY_UPSTREAM_CLIENT_SECRET", SECRET);
    (proxy::start_with(&url, &flags, &[secret]).await, file)
}

/// Logs a user in at this client, and refreshes once.
async fn log_in(upstream: &Upstream, proxy: &Example, client: &str, user: &str) {
    let members = format!(
        r#"{{"id_token":"{}"}}"#,
        id_token(&format!(r#"{{"sub":"{user}"}}"#))
    );
    upstream.then(Act::With(members.leak()));
    let secret = ("client_secret", SECRET);
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", client),
        secret,
    ];
    let token = post(&proxy.url("/token"), &form)
        .await
        .string("refresh_token");
    let form = [&refresh_form(client, &token)[..], &[secret]].concat();
    assert_eq!(post(&proxy.url("/token"), &form).await.status, 200);
}

async fn end(proxy: &Example, user: &str) {
    let url = format!("http://{}/sessions?subject={user}", proxy.admin_addr());
    let bearer = format!("Bearer {TOKEN}");
    let answer = send("DELETE", &url, &[("authorization", &bearer)], "").await;
    assert_eq!(answer.json()["ended"], 1, "{}", answer.text());
}

/// Waits until the upstream has this many revocations.
async fn revocations(upstream: &Upstream, count: usize) -> Vec<Seen> {
    let found = async {
        loop {
            let mut seen = upstream.seen();
            seen.retain(|seen| seen.path == "/revoke");
            if seen.len() == count {
                return seen;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(test_support::PATIENCE, found).await.unwrap()
}

#[tokio::test]
async fn an_ended_session_ends_at_the_upstream_too() {
    let upstream = Upstream::new();
    let (proxy, _file) = start(&upstream, KEY, &[]).await;
    log_in(&upstream, &proxy, "confidential", "ada").await;
    log_in(&upstream, &proxy, "confidential", "bob").await;
    // The first attempt fails.
    upstream.then(Act::Answer(503, "text/plain", "down"));
    end(&proxy, "ada").await;
    let seen = revocations(&upstream, 2).await;
    assert_eq!(upstream.alive(), 1);
    for seen in seen {
        assert_eq!(seen.param("token"), Some("upstream-0-1"));
        assert_eq!(seen.param("token_type_hint"), Some("refresh_token"));
        assert_eq!(seen.headers["authorization"], basic("confidential", SECRET));
        let invented: Vec<_> = seen
            .headers
            .keys()
            .filter(|name| name.as_str().contains("forwarded") || *name == "x-real-ip")
            .collect();
        assert!(invented.is_empty(), "{invented:?}");
    }
    proxy.wait_for("upstream_revoked");
    let log = proxy.stderr();
    for secret in [KEY, SECRET, "upstream-0-1"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn the_upstream_learns_the_public_url_and_no_client_address() {
    let upstream = Upstream::new();
    let flags = [
        "--public-url=https://login.example.com",
        "--preserve-host",
        "--upstream-client-auth=client_secret_post",
    ];
    let (proxy, _file) = start(&upstream, KEY, &flags).await;
    log_in(&upstream, &proxy, "confidential", "ada").await;
    end(&proxy, "ada").await;
    let seen = revocations(&upstream, 1).await.remove(0);
    assert_eq!(seen.param("client_secret"), Some(SECRET));
    for (name, value) in [
        ("host", Some("login.example.com")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("login.example.com")),
        ("x-forwarded-for", None),
        ("x-real-ip", None),
        ("forwarded", None),
    ] {
        let found = seen.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(found, value, "{name}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_not_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "swordfish").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let flags = [
            "--upstream=http://127.0.0.1:1",
            "--listen=127.0.0.1:0",
            "--upstream-revocation",
            "--revocation-key-file",
            &path,
        ];
        Example::run(crate::PROGRAM, &flags, &[])
    });
    let output = output.await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("not 32 bytes as 64 hexadecimal digits"));
    assert!(!stderr.contains("swordfish"), "{stderr}");
}
