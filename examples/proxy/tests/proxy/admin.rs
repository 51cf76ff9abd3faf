//! Operators list and end sessions with the API and the page of the admin server.

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

/// Returns the token of the first form with this action.
fn csrf<'a>(page: &'a Answer, action: &str) -> &'a str {
    let (_, form) = page
        .text()
        .split_once(&format!("action=\"{action}\""))
        .unwrap_or_else(|| panic!("no form {action}: {}", page.text()));
    let (_, value) = form.split_once("name=\"csrf\" value=\"").unwrap();
    value.split_once('"').unwrap().0
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
async fn failed_calls_of_the_upstream_are_on_the_page() {
    let admin = Admin::start().await;
    let cookie = admin.sign_in().await;
    admin.log_in("ada", "app").await;
    let page = admin.page(&cookie).await;
    assert!(page.text().contains("<tr><td>upstream</td>"));
    admin.provider.fail(true);
    let path = "/.well-known/openid-configuration";
    assert_eq!(get(&admin.proxy.url(path)).await.status, 500);
    let page = admin.page(&cookie).await;
    let row = page.text().split("<tr class=\"alarm\"><td>upstream</td>");
    let row = row.last().unwrap().split("</tr>").next().unwrap();
    assert!(row.ends_with("<td>1</td>"), "one error: {row}");
}

#[tokio::test]
async fn the_page_needs_the_token_and_shows_nothing_without_it() {
    let admin = Admin::start().await;
    admin.log_in("ada", "app").await;
    for cookie in [
        "",
        "__Host-admin=",
        "__Host-admin=x",
        "__Host-admin=a; __Host-admin=a",
    ] {
        let page = admin.page(cookie).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text().contains("name=\"token\""), "{}", page.text());
        assert!(!page.text().contains("issued"), "{}", page.text());
        let live = send("GET", &admin.url("/live"), &[("cookie", cookie)], "").await;
        assert_eq!(live.status, StatusCode::UNAUTHORIZED);
        for action in ["/search", "/end", "/sign-out"] {
            let form = [("csrf", "x"), ("subject", "ada"), ("grant", "all")];
            let answer = admin.submit(cookie, action, &form).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{action}");
        }
    }
    for wrong in ["", "x", &TOKEN[1..]] {
        let answer = post(&admin.url("/sign-in"), &[("token", wrong)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(admin.sessions("subject=ada").await.len(), 1);

    let cookie = admin.sign_in().await;
    let page = admin.page(&cookie).await;
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(page.headers[name], value);
    }
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("issued"), "{}", page.text());

    let out = [("csrf", csrf(&page, "sign-out"))];
    let answer = admin.submit(&cookie, "/sign-out", &out).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(admin.page(&cookie).await.text().contains("name=\"token\""));
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let admin = Admin::start().await;
    let token = admin.log_in("ada", "app").await;
    let (cookie, other) = (admin.sign_in().await, admin.sign_in().await);
    let page = admin.page(&cookie).await;
    let others = admin.page(&other).await;
    let search = [("csrf", csrf(&page, "search")), ("subject", "ada")];
    let found = admin.submit(&cookie, "/search", &search).await;
    let right = csrf(&found, "end");
    for csrf in [
        "",
        "x",
        csrf(&page, "search"),
        csrf(&page, "sign-out"),
        csrf(&others, "search"),
        &right[1..],
    ] {
        let form = [("csrf", csrf), ("subject", "ada"), ("grant", "all")];
        let answer = admin.submit(&cookie, "/end", &form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{csrf}");
        let crossed = admin.submit(&other, "/end", &form).await;
        assert_eq!(crossed.status, StatusCode::FORBIDDEN, "{csrf}");
    }
    assert_eq!(admin.sessions("subject=ada").await.len(), 1);
    let form = [("csrf", right), ("subject", "ada"), ("grant", "all")];
    let answer = admin.submit(&cookie, "/end", &form).await;
    assert!(
        answer.text().contains("Ended 1 session."),
        "{}",
        answer.text()
    );
    assert!(!admin.is_alive("app", &token).await);
}

#[tokio::test]
async fn what_clients_and_users_choose_is_text_in_the_page() {
    let admin = Admin::start().await;
    let client = "<script>alert(1)</script>\u{202e}\"'&";
    let user = "\"><img src=x onerror=alert(1)>";
    let token = admin.log_in(user, client).await;
    assert!(admin.is_alive(client, &token).await);
    let cookie = admin.sign_in().await;
    let page = admin.page(&cookie).await;
    let search = [("csrf", csrf(&page, "search")), ("subject", user)];
    let found = admin.submit(&cookie, "/search", &search).await;
    for (page, what) in [(&page, "the overview"), (&found, "the sessions")] {
        let text = page.text();
        assert!(
            text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{what}: {text}"
        );
        for raw in ["<script>alert", "<img", "\u{202e}"] {
            assert!(!text.contains(raw), "{what}: {raw}: {text}");
        }
    }
    for words in ["Sessions of", "Began", "openid read"] {
        assert!(found.text().contains(words), "{words}: {}", found.text());
    }
    for secret in [&*token, TOKEN, "openid-access", "openid-refresh"] {
        assert!(!page.text().contains(secret) && !found.text().contains(secret));
    }
}

/// Reads from the stream until it has read `words`. Returns everything read.
async fn read_until(stream: &mut TcpStream, words: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(words) {
        let count = stream.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn the_figures_are_live_until_the_operator_signs_out() {
    let admin = Admin::start().await;
    let cookie = admin.sign_in().await;
    let page = admin.page(&cookie).await;
    assert!(
        page.text().contains("None since the start."),
        "{}",
        page.text()
    );
    let mut stream = TcpStream::connect(admin.proxy.admin_addr()).await.unwrap();
    let request =
        format!("GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let begin = read_until(&mut stream, "data: ").await;
    assert!(begin.contains("content-type: text/event-stream"), "{begin}");
    let token = admin.log_in("ada", "a live client").await;
    read_until(&mut stream, "a live client").await;
    assert!(admin.is_alive("a live client", &token).await);
    read_until(&mut stream, "<td data-label=\"Event\">rotated</td>").await;
    let out = [("csrf", csrf(&page, "sign-out"))];
    admin.submit(&cookie, "/sign-out", &out).await;
    // The server ends the response, and with it the connection.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
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
