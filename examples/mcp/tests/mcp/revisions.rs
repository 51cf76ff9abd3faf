//! Revisions of MCP: stateless requests (2026-07-28), and sessions that begin with `initialize`.

use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::{Value, json};
use test_support::http::{Answer, send};
use test_support::process::Example;

use crate::support::fixture::Fixture;
use crate::support::identity::Manners;

#[tokio::test]
async fn a_client_calls_tools_in_every_revision() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scope = ["--tool-scope", "whoami=openid"];
    for flags in [&[][..], &scope] {
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let access = fixture.client.log_in(&fixture.server).await;
        let access = access.string("access_token");
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        for lifecycle in [
            ClientLifecycleMode::Initialize,
            ClientLifecycleMode::Discover { preferred_versions },
        ] {
            let config = StreamableHttpClientTransportConfig::with_uri(fixture.server.url("/mcp"));
            let config = config.auth_header(access.clone());
            let transport =
                StreamableHttpClientTransport::with_client(reqwest::Client::new(), config);
            let name = format!("{lifecycle:?}");
            let client = ().serve_with_lifecycle(transport, lifecycle).await.unwrap();
            let result = client.call_tool(CallToolRequestParams::new("whoami")).await;
            let content = result.unwrap().structured_content.unwrap();
            assert_eq!(content["client_id"], json!(fixture.client.id), "{name}");
            client.cancel().await.unwrap();
        }
    }
}

/// Sends a message of revision 2026-07-28, with more headers.
async fn post(server: &Example, access: &str, message: &Value, more: &[(&str, &str)]) -> Answer {
    let authorization = format!("Bearer {access}");
    let usual = [
        ("authorization", authorization.as_str()),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
    ];
    let headers: Vec<_> = usual.iter().chain(more).copied().collect();
    send("POST", &server.url("/mcp"), &headers, message.to_string()).await
}

#[tokio::test]
async fn a_request_stands_alone_and_its_headers_match_it() {
    let fixture = Fixture::start().await;
    let server = &fixture.server;
    let access = fixture.client.log_in(server).await.string("access_token");
    let message = |method: &str, name: &str| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": name, "arguments": {}, "_meta": meta });
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
    };
    let right = [("mcp-method", "tools/call"), ("mcp-name", "whoami")];
    let call = message("tools/call", "whoami");
    let answer = post(server, &access, &call, &right).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.headers.contains_key("mcp-session-id"), "{answer:?}");
    let content = &answer.json()["result"]["structuredContent"];
    assert_eq!(content["client_id"], json!(fixture.client.id));
    for wrong in [
        &[][..],
        &[("mcp-method", "tools/list"), ("mcp-name", "whoami")],
        &[("mcp-method", "tools/call"), ("mcp-name", "upstream")],
    ] {
        let answer = post(server, &access, &call, wrong).await;
        assert_eq!(answer.status, 400, "{wrong:?}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], -32020, "{wrong:?}");
    }
    let discover = message("server/discover", "");
    let answer = post(
        server,
        &access,
        &discover,
        &[("mcp-method", "server/discover")],
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let versions = answer.json()["result"]["supportedVersions"].clone();
    for version in ["2025-06-18", "2026-07-28"] {
        let all = versions.as_array().unwrap();
        assert!(all.contains(&json!(version)), "{versions}");
    }
}
