//! The example proxy issues its own access tokens, and replaces them with the upstream's in
//! requests for guarded resources.

mod paths;
mod requirements;
mod streams;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;
use test_support::PATIENCE;
use test_support::access::LOG_IN;
use test_support::http::{Answer, post, raw, serve_upstream};
use test_support::process::Example;
use test_support::tokens::made_up;
use test_support::{Act, Upstream, refresh_form};

use crate::proxy;

const GUARDED: [&str; 3] = ["--reference-access-tokens", "--resource-prefix", "/api"];
const ID_TOKEN: &str = r#"{"id_token":"e30.e30.e30"}"#;

const MISSING: &str = r#"Bearer realm="oauth""#;
const MALFORMED: &str = concat!(
    r#"Bearer realm="oauth", error="invalid_request", "#,
    r#"error_description="the Authorization header is repeated or malformed""#
);
const INVALID: &str = concat!(
    r#"Bearer realm="oauth", error="invalid_token", "#,
    r#"error_description="the access token is invalid, expired or revoked""#
);

/// A proxy in front of the strict upstream.
struct Setup {
    upstream: Upstream,
    proxy: Example,
}

impl Setup {
    async fn start(flags: &[&str]) -> Self {
        let upstream = Upstream::new();
        let addr = serve_upstream(upstream.clone()).await;
        let flags = [&GUARDED[..], flags].concat();
        Self {
            proxy: proxy::start(&format!("http://{addr}"), &flags).await,
            upstream,
        }
    }

    async fn log_in(&self) -> Answer {
        post(&self.proxy.url("/token"), &LOG_IN).await
    }

    async fn refresh(&self, token: &str) -> Answer {
        post(&self.proxy.url("/token"), &refresh_form("app", token)).await
    }

    async fn revoke(&self, token: &str) {
        let answer = post(
            &self.proxy.url("/revoke"),
            &[("token", token), ("client_id", "app")],
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    async fn introspect(&self, path: &str, token: &str) -> Answer {
        let form = format!("token={token}&client_id=app");
        parse(&proxy::form(&self.proxy, path, &form).await)
    }

    /// Requests a resource with this token. Returns the `Authorization` headers that the upstream
    /// received.
    async fn reached(&self, path: &str, token: &str) -> Vec<String> {
        let before = self.upstream.seen().len();
        self.upstream.then(Act::Answer(200, "text/plain", "orders"));
        let answer = request(&self.proxy, path, &[&format!("Bearer {token}")]).await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, "orders"),
            "{path}"
        );
        let seen = self.upstream.seen();
        assert_eq!(seen.len(), before + 1, "{path}: {seen:?}");
        let values = seen[before].headers.get_all("authorization").iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// Sends a request that must not reach the upstream. Returns its status and challenge.
    async fn refused(&self, path: &str, values: &[&str]) -> (StatusCode, String) {
        let before = self.upstream.seen().len();
        let answer = request(&self.proxy, path, values).await;
        assert_eq!(
            self.upstream.seen().len(),
            before,
            "{path} {values:?} reached the upstream: {answer:?}"
        );
        let challenge = answer
            .headers
            .get("www-authenticate")
            .map(|value| value.to_str().unwrap());
        (answer.status, challenge.unwrap_or_default().to_owned())
    }

    /// Waits until the token is rejected: the access layer learns of ended grants in a background
    /// task.
    async fn is_dead(&self, token: &str) {
        let (bearer, end) = (format!("Bearer {token}"), Instant::now() + PATIENCE);
        while request(&self.proxy, "/api/orders", &[&bearer]).await.status
            != StatusCode::UNAUTHORIZED
        {
            assert!(Instant::now() < end, "the token is still accepted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = self.refused("/api/orders", &[&bearer]).await;
        assert_eq!(refused, (StatusCode::UNAUTHORIZED, INVALID.into()));
    }
}

/// Sends a request with this exact path, which HTTP clients would normalize.
async fn request(proxy: &Example, path: &str, authorization: &[&str]) -> Answer {
    request_by(proxy, "GET", path, authorization).await
}

async fn request_by(proxy: &Example, method: &str, path: &str, authorization: &[&str]) -> Answer {
    let headers: String = authorization
        .iter()
        .map(|value| format!("Authorization: {value}\r\n"))
        .collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    parse(&raw(proxy.addr(), &request).await)
}

/// Parses a complete response.
fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse().unwrap(), value.parse().unwrap())
    });
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        headers: headers.collect(),
        body: body.to_owned().into(),
    }
}

/// Returns the access token of a response, which must not contain a token of the upstream.
#[track_caller]
fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let token = answer.string("access_token");
    assert!(token.starts_with("at_"), "{token}");
    let mut members = answer.json();
    // The tokens of the proxy are random, and may contain any text by chance.
    members["access_token"].take();
    if let Some(refresh) = members["refresh_token"].take().as_str() {
        assert!(refresh.starts_with("rt_"), "{refresh}");
    }
    let rest = format!("{:?} {members}", answer.headers);
    for secret in ["at-", "upstream-", "id_token"] {
        assert!(!rest.contains(secret), "{secret} in {answer:?}");
    }
    token
}

#[tokio::test]
async fn clients_never_receive_access_tokens_of_the_upstream() {
    let setup = Setup::start(&[]).await;
    setup.upstream.then(Act::With(ID_TOKEN));
    let first = setup.log_in().await;
    let refresh_token = first.string("refresh_token");
    setup.upstream.then(Act::With(ID_TOKEN));
    let second = setup.refresh(&refresh_token).await;
    let again = setup.refresh(&refresh_token).await;
    assert_eq!(
        access_token(&again),
        access_token(&second),
        "a retry gets the same answer"
    );
    let (first, last) = (access_token(&first), access_token(&second));
    for _ in 0..2 {
        assert_eq!(
            setup.reached("/api/orders?page=2", &first).await,
            ["Bearer at-0-0"]
        );
        assert_eq!(setup.reached("/api", &last).await, ["Bearer at-0-1"]);
    }
    setup.revoke(&second.string("refresh_token")).await;
    setup.is_dead(&first).await;
    setup.is_dead(&last).await;
}

#[tokio::test]
async fn revoking_an_access_token_keeps_the_other_tokens_of_the_grant() {
    let setup = Setup::start(&[]).await;
    let first = setup.log_in().await;
    let second = setup.refresh(&first.string("refresh_token")).await;
    assert_eq!(
        setup.reached("/api", &access_token(&first)).await,
        ["Bearer at-0-0"]
    );
    setup.revoke(&access_token(&first)).await;
    setup.is_dead(&access_token(&first)).await;
    assert_eq!(
        setup.reached("/api", &access_token(&second)).await,
        ["Bearer at-0-1"]
    );
}

#[tokio::test]
async fn requests_without_a_valid_access_token_are_challenged() {
    let setup = Setup::start(&[]).await;
    let answer = setup.log_in().await;
    let (token, refresh_token) = (access_token(&answer), answer.string("refresh_token"));
    let damaged = format!("Bearer {}A", token.split_at(token.len() - 1).0);
    let damaged = if damaged.ends_with(&token) {
        damaged.replace("at_", "at_A")
    } else {
        damaged
    };
    let good = format!("Bearer {token}");
    let (unauthorized, bad) = (StatusCode::UNAUTHORIZED, StatusCode::BAD_REQUEST);
    let rows: [(&str, &[&str], StatusCode, &str); 7] = [
        ("none", &[], unauthorized, MISSING),
        ("another scheme", &["Basic YTpi"], unauthorized, MISSING),
        (
            "the upstream's own",
            &["Bearer at-0-0"],
            unauthorized,
            INVALID,
        ),
        (
            "a refresh token",
            &[&format!("Bearer {refresh_token}")],
            unauthorized,
            INVALID,
        ),
        (
            "one that was never issued",
            &[&damaged],
            unauthorized,
            INVALID,
        ),
        ("a scheme without a token", &["Bearer"], bad, MALFORMED),
        ("two", &[&good, &good], bad, MALFORMED),
    ];
    for (name, values, status, challenge) in rows {
        assert_eq!(
            setup.refused("/api/orders", values).await,
            (status, challenge.to_owned()),
            "{name}"
        );
    }
    assert_eq!(
        setup.reached("/api/orders", &token).await,
        ["Bearer at-0-0"]
    );
}

#[tokio::test]
async fn tokens_of_the_proxy_are_introspected_in_every_spelling_of_the_path() {
    let setup = Setup::start(&["--introspection-path", "/introspect"]).await;
    let answer = setup.log_in().await;
    let (token, refresh_token) = (access_token(&answer), answer.string("refresh_token"));
    for (path, token) in [
        ("/introspect", &token),
        ("/introspect", &refresh_token),
        ("//introspect", &token),
        ("/%69ntrospect/", &token),
        ("/introspect/x.json", &token),
    ] {
        setup.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"active":true,"sub":"user-7","client_id":"x"}"#,
        ));
        let answer = setup.introspect(path, token).await;
        let said = answer.json();
        assert_eq!(
            (&said["active"], &said["client_id"]),
            (&json!(true), &json!("app")),
            "{path}"
        );
        assert_eq!(
            (&said["scope"], &said["sub"]),
            (&json!("read write"), &json!("user-7")),
            "{path}"
        );
        let asked = setup.upstream.seen().pop().unwrap();
        assert!(
            ["at-0-0", "upstream-0-0"].contains(&asked.param("token").unwrap()),
            "{path}: {asked:?}"
        );
    }
    let unknown = made_up("at_");
    assert_eq!(
        setup.introspect("/introspect", &unknown).await.text(),
        r#"{"active":false}"#
    );
    setup.revoke(&refresh_token).await;
    for token in [&token, &refresh_token] {
        assert_eq!(
            setup.introspect("/introspect", token).await.text(),
            r#"{"active":false}"#
        );
    }
    let without = Setup::start(&[]).await;
    without.introspect("/introspect", &unknown).await;
    assert_eq!(
        without.upstream.seen().pop().unwrap().param("token"),
        Some(&*unknown),
        "the token is forwarded unchanged"
    );
}

#[tokio::test]
async fn keep_id_token_passes_the_id_token_on() {
    let setup = Setup::start(&["--keep-id-token"]).await;
    setup.upstream.then(Act::With(ID_TOKEN));
    let answer = setup.log_in().await;
    assert_eq!(answer.string("id_token"), "e30.e30.e30");
    assert!(
        answer.string("access_token").starts_with("at_"),
        "{answer:?}"
    );
}
