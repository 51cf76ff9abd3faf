//! The MCP endpoint with a slash at the end of its URL.

use serde_json::json;
use test_support::http::{Recorder, get, send};

use crate::support::fixture::Fixture;
use crate::support::identity::Manners;
use crate::support::mcp;

const MESSAGE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}"#;

#[tokio::test]
async fn the_url_with_a_slash_leads_to_the_endpoint() {
    let upstream = Recorder::start(|_| "reached").await;
    let url = format!("{}/mcp", upstream.url());
    for flags in [&[][..], &["--mcp-upstream", &url]] {
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let server = &fixture.server;
        let access = fixture.client.log_in(server).await.string("access_token");
        let authorization = format!("Bearer {access}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
        ];
        for method in ["POST", "GET", "DELETE", "PUT"] {
            for query in ["", "?tenant=a"] {
                let send = async |path: &str| {
                    let url = server.url(&format!("{path}{query}"));
                    send(method, &url, &headers, MESSAGE).await
                };
                let (plain, slash) = (send("/mcp").await, send("/mcp/").await);
                assert_eq!(plain.status, slash.status, "{method}");
                assert_eq!(plain.body, slash.body, "{method}");
            }
        }
    }
    let targets: Vec<_> = upstream.all().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets[..4],
        ["/mcp", "/mcp", "/mcp?tenant=a", "/mcp?tenant=a"]
    );
}

#[tokio::test]
async fn the_challenge_leads_to_metadata_with_the_same_url() {
    for (issuer, path) in [
        ("https://mcp.example.com", ""),
        ("https://example.com/tools", "/tools"),
    ] {
        let server = mcp::start(&["--public-url", issuer].map(str::to_owned)).await;
        for slash in ["", "/"] {
            let url = server.url(&format!("{path}/mcp{slash}"));
            let refused = send("POST", &url, &[], "").await;
            assert_eq!(refused.status, 401, "{url}");
            let challenge = refused.headers["www-authenticate"].to_str().unwrap();
            let document = format!("/.well-known/oauth-protected-resource{path}/mcp{slash}");
            assert!(challenge.contains(&format!("{document}\"")), "{challenge}");
            let document = get(&server.url(&document)).await.json();
            assert_eq!(document["resource"], json!(format!("{issuer}/mcp{slash}")));
        }
    }
}
