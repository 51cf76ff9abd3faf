//! The callback of the example `mcp`: responses of the identity provider are checked and never
//! forwarded as they are.

use axum::http::StatusCode;
use serde_json::json;
use test_support::http::Answer;
use test_support::process::Example;

use crate::support::mcp::{self, Browser, Provider, one, onward, query};

const REDIRECT: &str = "http://127.0.0.1:7777/callback";

struct Fixture {
    provider: Provider,
    server: Example,
    request: String,
}

impl Fixture {
    async fn start(flags: &[&str]) -> Self {
        let provider = Provider::start().await;
        let flags: Vec<_> = provider
            .flags()
            .into_iter()
            .chain(flags.iter().map(|flag| (*flag).to_owned()))
            .collect();
        let server = mcp::start(&flags).await;
        let client_id = mcp::register_public(&server, "A client", REDIRECT).await;
        let request = mcp::request(&server, &client_id, REDIRECT, &[]);
        Self {
            provider,
            server,
            request,
        }
    }

    /// Returns a browser that the provider has redirected back, and the URL of the callback.
    async fn sent_back(&self) -> (Browser, String) {
        let mut browser = Browser::default();
        let answer = browser.get(&self.request).await;
        let answer = browser.approve(&answer).await;
        let callback = browser.follow(answer, &self.server.url("/callback?")).await;
        (browser, callback)
    }

    /// Logs in with the configured responses of the provider. Returns the parameters that the
    /// client receives.
    async fn returned_parameters(&self) -> Vec<(String, String)> {
        let (mut browser, callback) = self.sent_back().await;
        let url = onward(&browser.get(&callback).await);
        assert!(url.starts_with(REDIRECT), "{url}");
        query(&url)
    }
}

fn assert_is_over(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.text().contains("This log-in is no longer valid"),
        "{}",
        answer.text()
    );
    mcp::assert_is_page(answer);
}

#[tokio::test]
async fn error_descriptions_of_the_provider_are_not_forwarded() {
    let fixture = Fixture::start(&[]).await;
    let long = "x".repeat(5000);
    let rows: [(&str, &[(&str, &str)], &str); 10] = [
        ("a denial", &[("error", "access_denied")], "access_denied"),
        (
            "a denial with a code",
            &[("error", "access_denied"), ("code", "x")],
            "access_denied",
        ),
        (
            "an outage",
            &[("error", "temporarily_unavailable")],
            "temporarily_unavailable",
        ),
        (
            "an unknown scope",
            &[("error", "invalid_scope")],
            "invalid_scope",
        ),
        (
            "a configuration error of this server",
            &[("error", "unauthorized_client")],
            "server_error",
        ),
        (
            "an unknown error",
            &[("error", "<script>"), ("error_description", "<script>")],
            "server_error",
        ),
        ("a long error", &[("error", &long)], "server_error"),
        (
            "a line break",
            &[("error", "x\nERROR forged")],
            "server_error",
        ),
        ("two codes", &[("code", "x"), ("code", "y")], "server_error"),
        ("an empty response", &[], "server_error"),
    ];
    for (name, answer, error) in rows {
        fixture.provider.answer_requests(answer);
        let parameters = fixture.returned_parameters().await;
        assert_eq!(
            (one(&parameters, "error"), one(&parameters, "code")),
            (Some(error), None),
            "{name}"
        );
        assert_eq!(
            (one(&parameters, "state"), parameters.len()),
            (Some("the client's"), 4),
            "{name}: {parameters:?}"
        );
        assert!(
            !one(&parameters, "error_description")
                .unwrap()
                .contains("script"),
            "{name}"
        );
    }
    assert_eq!(fixture.provider.exchanged(), 0);
    fixture.provider.behave();
    assert!(one(&fixture.returned_parameters().await, "code").is_some());
    let log = fixture.server.stderr();
    assert!(
        !log.contains(&long) && log.contains("unauthorized_client"),
        "{log}"
    );
    assert!(
        !log.lines().any(|line| line.starts_with("ERROR forged")),
        "{log}"
    );
}

#[tokio::test]
async fn an_invalid_token_response_fails_the_log_in() {
    let fixture = Fixture::start(&[]).await;
    let large = format!("{{\"access_token\":\"{}\"}}", "x".repeat(100_000));
    let rows = [
        (
            "an error",
            400,
            r#"{"error":"invalid_grant"}"#,
            "server_error",
        ),
        (
            "an error with tokens",
            400,
            r#"{"access_token":"x","token_type":"Bearer"}"#,
            "server_error",
        ),
        (
            "an error of GitHub",
            200,
            r#"{"error":"bad_verification_code","error_description":"<script>"}"#,
            "server_error",
        ),
        (
            "this server is rejected",
            401,
            r#"{"error":"invalid_client"}"#,
            "server_error",
        ),
        ("an outage", 503, "<html>", "temporarily_unavailable"),
        (
            "no JSON",
            200,
            "access_token=x&token_type=bearer",
            "server_error",
        ),
        ("a JSON array", 200, r#"["access_token"]"#, "server_error"),
        (
            "no token",
            200,
            r#"{"token_type":"Bearer"}"#,
            "server_error",
        ),
        (
            "an empty token",
            200,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            "server_error",
        ),
        (
            "a token of the wrong type",
            200,
            r#"{"access_token":{},"token_type":"Bearer"}"#,
            "server_error",
        ),
        ("a redirect", 302, "", "server_error"),
        (
            "a response that is too large",
            200,
            &large,
            "temporarily_unavailable",
        ),
    ];
    for (at, (name, status, body, error)) in rows.into_iter().enumerate() {
        fixture.provider.answer_exchanges(status, body);
        let parameters = fixture.returned_parameters().await;
        assert_eq!(
            (one(&parameters, "error"), one(&parameters, "code")),
            (Some(error), None),
            "{name}"
        );
        assert!(
            !one(&parameters, "error_description")
                .unwrap()
                .contains("script"),
            "{name}"
        );
        assert_eq!(fixture.provider.exchanged(), at + 1, "{name}: once");
    }
    let log = fixture.server.stderr();
    assert!(
        log.matches("no tokens from the identity provider").count() == 12,
        "{log}"
    );
    assert!(
        log.contains("invalid_client") && !log.contains("access_token\":"),
        "{log}"
    );
}

#[tokio::test]
async fn an_unreachable_provider_is_reported_and_logged() {
    let provider = Provider::start().await;
    let mut flags = provider.flags();
    // No server listens on this port: it was free a moment ago.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let at = flags
        .iter()
        .position(|flag| flag == "--token-endpoint")
        .unwrap();
    flags[at + 1] = format!("http://{gone}/token");
    let server = mcp::start(&flags).await;
    let client_id = mcp::register_public(&server, "A client", REDIRECT).await;
    let client = Browser::default()
        .log_in(&mcp::request(&server, &client_id, REDIRECT, &[]), REDIRECT)
        .await;
    assert_eq!(
        one(&query(&client), "error"),
        Some("temporarily_unavailable")
    );
    server
        .written("the identity provider cannot be reached")
        .await;
}

#[tokio::test]
async fn a_response_of_another_issuer_is_rejected() {
    let fixture = Fixture::start(&["--provider-issuer", "https://provider.example"]).await;
    let rows: [(&str, &[(&str, &str)], bool); 4] = [
        (
            "the configured issuer",
            &[
                ("code", "provider-code-1"),
                ("iss", "https://provider.example"),
            ],
            true,
        ),
        ("none", &[("code", "provider-code-2")], false),
        (
            "another",
            &[("code", "provider-code-3"), ("iss", "https://evil.example")],
            false,
        ),
        (
            "an error of another issuer",
            &[("error", "access_denied"), ("iss", "https://evil.example")],
            false,
        ),
    ];
    for (name, answer, right) in rows {
        fixture.provider.answer_requests(answer);
        let parameters = fixture.returned_parameters().await;
        assert_eq!(
            one(&parameters, "code").is_some(),
            right,
            "{name}: {parameters:?}"
        );
        assert_eq!(
            one(&parameters, "error"),
            (!right).then_some("server_error"),
            "{name}"
        );
    }
    assert_eq!(fixture.provider.exchanged(), 1);
}

#[tokio::test]
async fn a_callback_works_once_and_only_in_its_browser() {
    let fixture = Fixture::start(&[]).await;
    let (mut owner, callback) = fixture.sent_back().await;
    let mut thief = Browser::default();
    thief.get(&fixture.request).await;
    for mut thief in [thief, Browser::default()] {
        let refused = thief.get(&callback).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(
            refused.text().contains("belongs to another browser"),
            "{}",
            refused.text()
        );
        assert!(!refused.headers.contains_key("location"));
        mcp::assert_is_page(&refused);
    }
    assert_eq!(
        fixture.provider.exchanged(),
        0,
        "a code of another browser is not exchanged"
    );
    let client = onward(&owner.get(&callback).await);
    assert!(one(&query(&client), "code").is_some(), "{client}");
    assert_is_over(&owner.get(&callback).await);
    assert_eq!(fixture.provider.exchanged(), 1);

    let state = one(&query(&callback), "state").unwrap().to_owned();
    for wrong in [
        "",
        "state=",
        "state=x",
        &format!("state={state}&state={state}"),
        "error=access_denied",
        "code=x",
    ] {
        assert_is_over(
            &owner
                .get(&fixture.server.url(&format!("/callback?{wrong}")))
                .await,
        );
    }
}

#[tokio::test]
async fn of_twenty_concurrent_callbacks_one_gets_a_code() {
    let fixture = Fixture::start(&[]).await;
    let (owner, callback) = fixture.sent_back().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut owner, callback) = (owner.clone(), callback.clone());
        tasks.spawn(async move { owner.get(&callback).await });
    }
    let answers = tasks.join_all().await;
    let (codes, over): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| answer.status == StatusCode::SEE_OTHER);
    assert_eq!(codes.len(), 1);
    over.into_iter().for_each(assert_is_over);
    assert_eq!(fixture.provider.exchanged(), 1);
}

#[tokio::test]
async fn a_code_has_the_scopes_that_the_provider_granted() {
    let fixture = Fixture::start(&[]).await;
    for (given, scope) in [
        (json!("openid"), "openid"),
        (json!("openid,profile"), "openid profile"),
        // The user did not consent to these here.
        (json!("openid  admin https://scopes.example/b"), "openid"),
        (json!("read:user,user:email"), ""),
        (json!(""), "openid profile"),
        (json!("not \"a scope\""), "openid profile"),
        (json!(null), "openid profile"),
    ] {
        let tokens = json!({ "access_token": "x", "token_type": "Bearer", "refresh_token": "y", "scope": given });
        fixture.provider.answer_exchanges(200, tokens.to_string());
        let parameters = fixture.returned_parameters().await;
        let tokens = mcp::exchange(
            &fixture.server,
            &fixture.request,
            one(&parameters, "code").unwrap(),
        )
        .await;
        assert_eq!(tokens.string("scope"), scope, "{given}");
    }
}
