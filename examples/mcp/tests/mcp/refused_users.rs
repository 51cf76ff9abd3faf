//! The tokens of a refused user end at the provider of the example `mcp`, too.

use serde_json::json;
use test_support::PATIENCE;
use tokio::time::{Duration, sleep, timeout};

use crate::support::idp::{Behaviour, Idp, Refresh};
use crate::support::mcp::{self, Browser, one, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error};

/// Waits until a token has been revoked. Returns it, with its kind.
async fn revoked(idp: &Idp) -> (String, String) {
    let revoked = async {
        while idp.received("/revoke").is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, revoked).await.expect("no revocation");
    let form = idp.last("/revoke").form;
    let value = |name| one(&form, name).unwrap().to_owned();
    (value("token"), value("token_type_hint"))
}

fn of_group(group: &str) -> Behaviour {
    Behaviour {
        id_token: Some(json!({ "groups": [group] })),
        ..Behaviour::default()
    }
}

fn flags(idp: &Idp) -> Vec<String> {
    let mut flags = idp.flags();
    flags.push("--allow-group=staff".into());
    flags
}

#[tokio::test]
async fn the_tokens_of_a_refused_log_in_are_revoked() {
    for (refresh, kind) in [
        (Refresh::Always, "refresh_token"),
        (Refresh::Never, "access_token"),
    ] {
        let idp = Idp::with(Behaviour {
            refresh,
            ..of_group("other")
        })
        .await;
        let server = mcp::start(&flags(&idp)).await;
        let client = McpClient::register(&server).await;
        let mut browser = Browser::default();
        let asked = request(&server, &client.id, REDIRECT, &[]);
        let answer = browser.get(&asked).await;
        let answer = browser.approve(&answer).await;
        let callback = browser.follow(answer, &server.url("/callback?")).await;
        let page = browser.get(&callback).await;
        assert!(page.text().contains("may not use"), "{}", page.text());
        let (token, hint) = revoked(&idp).await;
        assert_eq!(hint, kind);
        assert!(
            token.starts_with(&format!("idp-{}-", kind.trim_end_matches("_token"))),
            "{token}"
        );
    }
}

#[tokio::test]
async fn the_tokens_of_a_session_that_a_rule_ends_are_revoked() {
    for rotates in [true, false] {
        let idp = Idp::with(Behaviour {
            rotates,
            ..of_group("staff")
        })
        .await;
        let server = mcp::start(&flags(&idp)).await;
        let client = McpClient::register(&server).await;
        let tokens = client.log_in(&server).await;
        assert!(idp.received("/revoke").is_empty());
        idp.change(|behaviour| behaviour.id_token = of_group("other").id_token);
        let refresh = tokens.string("refresh_token");
        let refused = client.refresh(&server, &refresh, &[]).await;
        assert_error(&refused, 400, "invalid_grant", "refresh");
        let (token, hint) = revoked(&idp).await;
        assert_eq!(hint, "refresh_token");
        let sent = idp.last("/token").form;
        let sent = one(&sent, "refresh_token").unwrap();
        assert_eq!(token == sent, !rotates, "{token}");
    }
}
