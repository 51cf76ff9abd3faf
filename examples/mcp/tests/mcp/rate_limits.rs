//! Limits of requests from one network. The passage of time is tested with a clock of its own, in
//! `src/rate_limit/limit.rs`.

use serde_json::json;
use test_support::http::{Answer, get, post, send};
use test_support::process::Example;

use crate::support::client_key::{
    ASSERTION_TYPE, ClientKey, assert_refused, code, exchange, post_signed, refresh, register_with,
};
use crate::support::documents::{CALLBACK, DocumentHost, answer};
use crate::support::fixture::Fixture;
use crate::support::identity::Manners;
use crate::support::mcp;
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error};

async fn start(flags: &[&str]) -> Example {
    let trusted = ["--trust-forwarded", "127.0.0.0/8"];
    let flags: Vec<_> = [&trusted, flags].concat();
    let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
    mcp::start(&flags).await
}

async fn register(server: &Example, client: &str) -> Answer {
    let metadata = json!({ "redirect_uris": [REDIRECT] }).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-for", client),
    ];
    send("POST", &server.url("/register"), &headers, metadata).await
}

fn assert_asks_to_wait(answer: &Answer) {
    let wait = answer.headers["retry-after"].to_str().unwrap();
    let wait: u64 = wait.parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
}

#[tokio::test]
async fn registrations_are_limited_for_each_network() {
    let server = start(&["--limit-registrations", "1"]).await;
    for (client, status) in [
        ("192.0.2.1", 201),
        ("192.0.2.1", 429),
        ("192.0.2.2", 201),
        ("2001:db8::1", 201),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::1", 201),
    ] {
        let answer = register(&server, client).await;
        assert_eq!(answer.status, status, "{client}: {}", answer.text());
        if status == 429 {
            assert_error(&answer, 429, "temporarily_unavailable", client);
            assert_asks_to_wait(&answer);
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
        }
    }
    server.wait_for("sends too many requests");
    assert!(
        server.stderr().contains("--limit-registrations"),
        "{server:?}"
    );
}

/// Without `--trust-forwarded`, a client cannot choose its address.
#[tokio::test]
async fn an_untrusted_header_does_not_change_the_network() {
    let flags = ["--limit-registrations", "1"].map(str::to_owned);
    let server = mcp::start(&flags).await;
    assert_eq!(register(&server, "192.0.2.1").await.status, 201);
    assert_eq!(register(&server, "192.0.2.2").await.status, 429);
}

#[tokio::test]
async fn too_many_authorization_requests_get_a_page() {
    let server = start(&["--limit-authorizations", "1"]).await;
    let client = McpClient::register(&server).await;
    let url = mcp::request(&server, &client.id, REDIRECT, &[]);
    assert_eq!(get(&url).await.status, 303);
    let page = get(&url).await;
    assert_eq!(page.status, 429);
    mcp::assert_is_page(&page);
    assert!(page.text().contains("Too many requests"), "{}", page.text());
    assert_asks_to_wait(&page);
    // Other pages are not limited.
    assert_eq!(get(&server.url("/")).await.status, 200);
}

#[tokio::test]
async fn only_failures_at_the_token_endpoint_are_counted() {
    let limit = ["--limit-token-failures", "1"];
    let fixture = Fixture::with_flags(Manners::default(), &limit).await;
    let (server, client) = (&fixture.server, &fixture.client);
    let mut token = client.log_in(server).await.string("refresh_token");
    for _ in 0..3 {
        let answer = client.refresh(server, &token, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        token = answer.string("refresh_token");
    }
    let answer = client.refresh(server, "unknown", &[]).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = client.refresh(server, &token, &[]).await;
    assert_error(&answer, 429, "temporarily_unavailable", "refresh");
    assert_asks_to_wait(&answer);
}

#[tokio::test]
async fn revocations_of_unknown_tokens_and_failures_at_the_endpoint_are_counted() {
    let fixture = Fixture::with_flags(Manners::default(), &["--limit-token-failures", "2"]).await;
    let (server, client) = (&fixture.server, &fixture.client);
    for _ in 0..3 {
        let tokens = client.log_in(server).await;
        let revoked = client.revoke(server, &tokens.string("refresh_token")).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text());
    }
    let key = ClientKey::ec("one");
    let client_id = register_with(server, &key.jwks()).await;
    let revoke = async |key: &ClientKey| {
        let assertion = key.assertion(&server.url(""), &client_id, &json!({}));
        post_signed(server, "/revoke", &assertion, &[("token", "unknown")]).await
    };
    let revoked = revoke(&key).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_refused(&revoke(&ClientKey::ec("one")).await, "signature");
    let refused = revoke(&key).await;
    assert_error(&refused, 429, "temporarily_unavailable", "revoke");
    assert_asks_to_wait(&refused);
    let refused = client.refresh(server, "unknown", &[]).await;
    assert_error(&refused, 429, "temporarily_unavailable", "refresh");
}

#[tokio::test]
async fn requests_that_fetch_from_a_silent_host_are_counted() {
    let fixture = Fixture::with_flags(Manners::default(), &["--limit-token-failures", "3"]).await;
    let (server, client) = (&fixture.server, &fixture.client);
    for number in 0..2 {
        let id = format!("https://{number}.invalid/client");
        let answer = client.exchange(server, "x", &[("client_id", &id)]).await;
        assert_error(&answer, 503, "temporarily_unavailable", &id);
    }
    let metadata = json!({
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": "https://keys.invalid/jwks",
    });
    let registered = mcp::register(server, &metadata).await;
    let client_id = registered["client_id"].as_str().unwrap();
    let assertion = ClientKey::ec("one").assertion(&server.url(""), client_id, &json!({}));
    let answer = exchange(server, &assertion, "x").await;
    assert_error(&answer, 503, "temporarily_unavailable", "the keys");
    let answer = exchange(server, &assertion, "x").await;
    assert_error(&answer, 429, "temporarily_unavailable", "too many");
}

/// One network must not use up the fetches of all.
#[tokio::test]
async fn the_fetches_that_a_network_causes_are_limited() {
    let host = DocumentHost::start().await;
    let flags = ["--trust-forwarded", "127.0.0.0/8"];
    let server = host
        .mcp(&[&flags[..], &["--limit-document-fetches", "2"]].concat())
        .await;
    let documents = [1, 2, 3].map(|number| host.document(&format!("/{number}"), &json!({}), &[]));
    let authorize = async |from: &str, client_id: &str| {
        let url = mcp::request(&server, client_id, CALLBACK, &[]);
        send("GET", &url, &[("x-forwarded-for", from)], "").await
    };
    let (one, other) = ("192.0.2.1", "192.0.2.2");
    for document in [0, 1, 0] {
        assert_eq!(authorize(one, &documents[document]).await.status, 303);
    }
    let page = authorize(one, &documents[2]).await;
    assert_eq!(page.status, 400, "{page:?}");
    let text = page.text();
    assert!(text.contains("your network requests too many"), "{text}");
    assert_eq!(host.requests(), 2);
    assert_eq!(authorize(other, &documents[2]).await.status, 303);

    let key = ClientKey::ec("one");
    let jwks = key.jwks().to_string();
    let metadata = json!({
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": host.serve("/jwks", move || answer(&[], jwks.clone())),
    });
    let registered = mcp::register(&server, &metadata).await;
    let client_id = registered["client_id"].as_str().unwrap();
    let exchange = async |from: &str| {
        let assertion = key.assertion(&server.url(""), client_id, &json!({}));
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "x"),
            ("code_verifier", mcp::VERIFIER),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
        ];
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-forwarded-for", from),
        ];
        send("POST", &server.url("/token"), &headers, form).await
    };
    let refused = exchange(one).await;
    assert_error(&refused, 503, "temporarily_unavailable", "the keys");
    assert_eq!(host.requests(), 3);
    // The refused fetch does not delay those of other networks.
    assert_error(&exchange(other).await, 400, "invalid_grant", "the code");
    assert_eq!(host.requests(), 4);
}

/// Each of them leaves an entry in the store.
#[tokio::test]
async fn assertions_are_counted_while_the_provider_is_unavailable() {
    let fixture = Fixture::with_flags(Manners::default(), &["--limit-token-failures", "1"]).await;
    let server = &fixture.server;
    let key = ClientKey::ec("one");
    let client_id = register_with(server, &key.jwks()).await;
    let sign = || key.assertion(&server.url(""), &client_id, &json!({}));
    let code = code(server, &client_id).await;
    let tokens = exchange(server, &sign(), &code).await;
    let token = tokens.string("refresh_token");
    fixture.identity.answer("/token", 503, "");
    let failed = refresh(server, &sign(), &token).await;
    assert_eq!(failed.status, 503, "{}", failed.text());
    let refused = refresh(server, &sign(), &token).await;
    assert_error(&refused, 429, "temporarily_unavailable", "refresh");
}

/// A request counts as soon as it is sent, so that many at once do not get around the limit.
#[tokio::test]
async fn requests_in_flight_are_counted() {
    let limit = ["--limit-token-failures", "1"];
    let host = DocumentHost::start().await;
    let server = host.mcp(&limit).await;
    host.hold(true);
    let client_id = host.url("/client");
    let (held, waiting) = (client_id.clone(), server.url("/token"));
    let held = tokio::spawn(async move { post(&waiting, &form(&held)).await.status });
    host.wait_for_requests(1).await;
    let refused = post(&server.url("/token"), &form(&client_id)).await;
    assert_error(&refused, 429, "temporarily_unavailable", "the second");
    host.hold(false);
    assert_eq!(held.await.unwrap(), 401);
}

fn form(client_id: &str) -> [(&'static str, &str); 3] {
    [
        ("grant_type", "authorization_code"),
        ("code", "x"),
        ("client_id", client_id),
    ]
}
