//! When a grant ends, its access tokens end on every instance: immediately if the store announces
//! it, and otherwise within the time to live of the cache.

mod subscriber;

use std::sync::Arc;
use std::time::{Duration, Instant};

use test_support::access::{Guarded, LOG_IN, another, pair, referencing};
use test_support::{Act, App, Call, Hooked, Plan, SECOND, TestStore, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::store::{
    Announcements, Announcer, Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};
use tower_oauth_refresh::{AccessLayer, MemoryStore, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns three instances, each with its own resource server, which caches for an hour.
fn three() -> [(App, Guarded); 3] {
    let app = referencing();
    let instances = [app.clone(), another(&app), another(&app)];
    instances.map(|app| {
        let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
        (app, guarded)
    })
}

async fn statuses(instances: &[(App, Guarded); 3], token: &str) -> [u16; 3] {
    let mut statuses = [0; 3];
    for (status, (_, guarded)) in statuses.iter_mut().zip(instances) {
        *status = guarded.status(token).await;
    }
    statuses
}

#[tokio::test(start_paused = true)]
async fn ending_the_grant_ends_its_access_tokens_on_every_instance() {
    for name in [
        "revoked",
        "revoked by the previous token",
        "revoked, the upstream down",
        "reused",
        "dead upstream",
    ] {
        let instances = three();
        let (app, _) = &instances[1];
        let (first, one) = pair(&app.post("/token", &LOG_IN).await);
        let (second, two) = pair(&app.refresh(&first).await);
        let (_, elsewhere) = pair(&app.post("/token", &LOG_IN).await);
        for token in [&one, &two, &elsewhere] {
            assert_eq!(statuses(&instances, token).await, [200; 3], "{name}");
        }
        let status = match name {
            "revoked" => app.revoke(&second).await.status,
            "revoked by the previous token" => app.revoke(&first).await.status,
            "revoked, the upstream down" => {
                app.upstream.then(Act::Break);
                app.revoke(&second).await.status
            }
            "reused" => {
                let (third, _) = pair(&app.refresh(&second).await);
                app.clock.advance(Duration::from_secs(61));
                let status = app.refresh(&first).await.status;
                assert_eq!(app.refresh(&third).await.status, 400, "{name}");
                status
            }
            _ => {
                app.upstream.then(Act::Answer(
                    400,
                    "application/json",
                    r#"{"error":"invalid_grant"}"#,
                ));
                app.refresh(&second).await.status
            }
        };
        assert!(
            [200, 400, 503].contains(&status.as_u16()),
            "{name}: {status}"
        );
        settle().await;
        app.store.calls();
        for token in [&one, &two] {
            assert_eq!(statuses(&instances, token).await, [401; 3], "{name}");
        }
        assert_eq!(app.store.calls(), [], "{name}: the token is in the cache");
        assert_eq!(
            statuses(&instances, &elsewhere).await,
            [200; 3],
            "{name}: another grant is still valid"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_grant_ends_its_access_tokens() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .idle_lifetime(60 * SECOND)
    });
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(guarded.status(&access).await, 200);
    app.clock.advance(Duration::from_secs(50));
    app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(50));
    assert_eq!(
        guarded.status(&access).await,
        200,
        "a rotation has extended the grant, which the cache does not know"
    );
    app.clock.advance(Duration::from_secs(10));
    assert_eq!(guarded.status(&access).await, 401);
}

#[tokio::test]
async fn without_announcements_access_tokens_end_within_the_cache_ttl() {
    let app = referencing();
    let ttl = Duration::from_millis(500);
    // A layer updates its own caches without an announcement.
    let guarded = Guarded::with(&another(&app), |builder| builder.cache_ttl(ttl));
    app.store.hook(|_, call| {
        if *call == Call::Announce {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(guarded.status(&access).await, 200);
    assert_eq!(
        app.revoke(&token).await.status,
        200,
        "a revocation succeeds even if the announcement fails"
    );
    let ended = Instant::now();
    while guarded.status(&access).await == 200 {
        assert!(
            ended.elapsed() < Duration::from_secs(30),
            "the token never ended"
        );
        tokio::time::sleep(ttl / 10).await;
    }
    assert_eq!(guarded.status(&access).await, 401);
}

#[tokio::test(start_paused = true)]
async fn the_cache_of_the_same_layer_is_updated_before_the_client_gets_its_response() {
    for name in [
        "revoked",
        "revoked by an older token",
        "an access token revoked",
        "reused",
        "ended by the application",
    ] {
        let app = referencing();
        let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
        // No announcement arrives: a token can only be rejected because the layer itself has
        // updated its cache.
        app.store.hook(|_, call| {
            if *call == Call::Announce {
                Plan::Lose
            } else {
                Plan::Pass
            }
        });
        let (first, _) = pair(&app.post("/token", &LOG_IN).await);
        let (second, _) = pair(&app.refresh(&first).await);
        let (third, access) = pair(&app.refresh(&second).await);
        assert_eq!(guarded.status(&access).await, 200, "{name}");
        match name {
            "revoked" => assert_eq!(app.revoke(&third).await.status, 200),
            "revoked by an older token" => assert_eq!(app.revoke(&first).await.status, 200),
            "an access token revoked" => assert_eq!(app.revoke(&access).await.status, 200),
            "reused" => {
                app.clock.advance(Duration::from_secs(61));
                assert_eq!(app.refresh(&first).await.status, 400);
            }
            _ => {
                let grant = guarded.grant(&access).await.unwrap().grant().unwrap();
                assert!(app.layer.end_grant(&grant).await.unwrap());
            }
        }
        assert_eq!(guarded.status(&access).await, 401, "{name}");
    }
}

/// Delays the reply to the first read of a grant or an access token until the gate is opened.
fn slow_load(store: &TestStore) -> Arc<Notify> {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    store.once(
        |call| *call == Call::Get,
        Plan::before(async move { opened.notified().await }),
    );
    gate
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_does_not_cache_an_ended_token() {
    type End = (&'static str, bool);
    let ends: [End; 2] = [("the grant", false), ("only the token", true)];
    for (name, alone) in ends {
        let app = referencing();
        let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        let gate = slow_load(&app.store);
        let slow = tokio::spawn({
            let (guarded, access) = (guarded.clone(), access.clone());
            async move { guarded.status(&access).await }
        });
        settle().await;
        app.store.unhook();
        assert_eq!(
            app.revoke(if alone { &access } else { &token })
                .await
                .status,
            200,
            "{name}"
        );
        settle().await;
        gate.notify_one();
        assert_eq!(
            slow.await.unwrap(),
            401,
            "{name}: it has read a valid token, and received its end"
        );
        assert_eq!(guarded.status(&access).await, 401, "{name}");
    }
}
