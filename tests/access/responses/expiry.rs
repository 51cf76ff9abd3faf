//! Responses that end with their token.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use test_support::access::{LOG_IN, pair, referencing};
use test_support::{App, Call, Plan};
use tokio::time::timeout;
use tower_oauth_refresh::AccessLayer;
use tower_oauth_refresh::access::ResponseEnded;

use super::{ending, open};

#[tokio::test(start_paused = true)]
async fn a_response_ends_when_its_token_expires() {
    let app = referencing();
    let layer = ending(&app, |builder| builder);
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    let (mut waiting, mut fresh) = (open(&layer, &access).await, open(&layer, &access).await);
    waiting.passes("at first").await;
    waiting.passes("and again").await;
    app.clock.advance(Duration::from_secs(3599));
    waiting.passes("a second before").await;
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(
        waiting.ended("a timer fires").await,
        ResponseEnded::TokenExpired
    );
    fresh
        .sender
        .send_data(Bytes::from_static(b"late"))
        .await
        .unwrap();
    assert_eq!(
        fresh.ended("before its first frame").await,
        ResponseEnded::TokenExpired
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_response_completes_after_its_token_has_expired() {
    for pending_first in [false, true] {
        let app = referencing();
        let layer = ending(&app, |builder| builder);
        let (_, access) = pair(&app.post("/token", &LOG_IN).await);
        let mut one = open(&layer, &access).await;
        app.clock.advance(Duration::from_secs(3600));
        if pending_first {
            assert!(
                timeout(Duration::from_millis(500), one.body.frame())
                    .await
                    .is_err(),
                "cut off"
            );
        }
        one.passes("the first frame").await;
        one.passes("the second frame").await;
        assert_eq!(
            one.ended("a stream ends nevertheless").await,
            ResponseEnded::TokenExpired
        );
    }
}

/// With a short time to live, the token is read again within the first second of the response.
#[tokio::test(start_paused = true)]
async fn a_read_in_the_first_second_ends_a_response_by_revocation_but_not_by_expiry() {
    for revoked in [false, true] {
        let app = referencing();
        let layer = AccessLayer::builder(app.store.clone()).clock(app.clock.clone());
        let layer = layer.cache_ttl(Duration::from_secs(1)).end_responses(true);
        let layer = layer.build().unwrap();
        app.store.hook(|_, call| match call {
            Call::Announce => Plan::Lose,
            _ => Plan::Pass,
        });
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        let mut one = open(&layer, &access).await;
        app.clock.advance(Duration::from_secs(3600));
        if revoked {
            assert_eq!(app.revoke(&token).await.status, 200);
            assert_eq!(one.ended("revoked").await, ResponseEnded::GrantEnded);
            continue;
        }
        app.store.calls();
        let frame = timeout(Duration::from_millis(900), one.body.frame()).await;
        assert!(frame.is_err(), "cut off");
        assert!(app.store.calls().contains(&Call::Get), "the token was read");
        one.passes("the first frame").await;
        assert_eq!(one.ended("a stream").await, ResponseEnded::TokenExpired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_ends_when_the_grant_expires_unless_a_rotation_extends_it() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .idle_lifetime(60 * test_support::SECOND)
    });
    let layer = ending(&app, |builder| builder);
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    let mut one = open(&layer, &access).await;
    one.passes("at first").await;
    app.clock.advance(Duration::from_secs(50));
    app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(50));
    one.passes("the grant was rotated").await;
    one.passes("the grant was rotated").await;
    app.clock.advance(Duration::from_secs(10));
    assert_eq!(
        one.ended("the grant has expired").await,
        ResponseEnded::GrantEnded
    );
}
