//! Operators list and end sessions with the API of the admin server.

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, get, post, send};
use test_support::openid::OpenId;
use test_support::process::Example;
use test_support::refresh_form;

use crate::proxy;

const TOKEN: &str = "the-token-of-the-operators-0123456789";

/// A proxy with an admin server, in front of a provider.
struct Admin {
    provider: OpenId,
    proxy: Example,
}

impl Admin {
    async fn start() -> Self {
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
        let proxy = proxy::start(&issuer, &flags).await;
        Self { provider, proxy }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.proxy.admin_addr())
    }

    async fn call(&self, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        send(method, &self.url(path), &[("authorization", &bearer)], "").await
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
}

#[tokio::test]
async fn without_a_token_there_is_no_api() {
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
    let document = get(&admin.url("/openapi.json")).await;
    assert_eq!(document.headers["content-type"], "application/json");
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let wrong = format!("Bearer {TOKEN}x");
    let mut found = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let url = admin.url(&path.replace("{grant}", "g").replace("{id}", "c"));
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let described = item.get(method.to_lowercase()).is_some();
            found += usize::from(described);
            for headers in [
                &[][..],
                &[("authorization", "")],
                &[("authorization", &*wrong)],
            ] {
                let answer = send(method, &url, headers, "").await;
                if described {
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {url}");
                    assert_eq!(answer.string("error"), "invalid_token");
                    assert!(answer.headers.contains_key("www-authenticate"));
                    assert_eq!(answer.headers["cache-control"], "no-store");
                } else {
                    assert_ne!(answer.status, StatusCode::OK, "{method} {url}");
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
    assert!(!log.contains("ada") && !log.contains(TOKEN), "{log}");
}
