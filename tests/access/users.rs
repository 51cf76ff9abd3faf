//! Ends of all sessions of a user, a client or everybody, as the access tokens see them.

use std::time::Duration;

use test_support::access::{Guarded, LOG_IN, access_token, another, pair, referencing};
use test_support::users::next_id_token;
use test_support::{Call, Plan, settle};
use tower_oauth_refresh::Subject;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn access_tokens_end_with_the_sessions_on_every_instance() {
    let app = referencing();
    let instances = [0; 3].map(|_| {
        let app = another(&app);
        let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
        (app, guarded)
    });
    let mut tokens = Vec::new();
    for _ in 0..50 {
        next_id_token(&app, r#"{"sub":"ann"}"#);
        tokens.push(access_token(&app.post("/token", &LOG_IN).await));
    }
    for (_, guarded) in &instances {
        for token in &tokens {
            assert_eq!(guarded.status(token).await, 200);
        }
    }
    let ann = Subject::new("ann").unwrap();
    assert_eq!(app.layer.end_sessions(&ann).await.unwrap(), 50);
    settle().await;
    for (_, guarded) in &instances {
        for token in &tokens {
            assert_eq!(guarded.status(token).await, 401);
        }
    }
}

#[tokio::test]
async fn without_a_cache_and_announcements_an_epoch_ends_access_tokens_at_once() {
    for everybody in [true, false] {
        let app = referencing();
        let other = another(&app);
        let guarded = Guarded::with(&other, |builder| builder.cache_ttl(Duration::ZERO));
        app.store.hook(|_, call| match call {
            Call::Announce => Plan::Lose,
            _ => Plan::Pass,
        });
        let token = access_token(&app.post("/token", &LOG_IN).await);
        assert_eq!(guarded.status(&token).await, 200);
        match everybody {
            true => app.layer.end_all().await.unwrap(),
            false => app.layer.end_client(&"app".parse().unwrap()).await.unwrap(),
        }
        assert_eq!(guarded.status(&token).await, 401);
    }
}

#[tokio::test]
async fn an_epoch_ends_cached_access_tokens_on_every_instance() {
    for everybody in [true, false] {
        let app = referencing();
        let instances = [another(&app), another(&app)];
        let guarded = instances
            .each_ref()
            .map(|app| Guarded::with(app, |builder| builder.cache_ttl(HOUR)));
        let (refresh, of_grant) = pair(&app.post("/token", &LOG_IN).await);
        let credentials = [("grant_type", "client_credentials"), ("client_id", "app")];
        let alone = access_token(&app.post("/token", &credentials).await);
        for guarded in &guarded {
            assert_eq!(guarded.status(&of_grant).await, 200);
            assert_eq!(guarded.status(&alone).await, 200);
        }
        match everybody {
            true => instances[0].layer.end_all().await.unwrap(),
            false => {
                let client = "app".parse().unwrap();
                instances[0].layer.end_client(&client).await.unwrap();
            }
        }
        settle().await;
        for guarded in &guarded {
            assert_eq!(guarded.status(&of_grant).await, 401);
            assert_eq!(guarded.status(&alone).await, 401);
        }
        assert_eq!(app.refresh(&refresh).await.error().0, 400);
        app.clock.advance(Duration::from_millis(10));
        let after = access_token(&app.post("/token", &LOG_IN).await);
        assert_eq!(guarded[0].status(&after).await, 200);
    }
}
