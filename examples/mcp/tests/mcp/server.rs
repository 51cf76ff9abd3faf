//! The example `mcp` as a server: the demo provider, an issuer with a path, the checks of the MCP
//! endpoint, the command line, and shutdown.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, get, post, send};
use test_support::process::{Example, assert_flags};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::PROGRAM;
use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, VERIFIER, one, onward, query};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, structured};

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

#[tokio::test]
async fn without_a_provider_a_demo_provider_is_started() {
    let server = demo(&[]).await;
    let client = McpClient::register(&server).await;
    for (form, user) in [
        (vec![("user", "ada"), ("log_in", "yes")], "ada"),
        (
            vec![("user", "ada"), ("other", "<b>&\"Zoë\""), ("log_in", "yes")],
            "<b>&\"Zoë\"",
        ),
    ] {
        let answer = log_in(&server, &client, &form).await;
        let tokens = client
            .exchange(&server, one(&answer, "code").unwrap(), &[])
            .await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let seen = structured(&call(&server, &tokens.string("access_token"), "upstream").await);
        assert_eq!(
            (&seen["user"]["sub"], &seen["token"]["issued_here"]),
            (&json!(user), &json!(false))
        );
        let tokens = client
            .refresh(&server, &tokens.string("refresh_token"), &[])
            .await;
        structured(&call(&server, &tokens.string("access_token"), "upstream").await);
        assert_eq!(
            client
                .revoke(&server, &tokens.string("refresh_token"))
                .await
                .status,
            200
        );
    }
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
async fn the_log_in_at_the_demo_provider_can_be_cancelled() {
    let server = demo(&[]).await;
    let client = McpClient::register(&server).await;
    let answer = log_in(&server, &client, &[("cancel", "yes")]).await;
    assert_eq!(one(&answer, "error"), Some("access_denied"), "{answer:?}");

    let mut browser = Browser::default();
    let (url, page) = log_in_page(&server, &client, &mut browser).await;
    for needed in [
        "<html lang=\"en\">",
        "<title>",
        "name=\"viewport\"",
        "<label for=\"other\">",
        "openid profile",
    ] {
        assert!(page.text().contains(needed), "{needed}: {}", page.text());
    }
    assert!(!page.text().contains("<script"), "{}", page.text());
    for name in [" ", &"x".repeat(65), "a\u{7}b"] {
        let again = browser.submit(&url, &page, &[("other", name)]).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST, "{name:?}");
        assert!(again.text().contains("role=\"alert\""), "{name:?}");
    }
    let tricky = format!("{url}&x=\"><script>alert(1)</script>");
    let tricky = tricky
        .replace('"', "%22")
        .replace('<', "%3C")
        .replace('>', "%3E");
    assert!(
        !browser.get(&tricky).await.text().contains("<script"),
        "reflected"
    );
    for wrong in [
        url.replace("mcp-demo", "other"),
        url.replace("callback", "elsewhere"),
    ] {
        assert_eq!(
            browser.get(&wrong).await.status,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn the_demo_provider_follows_its_flags() {
    let flags: [&[&str]; 3] = [
        &["--demo-no-rotation"],
        &["--demo-no-expires-in"],
        &["--demo-refresh-lifetime", "600"],
    ];
    for flags in flags {
        let server = demo(flags).await;
        let client = McpClient::register(&server).await;
        let answer = log_in(&server, &client, &[("user", "grace")]).await;
        let mut tokens = client
            .exchange(&server, one(&answer, "code").unwrap(), &[])
            .await;
        for _ in 0..3 {
            let lifetime = tokens
                .json()
                .get("refresh_expires_in")
                .and_then(Value::as_u64);
            assert_eq!(
                lifetime.is_some_and(|seconds| seconds <= 600),
                flags.len() == 2,
                "{flags:?}"
            );
            tokens = client
                .refresh(&server, &tokens.string("refresh_token"), &[])
                .await;
            assert_eq!(tokens.status, 200, "{flags:?}: {}", tokens.text());
            structured(&call(&server, &tokens.string("access_token"), "upstream").await);
        }
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
            403,
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

#[tokio::test]
async fn invalid_command_lines_are_rejected() {
    let long = format!("openid={}", "x".repeat(201));
    let rows: &[(&[&str], &str)] = &[
        (
            &["--client-id", "x", "--client-secret", "y"],
            "--client-id needs --authorization-endpoint, --issuer or --provider",
        ),
        (
            &["--token-endpoint", "https://id.example.com/token"],
            "--token-endpoint needs --client-id",
        ),
        (
            &["--demo-listen", "0.0.0.0:0"],
            "--demo-listen must be an address of this computer",
        ),
        (&["--strict", "--retry-window", "5"], "--strict"),
        (&["--rotation-timeout", "7200"], "--rotation-timeout"),
        (
            &["--access-token-lifetime", "0"],
            "--access-token-lifetime must be more than 0",
        ),
        (
            &["--upstream-revocation"],
            "--upstream-revocation needs --revocation-key-file",
        ),
        (
            &["--shared-window", "2592001"],
            "--shared-window must be at most --idle-lifetime",
        ),
        (
            &["--recovery-window", "never"],
            "not a number of seconds, nor `unlimited`",
        ),
        (
            &["--rotation", "sometimes"],
            "not a number of seconds, `every-use` or `never`",
        ),
        (
            &["--rotation-client", "alexa"],
            "it must be CLIENT_ID=POLICY",
        ),
        (
            &["--require-scope", "two scopes"],
            "--require-scope: `two scopes` is not one of the scopes of --scope",
        ),
        (&["--tool-scope", "delete"], "it must be NAME=SCOPE"),
        (&["--tool-scope", "=x"], "`` is not the name of a tool"),
        (&["--tool-scope", "a=b c"], "`b c` is not a scope"),
        (
            &["--tool-scope", "delete=admin"],
            "--tool-scope: `admin` is not one of the scopes of --scope",
        ),
        (
            &["--require-scope", "offline_access"],
            "offline_access is not a scope of access tokens",
        ),
        (
            &["--require-scope", "admin"],
            "--require-scope: `admin` is not one of the scopes of --scope",
        ),
        (
            &["--rotation-client=alexa=never,alexa=60"],
            "--rotation-client: two policies for `alexa`",
        ),
        (
            &["--userinfo-endpoint", "https://id.example.com/userinfo"],
            "--userinfo-endpoint needs --client-id",
        ),
        (
            &["--revocation-endpoint", "https://id.example.com/revoke"],
            "--revocation-endpoint needs --client-id",
        ),
        (
            &["--provider-issuer", "https://id.example.com"],
            "--provider-issuer needs --client-id",
        ),
        (
            &["--authorization-param", "a=b"],
            "--authorization-param needs --client-id",
        ),
        (
            &["--authorization-param", "max_age=soon"],
            "'--authorization-param <NAME=VALUE>': max_age must be a whole number of seconds",
        ),
        (
            &["--authorization-param", "max_age=-1"],
            "'--authorization-param <NAME=VALUE>': max_age must be",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=github",
                "--authorization-param=max_age=600",
            ],
            "--authorization-param max_age needs openid in --scope",
        ),
        (&["--token-param", "a=b"], "--token-param needs --client-id"),
        (
            &["--forward-resource"],
            "--forward-resource needs --client-id",
        ),
        (
            &["--client-auth", "none"],
            "--client-auth needs --client-id",
        ),
        (
            &["--client-key-id", "7"],
            "--client-key-id needs --client-id",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=github",
                "--allow-group=staff",
            ],
            "--allow-group: --provider github does not name the groups of users",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=google",
                "--demo-access-lifetime=60",
            ],
            "--demo-access-lifetime is for the demo provider",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=google",
                "--demo-no-rotation",
            ],
            "--demo-no-rotation is for the demo provider",
        ),
        (&["--public-url", "https://example.com/?x"], "--public-url"),
        (&["--authorization-param", "x"], "--authorization-param"),
        (&["--cache-ttl", "1e3"], "--cache-ttl"),
        (
            &["--cache-ttl", "86401"],
            "--cache-ttl must be at most a day",
        ),
        (&["--store", "redis://:secret@"], "--store"),
        (&["--scope-description", "openid"], "it must be SCOPE=TEXT"),
        (&["--scope-description", "=x"], "`` is not a scope"),
        (&["--scope-description", "a b=x"], "`a b` is not a scope"),
        (
            &["--scope-description", "openid= "],
            "the text for `openid` is empty",
        ),
        (
            &["--scope-description", &long],
            "the text for `openid` is longer than 200 characters",
        ),
        (
            &["--scope-description", "openid=a\nb"],
            "must be one line of visible characters",
        ),
        (
            &["--scope-description", "openid=a\u{202e}b"],
            "must be one line of visible characters",
        ),
        (
            &["--scope-description", "openid=a; b"],
            "it must be SCOPE=TEXT",
        ),
        (
            &["--scope-description", "email=Read your e-mail address"],
            "`email` is not one of the scopes of --scope",
        ),
        (
            &[
                "--scope-description",
                "openid=a",
                "--scope-description",
                "openid=b",
            ],
            "two texts for `openid`",
        ),
    ];
    for (flags, message) in rows {
        let args: Vec<_> = ["--listen", "127.0.0.1:0"]
            .iter()
            .chain(*flags)
            .map(|&arg| arg.to_owned())
            .collect();
        let output = tokio::task::spawn_blocking(move || Example::run(PROGRAM, &args, &[]))
            .await
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(
            stderr.contains(*message) && !stderr.contains("secret@"),
            "{flags:?}: {stderr}"
        );
    }
}

#[test]
fn flags_without_effect_are_rejected() {
    let no_documents = "cannot be combined with --no-metadata-documents";
    let rows: [(&str, &str, &str); 11] = [
        ("--mcp-token=swap", "", "needs --mcp-upstream"),
        ("--mcp-token=strip", "", "needs --mcp-upstream"),
        ("--mcp-upstream-timeout=300", "", "needs --mcp-upstream"),
        (
            "--metadata-ca=/dev/null",
            "--no-metadata-documents",
            no_documents,
        ),
        (
            "--limit-document-fetches=30",
            "--no-metadata-documents",
            no_documents,
        ),
        ("--groups-claim=groups", "", "needs --allow-group"),
        (
            "--groups-claim=groups",
            "--allow-user=ada",
            "needs --allow-group",
        ),
        ("--contact=it", "", "needs --allow-user"),
        ("--brand-link=https://a", "", "needs --brand-name"),
        (
            "--backchannel-logout-audience=a",
            "--client-id=x --client-secret=x --provider=github",
            "needs --backchannel-logout-issuer",
        ),
        (
            "--client-key-id=7",
            "--client-id=x --client-secret=x",
            "needs --client-key",
        ),
    ];
    for (flag, more, why) in rows {
        let name = flag.split('=').next().unwrap();
        let text = format!("{name} {why}");
        for check in [&[][..], &["--check-config"]] {
            let flags: Vec<_> = ["--listen=127.0.0.1:0", "--store=memory", flag]
                .into_iter()
                .chain(more.split_whitespace())
                .chain(check.iter().copied())
                .collect();
            let output = Example::run(PROGRAM, &flags, &[]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
            assert_eq!(stderr.matches(&text).count(), 1, "{flags:?}: {stderr}");
        }
    }
}

#[test]
fn every_flag_has_an_environment_variable_and_documentation() {
    assert_flags(PROGRAM, "MCP_", include_str!("../../README.md"), 89);
}
