//! Errors in an authorization request.

use axum::http::StatusCode;

use super::{Fixture, REDIRECT, assert_stays, way_back};
use crate::support::mcp::{CHALLENGE, one, query};

#[tokio::test]
async fn errors_in_a_request_are_explained_on_a_page_with_a_link_back() {
    let fixture = Fixture::start().await;
    let long = "s".repeat(2049);
    let rows: [(&str, &[(&str, &str)], &str); 23] = [
        (
            "another response type",
            &[("response_type", "token")],
            "unsupported_response_type",
        ),
        (
            "two response types",
            &[("response_type", "code token")],
            "unsupported_response_type",
        ),
        (
            "no response type",
            &[("response_type", "")],
            "invalid_request",
        ),
        (
            "another response mode",
            &[("response_mode", "form_post")],
            "invalid_request",
        ),
        (
            "no PKCE",
            &[("code_challenge", ""), ("code_challenge_method", "")],
            "invalid_request",
        ),
        (
            "no method",
            &[("code_challenge_method", "")],
            "invalid_request",
        ),
        (
            "the plain method",
            &[("code_challenge_method", "plain")],
            "invalid_request",
        ),
        (
            "another method",
            &[("code_challenge_method", "s256")],
            "invalid_request",
        ),
        (
            "a short challenge",
            &[("code_challenge", &CHALLENGE[1..])],
            "invalid_request",
        ),
        (
            "a padded challenge",
            &[("code_challenge", &format!("{CHALLENGE}="))],
            "invalid_request",
        ),
        (
            "a challenge in plain base64",
            &[("code_challenge", &CHALLENGE.replace('-', "+"))],
            "invalid_request",
        ),
        (
            "a repeated parameter",
            &[("scope", "openid"), ("scope", "openid")],
            "invalid_request",
        ),
        (
            "a repeated unknown parameter",
            &[("x", "1"), ("x", "1")],
            "invalid_request",
        ),
        ("a long state", &[("state", &long)], "invalid_request"),
        (
            "an unknown scope",
            &[("scope", "everything")],
            "invalid_scope",
        ),
        (
            "an invalid scope",
            &[("scope", "<script>")],
            "invalid_scope",
        ),
        (
            "another resource",
            &[("resource", "https://other.example/mcp")],
            "invalid_target",
        ),
        (
            "a URL next to the resource",
            &[("resource", &fixture.server.url("/mcp/x"))],
            "invalid_target",
        ),
        (
            "the resource with a fragment",
            &[("resource", &fixture.server.url("/mcp#x"))],
            "invalid_target",
        ),
        (
            "the resource below another path",
            &[("resource", &fixture.server.url("/x/mcp"))],
            "invalid_target",
        ),
        (
            "the resource at another scheme",
            &[(
                "resource",
                &fixture.server.url("/mcp").replace("http", "https"),
            )],
            "invalid_target",
        ),
        (
            "a resource that is not a URL",
            &[("resource", "mcp")],
            "invalid_target",
        ),
        (
            "another resource as well",
            &[
                ("resource", &fixture.server.url("/mcp")),
                ("resource", "https://other.example/mcp"),
            ],
            "invalid_target",
        ),
    ];
    for (name, changes, error) in rows {
        let page = fixture.open(changes).await;
        assert_eq!(
            page.status,
            StatusCode::BAD_REQUEST,
            "{name}: {}",
            page.text()
        );
        assert_stays(name, &page);
        for words in [
            "“<bdi><strong>A client</strong></bdi>”",
            "It has not been verified",
            "127.0.0.1:7777",
            error,
        ] {
            assert!(
                page.text().contains(words),
                "{name}: {words:?} is missing: {}",
                page.text()
            );
        }
        let (url, words) = way_back(&page);
        assert!(
            words.contains("Return to ") && words.contains("127.0.0.1:7777"),
            "{name}: {words}"
        );
        assert!(url.starts_with(REDIRECT), "{name}: {url}");
        let answer = query(&url);
        assert_eq!(one(&answer, "error"), Some(error), "{name}");
        let state = changes
            .iter()
            .find(|(name, _)| *name == "state")
            .map_or("the client's", |(_, state)| state);
        assert_eq!(one(&answer, "state"), Some(state), "{name}");
        assert_eq!(
            one(&answer, "iss"),
            Some(&*fixture.server.url("")),
            "{name}"
        );
        let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        let description = one(&answer, "error_description").unwrap();
        assert!(
            !description.is_empty() && description.chars().all(allowed),
            "{name}: {description}"
        );
        assert_eq!(one(&answer, "code"), None, "{name}");
    }
    let state = fixture.open(&[("state", "1"), ("state", "2")]).await;
    let state = query(&way_back(&state).0);
    assert_eq!(
        (one(&state, "error"), one(&state, "state")),
        (Some("invalid_request"), None),
        "a repeated state is omitted"
    );
    assert!(fixture.provider.requests().is_empty());
}
