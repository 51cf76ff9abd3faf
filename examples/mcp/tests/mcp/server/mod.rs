//! The example `mcp` as a server: the demo provider, an issuer with a path, the checks of the MCP
//! endpoint, the command line, and shutdown.

mod demo_provider;
mod flags;

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use test_support::http::{Answer, get, post, send};
use test_support::process::Example;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, VERIFIER, one, onward, query};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call};

async fn demo(flags: &[&str]) -> Example {
    mcp::start(
        &flags
            .iter()
            .map(|flag| (*flag).to_owned())
            .collect::<Vec<_>>(),
    )
    .await
}

/// Returns the log-in page of the demo provider and its URL.
async fn log_in_page(
    server: &Example,
    client: &McpClient,
    browser: &mut Browser,
) -> (String, Answer) {
    let answer = browser
        .get(&mcp::request(server, &client.id, REDIRECT, &[]))
        .await;
    let url = onward(&browser.approve(&answer).await);
    let page = browser.get(&url).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    (url, page)
}

/// Logs in at the demo provider. Returns the parameters that the client receives.
async fn log_in(server: &Example, client: &McpClient, form: &[(&str, &str)]) -> mcp::Pairs {
    let mut browser = Browser::default();
    let (url, page) = log_in_page(server, client, &mut browser).await;
    let answer = browser.submit(&url, &page, form).await;
    query(&browser.follow(answer, REDIRECT).await)
}

/// Returns the URL that the server prints at start, and everything that it prints.
fn printed(server: &Example) -> (String, String) {
    let text = server.stdout();
    let (_, rest) = text
        .split_once("Connect an MCP client to this URL:")
        .unwrap();
    (rest.trim_start().lines().next().unwrap().to_owned(), text)
}

#[tokio::test]
async fn the_next_steps_are_printed_at_start() {
    let server = demo(&[]).await;
    let (url, text) = printed(&server);
    assert_eq!(url, server.url("/mcp"));
    let answer = get(&url).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    assert!(answer.headers.contains_key("www-authenticate"));
    let client = McpClient::register(&server).await;
    let (log_in, _) = log_in_page(&server, &client, &mut Browser::default()).await;
    let provider = log_in.split_once("/authorize").unwrap().0;
    for words in [
        format!("claude mcp add --transport http example {url}\n"),
        format!("{provider}: choose any name, it asks for no password"),
    ] {
        assert!(text.contains(&words), "{words:?} is missing: {text}");
    }

    let provider = mcp::Provider::start().await;
    let mut flags = provider.flags();
    flags.extend(["--public-url", "https://example.com/tools"].map(str::to_owned));
    let server = mcp::start(&flags).await;
    let (url, text) = printed(&server);
    assert_eq!(url, "https://example.com/tools/mcp");
    for words in ["demo", "password", mcp::PROVIDER_SECRET] {
        assert!(!text.contains(words), "{words:?}: {text}");
    }
}

#[tokio::test]
async fn all_endpoints_are_below_the_path_of_the_issuer() {
    const ORIGIN: &str = "https://example.com";
    let identity = Identity::start().await;
    let mut flags = identity.flags();
    flags.extend(["--public-url", "https://example.com/tools"].map(str::to_owned));
    let server = mcp::start(&flags).await;
    let mut browser = Browser {
        through: Some((ORIGIN.to_owned(), server.url(""))),
        ..Browser::default()
    };
    let metadata =
        json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" }).to_string();
    let json = [("content-type", "application/json")];
    let registered = send("POST", &server.url("/tools/register"), &json, metadata).await;
    let client_id = registered.string("client_id");
    let request = [
        ("response_type", "code"),
        ("client_id", &*client_id),
        ("redirect_uri", REDIRECT),
        ("code_challenge", mcp::CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", "https://example.com/tools/mcp"),
    ];
    let request =
        url::Url::parse_with_params("https://example.com/tools/authorize", request).unwrap();
    let answer = query(&browser.log_in(request.as_str(), REDIRECT).await);
    assert_eq!(one(&answer, "iss"), Some("https://example.com/tools"));
    let code = one(&answer, "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", &*client_id),
        ("code_verifier", VERIFIER),
        ("resource", "https://example.com/tools/mcp"),
    ];
    assert_error(
        &post(&server.url("/token"), &form).await,
        404,
        "not_found",
        "there is no endpoint at the root",
    );
    let tokens = post(&server.url("/tools/token"), &form).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    assert_eq!(
        tokens.headers["strict-transport-security"],
        "max-age=31536000"
    );
    let refresh = [("grant_type", "refresh_token"), ("client_id", &*client_id)];
    let token = tokens.string("refresh_token");
    let refreshed = post(
        &server.url("/tools/token"),
        &[&refresh[..], &[("refresh_token", &*token)]].concat(),
    )
    .await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    let authorization = format!("Bearer {}", refreshed.string("access_token"));
    let host = [
        ("authorization", authorization.as_str()),
        ("host", "example.com"),
    ];
    assert_eq!(
        send("POST", &server.url("/tools/mcp"), &host, "")
            .await
            .status,
        406,
        "the request reaches the MCP server"
    );
    let refused = send("POST", &server.url("/tools/mcp"), &[], "").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    let metadata = "https://example.com/.well-known/oauth-protected-resource/tools/mcp";
    assert!(
        challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
        "{challenge}"
    );
    assert_eq!(
        get(&server.url("/.well-known/oauth-protected-resource/tools/mcp"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn pages_of_other_origins_cannot_call_the_mcp_endpoint() {
    let identity = Identity::start().await;
    let mut flags = identity.flags();
    flags.extend(["--allowed-origin", "https://app.example.com:443"].map(str::to_owned));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    let authorization = format!(
        "Bearer {}",
        client.log_in(&server).await.string("access_token")
    );
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let post_with = async |more: &[(&str, &str)]| {
        let headers = [
            ("authorization", authorization.as_str()),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
        ];
        send(
            "POST",
            &server.url("/mcp"),
            &[&headers[..], more].concat(),
            message.clone(),
        )
        .await
    };
    let port = server.addr().port();
    let (here, localhost) = (server.url(""), format!("localhost:{port}"));
    let rows: [(&str, &[(&str, &str)], u16); 12] = [
        ("a client without Origin", &[], 200),
        (
            "by another name of this computer",
            &[("host", &localhost)],
            200,
        ),
        ("a page of this server", &[("origin", &here)], 200),
        (
            "a page on this computer",
            &[("origin", "http://localhost:6274")],
            200,
        ),
        (
            "a page of an allowed origin",
            &[("origin", "https://app.example.com")],
            200,
        ),
        (
            "a page of another origin",
            &[("origin", "https://evil.example")],
            403,
        ),
        ("a page with an opaque origin", &[("origin", "null")], 403),
        ("DNS rebinding", &[("host", "evil.example")], 403),
        (
            "DNS rebinding with the port",
            &[("host", &format!("evil.example:{port}"))],
            403,
        ),
        (
            "a Host with a user",
            &[("host", &format!("evil@127.0.0.1:{port}"))],
            400,
        ),
        (
            "an origin with a prefix of an allowed one",
            &[("origin", "http://localhost:1234.evil.example")],
            403,
        ),
        (
            "another port of an allowed origin",
            &[("origin", "https://app.example.com:8443")],
            403,
        ),
    ];
    for (name, headers, status) in rows {
        let answer = post_with(headers).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    let tools = post_with(&[]).await.json()["result"]["tools"].clone();
    let names: Vec<_> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["upstream", "whoami"]);
    identity.log_everybody_out();
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let failed = call(&server, token, "upstream").await.json();
    assert_eq!(
        failed["result"]["isError"], true,
        "the error names the failure at the provider: {failed}"
    );
    identity.answer("/userinfo", 200, "no JSON");
    assert_eq!(
        call(&server, token, "upstream").await.json()["result"]["isError"],
        true
    );
}

#[tokio::test]
async fn shuts_down_on_sigterm_despite_open_connections() {
    let mut server = demo(&[]).await;
    // Neither an unused connection nor an idle one delays the shutdown.
    let _idle = TcpStream::connect(server.addr()).await.unwrap();
    let mut used = TcpStream::connect(server.addr()).await.unwrap();
    used.write_all(b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    used.readable().await.unwrap();
    server.terminate();
    let status = server.ended(Duration::from_secs(60)).await;
    assert!(status.success(), "{status}: {server:?}");
    server.wait_for("shutting down");
}
