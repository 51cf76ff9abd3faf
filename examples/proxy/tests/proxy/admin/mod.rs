//! Operators list and end sessions with the API and the page of the admin server.

mod page;

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::PATIENCE;
use test_support::http::{Answer, get, post, send};
use test_support::openid::OpenId;
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::refresh_form;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::openapi::Document;
use crate::proxy;

const TOKEN: &str = "the-token-of-the-operators-0123456789";

/// A proxy with an admin server, in front of a provider.
struct Admin {
    provider: OpenId,
    proxy: Example,
    document: Document,
}

impl Admin {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        let provider = OpenId::start().await;
        let issuer = provider.issuer();
        let flags = [
            "--admin=127.0.0.1:0",
            "--admin-token",
            TOKEN,
            "--backchannel-logout-issuer",
            &issuer,
            "--backchannel-logout-audience=app",
            "--log-level=trace",
        ];
        let proxy = proxy::start(&issuer, &[&flags[..], more].concat()).await;
        let document = get(&format!("http://{}/openapi.json", proxy.admin_addr())).await;
        assert_eq!(document.headers["content-type"], "application/json");
        let document = Document::new(document.json());
        Self {
            provider,
            proxy,
            document,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.admin_addr())
    }

    /// Calls the API. The response must be as described in its document.
    async fn call(&self, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        self.call_with(method, path, &[("authorization", &bearer)])
            .await
    }

    async fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let answer = send(method, &self.url(path), headers, "").await;
        self.document.check(method, path, &answer);
        answer
    }

    async fn sessions(&self, query: &str) -> Vec<Value> {
        let answer = self.call("GET", &format!("/sessions?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.headers["cache-control"], "no-store");
        answer.json()["sessions"].as_array().unwrap().clone()
    }

    async fn log_in(&self, user: &str, client: &str) -> String {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", user),
            ("client_id", client),
        ];
        let answer = post(&self.proxy.url("/token"), &form).await;
        answer.string("refresh_token")
    }

    async fn is_alive(&self, client: &str, token: &str) -> bool {
        let form = refresh_form(client, token);
        let answer = post(&self.proxy.url("/token"), &form).await;
        assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
        answer.status == 200
    }

    /// Signs in to the page. Returns the cookie.
    async fn sign_in(&self) -> String {
        let answer = post(&self.url("/sign-in"), &[("token", TOKEN)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        assert_eq!(answer.headers["location"], "./");
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        let (cookie, attributes) = cookie.split_once("; ").unwrap();
        assert!(cookie.starts_with("__Host-admin="), "{cookie}");
        assert_eq!(
            attributes,
            "Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=28800"
        );
        cookie.to_owned()
    }

    async fn page(&self, cookie: &str) -> Answer {
        send("GET", &self.url("/"), &[("cookie", cookie)], "").await
    }

    async fn submit(&self, cookie: &str, action: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let headers = [
            ("cookie", cookie),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        send("POST", &self.url(action), &headers, body).await
    }
}

#[tokio::test]
async fn without_a_token_there_is_no_api_and_no_page() {
    let provider = OpenId::start().await;
    let proxy = proxy::start(&provider.issuer(), &["--admin", "127.0.0.1:0"]).await;
    let admin = format!("http://{}", proxy.admin_addr());
    for path in [
        "/",
        "/sessions?subject=a",
        "/openapi.json",
        "/live",
        "/style.css",
    ] {
        assert_eq!(get(&format!("{admin}{path}")).await.status, 404, "{path}");
    }
    let sent = post(&format!("{admin}/sign-in"), &[("token", "")]).await;
    assert_eq!(sent.status, 404);
}

#[tokio::test]
async fn the_document_describes_every_request_and_each_needs_the_token() {
    let admin = Admin::start().await;
    let wrong = format!("Bearer {TOKEN}x");
    let mut found = 0;
    for (path, item) in admin.document.paths() {
        let path = path.replace("{grant}", "g").replace("{id}", "c");
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let described = item.get(method.to_lowercase()).is_some();
            found += usize::from(described);
            for headers in [
                &[][..],
                &[("authorization", "")],
                &[("authorization", &*wrong)],
            ] {
                if described {
                    let answer = admin.call_with(method, &path, headers).await;
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
                    assert_eq!(answer.string("error"), "invalid_token");
                    assert!(answer.headers.contains_key("www-authenticate"));
                    assert_eq!(answer.headers["cache-control"], "no-store");
                } else {
                    let answer = send(method, &admin.url(&path), headers, "").await;
                    assert_ne!(answer.status, StatusCode::OK, "{method} {path}");
                }
            }
        }
    }
    assert_eq!(found, 4);
}

#[tokio::test]
async fn an_operator_lists_and_ends_sessions() {
    let admin = Admin::start().await;
    assert_eq!(admin.sessions("subject=nobody").await, [] as [Value; 0]);
    let first = admin.log_in("ada", "app").await;
    let second = admin.log_in("ada", "https://client.example/id").await;
    let bob = admin.log_in("bob", "app").await;

    let issuer = admin.provider.issuer();
    let encoded: String = url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect();
    let sessions = admin.sessions("subject=ada").await;
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    assert_eq!(
        admin
            .sessions(&format!("subject=ada&issuer={encoded}"))
            .await
            .len(),
        2
    );
    let none = admin
        .sessions("subject=ada&issuer=https://other.example")
        .await;
    assert!(none.is_empty(), "{none:?}");
    let of_app = sessions
        .iter()
        .find(|one| one["client_id"] == "app")
        .unwrap();
    assert_eq!(of_app["scope"], "openid read");
    assert!(of_app["created_at"].as_u64() < of_app["expires_at"].as_u64());

    let grant = of_app["grant"].as_str().unwrap();
    let path = format!("/sessions/{grant}");
    assert_eq!(
        admin.call("DELETE", &path).await.json(),
        json!({ "ended": 1 })
    );
    assert_eq!(
        admin.call("DELETE", &path).await.json(),
        json!({ "ended": 0 })
    );
    assert!(!admin.is_alive("app", &first).await);
    assert_eq!(admin.sessions("subject=ada").await.len(), 1);

    let all = "/sessions?subject=ada";
    assert_eq!(
        admin.call("DELETE", all).await.json(),
        json!({ "ended": 1 })
    );
    assert_eq!(
        admin.call("DELETE", all).await.json(),
        json!({ "ended": 0 })
    );
    assert!(!admin.is_alive("https://client.example/id", &second).await);
    assert!(admin.is_alive("app", &bob).await);

    let path = "/clients/https%3A%2F%2Fclient.example%2Fid";
    let third = admin.log_in("ada", "https://client.example/id").await;
    assert_eq!(
        admin.call("DELETE", path).await.status,
        StatusCode::NO_CONTENT
    );
    assert!(!admin.is_alive("https://client.example/id", &third).await);
    assert!(admin.is_alive("app", &bob).await);

    for path in [
        "/sessions",
        "/sessions?subject=",
        "/sessions?subject=a&subject=b",
    ] {
        let answer = admin.call("GET", path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.string("error"), "invalid_request");
    }
    let long = format!("/clients/{}", "x".repeat(600));
    for path in ["/sessions/short", &long] {
        assert_eq!(
            admin.call("DELETE", path).await.status,
            StatusCode::BAD_REQUEST
        );
    }
    let log = admin.proxy.stderr();
    assert!(!proxy::names(&log, "ada") && !log.contains(TOKEN), "{log}");
}

#[tokio::test]
async fn the_api_reports_an_unavailable_store() {
    let server = RedisServer::start().await;
    let admin = Admin::with(&["--store", &server.url()]).await;
    server.kill();
    let session = format!("/sessions/{}", "A".repeat(43));
    for (method, path) in [
        ("GET", "/sessions?subject=ada"),
        ("DELETE", "/sessions?subject=ada"),
        ("DELETE", &session),
        ("DELETE", "/clients/app"),
    ] {
        let answer = admin.call(method, path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.string("error"), "temporarily_unavailable");
    }
}

#[tokio::test]
async fn slow_bodies_do_not_lock_out_health_and_metrics() {
    let admin = Admin::start().await;
    let addr = admin.proxy.admin_addr();
    let head = "POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n";
    let slow: Vec<_> = (0..40)
        .map(|_| {
            tokio::spawn(async move {
                let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
                let drip = tokio::spawn(async move {
                    let mut sent = write.write_all(head.as_bytes()).await;
                    while sent.is_ok() {
                        sleep(Duration::from_millis(100)).await;
                        sent = write.write_all(b"x").await;
                    }
                });
                let mut answer = Vec::new();
                // A reset closes the connection, too.
                let _ = read.read_to_end(&mut answer).await;
                drip.abort();
                String::from_utf8(answer).unwrap()
            })
        })
        .collect();
    for path in ["/healthz", "/metrics", "/healthz"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let poll = async || {
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200 "))
        };
        // While all connections are in use, a new one can displace this one.
        let asking = async { while !poll().await.unwrap_or(false) {} };
        let answered = timeout(PATIENCE, asking).await;
        answered.unwrap_or_else(|_| panic!("{path} is locked out"));
    }
    let mut late = 0;
    for answer in slow {
        let answer = timeout(PATIENCE, answer).await.expect("it is closed");
        late += usize::from(answer.unwrap().starts_with("HTTP/1.1 408 "));
    }
    assert!((1..=16).contains(&late), "{late} bodies were waited for");
}
