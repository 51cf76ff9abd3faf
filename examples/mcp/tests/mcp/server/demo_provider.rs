//! The demo provider, which starts if no provider is set.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{demo, log_in, log_in_page};
use crate::support::mcp::{Browser, one};
use crate::support::mcp_client::{McpClient, call, structured};

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
