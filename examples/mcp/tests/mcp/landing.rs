//! The landing page of the example `mcp`.

use axum::http::StatusCode;
use test_support::http::{get, send};
use test_support::process::Example;

use crate::support::mcp::{self, Provider};

async fn start(flags: &[&str]) -> (Provider, Example) {
    let provider = Provider::start().await;
    let mut all = provider.flags();
    all.extend(flags.iter().map(|&flag| flag.to_owned()));
    let server = mcp::start(&all).await;
    (provider, server)
}

#[tokio::test]
async fn the_page_shows_the_url_for_clients() {
    let (provider, server) = start(&[]).await;
    let page = get(&server.url("/")).await;
    assert_eq!(page.status, StatusCode::OK);
    mcp::assert_is_page(&page);
    let mcp = server.url("/mcp");
    let text = page.text();
    for words in [
        "<title>MCP server</title>",
        &format!("<code id=\"url\">{mcp}</code>"),
        &format!("<strong>{}</strong>", server.addr()),
    ] {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    assert!(!page.headers.contains_key("set-cookie"));
    // It links to nothing but its style sheet, and does not name the provider.
    assert_eq!(text.matches("href=").count(), 1, "{text}");
    for client in [
        "Claude Code",
        "ChatGPT",
        "VS Code",
        "Cursor",
        "MCP Inspector",
    ] {
        let summary = format!("<summary>{client}</summary>");
        assert!(text.contains(&summary), "{client}: {text}");
    }
    let command = format!("claude mcp add --transport http example {mcp}");
    assert!(text.contains(&command), "{text}");
    for absent in [
        "<a ",
        "<form",
        "src=",
        &provider.addr.to_string(),
        mcp::PROVIDER_CLIENT,
    ] {
        assert!(!text.contains(absent), "{absent:?}: {text}");
    }
    // The URL is the one of the MCP endpoint, which requires a token.
    assert_eq!(get(&mcp).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&server.url("/style.css")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_other_methods_are_rejected() {
    let (_, server) = start(&[]).await;
    let url = server.url("/");
    let page = get(&url).await;
    let head = send("HEAD", &url, &[], "").await;
    assert_eq!((head.status, head.text()), (StatusCode::OK, ""));
    for name in [
        "content-type",
        "content-length",
        "cache-control",
        "content-security-policy",
        "referrer-policy",
        "x-content-type-options",
        "x-frame-options",
    ] {
        assert_eq!(head.headers.get(name), page.headers.get(name), "{name}");
        assert!(head.headers.contains_key(name), "{name}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = send(method, &url, &[("origin", "https://evil.example")], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers["allow"], "GET,HEAD", "{method}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{method}");
        assert!(
            !answer.headers.contains_key("access-control-allow-origin"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn the_page_is_below_the_path_of_the_issuer() {
    let public = "https://example.com/tools";
    let (_, server) = start(&["--public-url", public]).await;
    let page = get(&server.url("/tools/")).await;
    assert_eq!(page.status, StatusCode::OK);
    mcp::assert_is_page(&page);
    assert!(page.headers.contains_key("strict-transport-security"));
    let text = page.text();
    assert!(
        text.contains(&format!("<code id=\"url\">{public}/mcp</code>")),
        "{text}"
    );
    assert!(text.contains("href=\"style.css\""), "{text}");
    let style = get(&server.url("/tools/style.css")).await;
    assert_eq!(style.status, StatusCode::OK);

    let answer = get(&server.url("/tools")).await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.headers["location"], "https://example.com/tools/");
    let post = send("POST", &server.url("/tools"), &[], "").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    // The root of the host belongs to others.
    assert_eq!(get(&server.url("/")).await.status, StatusCode::NOT_FOUND);
}

/// An upstream MCP server whose endpoint is `/` is at `/mcp` here.
#[tokio::test]
async fn the_page_does_not_hide_the_mcp_endpoint() {
    let (provider, server) = start(&["--mcp-upstream", "http://127.0.0.1:9/"]).await;
    let page = get(&server.url("/")).await;
    mcp::assert_is_page(&page);
    assert!(!page.text().contains("127.0.0.1:9/"), "{}", page.text());
    let answer = send("POST", &server.url("/mcp"), &[], "{}").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.headers.contains_key("www-authenticate"));
    drop(provider);
}
