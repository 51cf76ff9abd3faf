//! The decision of the user.

use axum::http::StatusCode;

use super::{LOOPBACK, start};
use crate::support::mcp::{self, Browser, one, onward, query};

#[tokio::test]
async fn the_first_decision_is_final() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    for (first, second) in [("approve", "deny"), ("deny", "approve")] {
        let mut browser = Browser::default();
        let consent = onward(
            &browser
                .get(&mcp::request(&server, &client_id, LOOPBACK, &[]))
                .await,
        );
        let page = browser.get(&consent).await;
        let answer = browser
            .submit(&consent, &page, &[("decision", first)])
            .await;
        mcp::assert_is_page(&answer);
        for decision in [first, second] {
            // After a double click, or a reload of the page.
            let again = browser
                .submit(&consent, &page, &[("decision", decision)])
                .await;
            assert_eq!(onward(&again), onward(&answer), "{first}, then {decision}");
        }
        let again = browser.get(&consent).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        assert!(
            again.text().contains("This log-in is no longer valid"),
            "{}",
            again.text()
        );
        let client = browser.follow(answer, LOOPBACK).await;
        let name = if first == "approve" { "code" } else { "error" };
        assert!(one(&query(&client), name).is_some(), "{client}");
    }
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_log_in_of_another_browser_is_rejected() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let request = mcp::request(&server, &client_id, LOOPBACK, &[]);
    let mut owner = Browser::default();
    let answer = owner.get(&request).await;
    let consent = onward(&answer);
    let page = owner.get(&consent).await;
    let mut thief = Browser::default();
    thief.get(&request).await;
    for mut thief in [thief, Browser::default()] {
        for refused in [
            thief.get(&consent).await,
            // Even with all hidden fields of the page.
            thief
                .submit(&consent, &page, &[("decision", "approve")])
                .await,
        ] {
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            assert!(
                refused.text().contains("belongs to another browser"),
                "{}",
                refused.text()
            );
            assert!(
                !refused.text().contains("A client") && !refused.headers.contains_key("refresh")
            );
            mcp::assert_is_page(&refused);
        }
    }
    assert!(provider.requests().is_empty());
    let answer = owner
        .submit(&consent, &page, &[("decision", "approve")])
        .await;
    assert!(
        one(&query(&owner.follow(answer, LOOPBACK).await), "code").is_some(),
        "the owner can still approve"
    );
}

#[tokio::test]
async fn a_decision_is_accepted_only_from_the_consent_page() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let request = mcp::request(&server, &client_id, LOOPBACK, &[]);
    let mut browser = Browser::default();
    let consent = onward(&browser.get(&request).await);
    let page = browser.get(&consent).await;
    let hidden = mcp::form(&page).1;
    let (login, token) = (
        one(&hidden, "login").unwrap(),
        one(&hidden, "token").unwrap(),
    );
    let other = onward(&browser.get(&request).await);
    let other = mcp::form(&browser.get(&other).await).1;
    let other = one(&other, "token").unwrap();

    let form = "application/x-www-form-urlencoded";
    let (here, approve) = (server.url(""), ("decision", "approve"));
    let right = [("login", login), ("token", token), approve];
    let rows: [(&str, &[(&str, &str)], &[(&str, &str)], StatusCode); 12] = [
        (
            "no token",
            &[("login", login), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "an empty token",
            &[("login", login), ("token", ""), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "the token of another log-in",
            &[("login", login), ("token", other), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "the handle as token",
            &[("login", login), ("token", login), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "two tokens",
            &[
                ("login", login),
                ("token", token),
                ("token", token),
                approve,
            ],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "another origin",
            &right,
            &[("origin", "https://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (
            "another port",
            &right,
            &[("origin", "http://127.0.0.1:1")],
            StatusCode::FORBIDDEN,
        ),
        (
            "another site",
            &right,
            &[("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
        (
            "a sibling site",
            &right,
            &[("origin", &here), ("sec-fetch-site", "same-site")],
            StatusCode::FORBIDDEN,
        ),
        ("no decision", &right[..2], &[], StatusCode::BAD_REQUEST),
        (
            "two decisions",
            &[right[0], right[1], approve, ("decision", "deny")],
            &[],
            StatusCode::BAD_REQUEST,
        ),
        (
            "another decision",
            &[right[0], right[1], ("decision", "x")],
            &[],
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (name, fields, headers, status) in rows {
        let headers: Vec<_> = [("content-type", form)]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let answer = browser
            .send("POST", &server.url("/consent"), &headers, body)
            .await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        mcp::assert_is_page(&answer);
    }
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(right)
        .finish();
    let long = format!("{body}&x={}", "x".repeat(20_000));
    for (name, content_type, body) in [
        ("no form", "text/plain", body.clone()),
        ("a long form", form, long),
    ] {
        let answer = browser
            .send(
                "POST",
                &server.url("/consent"),
                &[("content-type", content_type)],
                body,
            )
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        mcp::assert_is_page(&answer);
    }
    assert!(provider.requests().is_empty());
    let headers = [
        ("content-type", form),
        ("origin", &here),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = browser
        .send("POST", &server.url("/consent"), &headers, body)
        .await;
    assert!(onward(&answer).starts_with(&format!("http://{}/authorize?", provider.addr)));
}
