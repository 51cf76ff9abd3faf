//! Tools that need a scope of their own (`--tool-scope`).

use serde_json::{Value, json};
use test_support::http::{Answer, Recorder, raw, send};
use test_support::process::Example;

use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, one, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call};

const READ: &str = "files:read";
const WRITE: &str = "files:write";

struct Fixture {
    upstream: Recorder,
    server: Example,
    client: McpClient,
    access: String,
}

impl Fixture {
    async fn start() -> Self {
        let (identity, upstream) = (
            Identity::start().await,
            Recorder::start(|_| "reached").await,
        );
        let mut flags = identity.flags();
        let url = format!("{}/mcp", upstream.url());
        let more = [
            ("--scope", "openid files:read files:write"),
            ("--tool-scope", "read=files:read,delete=files:read"),
            ("--tool-scope", "delete=files:write"),
            ("--mcp-upstream", &url),
        ];
        flags.extend(
            more.iter()
                .flat_map(|(flag, value)| [*flag, *value])
                .map(str::to_owned),
        );
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        let access = log_in(&server, &client, "openid files:read").await;
        Self {
            upstream,
            server,
            client,
            access,
        }
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Answer {
        let authorization = format!("Bearer {}", self.access);
        let usual = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let changed = |name: &str| headers.iter().any(|(other, _)| *other == name);
        let usual = usual.into_iter().filter(|(name, _)| !changed(name));
        let headers: Vec<_> = usual.chain(headers.iter().copied()).collect();
        send("POST", &self.server.url(path), &headers, body.into()).await
    }
}

/// Logs in with this scope. Returns the access token.
async fn log_in(server: &Example, client: &McpClient, scope: &str) -> String {
    let url = request(server, &client.id, REDIRECT, &[("scope", scope)]);
    let answer = query(&Browser::default().log_in(&url, REDIRECT).await);
    let code = one(&answer, "code").unwrap();
    client
        .exchange(server, code, &[])
        .await
        .string("access_token")
}

fn message(tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}

/// Returns a parameter of the challenge.
fn challenge(answer: &Answer, name: &str) -> String {
    let text = answer.headers["www-authenticate"].to_str().unwrap();
    let (_, rest) = text.split_once(&format!("{name}=\"")).expect(text);
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_challenge_names_what_is_held_and_what_is_missing() {
    let mut fixture = Fixture::start().await;
    for tool in ["read", "other"] {
        let answer = fixture.send("/mcp", &[], message(tool).to_string()).await;
        assert_eq!(answer.text(), "reached", "{tool}");
    }
    let reached = fixture.upstream.all().len();
    for (path, slash) in [("/mcp", ""), ("/mcp/", "/")] {
        let refused = fixture.send(path, &[], message("delete").to_string()).await;
        assert_error(&refused, 403, "insufficient_scope", path);
        assert_eq!(challenge(&refused, "error"), "insufficient_scope");
        let metadata = format!("/.well-known/oauth-protected-resource/mcp{slash}");
        let metadata = fixture.server.url(&metadata);
        assert_eq!(challenge(&refused, "resource_metadata"), metadata);
        let scope = challenge(&refused, "scope");
        let mut scopes: Vec<_> = scope.split(' ').collect();
        scopes.sort_unstable();
        assert_eq!(scopes, [READ, WRITE, "openid"]);
        let batch = json!([message("read"), message("delete")]).to_string();
        let refused = fixture.send(path, &[], batch).await;
        assert_error(&refused, 403, "insufficient_scope", "a batch");
        if slash.is_empty() {
            continue;
        }
        assert_eq!(fixture.upstream.all().len(), reached);
        fixture.access = log_in(&fixture.server, &fixture.client, &scope).await;
        let answer = fixture.send(path, &[], message("delete").to_string()).await;
        assert_eq!(answer.text(), "reached");
    }
}

#[tokio::test]
async fn a_message_is_forwarded_unchanged() {
    let fixture = Fixture::start().await;
    let body = format!(
        "{{ \"params\" : {{\"arguments\":{{\"x\":\"{}\"}},\n\"name\":\"r\\u0065ad\"}},\"method\":\"tools/call\",\"id\":1.50}}\n",
        "ü".repeat(300_000)
    );
    let answer = fixture
        .send("/mcp?x=1", &[("x-custom", "1")], body.clone())
        .await;
    assert_eq!(answer.text(), "reached");
    let seen = fixture.upstream.last("/mcp");
    assert_eq!(seen.body, body.as_bytes());
    assert_eq!(
        (&*seen.target, seen.header("x-custom")),
        ("/mcp?x=1", Some("1"))
    );
    // In chunks.
    let (one, two) = body.split_at(100);
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        fixture.server.addr(),
        fixture.access
    );
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let sent = format!("{head}{}{}0\r\n\r\n", chunk(one), chunk(two));
    let answer = raw(fixture.server.addr(), &sent).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(fixture.upstream.last("/mcp").body, body.as_bytes());
    // Without a message.
    let headers = [("authorization", &*format!("Bearer {}", fixture.access))];
    for method in ["GET", "DELETE"] {
        let answer = send(method, &fixture.server.url("/mcp"), &headers, "").await;
        assert_eq!(answer.text(), "reached", "{method}");
    }
}

#[tokio::test]
async fn a_message_that_can_be_read_in_two_ways_is_refused() {
    let fixture = Fixture::start().await;
    let call = |tool: &str| message(tool).to_string();
    let headers: [(&[(&str, &str)], u16, i64); 8] = [
        (&[("mcp-method", "ping")], 400, -32020),
        (&[("mcp-name", "other")], 400, -32020),
        (
            &[("mcp-method", "tools/call"), ("mcp-name", "other")],
            400,
            -32020,
        ),
        (
            &[("mcp-name", "delete"), ("mcp-name", "other")],
            400,
            -32020,
        ),
        (&[("mcp-name", "=?base64?x?=")], 400, -32020),
        (&[("content-encoding", "gzip")], 415, -32600),
        (
            &[("content-type", "application/json; charset=utf-7")],
            415,
            -32600,
        ),
        (
            &[("content-type", "application/json; charset=utf-16")],
            415,
            -32600,
        ),
    ];
    for (headers, status, code) in headers {
        let answer = fixture.send("/mcp", headers, call("delete")).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code, "{headers:?}");
    }
    let twice = r#"{"method":"tools/call","params":{"name":"delete","name":"other"}}"#;
    let cases = r#"{"method":"tools/call","params":{"name":"other","Name":"delete"}}"#;
    for body in [
        twice,
        cases,
        "x",
        "\u{feff}{}",
        r#"{"method":"tools/call"}"#,
    ] {
        let answer = fixture.send("/mcp", &[], body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], -32600, "{body}");
    }
    let large = format!("{}{}", " ".repeat(4 << 20), call("other"));
    assert_eq!(fixture.send("/mcp", &[], large).await.status, 413);
    assert!(fixture.upstream.all().is_empty());
    for headers in [
        &[("mcp-method", "tools/call"), ("mcp-name", "read")][..],
        &[
            ("mcp-method", "tools/call"),
            ("mcp-name", "=?base64?cmVhZA==?="),
        ],
    ] {
        let answer = fixture.send("/mcp", headers, call("read")).await;
        assert_eq!(answer.text(), "reached", "{headers:?}");
    }
    let other =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": { "name": "x" } });
    let headers = [("mcp-method", "prompts/get"), ("mcp-name", "x")];
    let answer = fixture.send("/mcp", &headers, other.to_string()).await;
    assert_eq!(answer.text(), "reached");
}

/// A server may follow the headers instead of the message.
#[tokio::test]
async fn headers_that_name_a_tool_arrive_as_they_were_checked() {
    let fixture = Fixture::start().await;
    let headers = [
        ("mcp-method", "tools/call"),
        ("mcp-name", "read"),
        ("mcp_name", "delete"),
        ("mcp_method", "ping"),
        ("connection", "mcp-name, mcp-method"),
    ];
    let body = message("read").to_string();
    let answer = fixture.send("/mcp", &headers, body).await;
    assert_eq!(answer.text(), "reached");
    let seen = fixture.upstream.last("/mcp");
    for (name, value) in [
        ("mcp-method", Some("tools/call")),
        ("mcp-name", Some("read")),
        ("mcp_name", None),
        ("mcp_method", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn large_and_nested_batches_and_invalid_utf8_are_refused() {
    let fixture = Fixture::start().await;
    let batch = format!("[{}{{}}]", "{},".repeat(1_000_000));
    let nested = format!(
        "{0}{1}{2}",
        "[".repeat(100),
        message("read"),
        "]".repeat(100)
    );
    for body in [batch, nested] {
        let answer = fixture.send("/mcp", &[], body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], -32600);
    }
    let (mut invalid, end) = (message("read").to_string().into_bytes(), b',');
    let at = invalid.iter().position(|byte| *byte == end).unwrap();
    let member = b",\"x\":\"\xff\"";
    invalid.splice(at..at, member.iter().copied());
    let authorization = format!("Bearer {}", fixture.access);
    let headers = [
        ("authorization", &*authorization),
        ("content-type", "application/json"),
    ];
    let answer = send("POST", &fixture.server.url("/mcp"), &headers, invalid).await;
    assert_eq!(answer.status, 415, "{}", answer.text());
    assert!(fixture.upstream.all().is_empty());
}

#[tokio::test]
async fn no_challenge_names_offline_access() {
    let identity = Identity::start().await;
    let mut flags = identity.flags();
    let more = [
        ("--scope", "openid offline_access read write"),
        ("--tool-scope", "whoami=write"),
        ("--require-scope", "read"),
    ];
    flags.extend(
        more.iter()
            .flat_map(|(flag, value)| [*flag, *value])
            .map(str::to_owned),
    );
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    for scope in ["openid offline_access", "read offline_access"] {
        let url = request(&server, &client.id, REDIRECT, &[("scope", scope)]);
        let answer = query(&Browser::default().log_in(&url, REDIRECT).await);
        let tokens = client
            .exchange(&server, one(&answer, "code").unwrap(), &[])
            .await;
        // A client may repeat what it asked for.
        let token = tokens.string("refresh_token");
        let tokens = client.refresh(&server, &token, &[("scope", scope)]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let refused = call(&server, &tokens.string("access_token"), "whoami").await;
        assert_eq!(refused.status, 403, "{scope}: {}", refused.text());
        let named = challenge(&refused, "scope");
        assert!(!named.contains("offline_access"), "{scope}: {named}");
    }
}
