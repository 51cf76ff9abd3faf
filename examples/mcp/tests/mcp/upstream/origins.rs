//! The hosts and origins of requests.

use test_support::PATIENCE;
use test_support::http::{Recorder, raw, send};
use test_support::process::Example;
use tokio::time::timeout;

use super::Fixture;
use crate::PROGRAM;
use crate::support::identity::Identity;
use crate::support::mcp::{self};

/// Sends a request verbatim. Returns the status of the response.
async fn status_of(server: &Example, request: &str) -> u16 {
    let answer = timeout(PATIENCE, raw(server.addr(), request))
        .await
        .expect("an answer");
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("{request:?}: {answer:?}"))
}

#[tokio::test]
async fn hosts_and_origins_are_checked_for_built_in_and_upstream_servers() {
    const PUBLIC: &str = "https://mcp.example.com";
    let upstream = Recorder::start(|_| "reached").await;
    let identity = Identity::start().await;
    let endpoint = format!("{}/mcp", upstream.url());
    for more in [
        &[][..],
        &["--mcp-upstream", &endpoint],
        &["--mcp-upstream", &endpoint, "--mcp-token", "strip"],
    ] {
        let own = more.is_empty();
        let mut flags = identity.flags();
        flags.extend(
            [
                "--public-url",
                PUBLIC,
                "--allowed-origin",
                "https://app.example.com",
            ]
            .map(str::to_owned),
        );
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let server = mcp::start(&flags).await;
        let (port, before) = (server.addr().port(), upstream.all().len());
        let here = format!("127.0.0.1:{port}");
        let request = |target: &str, headers: &str| {
            let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
            format!(
                "POST {target} HTTP/1.1\r\n{headers}connection: close\r\naccept: application/json, text/event-stream\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
                json.len()
            )
        };
        // Without an access token, a request that passes these checks gets 401.
        let good = [
            format!("host: {here}\r\n"),
            format!("host: localhost:{port}\r\n"),
            format!("host: LOCALHOST:{port}\r\n"),
            format!("host: [::1]:{port}\r\n"),
            "host: mcp.example.com\r\n".into(),
            "host: MCP.example.COM:443\r\n".into(),
            format!("host: {here}\r\norigin: {PUBLIC}\r\n"),
            format!("host: {here}\r\norigin: {PUBLIC}:443\r\n"),
            format!("host: {here}\r\norigin: https://app.example.com\r\n"),
            format!("host: {here}\r\norigin: http://localhost\r\n"),
            format!("host: {here}\r\norigin: http://localhost:1234\r\n"),
            format!("host: {here}\r\norigin: http://[::1]:6274\r\n"),
        ];
        for headers in good {
            assert_eq!(
                status_of(&server, &request("/mcp", &headers)).await,
                401,
                "{more:?}: {headers:?}"
            );
        }
        let hosts = [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            "evil@127.0.0.1".into(),
            format!("evil@{here}"),
            "evil@mcp.example.com".into(),
            format!("{here}@evil.example"),
            "127.0.0.1".into(),
            format!("{here}.evil.example"),
            format!("localhost.evil.example:{port}"),
            format!("localhost.:{port}"),
            "mcp.example.com.".into(),
            "mcp.example.com:80".into(),
            "mcp.example.com:".into(),
            "mcp.example.com evil.example".into(),
            "mcp.example.com, evil.example".into(),
            "mcp.example.com/x".into(),
            format!("[::1%25lo]:{port}"),
            format!("[::ffff:127.0.0.1]:{port}"),
            format!("127.1:{port}"),
            format!("2130706433:{port}"),
            "\u{fc}.example".into(),
            String::new(),
        ];
        for host in hosts {
            let status = status_of(&server, &request("/mcp", &format!("host: {host}\r\n"))).await;
            assert!([400, 403].contains(&status), "{more:?}: {host:?}: {status}");
        }
        let origins = [
            "null",
            "",
            "*",
            "https://evil.example",
            "http://localhost:1234.evil.example",
            "http://localhost.evil.example",
            "http://evil@localhost:1234",
            "http://localhost@evil.example",
            "http://localhost:1234/",
            "http://localhost:99999",
            "http://localhost.",
            "https://localhost:1234",
            "http://127.1",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.com.",
            "https://app.example.com.evil.example",
            "https://app.example.com:443@evil.example",
            "https://mcp.example.com:8443",
            "http://mcp.example.com",
            "https://app.example.com https://evil.example",
            "file://",
            "moz-extension://app.example.com",
        ];
        for origin in origins {
            let headers = format!("host: {here}\r\norigin: {origin}\r\n");
            assert_eq!(
                status_of(&server, &request("/mcp", &headers)).await,
                403,
                "{more:?}: {origin:?}"
            );
        }
        let twice = [
            ("/mcp", String::new()),
            ("/mcp", format!("host: {here}\r\nhost: {here}\r\n")),
            ("/mcp", format!("host: {here}\r\nhost: evil.example\r\n")),
            (
                "/mcp",
                format!("host: {here}\r\norigin: {PUBLIC}\r\norigin: https://evil.example\r\n"),
            ),
            ("http://evil.example/mcp", format!("host: {here}\r\n")),
            ("http://evil@127.0.0.1/mcp", format!("host: {here}\r\n")),
        ];
        for (target, headers) in twice {
            let status = status_of(&server, &request(target, &headers)).await;
            assert!(
                [400, 403].contains(&status),
                "{more:?}: {target} {headers:?}: {status}"
            );
        }
        assert_eq!(upstream.all().len(), before, "{more:?}");
        if own {
            let log = server.stderr();
            let warnings = log.lines().filter(|line| line.contains("WARN"));
            assert_eq!(
                warnings.collect::<Vec<_>>(),
                [""; 0],
                "a public https URL causes no warning"
            );
        }
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_reach_the_upstream() {
    let upstream = Recorder::start(|_| "reached").await;
    let fixture = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &["--allowed-origin", "https://app.example.com"],
    )
    .await;
    let authorization = format!("Bearer {}", fixture.access);
    for (origin, status) in [
        ("https://app.example.com", 200),
        ("https://other.example.com", 403),
        ("null", 403),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("origin", origin),
        ];
        let answer = send("POST", &fixture.server.url("/mcp"), &headers, "{}").await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.text());
    }
    assert_eq!(upstream.all().len(), 1);
}

#[tokio::test]
async fn invalid_allowed_origins_are_rejected_at_startup() {
    for origin in [
        "app.example.com",
        "https://app.example.com/x",
        "https://*.example.com",
        "null",
        "*",
    ] {
        let output = tokio::task::spawn_blocking(move || {
            Example::run(
                PROGRAM,
                &["--listen", "127.0.0.1:0", "--allowed-origin", origin],
                &[],
            )
        });
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{origin}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("--allowed-origin"), "{origin}: {stderr}");
    }
}
