//! Clients of the example `mcp` with a client ID metadata document, which is fetched over TLS from
//! a real server (draft-ietf-oauth-client-id-metadata-document).

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::documents::{
    CALLBACK, DocumentHost, answer, authorize, authorize_at, is_known, is_refused,
};
use crate::support::mcp::{self, onward};

#[tokio::test]
async fn a_client_is_identified_by_its_document() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client.json", &json!({}), &[]);
    is_known(&server, &client_id).await;
    for (uri, allowed) in [
        ("http://127.0.0.1:51004/callback", true),
        ("http://localhost:51004/callback", false),
        ("https://evil.example/callback", false),
    ] {
        let answer = authorize_at(server.url("/authorize"), &client_id, uri).await;
        assert_eq!(
            answer.status == StatusCode::SEE_OTHER,
            allowed,
            "{uri}: {answer:?}"
        );
    }
    is_known(&server, &host.document("/query.json?v=1", &json!({}), &[])).await;
    is_known(
        &server,
        &host.document(
            "/own",
            &json!({}),
            &[("content-type", "application/client+json; x=y")],
        ),
    )
    .await;
    is_known(
        &server,
        &host.document(
            "/plain",
            &json!({ "token_endpoint_auth_method": null }),
            &[],
        ),
    )
    .await;
}

#[tokio::test]
async fn invalid_documents_are_rejected() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let good = host.document("/good", &json!({}), &[]);
    let of = |path: &str, changes: Value| host.document(path, &changes, &[]);
    let rows = [
        (host.url("/nowhere"), "status 404"),
        (
            host.serve("/broken", || {
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }),
            "status 500",
        ),
        (
            host.serve("/made", || {
                (StatusCode::CREATED, answer(&[], "{}")).into_response()
            }),
            "status 201",
        ),
        (
            host.document("/page", &json!({}), &[("content-type", "text/html")]),
            "has a Content-Type that is not JSON",
        ),
        (
            host.document(
                "/form",
                &json!({}),
                &[("content-type", "application/jsonp")],
            ),
            "has a Content-Type that is not JSON",
        ),
        (
            host.serve("/no-json", || answer(&[], "redirect_uris=x")),
            "must be a JSON object",
        ),
        (
            host.serve("/list", || answer(&[], "[]")),
            "must be a JSON object",
        ),
        (
            host.serve("/cut", || answer(&[], "{\"client_id\":")),
            "is not valid JSON",
        ),
        (
            of("/other", json!({ "client_id": good })),
            "is not the URL of the document",
        ),
        (
            of("/none", json!({ "client_id": null })),
            "is not the URL of the document",
        ),
        (
            of("/slash", json!({ "client_id": host.url("/slash/") })),
            "is not the URL of the document",
        ),
        (
            of("/case", json!({ "client_id": host.url("/CASE") })),
            "is not the URL of the document",
        ),
        (
            of("/secret", json!({ "client_secret": "x" })),
            "contains a secret",
        ),
        (
            of("/expiry", json!({ "client_secret_expires_at": 0 })),
            "contains a secret",
        ),
        (
            of(
                "/basic",
                json!({ "token_endpoint_auth_method": "client_secret_basic" }),
            ),
            "requires a client secret",
        ),
        (
            of(
                "/post",
                json!({ "token_endpoint_auth_method": "client_secret_post" }),
            ),
            "requires a client secret",
        ),
        (
            of(
                "/key",
                json!({ "token_endpoint_auth_method": "private_key_jwt" }),
            ),
            "needs the member jwks or jwks_uri",
        ),
        (
            of(
                "/mutual-tls",
                json!({ "token_endpoint_auth_method": "tls_client_auth" }),
            ),
            "must be one of: none, private_key_jwt",
        ),
        (
            of("/no-uris", json!({ "redirect_uris": [] })),
            "must contain at least one",
        ),
        (
            of(
                "/script",
                json!({ "redirect_uris": ["javascript:alert(1)"] }),
            ),
            "scheme is not allowed",
        ),
        (
            of(
                "/http",
                json!({ "redirect_uris": ["http://client.example/"] }),
            ),
            "use https",
        ),
        (
            of("/grants", json!({ "grant_types": ["client_credentials"] })),
            "grant_types must contain",
        ),
    ];
    for (client_id, words) in rows {
        is_refused(&server, &client_id, words).await;
    }
}

#[tokio::test]
async fn documents_are_cached_and_errors_are_not() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client", &json!({}), &[("cache-control", "no-store")]);
    for _ in 0..3 {
        is_known(&server, &client_id).await;
    }
    assert_eq!(
        host.requests(),
        1,
        "the document is cached for at least one minute"
    );
    host.serve("/late", || StatusCode::SERVICE_UNAVAILABLE.into_response());
    let late = host.url("/late");
    is_refused(&server, &late, "status 503").await;
    host.document("/late", &json!({}), &[]);
    is_known(&server, &late).await;
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn documents_are_cached_in_the_store() {
    let host = DocumentHost::start().await;
    let directory = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", directory.path().join("store").display());
    let client_id = host.document("/client", &json!({}), &[("cache-control", "max-age=3600")]);
    for _ in 0..2 {
        let mut server = host.mcp(&["--store", &store]).await;
        is_known(&server, &client_id).await;
        server.terminate();
        server.ended(Duration::from_secs(30)).await;
    }
    assert_eq!(host.requests(), 1);
    // The current flags apply to cached documents, too.
    let server = host
        .mcp(&[
            "--store",
            &store,
            "--only-redirect",
            "https://other.example/*",
        ])
        .await;
    assert_eq!(
        authorize(&server, &client_id).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn concurrent_requests_share_one_fetch() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    for (path, known) in [("/client", true), ("/nowhere", false)] {
        let before = host.requests();
        host.hold(true);
        let client_id = if known {
            host.document(path, &json!({}), &[])
        } else {
            host.url(path)
        };
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let (server, client_id) = (server.url("/authorize"), client_id.clone());
            asking.spawn(async move { authorize_at(server, &client_id, CALLBACK).await.status });
        }
        while host.requests() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Wait until the other requests have joined. A later request would find a cached document,
        // but would fetch again after an error.
        tokio::time::sleep(Duration::from_millis(1000)).await;
        host.hold(false);
        let status = if known {
            StatusCode::SEE_OTHER
        } else {
            StatusCode::BAD_REQUEST
        };
        assert!(
            asking
                .join_all()
                .await
                .iter()
                .all(|answer| *answer == status)
        );
        let asked = host.requests() - before;
        assert!(asked == 1 || (!known && asked < 20), "{path}: {asked}");
    }
}

#[tokio::test]
async fn a_cancelled_request_does_not_cancel_the_fetch_for_others() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    host.hold(true);
    let client_id = host.document("/client", &json!({}), &[]);
    let call = || {
        let (server, client_id) = (server.url("/authorize"), client_id.clone());
        tokio::spawn(async move { authorize_at(server, &client_id, CALLBACK).await.status })
    };
    let first = call();
    while host.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = call();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    host.hold(false);
    assert_eq!(second.await.unwrap(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_consent_page_shows_the_host_of_the_document() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client", &json!({ "client_name": "Nice <b>client" }), &[]);
    let mut browser = mcp::Browser::default();
    let asked = browser
        .get(&mcp::request(&server, &client_id, CALLBACK, &[]))
        .await;
    let page = browser.get(&onward(&asked)).await;
    mcp::assert_is_page(&page);
    let authority = &host.url("")["https://".len()..];
    let lead = format!("<bdi><strong>{authority}</strong></bdi> wants to access ");
    for words in [
        &*lead,
        "This app is published by",
        "It calls itself “<bdi>Nice &lt;b&gt;client</bdi>”",
    ] {
        assert!(
            page.text().contains(words),
            "{words:?} is missing: {}",
            page.text()
        );
    }
    assert!(
        !page.text().contains("It has not been verified"),
        "the host is verified"
    );

    let asked = browser
        .get(&mcp::request(
            &server,
            &client_id,
            "http://127.0.0.1:7777/callback",
            &[],
        ))
        .await;
    let page = browser.get(&onward(&asked)).await;
    let lead = format!(
        "An app that claims to be from <bdi><strong>{authority}</strong></bdi> wants to access "
    );
    for words in [&*lead, "This cannot be verified"] {
        assert!(
            page.text().contains(words),
            "{words:?} is missing: {}",
            page.text()
        );
    }
    assert!(
        !page.text().contains("name=\"remember\""),
        "the consent must not be remembered, because another app may use the client ID"
    );
}
