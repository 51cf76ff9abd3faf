//! Clients that never refresh: the example `mcp` refreshes at the provider for them.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::fixture::Fixture;
use crate::support::identity::Manners;
use crate::support::mcp_client::call;

/// The provider's access tokens live for a second.
fn short() -> Manners {
    Manners {
        expires_in: Some(json!(1)),
        ..Manners::default()
    }
}

#[tokio::test]
async fn a_client_that_never_refreshes_stays_logged_in() {
    for (flags, lifetime) in [(&[][..], 86_400), (&["--access-token-lifetime=3600"], 3600)] {
        never_refreshes(flags, lifetime).await;
    }
}

async fn never_refreshes(flags: &[&str], lifetime: u32) {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::with_flags(short(), flags).await;
    let tokens = client.log_in(&server).await;
    assert_eq!(tokens.json()["expires_in"], lifetime);
    let access = tokens.string("access_token");
    let used = async {
        while identity.counts().refreshed < 2 {
            assert_eq!(call(&server, &access, "whoami").await.status, 200);
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(test_support::PATIENCE, used).await.unwrap();
    let refresh = tokens.string("refresh_token");
    assert_eq!(client.refresh(&server, &refresh, &[]).await.status, 200);
    assert_eq!(identity.counts().reused, 0);
}

#[tokio::test]
async fn if_it_is_off_the_token_ends_with_the_providers() {
    for flags in [
        &["--upstream-refresh=false"][..],
        &["--access-token-lifetime=3600", "--upstream-refresh=false"],
    ] {
        let Fixture {
            identity,
            server,
            client,
        } = Fixture::with_flags(short(), flags).await;
        let access = client.log_in(&server).await.string("access_token");
        let used = async {
            while call(&server, &access, "whoami").await.status != 401 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(test_support::PATIENCE, used).await.unwrap();
        assert_eq!(identity.counts().refreshed, 0, "{flags:?}");
    }
}
